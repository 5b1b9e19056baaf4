"""Lower the learning rate when a value has stopped improving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

from ..core.arguments import check_bool, check_choice, check_int, check_number
from ..core.console import in_a_row
from ..core.initial_rates import remember
from ..core.learning_rates import Rates, shortest
from ..core.lr_arguments import check_per_group, checked_per_group, for_group
from ..core.monitor_callback import MonitorCallback
from ..core.observations import EpochSummary, Evaluation
from ..core.rate_setter import RateSetter
from ..core.run import Run

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(MonitorCallback, RateSetter):
    """Multiply the learning rate by `factor` when a monitored value has stopped improving.

    This is when `patience` observations in a row were not better than the best before them. Decisions match Keras 3,
    with one exception: a value that is not finite is never the best, not even the first. A tie is not better. An epoch
    without an evaluation is not an observation. The optimizer is not rebuilt and keeps its moments; parameter
    groups, and several optimizers, are scaled alike, and a group with a rate of 0 stays frozen.

    Args:
        monitor: the value to watch: `"loss"` (the mean training loss of the epoch, in sink mode that of its last step),
            `"eval_loss"`, or a metric of the Model; `"val_loss"` and `"val_acc"` mean `"eval_loss"` and `"acc"`. Under
            `Model.fit` alone, `eval_loss` is MindSpore's, which covers the last batch only; add `Validate`, or a metric
            `loss`, to correct it. Default: "eval_loss".
        factor: the factor by which the rate is multiplied, above 0 and below 1. Default: 0.1.
        patience: how many observations without a better value to accept. Default: 10.
        mode: `"min"`, `"max"`, or `"auto"` to go by the metric's class, or else its name. Default: "auto".
        min_delta: by how much a value must be better to count, at least 0. Default: 1e-4.
        cooldown: how many observations to skip after lowering before counting again. Default: 0.
        min_lr: the lower bound of the rate; a list has one for each parameter group. The groups are in the order in
            which the optimizer was given them, and those without an `lr` of their own count as one. Default: 0.0.
        reset_on_train_begin: whether each `Model.train` is a new run. `False` is for a loop that calls
            `model.train(1, ...)` repeatedly: the wait and the best value then span all of its calls. Default: True.
        verbose: 1 prints a line when the rate is lowered, 0 nothing. Default: 1.

    Attributes:
        best_ (float | None): the best value.
        wait_ (int): how many observations have passed since, or since the rate was lowered.

    Raises:
        TypeError, ValueError: an argument is not as described; at the start of the run if that can be known then, or
            else at the first evaluation: the run will not have such a value, or `mode="auto"` cannot determine which
            direction is better; before the first step: the optimizer already holds a list or a schedule, another
            callback sets the rate, or the length of `min_lr` is not the number of groups.

    Example:
        >>> plateau = ReduceLROnPlateau("loss", factor=0.5, patience=2)
        >>> model.train(2, train_dataset, callbacks=[plateau])
    """

    def __init__(
        self,
        monitor: str = "eval_loss",
        *,
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: Union[float, Sequence[float]] = 0.0,
        reset_on_train_begin: bool = True,
        verbose: int = 1,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        owner = "ReduceLROnPlateau"
        self.factor = check_number(owner, "factor", factor, above=0, below=1)
        self.patience = check_int(owner, "patience", patience, 0)
        self.cooldown = check_int(owner, "cooldown", cooldown, 0)
        self.min_lr = checked_per_group(owner, "min_lr", min_lr, minimum=0)
        self.reset_on_train_begin = check_bool(owner, "reset_on_train_begin", reset_on_train_begin)
        self.verbose = check_choice(owner, "verbose", verbose, (0, 1))
        self._cooling = 0

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        super().reset_state()
        self._cooling = 0

    def check_groups(self, rates: Rates) -> None:
        """Raise if `min_lr` does not have one entry for each parameter group."""
        check_per_group("ReduceLROnPlateau", "min_lr", self.min_lr, rates)

    def observe(self, run: Run, value: float, observation: Union[Evaluation, EpochSummary]) -> None:
        """Lower the rate if, with one more value, patience has run out."""
        if run.epoch < self.first_epoch:  # a warm-up comes first
            return
        if self._is_out_of_patience(value, self.epoch_of(run)) and self._lower(run, observation):
            self._cooling = self.cooldown
            self.best.wait = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far, the wait and the cooldown."""
        return {**super().state_dict(), "cooling": self._cooling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self._cooling = state["cooling"]

    def _is_out_of_patience(self, value: float, epoch: int) -> bool:
        """Count one value; return whether patience has run out."""
        if self._cooling > 0:
            self._cooling -= 1
            self.best.wait = 0
        if self.best.observe(value, epoch):
            return False
        if self._cooling > 0:
            self.best.wait = 0
            return False
        return self.best.wait >= self.patience

    def _lower(self, run: Run, observation: Union[Evaluation, EpochSummary]) -> bool:
        assert self._rates is not None
        old = self._rates.planned()
        lowest = [for_group(self.min_lr, group) for group in range(len(old))]
        new = [max(rate * self.factor, low) if rate > shortest(low) else rate for rate, low in zip(old, lowest)]
        if new == old:
            return False
        self._rates.set(new)
        remember(self._rates)
        if self.verbose:
            rates = "/".join(f"{rate:.6g}" for rate in new)
            step = observation.step_between
            following = f"step {step + 1}" if step else f"epoch {self.epoch_of(run) + 1}"
            self.log(
                f"learning rate {rates} from {following} on: {self.monitor} was not better than "
                f"{'any' if self.best_ is None else format(self.best_, '.6g')} {in_a_row(self.best.wait)}"
            )
        return True
