"""What is known at one point of a run, in immutable plain values: after an evaluation, and after an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .names import EVAL_LOSS, TRAIN_LOSS, is_train_loss, key_among, unknown_monitor

__all__ = ["EpochSummary", "Evaluation", "Observation"]


@dataclass(frozen=True)
class Observation:
    """What is known at one point of a run.

    Attributes:
        epoch (int): the epoch, from 1; absolute, so that a run with `initial_epoch=5` begins at 6.
        step (int): the step, counted from the first step of epoch 1.
        step_in_epoch (int): the step within its epoch, from 1.
        train_means (Mapping[str, float | None]): the means of the epoch's training steps so far, over all processes:
            `loss`, whatever else `StepOutputs` names, and the numbers that callbacks give (`summary_values`). `None`
            if no callback has asked for the losses.
        results (Mapping[str, Any]): the validation values by name, numbers as `float`; empty without an evaluation.
        learning_rates (tuple[float, ...]): the learning rates of the last step, one for each parameter group; empty
            without an optimizer of `mindspore.nn`.
        seconds (float): the time that the epoch's training steps have taken; evaluations do not count.
        names_so_far (frozenset[str]): the names of all validation values that the run has had so far.
    """

    epoch: int
    step: int
    step_in_epoch: int
    train_means: Mapping[str, Optional[float]]
    results: Mapping[str, Any]
    learning_rates: tuple[float, ...]
    seconds: float
    names_so_far: frozenset[str]

    @property
    def step_between(self) -> int:
        """The step, if this is known between two steps; 0 at the end of an epoch."""
        return 0

    @property
    def loss(self) -> Optional[float]:
        """The mean training loss of the epoch's steps so far."""
        return self.train_means[TRAIN_LOSS]

    def value(self, name: str, owner: str = "Model") -> Optional[float]:
        """Return the value that a monitor's name means.

        Args:
            name: `loss`, a validation value, or its name with the prefix `val_`.
            owner: the callback that an error names. Default: "Model".

        Returns:
            The value; NaN for every validation value if the loss of the evaluation is NaN; `None` if there is none at
            this point.

        Raises:
            ValueError: the run has no such value; the error names the nearest.
            TypeError: the value is not a single number.
        """
        if is_train_loss(name) or name in self.train_means:
            return self.train_means[TRAIN_LOSS if is_train_loss(name) else name]
        if not self.results:
            return None
        key = key_among(name, self.results)
        if key is None:
            if key_among(name, self.names_so_far) is not None:
                return None  # a metric need not return it every time
            raise unknown_monitor(owner, name, self.results)
        value, eval_loss = self.results[key], self.results.get(EVAL_LOSS)
        if not isinstance(value, float):
            raise TypeError(
                f"{owner}: monitor {name!r} must be a single number, but the metric returned {value!r} "
                f"({type(value).__name__}); monitor another, or make the metric return its mean"
            )
        # MindSpore's metrics turn logits that are NaN into a plausible accuracy; the loss stays NaN.
        return math.nan if isinstance(eval_loss, float) and math.isnan(eval_loss) else value

    def _numbers(self) -> dict[str, Any]:
        return {
            **self.train_means,
            **{name: value for name, value in self.results.items() if isinstance(value, float)},
            "learning_rate": self.learning_rates[0] if self.learning_rates else None,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Evaluation(Observation):
    """What is known right after an evaluation.

    It has the attributes `epoch`, `step`, `step_in_epoch`, `loss`, `train_means` (by name, of the steps so far),
    `results` (the validation values by name), `learning_rates` and `seconds`, and `value(name)`.

    Attributes:
        at_epoch_end (bool): whether it is the evaluation at an epoch's end, rather than one between two steps.

    Example:
        >>> class Report(TrainCallback):
        ...     def after_evaluation(self, run, evaluation):
        ...         self.log(f"step {evaluation.step}: acc {evaluation.results['acc']:.1f}")
        >>> model.train(1, train_dataset, callbacks=[Validate(model, valid_dataset, every_n_steps=2), Report()])
        Report: step 2: acc ...
        Report: step 4: acc ...
    """

    at_epoch_end: bool = True

    @property
    def step_between(self) -> int:
        """The step, if it was made between two steps; 0 at the end of an epoch."""
        return 0 if self.at_epoch_end else self.step

    def as_dict(self) -> dict[str, Any]:
        """Return its numbers by name: epoch, step, training means, validation values, learning rate and seconds."""
        return {"epoch": self.epoch, "step": self.step, **self._numbers()}


@dataclass(frozen=True)
class EpochSummary(Observation):
    """What is known at the end of an epoch, including its evaluation.

    It has the attributes `epoch`, `step`, `step_in_epoch`, `loss`, `train_means` (by name, of the epoch's steps),
    `results` (the validation values by name), `learning_rates`, `seconds` and `samples_per_second`, and `value(name)`.

    Attributes:
        samples (int | None): the samples that the epoch's steps have seen, over all processes; `None` if no callback
            has asked for them (`needs_samples`), or batches go to the device unseen.

    Example:
        >>> class Report(TrainCallback):
        ...     needs_losses = True
        ...
        ...     def after_epoch(self, run, summary):
        ...         self.log(f"epoch {summary.epoch}: loss {summary.loss:.1f}, rates {summary.learning_rates}")
        >>> model.train(1, train_dataset, callbacks=[Report()])
        Report: epoch 1: loss ..., rates (0.01,)
    """

    samples: Optional[int] = None

    @property
    def samples_per_second(self) -> Optional[float]:
        """The samples per second; `None` if they were not counted."""
        return self.samples / self.seconds if self.samples is not None and self.seconds else None

    def as_dict(self) -> dict[str, Any]:
        """Return its numbers by name: epoch, training means, validation values, learning rate, time and throughput."""
        return {"epoch": self.epoch, **self._numbers(), "samples_per_second": self.samples_per_second}
