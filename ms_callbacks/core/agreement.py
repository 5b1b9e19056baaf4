"""Check that the processes that train together are set up alike, before they do anything else together.

If they are not, one waits for something that another never does: the run hangs, or they silently train separately.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import distributed
from .configuration import configuration_without
from .console import counted
from .mindspore_compat import VERSION

__all__ = ["check_agreement"]

_SIGN = 4711.0  # sent by nothing else
# Arguments that may differ: paths of files, because only the first process writes files; what is printed; and the
# trial of a study, because only one process has it.
_OF_ONE_PROCESS = frozenset("directory dump_dir file filename filepath log_dir path picture trial verbose".split())


def check_agreement(callbacks: list[Any], batches: int, epochs: int) -> None:
    """Raise on every process if they differ in their callbacks, number of batches or epochs, or version of MindSpore.

    Args:
        callbacks: the callbacks of this library in this process.
        batches: the number of steps in its epoch.
        epochs: the number of epochs to train.
    """
    if distributed.count() == 1:
        return
    _check_all_are_here()
    own = [
        f"MindSpore {VERSION}",
        f"{counted(batches, 'step')} an epoch",
        counted(epochs, "epoch"),
        *(configuration_without(callback, _OF_ONE_PROCESS) for callback in callbacks),
    ]
    first, *others = [text.split("\n") for text in distributed.gathered_texts("\n".join(own))]
    for rank, other in enumerate(others, 1):
        here, there = _beyond(first, other), _beyond(other, first)
        if here or there:
            raise ValueError(
                f"Model: processes that train together must be set up alike, but process 0 has {_told(here)} where "
                f"process {rank} has {_told(there)}; give each the same callbacks (only the first prints and writes) "
                f"and the same number of batches"
            )
        if first != other:
            raise ValueError(
                f"Model: processes that train together must have their callbacks in the same order, but process 0 has "
                f"{_told(first[3:])} where process {rank} has {_told(other[3:])}"
            )


def _check_all_are_here() -> None:
    """Raise if another process has no callback of this library, and so is doing something else by now."""
    slots = np.zeros(distributed.count(), np.float32)
    slots[distributed.place()] = _SIGN
    try:
        are_here = (distributed.sums(slots) == _SIGN).all()
    except RuntimeError as error:
        raise RuntimeError(f"{_NOT_HERE}: {error}") from error
    if not are_here:
        raise RuntimeError(_NOT_HERE)


_NOT_HERE = (
    "Model: another process that trains together with this one has none of its callbacks, and was doing something else "
    "while this one waited for it; give each process the same callbacks, because they decide together (only the first "
    "prints and writes)"
)


def _beyond(one: list[str], other: list[str]) -> list[str]:
    left = list(other)
    found = []
    for each in one:
        if each in left:
            left.remove(each)
        else:
            found.append(each)
    return found


def _told(lines: list[str]) -> str:
    return " and ".join(lines) or "none"
