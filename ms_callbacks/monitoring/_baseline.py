"""The level of the latest losses, and how far above it a loss is: median and median absolute deviation."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable
from typing import Optional

__all__ = ["Baseline"]

_OF_NORMAL = 1.4826  # by which the MAD of normally distributed values is their standard deviation
_LEAST = 0.01  # of the median, which a deviation counts as at least, because equal losses have none


class Baseline:
    """The last `window` losses that were accepted.

    Beside the queue, the losses are kept in order, so that most of those above the median are known to be within the
    threshold without computing a deviation.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._latest: deque[float] = deque()
        self._ordered: list[float] = []

    def __len__(self) -> int:
        return len(self._latest)

    @property
    def losses(self) -> list[float]:
        """The losses, the oldest first."""
        return list(self._latest)

    def restart(self, losses: Iterable[float]) -> None:
        """Forget all losses, and begin with the last of these."""
        self._latest = deque(list(losses)[-self._window :])
        self._ordered = sorted(self._latest)

    def accept(self, loss: float) -> None:
        """Add a loss; the oldest is dropped if the window is full."""
        if len(self._latest) == self._window:
            del self._ordered[bisect_left(self._ordered, self._latest.popleft())]
        self._latest.append(loss)
        insort(self._ordered, loss)

    @property
    def median(self) -> float:
        """The median of the losses."""
        return _median_of(self._ordered)

    def excess(self, loss: float, threshold: float) -> Optional[float]:
        """Return how many deviations a loss is above the median if that is more than `threshold`; `None` otherwise.

        Also `None` while the window is not full.
        """
        if len(self._latest) < self._window:
            return None
        median = self.median
        least = _LEAST * abs(median)
        if loss - median <= threshold * least:
            return None
        # If the lower of the middle deviations is as large as this, so is their median.
        limit = (loss - median) / (threshold * _OF_NORMAL)
        nearer = bisect_left(self._ordered, median + limit) - bisect_right(self._ordered, median - limit)
        if nearer <= (self._window - 1) // 2:
            return None
        mad = _median_of(sorted(abs(each - median) for each in self._ordered))
        deviation = max(_OF_NORMAL * mad, least)
        excess = (loss - median) / deviation if deviation else float("inf")
        return excess if excess > threshold else None


def _median_of(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
