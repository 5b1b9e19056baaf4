"""What of MindSpore is private or differs between its versions, each a function that says which version and why."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import nn

try:
    from mindspore.graph.api import _pynative_executor  # 2.9 and newer, which warn of the other
except ImportError:
    from mindspore.common.api import _pynative_executor

__all__ = [
    "finish_pending",
    "give_unique_names",
    "init_step_of",
    "naming_numpy",
    "numpy_mismatch",
    "recording_cells",
    "set_recording_cells",
    "stop_recording",
]

# What MindSpore's errors say where NumPy 2 is the reason.
_NUMPY_1_ONLY = ("Unable to avoid copy", "numpy.core.multiarray")


def stop_recording() -> None:
    """Ends the recording that an exception inside `construct` has left open in PYNATIVE mode.

    MindSpore 2.8 to 2.10 (2.0 for what is no `Exception`, such as `KeyboardInterrupt`) go on recording for a gradient
    then: writing into a parameter fails, and the steps of a later run train on a wrong gradient without a word. Nothing
    is recorded between two steps, so there is nothing to lose there. Goes when MindSpore closes what it has opened.
    """
    if ms.get_context("mode") == ms.PYNATIVE_MODE and _pynative_executor.grad_flag():
        _pynative_executor.clear_res()


def recording_cells(cell: nn.Cell) -> list[str]:
    """The names of the cells that were told by `set_grad` to record their forward pass for a gradient."""
    return [name for name, each in cell.cells_and_names() if each.requires_grad]


def set_recording_cells(cell: nn.Cell, names: Optional[Collection[str]]) -> None:
    """Has those cells record, and no others, on MindSpore 2.0, where training changes which ones do; `None` for as is.

    In PYNATIVE mode its gradients call `set_grad(False)` on a cell that they had to run themselves. A training cell
    that takes two gradients of one network therefore runs it twice in its first step and three times in each later
    one, and BatchNorm's statistics move as often. Goes with MindSpore 2.0.
    """
    if names is not None and ms.__version__.startswith("2.0."):
        for name, each in cell.cells_and_names():
            each.set_grad(name in names)


def finish_pending() -> None:
    """Waits for the operators that PYNATIVE mode runs behind Python, so that what fails in them fails here."""
    _pynative_executor.sync()


def init_step_of(dataset: Any) -> Optional[int]:
    """The step that a dataset itself was told to begin at; `None` where it was not, and on MindSpore 2.0.

    `get_init_step`, of 2.8 and newer, asks the datasets below too, from where it cannot be put back.
    """
    step: Optional[int] = getattr(dataset, "_global_step", None)
    return step


def give_unique_names(cell: nn.Cell) -> None:
    """Tells parameters of one name apart by their place, as MindSpore 2.8 and newer do when a cell first runs.

    Done before, so that a parameter is known by one name from the beginning. MindSpore 2.0 refuses such a network.
    """
    with contextlib.suppress(ValueError):  # MindSpore says it better, as soon as the cell runs
        rename: Any = getattr(cell, "check_names_and_refresh_name", None)
        if rename is not None:
            rename()


def numpy_mismatch(error: Optional[BaseException] = None) -> Optional[str]:
    """What to do where MindSpore and NumPy do not go together; `None` where they do, or `error` has another reason.

    MindSpore up to 2.10 calls `np.array(number, copy=False)` on what a dataset yields, which NumPy 2 refuses, and 2.10
    is compiled against NumPy 1, so that in PYNATIVE mode the first operator of a process that takes a number fails.
    Goes when the oldest MindSpore that is supported can do with NumPy 2.
    """
    if int(np.__version__.split(".")[0]) < 2 or [int(part) for part in ms.__version__.split(".")[:2]] > [2, 10]:
        return None
    links = [error] if error else []
    while links and (earlier := links[-1].__cause__ or links[-1].__context__):
        links.append(earlier)
    if error and not any(reason in str(link) for link in links for reason in _NUMPY_1_ONLY):
        return None
    return (
        f"MindSpore {ms.__version__} needs NumPy 1, but NumPy {np.__version__} is installed, with which datasets of "
        'Python numbers or NumPy scalars fail, and some operators; run pip install "numpy<2"'
    )


@contextlib.contextmanager
def naming_numpy() -> Iterator[None]:
    """Raises what `numpy_mismatch` says where a dataset fails for that reason."""
    try:
        yield
    except RuntimeError as error:
        if mismatch := numpy_mismatch(error):
            raise ValueError(mismatch) from error
        raise
