"""The rule by which `EarlyStopping` stops a run, and by which `History.what_if` evaluates a recorded run."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

from .console import counted, in_a_row
from .monitor import BestTracker

__all__ = ["Decision", "StopRule"]


class Decision(NamedTuple):
    """The decision after one value: whether it is the best so far, and why the run stops (empty if it does not)."""

    is_best: bool
    reason: str


class StopRule(NamedTuple):
    """The conditions to stop; each argument has the same meaning as in `EarlyStopping`."""

    patience: int
    baseline: Optional[float] = None
    start_from_epoch: int = 0
    stopping_threshold: Optional[float] = None
    divergence_threshold: Optional[float] = None
    check_finite: bool = True

    def observe(self, best: BestTracker, value: float, epoch: int, step: int = 0, *, is_first: bool) -> Decision:
        """Observe a value; return the decision.

        Args:
            best: the tracker of the best value, which observes the value too.
            value: the value.
            epoch: the epoch of the value.
            step: its step, if it was evaluated between two steps.
            is_first: whether it is the first value that counts. The first value of epoch 1 never stops a run because
                of patience.
        """
        waited = best.wait
        is_best = best.observe(value, epoch, step)
        # A value that is the best so far, but not better than the baseline, does not reset patience.
        if is_best and self.baseline is not None and not best.monitor.is_better(value, self.baseline):
            best.wait = waited + 1
        return Decision(is_best, self._reason(best, value, is_best, may_wait=is_first and epoch == 1))

    def _reason(self, best: BestTracker, value: float, is_best: bool, may_wait: bool) -> str:
        monitor, name = best.monitor, best.monitor.name
        if self.check_finite and not math.isfinite(value):
            return f"{name} is {value}"
        if self.stopping_threshold is not None and monitor.is_beyond(value, self.stopping_threshold):
            return f"{name} reached {value:.6g}, better than the stopping threshold {self.stopping_threshold:g}"
        if self.divergence_threshold is not None and monitor.is_beyond(self.divergence_threshold, value):
            return f"{name} is {value:.6g}, worse than the divergence threshold {self.divergence_threshold:g}"
        if not is_best and best.wait >= self.patience and not may_wait:
            if best.best is None:
                return f"{name} has not been finite in {counted(best.wait, 'observation')}"
            return f"{name} was not better than {best.best:.6g} ({best.place}) {in_a_row(best.wait)}"
        return ""
