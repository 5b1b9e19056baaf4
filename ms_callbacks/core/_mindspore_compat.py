"""What of MindSpore is private or differs between its versions, each a function that says which version and why."""

from __future__ import annotations

import contextlib
from typing import Any, Optional

import mindspore as ms
from mindspore import nn

try:
    from mindspore.graph.api import _pynative_executor  # 2.9 and newer, which warn of the other
except ImportError:
    from mindspore.common.api import _pynative_executor

__all__ = ["finish_pending", "give_unique_names", "init_step_of", "stop_recording"]


def stop_recording() -> None:
    """Ends the recording that an exception inside `construct` has left open in PYNATIVE mode.

    MindSpore 2.8 to 2.10 (2.0 for what is no `Exception`, such as `KeyboardInterrupt`) go on recording for a gradient
    then: writing into a parameter fails, and the steps of a later run train on a wrong gradient without a word. Nothing
    is recorded between two steps, so there is nothing to lose there. Goes when MindSpore closes what it has opened.
    """
    if ms.get_context("mode") == ms.PYNATIVE_MODE and _pynative_executor.grad_flag():
        _pynative_executor.clear_res()


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
