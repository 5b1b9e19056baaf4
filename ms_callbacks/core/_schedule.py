"""Callbacks that set the learning rate: what all of them check, and how a list of rates is applied step by step."""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Optional

from mindspore import train

from ._callback import TrainCallback, only_one
from ._context import Run
from ._rates import Rates, shortest

__all__ = ["Plan", "RateSetter", "Schedule", "checked_rates"]

_MINDSPORES_OWN = tuple(
    getattr(train, name) for name in ("LearningRateScheduler", "ReduceLROnPlateau") if hasattr(train, name)
)


class RateSetter(TrainCallback):
    """A callback that sets the optimizer's learning rate; at most one in a list of callbacks."""

    _rates: Optional[Rates] = None

    def on_train_begin(self, run_context: Any) -> None:
        """Finds the optimizer; raises where its rate cannot be set, or where another callback sets it too."""
        super().on_train_begin(run_context)
        owner = type(self).__name__
        run = Run.of(run_context)
        only_one(owner, run.callbacks, (RateSetter, *_MINDSPORES_OWN), "set the learning rate")
        try:
            self._rates = Rates(run.optimizer)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}") from None
        if self._rates.is_dynamic:
            raise ValueError(
                f"{owner}: the optimizer holds a list or a schedule of learning rates and sets its rate itself; "
                f"make the optimizer with a number, learning_rate=0.01, or leave {owner} out"
            )

    def on_exit(self) -> None:
        """Lets the optimizer go."""
        self._rates = None


@dataclass(frozen=True)
class Plan:
    """What a schedule makes its list for."""

    epochs: int
    steps_per_epoch: int
    is_grouped: bool = False  # whether parameter groups have rates of their own


class Schedule(RateSetter):
    """A learning rate that is known for every epoch or step before the run begins.

    After the run `lr_list_` holds the list that was applied, one rate an epoch or step (those of the first parameter
    group where there are several). A second run with the same optimizer begins at the rate that the first began at,
    unless the rate was changed in between.
    """

    lr_list_: list[float]
    _bases: Optional[list[float]] = None
    _left: Optional[tuple[weakref.ref[Any], list[float]]] = None

    @property
    def by_step(self) -> bool:
        """Whether the list has one rate a step, rather than one an epoch."""
        return False

    @abstractmethod
    def rates_for(self, base: float, plan: Plan) -> list[float]:
        """The rates of a run, for parameters whose own rate is `base`."""

    def on_train_begin(self, run_context: Any) -> None:
        """Takes note of the rate that the optimizer was made with."""
        super().on_train_begin(run_context)
        assert self._rates is not None
        if self.by_step and Run.of(run_context).is_sinking:
            raise ValueError(
                f"{type(self).__name__}: a rate for every step cannot be set while steps run on the device unseen; "
                f"pass dataset_sink_mode=False to Model.train, or use a schedule by epoch"
            )
        rates = self._rates.read()
        if self._left is not None and (self._left[0]() is not self._rates.optimizer or self._left[1] != rates):
            self._bases = None
        self._bases = self._bases or rates
        self._lists: list[list[float]] = []

    def on_train_epoch_begin(self, run_context: Any) -> None:
        """Makes the list before the first epoch, and sets the epoch's rate."""
        super().on_train_epoch_begin(run_context)
        run = Run.of(run_context)
        if not self._lists:
            assert self._bases is not None
            plan = Plan(run.epochs, run.steps_per_epoch, is_grouped=len(self._bases) > 1)
            self._lists = [self.rates_for(base, plan) for base in self._bases]
            self.lr_list_ = self._lists[0]
            self._applied: Optional[list[float]] = None
            # Where the next step stands in a list by step; counted here so that a step asks for nothing.
            self._index = run.initial_epoch * run.steps_per_epoch
        if not self.by_step:
            self._apply(run.epoch - 1)

    def on_train_step_begin(self, run_context: Any) -> None:
        """Sets the step's rate."""
        if self.by_step:
            self._apply(self._index)
            self._index += 1

    def on_exit(self) -> None:
        """Remembers where it left the rate, so that a second run can tell whether somebody changed it."""
        if self._rates is not None:
            self._left = weakref.ref(self._rates.optimizer), self._rates.read()
        super().on_exit()

    def state_dict(self) -> dict[str, Any]:
        """The rate that each parameter group began at."""
        return {"bases": self._bases}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state that `state_dict` returned: the next run begins at its rates."""
        self._bases, self._left = state["bases"], None

    def _apply(self, index: int) -> None:
        assert self._rates is not None
        rates = [each[index] for each in self._lists]
        if rates != self._applied:
            self._rates.set(rates)
            self._applied = rates


def checked_rates(owner: str, name: str, rates: Any) -> list[float]:
    """The rates as a list of floats; raises unless there is at least one and all are finite and above 0."""
    try:
        values = [shortest(rate) for rate in getattr(rates, "asnumpy", lambda: rates)()]
    except (TypeError, ValueError):
        raise TypeError(f"{owner}: {name} must be a list of numbers, but got {rates!r}") from None
    if not values:
        raise ValueError(f"{owner}: {name} must hold at least one learning rate, but it is empty")
    for index, value in enumerate(values):
        if not math.isfinite(value) or value <= 0:
            raise ValueError(f"{owner}: {name} must hold finite rates above 0, but {name}[{index}] is {value}")
    return values
