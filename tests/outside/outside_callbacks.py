"""Callbacks that a user might write in a project of their own, with what the guide and `help()` tell."""

import time

import numpy as np

from ms_callbacks import MonitorCallback, Needs, TrainCallback

__all__ = ["EvaluationTimer", "MetricFloor", "StepCallbackEvery", "WeightDrift"]


class MetricFloor(MonitorCallback):
    """Gives up a run whose metric is still below a floor after some epochs.

    Each value from epoch `from_epoch` on must reach the floor. NaN does not; a value equal to the floor does.

    Args:
        monitor: the metric to watch.
        floor: the lowest value that is good enough.
        from_epoch: the first epoch in which the floor holds. Default: 1.
        action: `"stop"` to stop the run, `"raise"` to raise an error. Default: "stop".

    Attributes:
        failed_epoch_ (int): the epoch in which the value was too low; 0 if it never was.

    Raises:
        ValueError: `action` is neither of the two.
        RuntimeError: the value is below the floor, with `action="raise"`.
    """

    def __init__(self, monitor, floor, from_epoch=1, *, action="stop"):
        super().__init__(monitor, mode="max")
        if action not in ("stop", "raise"):
            raise ValueError(f"MetricFloor: action must be 'stop' or 'raise', got {action!r}")
        self.floor = floor
        self.from_epoch = from_epoch
        self.action = action

    def reset_state(self):
        super().reset_state()
        self.failed_epoch_ = 0

    def observe(self, run, value, observation):
        self.best.observe(value, observation.epoch)
        if observation.epoch < self.from_epoch or value >= self.floor:
            return
        self.failed_epoch_ = observation.epoch
        text = f"{self.monitor} {value:g} in epoch {observation.epoch} is below the floor of {self.floor:g}"
        if self.action == "raise":
            raise RuntimeError(f"MetricFloor: {text}")
        self.log(text)
        run.request_stop("MetricFloor")

    def state_dict(self):
        return {**super().state_dict(), "failed_epoch": self.failed_epoch_}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.failed_epoch_ = state["failed_epoch"]


class WeightDrift(TrainCallback):
    """Records how far the weights have moved, relative to their size.

    The norm of the change of all weights since the record before, divided by the norm that they had then.

    Args:
        every_n_epochs: how many epochs there are between two records. Default: 1.

    Attributes:
        drifts_ (dict[str, float]): the relative change by epoch.
        previous_ (dict[str, np.ndarray]): the weights at the last record, by name.
    """

    def __init__(self, every_n_epochs=1):
        super().__init__()
        self.every_n_epochs = every_n_epochs

    def needs(self, run):
        return super().needs(run) | Needs.WEIGHTS

    def reset_state(self):
        self.drifts_ = {}
        self.previous_ = {}

    def before_train(self, run):
        if not self.previous_:
            self.previous_ = self._weights(run)

    def after_epoch(self, run, summary):
        if summary.epoch % self.every_n_epochs:
            return
        weights = self._weights(run)
        change = sum(float(np.sum(np.square(weights[name] - old))) for name, old in self.previous_.items())
        size = sum(float(np.sum(np.square(old))) for old in self.previous_.values())
        self.drifts_[str(summary.epoch)] = (change / size) ** 0.5
        self.previous_ = weights

    def state_dict(self):
        return {"drifts": dict(self.drifts_)}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.drifts_ = dict(state["drifts"])

    def state_arrays(self):
        return dict(self.previous_)

    def load_state_arrays(self, arrays):
        self.previous_ = dict(arrays)

    @staticmethod
    def _weights(run):
        return {name: weight.asnumpy().copy() for name, weight in run.weights.items()}


class StepCallbackEvery(TrainCallback):
    """Calls a function with the step and its loss after every n-th step.

    Args:
        n: how many steps there are between two calls.
        function: called with the step, counted from the first of epoch 1, and its loss.
    """

    needs_losses = True

    def __init__(self, n, function):
        super().__init__()
        self.n = n
        self.function = function

    def check(self, run):
        super().check(run)
        if run.progress.is_sinking:
            raise ValueError("StepCallbackEvery: in sink mode the steps cannot be seen; use dataset_sink_mode=False")

    def before_train(self, run):
        run.step_hooks.every(self.n, self, self.call)

    def call(self, run):
        self.function(run.step, run.losses.last)


class EvaluationTimer(TrainCallback):
    """Measures how long each evaluation takes.

    Attributes:
        seconds_ (list[float]): the time of each evaluation.
        steps_ (list[int]): the step after which it was made, counted from the first of epoch 1.
    """

    transient = ("began",)

    def __init__(self):
        super().__init__()
        self.began = None

    def reset_state(self):
        self.seconds_ = []
        self.steps_ = []

    def before_evaluation(self, run):
        self.began = time.perf_counter()

    def after_evaluation(self, run, evaluation):
        self.seconds_.append(time.perf_counter() - self.began)
        self.steps_.append(evaluation.step)

    def state_dict(self):
        return {"seconds": list(self.seconds_), "steps": list(self.steps_)}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.seconds_ = list(state["seconds"])
        self.steps_ = list(state["steps"])
