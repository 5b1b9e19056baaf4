"""The median and the median absolute deviation (MAD) of the latest losses, to tell how far above them a loss is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable
from typing import Optional

__all__ = ["Baseline"]

_OF_NORMAL = 1.4826  # the standard deviation of normally distributed values, divided by their MAD
_LEAST = 0.01  # the least deviation, as a fraction of the median, because equal losses have a deviation of 0


class Baseline:
    """The last `window` accepted losses.

    The losses are also kept in sorted order, so that for most losses above the median no deviation has to be computed.
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
        """Replace all losses by the last `window` of the given ones."""
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
        # If the lower of the two middle deviations is at least `limit`, the MAD is too, and the loss is no spike.
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
