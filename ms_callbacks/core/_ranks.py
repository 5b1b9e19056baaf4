"""Several processes that train one network: what they decide together, and what the first alone does.

A process that decides by its own shard of the data stops alone, and the others wait for it for ever. So whatever
decides something is reduced over all ranks first. Every rank has the same callbacks and comes here at the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Optional

import numpy as np
from mindspore import Tensor, communication, ops

__all__ = ["count", "do_once", "from_first", "gathered", "is_first", "mean", "place", "total"]


def count() -> int:
    """How many processes train together; 1 where `mindspore.communication.init` was not called."""
    return int(communication.get_group_size()) if communication.GlobalComm.INITED else 1


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return place() == 0


def place() -> int:
    """The rank of this process, from 0."""
    return int(communication.get_rank()) if communication.GlobalComm.INITED else 0


def total(values: Sequence[float]) -> list[float]:
    """The sums of the values over all ranks, the same on each, in single precision."""
    if count() == 1:
        return [float(value) for value in values]
    return [float(value) for value in _sum(np.array(values, np.float32))]


def mean(values: Sequence[float], weight: float) -> list[float]:
    """The means of the values over all ranks, each rank by its weight; NaN where a value of any rank is."""
    if count() == 1:
        return list(values)
    own = [value * weight if weight else 0.0 for value in values]
    *sums, weights = total([*own, weight])
    return [value / weights for value in sums]


def from_first(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array as the first rank has it."""
    return array if count() == 1 else _joined(array if is_first() else np.zeros_like(array))


def gathered(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The arrays of all ranks, stacked."""
    slots = np.zeros((count(), *array.shape), array.dtype)
    slots[place()] = array
    return slots if count() == 1 else _joined(slots)


def _joined(own: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The sum over all ranks of arrays of which one at most is not 0 at any place: to the last bit."""
    if own.dtype.kind == "f" and own.itemsize <= 4:
        return _sum(own).astype(own.dtype)
    # As bytes, each as a float: a CPU sums neither integers nor other kinds over ranks.
    summed = _sum(np.frombuffer(own.tobytes(), np.uint8).astype(np.float32))
    return np.frombuffer(summed.astype(np.uint8).tobytes(), own.dtype).reshape(own.shape)


def do_once(owner: str, action: Callable[[], None]) -> None:
    """Lets the first rank do something, and the others wait for it; where it fails, it fails on all."""
    error: Optional[Exception] = None
    if is_first():
        try:
            action()
        except Exception as caught:
            error = caught
    if total([error is not None])[0]:
        raise error or OSError(f"{owner}: failed on the first rank; its log says why")


def _sum(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    summed: np.ndarray[Any, Any] = ops.AllReduce()(Tensor(array)).asnumpy()
    return summed
