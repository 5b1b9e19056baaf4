"""A learning rate as a function of the epoch or the optimizer step alone, not of the previous rate.

A resumed run therefore has the same rates as an uninterrupted one, rounding errors do not accumulate, and no drop is
applied twice.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Optional

from .arguments import check_choice
from .console import counted

__all__ = ["BY", "Curve", "NoRateError", "Plan", "check_by"]

BY = ("epoch", "step")


class NoRateError(LookupError):
    """There is no rate for an epoch or a step."""


class Plan(NamedTuple):
    """The length of a run, or of the part of a run for which a schedule sets the rates."""

    epochs: int
    steps_per_epoch: int  # of the optimizer
    is_grouped: bool = False  # whether there are several parameter groups, each with its own rate
    group: int = 0  # the group that the rates are for, from 0
    epochs_before: int = 0  # the whole epochs that a preceding schedule takes
    steps_taken: int = 0  # the steps of the first epoch that a preceding schedule takes

    @property
    def steps(self) -> int:
        """The number of optimizer steps."""
        return self.epochs * self.steps_per_epoch - self.steps_taken


class Curve(ABC):
    """A rate, and optionally a momentum, as a function of an index.

    The index is the number of completed epochs, or with `by="step"` of completed optimizer steps.
    """

    by: str = "epoch"
    cycle_momentum: Optional[bool] = False  # `None`: only for optimizers that have a momentum
    begins_at_own_rate = False  # whether a warm-up before it rises to its first rate, not to the optimizer's

    @abstractmethod
    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of an epoch or step, for parameters whose own rate is `base`."""

    def momentum_at(self, index: int, plan: Plan) -> Optional[float]:
        """Return the momentum of an epoch or step; `None` for the optimizer's own."""
        return None

    @property
    def by_step(self) -> bool:
        """Whether the rate changes by step, rather than by epoch."""
        return self.by == "step"

    def is_relative(self, plan: Plan) -> bool:
        """Return whether the rates depend on those that the optimizer was created with."""
        return True

    def last_epoch_of_part(self, epoch: int, plan: Plan) -> Optional[int]:
        """Return the last epoch of the part of the curve that contains `epoch`; `None` if the part has no end.

        The next part begins with the following epoch, whatever the number of steps was. Epochs count from 1.
        """
        return None if self.by_step else epoch

    def count(self, plan: Plan) -> int:
        """Return the number of rates."""
        return max(plan.steps if self.by_step else plan.epochs, 0)

    def rates_for(self, base: float, plan: Plan) -> list[float]:
        """Return the rates of a run, for parameters whose own rate is `base`."""
        return [self.rate_at(base, index, plan) for index in range(self.count(plan))]

    def index_of(self, step: int, plan: Plan) -> int:
        """Return the index of a step of the plan, counted from 0."""
        return step if self.by_step else (step + plan.steps_taken) // plan.steps_per_epoch

    def in_words(self, count: int) -> str:
        """Return a number of epochs or steps as text."""
        return counted(count, self.by)

    def decayed(self, base: float, gamma: float, times: int, plan: Plan) -> float:
        """Return `base * gamma**times`; raise if the result is too large for a number."""
        try:
            rate: float = base * gamma**times
        except OverflowError:
            rate = math.inf
        if math.isinf(rate):
            raise ValueError(
                f"{type(self).__name__}: gamma={gamma} makes the rate too large for a number within "
                f"{self.in_words(self.count(plan))}; lower it"
            )
        return rate

    def check_not_longer(self, name: str, length: int, plan: Plan, what: str, remedy: str) -> None:
        """Raise if the plan continues beyond index `length`, where the curve ends."""
        own = self.count(plan)
        if own > length + 1:
            raise ValueError(
                f"{type(self).__name__}: with {name}={length} the rate reaches eta_min in {self.by} {length + 1} and "
                f"{what} in the {self.in_words(own - length - 1)} left of its {own}; give "
                f"{name}={own - 1} or {name}={own}, or {remedy}"
            )


def check_by(owner: str, value: Any) -> str:
    """Return the argument `by`; raise unless it is `"epoch"` or `"step"`."""
    return str(check_choice(owner, "by", value, BY))
