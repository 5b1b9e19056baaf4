"""What of MindSpore is private or differs between its versions, each a function that says which version and why."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn
from mindspore.parallel import _auto_parallel_context

try:
    from mindspore.graph.api import _pynative_executor  # 2.9 and newer, which warn of the other
except ImportError:
    from mindspore.common.api import _pynative_executor

__all__ = [
    "devices_of_auto_parallel",
    "finish_pending",
    "give_unique_names",
    "init_step_of",
    "is_queued",
    "is_uninitialised",
    "kind_of_storage",
    "naming_numpy",
    "numpy_mismatch",
    "parallel_context_kept",
    "pipeline_stages",
    "recording_cells",
    "repair_among",
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


def is_queued(dataset: Any) -> bool:
    """Whether sink mode has made a queue of a dataset already, in `Model.build` or an earlier `Model.train`.

    It is used again, and `set_init_step` has no effect on it any more (MindSpore 2.8 to 2.10).
    """
    return hasattr(dataset, "__transfer_dataset__")


def devices_of_auto_parallel(cell: nn.Cell) -> int:
    """How many devices an `AutoParallel` (2.6 and newer) around a network, or in it, splits it over; else 1."""
    return max([1, *(one._device_num for one in _auto_parallels(cell))])


def pipeline_stages(cell: Optional[nn.Cell] = None) -> int:
    """Into how many stages the network is cut, each on processes of its own; 1 for a network that is not.

    An `AutoParallel` tells it at any time; else MindSpore's context does, which holds it while a Model trains.
    """
    given = [one._pipeline_stages for one in _auto_parallels(cell)] if cell is not None else []
    return max(int(ms.get_auto_parallel_context("pipeline_stages")), *given, 1)


def _auto_parallels(cell: nn.Cell) -> list[Any]:
    # By its name: MindSpore 2.0 has no such class.
    return [one for _, one in cell.cells_and_names() if type(one).__name__ == "AutoParallel"]


def kind_of_storage(parameter: Parameter) -> Optional[str]:
    """By which setting a parameter is not whole in this process; `None` where it is.

    `sliced` is known once MindSpore has compiled the network; `init_in_server` went with the parameter server, in 2.8.
    """
    for name in ("layerwise_parallel", "cache_enable", "init_in_server"):
        if getattr(parameter, name, False):
            return f"with {name}=True"
    return "which MindSpore has sliced" if getattr(parameter, "sliced", False) else None


def is_uninitialised(parameter: Parameter) -> bool:
    """Whether a parameter has no values yet: MindSpore gives it some when the network first runs, or it is read.

    So it is in `nn.utils.no_init_parameters`, and where a pipeline has the parameter on another process.
    """
    return bool(getattr(parameter, "has_init", False))  # which is to be removed after 2.9


def repair_among(callbacks: Iterable[Any]) -> Optional[str]:
    """How MindSpore (2.6 and newer) is set to repair a fault and go on training; `None` where it is not.

    It catches the exception outside of `Model.train`'s callbacks, which are left and entered again, with a run that
    begins at the step that was repaired. With `TTP` or `TSP` alone it saves or pauses, and does not begin again.
    """
    setting = os.environ.get("MS_ENABLE_TFT", "")
    is_there = any(kind.__name__ == "TrainFaultTolerance" for each in callbacks for kind in type(each).__mro__)
    begins_again = any(f"{name}:{number}" in setting for name in ("UCE", "ARF", "HCCE", "TRE") for number in (1, 2))
    return f"TrainFaultTolerance and MS_ENABLE_TFT={setting!r}" if is_there and begins_again else None


@contextlib.contextmanager
def parallel_context_kept() -> Iterator[None]:
    """Gives back what an evaluation resets of MindSpore's auto-parallel context.

    `Model.eval` of a network in an `AutoParallel` ends with a context as at the start of the process (2.8 to 2.10), and
    training that continues then no longer averages its gradients. Goes when `eval` puts back what it found.
    """
    getters, setters = (
        _auto_parallel_context._get_auto_parallel_context_func_map,
        _auto_parallel_context._set_auto_parallel_context_func_map,
    )
    names = [name for name in setters if name in getters]
    before = {name: getters[name]() for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if getters[name]() != value:
                setters[name](value)


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
