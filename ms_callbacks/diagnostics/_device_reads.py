"""Detect reads from the device: each makes Python wait until the value has been computed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, Callable

from ..core.mindspore_compat import tensor_classes

__all__ = ["noticed"]

# Every way of passing a tensor's values to Python uses one of these.
_READERS = ("asnumpy", "numpy", "item", "tolist", "get_bytes", "__float__", "__int__", "__bool__", "__index__")


@contextlib.contextmanager
def noticed(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` at each read within the block; a read that is made by another read is not counted separately."""
    with contextlib.ExitStack() as undo:
        is_reading = [False]
        for kind in tensor_classes():
            for name in _READERS:
                if name in vars(kind):
                    original = vars(kind)[name]
                    setattr(kind, name, _noticing(original, notice, is_reading))
                    undo.callback(setattr, kind, name, original)
        yield


def _noticing(read: Callable[..., Any], notice: Callable[[], None], is_reading: list[bool]) -> Callable[..., Any]:
    @functools.wraps(read)
    def noticing(*args: Any, **kwargs: Any) -> Any:
        if is_reading[0]:
            return read(*args, **kwargs)
        notice()
        is_reading[0] = True
        try:
            return read(*args, **kwargs)
        finally:
            is_reading[0] = False

    return noticing
