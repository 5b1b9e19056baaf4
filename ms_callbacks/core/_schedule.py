"""Callbacks that set the learning rate: what all of them check, and how a list of rates is applied step by step."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from mindspore import train

from ._callback import STEP_BEGIN, TrainCallback, only_one
from ._checks import check_number
from ._context import Run
from ._rates import Rates, shortest

__all__ = ["Plan", "RateSetter", "Schedule", "checked_rates", "first_rates"]

_MINDSPORES_OWN = tuple(
    getattr(train, name) for name in ("LearningRateScheduler", "ReduceLROnPlateau") if hasattr(train, name)
)


class RateSetter(TrainCallback):
    """A callback that sets the optimizer's learning rate; at most one in a list of callbacks."""

    _rates: Optional[Rates] = None

    def on_train_begin(self, run_context: Any) -> None:
        """Finds the optimizer."""
        super().on_train_begin(run_context)
        self._rates = Rates(self._run.optimizer)

    def check(self, run: Run) -> None:
        """Raises where the optimizer's rate cannot be set, or where another callback sets it too."""
        super().check(run)
        owner = type(self).__name__
        only_one(
            owner,
            run.callbacks,
            (RateSetter, *_MINDSPORES_OWN),
            "set the learning rate",
            "; a warm-up takes what follows it as LRWarmup(epochs, after=...)",
        )
        try:
            rates = Rates(run.optimizer)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}") from None
        if rates.is_dynamic:
            raise ValueError(
                f"{owner}: the optimizer holds a list or a schedule of learning rates and sets its rate itself; "
                f"make the optimizer with a number, learning_rate=0.01, or leave {owner} out"
            )

    def on_exit(self) -> None:
        """Lets the optimizer go."""
        self._rates = None


class Plan(NamedTuple):
    """What a schedule makes its list for."""

    epochs: int
    steps_per_epoch: int
    is_grouped: bool = False  # whether parameter groups have rates of their own


class _Begun(NamedTuple):
    """Where the rates of an optimizer began, and where the schedule left them."""

    bases: list[float]
    left: list[float]


_BEGUN: weakref.WeakKeyDictionary[Any, _Begun] = weakref.WeakKeyDictionary()


def first_rates(rates: Rates) -> list[float]:
    """The rates that an optimizer began with, before any schedule of ours."""
    begun, now = _BEGUN.get(rates.optimizer), rates.as_given()
    return begun.bases if begun is not None and begun.left == now else now


class Schedule(RateSetter, ABC):
    """A learning rate that is known for every epoch or step before the run begins.

    After the run `lr_list_` holds the list that was applied, one rate an epoch or step (those of the first parameter
    group where there are several). A second run with the same optimizer begins at the rate that the first began at,
    unless the rate was changed in between.
    """

    lr_list_: list[float]
    _bases: Optional[list[float]] = None
    _applied: Optional[list[float]] = None

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
        if self.begins_anew():
            self._bases = first_rates(self._rates)  # where the rate is as a schedule left it, that one's beginning
            self._applied = None
        self._lists: list[list[float]] = []
        if self.by_step:
            self.at_step(STEP_BEGIN, self._apply_next)

    def check(self, run: Run) -> None:
        """Raises where steps cannot be told apart and have to be."""
        super().check(run)
        if self.by_step and run.is_sinking:
            raise ValueError(
                f"{type(self).__name__}: a rate for every step cannot be set while steps run on the device unseen; "
                f"pass dataset_sink_mode=False to Model.train, or use a schedule by epoch"
            )

    def check_plan(self, run: Run) -> None:
        """Raises where the list does not reach to the end of the run."""
        self.rates_for(1.0, self._plan(run, first_rates(Rates(run.optimizer))))

    def before_epoch(self, run: Run) -> None:
        """Makes the list before the first epoch, and sets the epoch's rate."""
        if not self._lists:
            assert self._bases is not None
            plan = self._plan(run, self._bases)
            self._lists = [self.rates_for(base, plan) for base in self._bases]
            self.lr_list_ = self._lists[0]
            # Where the next step stands in a list by step; counted here so that a step asks for nothing.
            self._index = run.steps_before
        self._apply(self._index if self.by_step else run.epoch - 1)

    def on_exit(self) -> None:
        """Remembers where it left the rate, so that a second run can tell whether somebody changed it."""
        if self._rates is not None and self._bases is not None:
            _BEGUN[self._rates.optimizer] = _Begun(self._bases, self._rates.read())
        super().on_exit()

    def state_dict(self) -> dict[str, Any]:
        """The rate that each parameter group began at, and the last that was set."""
        return {"bases": self._bases, "applied": self._applied}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next run begin at the rates of a state that `state_dict` returned."""
        super().load_state_dict(state)
        self._bases, self._applied = state["bases"], state["applied"]

    def _plan(self, run: Run, bases: list[float]) -> Plan:
        return Plan(run.epochs, run.steps_per_epoch, is_grouped=len(bases) > 1)

    def _apply_next(self, run_context: Any) -> None:
        self._apply(self._index)
        self._index += 1

    def _apply(self, index: int) -> None:
        assert self._rates is not None
        rates = [each[index] for each in self._lists]
        if rates != self._applied:
            self._rates.set(rates)
            self._applied = rates


def checked_rates(owner: str, name: str, rates: Any) -> list[float]:
    """The rates as a list of floats; raises unless there is at least one and all are finite and above 0."""
    given = getattr(rates, "asnumpy", lambda: rates)()
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{owner}: {name} must be a list of numbers, but got {rates!r}")
    values = [shortest(check_number(owner, f"{name}[{index}]", rate, above=0)) for index, rate in enumerate(given)]
    if not values:
        raise ValueError(f"{owner}: {name} must hold at least one learning rate, but it is empty")
    return values
