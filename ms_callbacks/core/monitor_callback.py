"""The base class of callbacks that monitor one value: its name, which direction is better, and the best so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Optional, Union

from .callback import TrainCallback
from .monitor import BestTracker, Monitor
from .observations import EpochSummary, Evaluation
from .placement import Needs
from .run import Run

__all__ = ["MonitorCallback"]


class MonitorCallback(TrainCallback, ABC):
    """Base class of callbacks that monitor one value of a run.

    A validation value is observed at each evaluation, at the end of an epoch or between two steps; a value of the
    training steps, such as `loss`, at the end of each epoch. An epoch without a value is not an observation. Before
    the first step, it is checked that the run will have the value, and which direction is better.

    Args:
        monitor: the value to watch: `"loss"` (the mean training loss of the epoch), `"eval_loss"`, or a metric of the
            Model; `"val_loss"` and `"val_acc"` mean `"eval_loss"` and `"acc"`.
        mode: `"min"`, `"max"`, or `"auto"` to go by the metric's class, or else its name. Default: "auto".
        min_delta: by how much a value must be better to count, at least 0. Default: 0.0.

    Attributes:
        best (BestTracker): compares values: `self.best.observe(value, epoch)` returns whether a value is the best so
            far. NaN is never better, and a tie is not.
        best_ (float | None): the best value observed; `None` before the first.
        best_epoch_ (int): its epoch; 0 before the first.
        wait_ (int): how many observations have passed since.

    Raises:
        TypeError, ValueError: an argument is not as described; at the start of the run if that can be known then, or
            else at the first evaluation: the run will not have such a value, or `mode="auto"` cannot determine which
            direction is better.

    Example:
        >>> class BestSoFar(MonitorCallback):
        ...     "Print each value that is the best so far."
        ...
        ...     def observe(self, run, value, observation):
        ...         if self.best.observe(value, observation.epoch):
        ...             self.log(f"{self.monitor} {value:.2f}")
        >>> model.train(1, train_dataset, callbacks=[Validate(model, valid_dataset), BestSoFar("acc")])
        BestSoFar: acc ...
    """

    def __init__(self, monitor: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        super().__init__()
        self._monitor = Monitor.checked(type(self).__name__, monitor, mode, min_delta)
        self.monitor = monitor
        self.mode = mode
        self.min_delta = min_delta
        self.best = BestTracker(self._monitor)

    @abstractmethod
    def observe(self, run: Run, value: float, observation: Union[Evaluation, EpochSummary]) -> None:
        """Called with each value observed: after an evaluation, or for a value of the training steps after an epoch."""

    def reset_state(self) -> None:
        """Forget the best of earlier runs."""
        self.best = BestTracker(self._monitor)

    def before_train(self, run: Run) -> None:
        """Resolve the mode."""
        super().before_train(run)
        self.best.monitor = self._resolve_mode(run)

    def check(self, run: Run) -> None:
        """Raise if the run will not have the value, or `mode="auto"` cannot determine which direction is better."""
        super().check(run)
        if "_monitor" not in vars(self):
            raise TypeError(f"{type(self).__name__}: its __init__ must call super().__init__(monitor)")
        self._resolve_mode(run)

    def needs(self, run: Run) -> Needs:
        """Require the loss, if it is monitored."""
        return super().needs(run) | (Needs.LOSS if run.metrics.follows(self.monitor) else Needs.NOTHING)

    @property
    def needs_losses(self) -> bool:  # type: ignore[override]
        """Whether a value of the training steps is monitored."""
        return self.run.metrics.follows(self.monitor)

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Observe a validation value."""
        if not run.metrics.follows(self.monitor):
            self._observe(run, evaluation)

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Observe a value of the training steps."""
        if run.metrics.follows(self.monitor):
            self._observe(run, summary)

    def _observe(self, run: Run, observation: Union[Evaluation, EpochSummary]) -> None:
        value = observation.value(self.monitor, type(self).__name__)
        if value is not None:
            self.observe(run, value, observation)

    @property
    def best_(self) -> Optional[float]:
        """The best value observed; `None` before the first."""
        return self.best.best

    @property
    def best_epoch_(self) -> int:
        """The epoch of the best value; 0 before the first."""
        return self.best.best_epoch

    @property
    def wait_(self) -> int:
        """How many observations have passed since the best."""
        return self.best.wait

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far, and how many observations have passed since."""
        return self.best.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, in the next run."""
        super().load_state_dict(state)
        self.best.load_state_dict(state)

    def _resolve_mode(self, run: Run) -> Monitor:
        name = type(self).__name__
        return self._monitor.resolve_mode(name, run.metrics.metric(name, self.monitor))
