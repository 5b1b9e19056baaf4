"""Callbacks that watch one value: its name, which way is better, and the best so far, wired once for all of them."""

from __future__ import annotations

from typing import Any, Optional

from .callback import TrainCallback
from .monitor import BestTracker, Monitor
from .placement import Needs
from .run import Run

__all__ = ["MonitorCallback"]


class MonitorCallback(TrainCallback):
    """Base of callbacks that watch one value of a run.

    It checks before the first step that the run will have the value, tells which way is better, asks for the losses
    where the value is one of the training steps', and keeps the best in the state of a run. A subclass reads the value
    with `run.value(name, self.monitor)` and passes it to `self.best.observe(value, epoch)`.

    Args:
        monitor: the value to watch.
        mode: `"min"`, `"max"`, or `"auto"` to go by the metric's class, or else its name. Default: "auto".
        min_delta: by how much a value must be better to count, at least 0. Default: 0.0.

    Attributes:
        best_ (float | None): the best value observed; `None` before the first.
        best_epoch_ (int): its epoch; 0 before the first.
    """

    def __init__(self, monitor: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        super().__init__()
        self._monitor = Monitor.checked(type(self).__name__, monitor, mode, min_delta)
        self.monitor = monitor
        self.mode = mode
        self.min_delta = min_delta
        self.best = BestTracker(self._monitor)

    def reset_state(self) -> None:
        """Forgets the best of earlier runs."""
        self.best = BestTracker(self._monitor)

    def before_train(self, run: Run) -> None:
        """Resolves the mode."""
        super().before_train(run)
        self.best.monitor = self._resolve_mode(run)

    def check(self, run: Run) -> None:
        """Raises where the run will not have the value, or `mode="auto"` cannot tell which way is better."""
        super().check(run)
        self._resolve_mode(run)

    def needs(self, run: Run) -> Needs:
        """The loss, where it is watched."""
        return super().needs(run) | (Needs.LOSS if run.follows(self.monitor) else Needs.NOTHING)

    @property
    def needs_losses(self) -> bool:
        """Where a value of the training steps is watched."""
        return self._run.follows(self.monitor)

    @property
    def best_(self) -> Optional[float]:
        """The best value observed; `None` before the first."""
        return self.best.best

    @property
    def best_epoch_(self) -> int:
        """The epoch of the best value; 0 before the first."""
        return self.best.best_epoch

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and how long ago that was."""
        return self.best.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.best.load_state_dict(state)

    def _resolve_mode(self, run: Run) -> Monitor:
        name = type(self).__name__
        return self._monitor.resolve_mode(name, run.metric(name, self.monitor))
