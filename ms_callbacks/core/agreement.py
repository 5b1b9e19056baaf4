"""Whether the processes that train together were made alike, asked before anything else is done together.

Where they were not, one waits for what the other never does: a run hangs, or trains apart without a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import distributed
from .configuration import configuration_without
from .console import counted
from .mindspore_compat import VERSION

__all__ = ["check_agreement"]

_SIGN = 4711.0  # which nothing else than this sends
# What may differ: where files go, which the first process alone writes, and what is printed.
_OF_ONE_PROCESS = frozenset("directory dump_dir file filename filepath path picture verbose".split())


def check_agreement(callbacks: list[Any], batches: int, epochs: int) -> None:
    """Raises on every process where they differ: in their callbacks, their number of batches, or their MindSpore.

    Args:
        callbacks: those of this library that this process has.
        batches: the steps of its epoch.
        epochs: how many it is to train.
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
                f"Model: processes that train together must be made alike, but process 0 has {_told(here)} where "
                f"process {rank} has {_told(there)}; give each the same callbacks (the first alone prints and writes) "
                f"and as many batches"
            )
        if first != other:
            raise ValueError(
                f"Model: processes that train together must have their callbacks in one order, but process 0 has "
                f"{_told(first[3:])} where process {rank} has {_told(other[3:])}"
            )


def _check_all_are_here() -> None:
    """Raises where another process has no callback of this library, and is at something else by now."""
    slots = np.zeros(distributed.count(), np.float32)
    slots[distributed.place()] = _SIGN
    try:
        are_here = (distributed.sums(slots) == _SIGN).all()
    except RuntimeError as error:
        raise RuntimeError(f"{_NOT_HERE}: {error}") from error
    if not are_here:
        raise RuntimeError(_NOT_HERE)


_NOT_HERE = (
    "Model: another process that trains together with this one has none of its callbacks, and was at something else "
    "when this one waited for it; give each process the same callbacks, for they decide together (the first alone "
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
