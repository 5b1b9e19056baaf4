"""Copies of parameters that callbacks of a run keep; copies with the same values share memory.

A copy stays unchanged for as long as it is referenced; memory that is no longer referenced is reused.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from mindspore import Parameter

from .parameters import MUCH, Snapshot, is_same, views

__all__ = ["Copies"]

_Array = np.ndarray[Any, Any]


class Copies:
    """The copies of each parameter of a run that are in use."""

    def __init__(self) -> None:
        self._of: dict[int, list[_Array]] = {}

    def take(self, parameters: Mapping[str, Parameter]) -> Snapshot:
        """Copy the current parameters; drop an older copy that is no longer needed before calling this."""
        now = views(parameters)
        held = [self._of.setdefault(id(one), []) for one in parameters.values()]
        if sum(array.nbytes for array in now.values()) < MUCH:
            copies = list(map(_copy, held, now.values()))
        else:
            with ThreadPoolExecutor(2) as threads:
                copies = list(threads.map(_copy, held, now.values()))
        return Snapshot(dict(parameters), dict(zip(now, copies)))

    def kept(self, arrays: Mapping[str, _Array]) -> dict[str, _Array]:
        """Return arrays that will not change: those that are among the copies, and copies of the others."""
        held = {id(one) for copies in self._of.values() for one in copies}
        return {name: array if id(array.base) in held else array.copy() for name, array in arrays.items()}


def _copy(held: list[_Array], array: _Array) -> _Array:
    """Return a view of the copy of `array` among those in use, or of a new one."""
    # Views count as references to their base: 2 are those of the list and of the call itself.
    free = [held.pop(index) for index in reversed(range(len(held))) if sys.getrefcount(held[index]) == 2]
    for copy in held:
        if is_same(copy, array):
            return copy.view()
    copy = free[0] if free else np.empty_like(array)
    np.copyto(copy, array)
    held.append(copy)
    return copy.view()
