"""The steps after which the processes of a run exchange values, such as whether one of them must stop.

The processes have to stop after the same step, so they must exchange values after the same step. An exchange after
every step costs too much.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from . import distributed

__all__ = ["Rounds"]

_SECONDS_BETWEEN = 1.0
_MOST_STEPS_BETWEEN = 20


class Rounds:
    """Chooses these steps: about one per second, at most 20 steps apart. Every process must count the same steps.

    For a single process, every step is such a step, and nothing is exchanged.
    """

    def __init__(self) -> None:
        self._is_alone = distributed.count() == 1
        self._steps, self._steps_between, self._asked_at = 0, 1, time.monotonic()

    def is_due(self) -> bool:
        """Count a step; return whether to exchange values after it."""
        if self._is_alone:
            return True
        self._steps += 1
        return self._steps >= self._steps_between

    def highest(self, own: Sequence[float]) -> list[float]:
        """Exchange values; return the highest over all processes for each of them, the same in each process.

        This may also be called between two epochs, if every process does so.
        """
        if self._is_alone:
            return [float(value) for value in own]
        now = time.monotonic()
        *values, seconds = distributed.gathered(np.array([*own, now - self._asked_at], np.float32)).max(0).tolist()
        if self._steps:  # steps since the last exchange
            steps = _SECONDS_BETWEEN * self._steps / max(seconds, 1e-6)
            # The first steps of an epoch may seem fast, because the device has only queued them.
            most = min(2 * self._steps_between, _MOST_STEPS_BETWEEN)
            self._steps_between = int(min(max(steps, 1), most))
        self._steps, self._asked_at = 0, now
        return values
