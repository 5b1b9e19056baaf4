"""Find callbacks that learn something in a run but cannot save it, so that a resume loses it."""

from __future__ import annotations

import time
import types
import zlib
from collections import deque
from typing import Any

import numpy as np
from mindspore import Tensor, nn
from mindspore.train import Callback

from ..core.callback import TrainCallback, keeps_state

__all__ = ["Learners", "missing_method", "unsaved"]

# Those of MindSpore's own callbacks on which the rest of a run depends; the others only count or measure time.
_OF_MINDSPORE = {"EarlyStopping", "History", "ModelCheckpoint", "ReduceLROnPlateau"}
_MOST_ITEMS = 200  # of one list, half from each end, so that the cost does not grow with the run
_DEEPEST = 4
_MOST_PARTS = 10_000  # of one callback
_DAY = 86_400.0


class Learners:
    """Callbacks without a state, watched for attributes that change from the first step on.

    A float that is a timestamp does not count as learnt. Tensors, cells and datasets are compared by identity but not
    read, because that would wait for the device.
    """

    def __init__(self, callbacks: list[tuple[str, Any]]) -> None:
        self._earliest = time.time() - _DAY
        self._callbacks = [(name, callback) for name, callback in callbacks if unsaved(callback)]
        self._at_first = {name: self._look(callback) for name, callback in self._callbacks}

    def names(self) -> list[str]:
        """Return the callbacks that have learnt something since."""
        return [name for name, callback in self._callbacks if self._has_learnt(name, callback)]

    def _has_learnt(self, name: str, callback: Any) -> bool:
        if type(callback).__module__.startswith("mindspore."):
            return type(callback).__name__ in _OF_MINDSPORE
        return bool(self._look(callback) != self._at_first[name])

    def _look(self, callback: Any) -> Any:
        self._left = _MOST_PARTS
        if type(callback).__module__.startswith("mindspore."):
            return {}
        # Without what belongs to the run itself.
        return self._content(callback.__getstate__() if isinstance(callback, TrainCallback) else callback, 0)

    def _content(self, value: Any, depth: int) -> Any:
        """Return plain values that differ if `value` does, as far as can be known without reading a device."""
        self._left -= 1
        if isinstance(value, float):
            return None if self._earliest <= value <= time.time() else repr(value)
        if value is None or isinstance(value, (bool, int, complex, str, bytes)):
            return value
        if isinstance(value, (np.ndarray, np.generic)):
            array = np.asarray(value)
            return array.shape, str(array.dtype), zlib.crc32(array.tobytes()) if array.dtype != object else id(value)
        is_opaque = isinstance(value, (Tensor, nn.Cell, type, types.ModuleType)) or callable(value)
        if is_opaque or depth == _DEEPEST or self._left < 0:
            return type(value).__name__, id(value)
        if isinstance(value, (list, tuple, deque, set, frozenset)):
            items = list(value)
            ends = items if len(items) <= _MOST_ITEMS else items[: _MOST_ITEMS // 2] + items[-_MOST_ITEMS // 2 :]
            return len(items), [self._content(each, depth + 1) for each in ends]
        if isinstance(value, dict):
            first = list(value.items())[:_MOST_ITEMS]
            return len(value), [(repr(key), self._content(each, depth + 1)) for key, each in first]
        if type(value).__module__.startswith("mindspore.") and not isinstance(value, Callback):
            return type(value).__name__, id(value)
        return type(value).__name__, self._content(dict(getattr(value, "__dict__", {})), depth + 1)


def missing_method(callback: Any) -> str:
    """Return the first of `state_dict` and `load_state_dict` that a callback lacks; empty if it has both."""
    return next((name for name in ("state_dict", "load_state_dict") if not callable(getattr(callback, name, None))), "")


def unsaved(callback: Any) -> str:
    """Return the method without which what a callback learns is in no state; empty if it is in one.

    A callback of this package without a state learns nothing that the rest of a run depends on.
    """
    is_own = type(callback).__module__.partition(".")[0] == __name__.partition(".")[0]
    has_none = isinstance(callback, TrainCallback) and not is_own and not keeps_state(callback)
    return "state_dict" if has_none else missing_method(callback)
