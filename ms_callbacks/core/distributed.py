"""Several processes that train one network: what they decide together, and what only the first does.

A process that decides by its own shard of the data stops alone, and the others wait for it forever. Everything that
drives a decision is therefore reduced over all ranks first. Every rank has the same callbacks and reaches this code at
the same points.

The first process prints and writes. It is rank 0 or, if a pipeline splits the network into stages, the first rank of
the last stage, because only that stage has the loss.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Optional, TypeVar

import numpy as np
from mindspore import Tensor, communication, ops

from . import mindspore_compat

__all__ = [
    "count",
    "do_once",
    "do_together",
    "from_first",
    "gathered",
    "gathered_texts",
    "has_loss",
    "is_first",
    "mean",
    "place",
    "sums",
    "total",
]

_T = TypeVar("_T")
_LONG = 10  # seconds


def count() -> int:
    """Return how many processes train together; 1 if `mindspore.communication.init` was not called."""
    return int(communication.get_group_size()) if communication.GlobalComm.INITED else 1


def is_first() -> bool:
    """Return whether this is the process that prints and writes."""
    return place() == _first()


def has_loss() -> bool:
    """Return whether the steps of this process return the loss."""
    return place() >= _first()


def _first() -> int:
    ranks = count()
    return 0 if ranks == 1 else ranks - ranks // mindspore_compat.pipeline_stages()


def place() -> int:
    """Return the rank of this process, from 0."""
    return int(communication.get_rank()) if communication.GlobalComm.INITED else 0


def total(values: Sequence[float]) -> list[float]:
    """Return the sums of the values over all ranks, the same on each, in single precision."""
    if count() == 1:
        return [float(value) for value in values]
    return [float(value) for value in sums(np.array(values, np.float32))]


def mean(values: Sequence[float], weight: float) -> list[float]:
    """Return the means of the values over all ranks, weighted by rank; NaN if a value of any rank is NaN."""
    if count() == 1:
        return list(values)
    own = [value * weight if weight else 0.0 for value in values]
    *sums, weights = total([*own, weight])
    return [value / weights for value in sums]


def from_first(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the first rank's array."""
    return array if count() == 1 else _joined(array if is_first() else np.zeros_like(array))


def gathered(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the arrays of all ranks, stacked."""
    slots = np.zeros((count(), *array.shape), array.dtype)
    slots[place()] = array
    return slots if count() == 1 else _joined(slots)


def gathered_texts(text: str) -> list[str]:
    """Return the texts of all ranks, in order."""
    own = np.frombuffer(text.encode(), np.uint8)
    longest = int(gathered(np.array([own.size], np.float32)).max())  # exact up to 16 MB
    rows = gathered(np.pad(own, (0, longest - own.size)))
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]


def _joined(own: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the exact sum over all ranks of arrays of which at most one is not 0 at any position."""
    if own.dtype.kind == "f" and own.itemsize <= 4:
        return sums(own).astype(own.dtype)
    # As bytes, each as a float: a CPU sums neither integers nor other types over ranks.
    summed = sums(np.frombuffer(own.tobytes(), np.uint8).astype(np.float32))
    return np.frombuffer(summed.astype(np.uint8).tobytes(), own.dtype).reshape(own.shape)


def do_once(owner: str, action: Callable[[], None]) -> None:
    """Have the first rank do something while the others wait; if it fails, it fails on all."""
    error: Optional[Exception] = None
    if is_first():
        began = time.monotonic()
        try:
            action()
        except Exception as caught:
            error = caught
        waited = time.monotonic() - began
        if count() > 1 and waited > _LONG:
            logging.getLogger("ms_callbacks").info(
                f"{owner}: the other processes have waited {waited:.0f} s for the first; MindSpore ends those that "
                f"wait longer than HCCL_EXEC_TIMEOUT on Ascend (1836 s unless set), or MS_CPU_COMM_OP_TIMEOUT "
                f"on a CPU (30 s)"
            )
    if total([error is not None])[0]:
        raise error or OSError(f"{owner}: failed on the first rank; see its log for the reason")


def do_together(owner: str, action: Callable[[], _T]) -> _T:
    """Have every rank do something, and return this rank's result; if it fails on one, it fails on all."""
    error: Optional[Exception] = None
    try:
        result = action()
    except Exception as caught:
        error = caught
    failed = np.flatnonzero(gathered(np.array([error is not None], np.float32)))
    if failed.size:
        raise error or RuntimeError(f"{owner}: failed on {_named(failed)}; see its log for the reason")
    return result


def _named(ranks: Iterable[int]) -> str:
    """Return `process 1 and 3`."""
    return f"process {' and '.join(map(str, ranks))}"


def sums(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the sum of an array of floats over all ranks."""
    summed: np.ndarray[Any, Any] = ops.AllReduce()(Tensor(array)).asnumpy()
    return summed
