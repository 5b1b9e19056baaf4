"""Base classes of callbacks that set the learning rate: common checks, and applying a list of rates."""

from __future__ import annotations

import hashlib
import math
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from .arguments import check_number
from .callback import TrainCallback, only_one
from .console import counted
from .learning_rates import Rates, shortest
from .mindspore_compat import COUNTS_STEPS, RATE_CALLBACKS
from .run import Run

__all__ = [
    "PerGroup",
    "Plan",
    "RateSetter",
    "Schedule",
    "check_per_group",
    "checked_first_rate",
    "checked_per_group",
    "checked_rates",
    "first_rates",
    "for_group",
    "remember",
]

PerGroup = Union[float, list[float]]  # one number for all parameter groups, or one for each


class RateSetter(TrainCallback):
    """A callback that sets the learning rate of all optimizers; at most one in a list of callbacks."""

    transient = ("_rates",)
    _rates: Optional[Rates] = None
    first_epoch = 1  # the first epoch in which it sets the rate

    def before_train(self, run: Run) -> None:
        """Find the optimizers."""
        super().before_train(run)
        self._rates = Rates(run.parts.optimizers)

    def check(self, run: Run) -> None:
        """Raise if the rate cannot be set, or another callback sets it too."""
        super().check(run)
        owner = type(self).__name__
        only_one(
            owner,
            [one for one in run.callbacks if isinstance(one, (RateSetter, *RATE_CALLBACKS))],
            "set the learning rate",
            "; for a warm-up, pass what follows as LRWarmup(epochs, after=...)",
        )
        try:
            rates = Rates(run.parts.optimizers)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}") from None
        if rates.is_dynamic:
            raise ValueError(
                f"{owner}: the optimizer holds a list or a schedule of learning rates and sets its rate itself; "
                f"make the optimizer with a number, learning_rate=0.01, also for the lr of each parameter group, "
                f"or leave {owner} out"
            )
        self.check_groups(rates)

    def check_groups(self, rates: Rates) -> None:
        """Raise if an argument with a value for each parameter group does not match the optimizer's groups."""

    def teardown(self) -> None:
        """Release the optimizers."""
        self._rates = None


class Plan(NamedTuple):
    """What a schedule's list is for."""

    epochs: int
    steps_per_epoch: int
    is_grouped: bool = False  # whether parameter groups have rates of their own
    group: int = 0  # the group that the list is for, from 0
    epochs_before: int = 0  # the epochs of a preceding warm-up


class _Begun(NamedTuple):
    """The initial rates of an optimizer, its last rates, and the number of its steps then."""

    bases: list[float]
    left: list[float]
    steps: int


_BEGUN: weakref.WeakKeyDictionary[Any, _Begun] = weakref.WeakKeyDictionary()


def remember(rates: Rates, bases: Optional[Sequence[float]] = None) -> None:
    """Remember the current rates and the initial ones: `bases`, or as before unless the rates were changed since."""
    for each in rates.of_each:
        known, left = _BEGUN.get(each.optimizers[0]), each.planned()
        begun = known.bases if known is not None and known.left == left else left
        if bases is not None:
            begun, bases = list(bases[: len(each)]), bases[len(each) :]
        _BEGUN[each.optimizers[0]] = _Begun(begun, left, each.steps)


def first_rates(rates: Rates) -> list[float]:
    """Return the rates that an optimizer began with, before any of our schedules."""
    if len(rates.optimizers) > 1:
        return [rate for each in rates.of_each for rate in first_rates(each)]
    begun, now = _BEGUN.get(rates.optimizers[0]), rates.as_given()
    return begun.bases if begun is not None and begun.left == now else now


class Schedule(RateSetter, ABC):
    """A learning rate that is known for every epoch or step before the run begins.

    After the run `lr_list_` holds the list that was applied, one rate per epoch or step (those of the first parameter
    group if there are several). A second run with the same optimizer begins at the same rate as the first, unless the
    rate was changed in between.
    """

    lr_list_: list[float]
    learning_rate: Optional[PerGroup] = None
    takes_first_rate = True
    _bases: Optional[list[float]] = None
    _applied: Optional[list[float]] = None
    _resumed: Optional[dict[str, Any]] = None
    _index = 0  # the index of the next step in a list by step

    @property
    def by_step(self) -> bool:
        """Whether the list has one rate per step, rather than one per epoch."""
        return False

    @property
    def first_rate(self) -> Optional[PerGroup]:
        """The initial rate, if it is given to the schedule; `None` for the optimizer's own."""
        return self.learning_rate

    @abstractmethod
    def rates_for(self, base: float, plan: Plan) -> list[float]:
        """Return the rates of a run, for parameters whose own rate is `base`."""

    def is_relative(self, plan: Plan) -> bool:
        """Return whether the rates depend on those that the optimizer was created with."""
        return True

    def has_own_part(self, epoch: int) -> bool:
        """Return whether, in a list by step, an epoch has its own part, however many steps it turns out to have."""
        return False

    def reset_state(self) -> None:
        """Forget the previous run."""
        self._resumed = self._bases = self._applied = None
        self._index = 0

    def before_train(self, run: Run) -> None:
        """Set the rate before each step, if there is one for each."""
        super().before_train(run)
        self._lists: list[list[float]] = []
        if self.by_step:
            run.step_hooks.on_step_begin(self, self._apply_next)

    def check(self, run: Run) -> None:
        """Raise if steps cannot be distinguished but have to be."""
        super().check(run)
        if self.by_step and run.progress.is_sinking:
            raise ValueError(
                f"{type(self).__name__}: a rate for every step cannot be set while steps run on the device unseen; "
                f"pass dataset_sink_mode=False to Model.train, or use a schedule by epoch"
            )

    def check_groups(self, rates: Rates) -> None:
        """Raise if the initial rate does not match the optimizer's parameter groups."""
        owner, given = type(self).__name__, self.first_rate
        if isinstance(given, float) and len(rates) > 1:
            raise ValueError(
                f"{owner}: learning_rate={given} cannot be shared by parameter groups with rates of their own; leave "
                f"it out to start each group from its own, or give a list of {len(rates)}, one per group"
            )
        check_per_group(owner, "learning_rate", given, rates)

    def check_plan(self, run: Run) -> None:
        """Raise if the schedule does not fit the run, or the initial rates cannot be determined."""
        if self.by_step and run.steps_per_epoch < 1:
            raise ValueError(
                f"{type(self).__name__}: a rate for every step needs the number of steps, but get_dataset_size() of "
                f"the training dataset is {run.steps_per_epoch}"
            )
        rates = Rates(run.parts.optimizers)
        self.check_length(_plan(run, rates))
        # Before a resumed run begins, the rates in its state have not been loaded yet.
        is_told_later = run.progress.is_resumed and self._resumed is None
        self._lists_for(rates.planned() if is_told_later else self._bases_for(run, rates), run)

    def check_length(self, plan: Plan) -> None:
        """Raise if the schedule does not fit the length of the run."""

    def before_epoch(self, run: Run) -> None:
        """Make the list before the first epoch, and set the epoch's rate."""
        assert self._rates is not None
        is_first = not self._lists
        if is_first:
            self._bases = self._bases_for(run, self._rates)
            self._lists = self._lists_for(self._bases, run)
            self.lr_list_ = self._lists[0]
        self._enter_epoch(run, is_first)
        if is_first:
            remember(self._rates, self._bases)

    def teardown(self) -> None:
        """Remember the last rates, so that a second run can detect whether they were changed since."""
        if self._rates is not None and self._bases is not None:
            remember(self._rates, self._bases)
        self._resumed = None
        super().teardown()

    def state_dict(self) -> dict[str, Any]:
        """Return the initial and the last rate of each parameter group, and the position in a list by step."""
        return {"bases": self._bases, "applied": self._applied, "steps": self._index}

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the list of rates."""
        return {"lr_list": np.array(self.lr_list_)} if hasattr(self, "lr_list_") else {}

    def load_state_arrays(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Restore the list of rates, until the next run makes its own."""
        self.lr_list_ = arrays["lr_list"].tolist()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self._resumed = state if state["bases"] is not None else None
        self._bases, self._applied = state["bases"], state["applied"]
        self._index = state.get("steps", 0)

    def digest_of_rates(self, run: Run, epochs: int, steps: int) -> str:
        """Return a digest of the rates of the first epochs and steps; schedules that begin alike have the same."""
        lists = self._lists or self._lists_for(self._bases_for(run, Rates(run.parts.optimizers)), run)
        taken = epochs * run.steps_per_epoch + steps if self.by_step else epochs + (steps > 0)
        return hashlib.sha256(np.array([rates[:taken] for rates in lists]).tobytes()).hexdigest()

    def _lists_for(self, bases: Sequence[float], run: Run) -> list[list[float]]:
        plan = Plan(run.epochs, run.steps_per_epoch, is_grouped=len(bases) > 1)
        return [self.rates_for(base, plan._replace(group=group)) for group, base in enumerate(bases)]

    def _bases_for(self, run: Run, rates: Rates) -> list[float]:
        """Return the rates that the run begins with, one per parameter group."""
        given = self.first_rate
        if given is not None:
            return [for_group(given, group) for group in range(len(rates))]
        if self._resumed is not None:
            return list(self._resumed["bases"])
        if not self.is_relative(_plan(run, rates)):
            return first_rates(rates)
        bases = self._told(run, rates)
        if not any(bases):
            raise ValueError(
                f"{type(self).__name__}: the optimizer's learning rate is 0, and so would be all rates derived from "
                f"it; make the optimizer with the initial rate, as in learning_rate=0.01"
            )
        return bases

    def _told(self, run: Run, rates: Rates) -> list[float]:
        """Return the rates that the optimizers began with, as opposed to those that a checkpoint has brought since."""
        now, continues = rates.planned(), run.progress.steps_before > 0
        begun: list[Optional[float]] = []
        left: list[Optional[float]] = []
        steps, is_seen = 0, True
        for each in rates.of_each:
            known = _BEGUN.get(each.optimizers[0])
            begun += each.made if known is None else known.bases
            left += each.made if known is None else known.left
            steps += 0 if known is None else known.steps
            is_seen = is_seen and known is not None
        bases = [base for base in begun if base is not None]
        is_known = len(bases) == len(now)
        if is_known and (now in (left, bases) or (continues and self._had_led_to(now, bases, run))):
            return bases
        # If an optimizer's step count is still the one that we know, no later state has been loaded into it.
        is_unchanged = rates.steps == steps and (is_seen or not continues or COUNTS_STEPS)
        if is_unchanged or not (is_known or continues):
            return now
        owner = type(self).__name__
        argument = f"learning_rate={_text(bases if is_known else now)}"
        raise ValueError(
            f"{owner}: the optimizer began with {_text(bases) if is_known else 'a rate that is not known'} and holds "
            f"{_text(now)}, which may come from a checkpoint, or may be meant for this run; "
            + (
                f"pass the rate that epoch 1 begins with, as in {owner}(..., {argument}), or "
                if self.takes_first_rate
                else ""
            )
            + "leave the entries that begin with 'learning_rate' out of what is loaded"
        )

    def _had_led_to(self, now: list[float], bases: list[float], run: Run) -> bool:
        """Return whether a schedule that began with `bases` has the rates `now` just before the run's first step."""
        index = (
            run.progress.steps_before - 1
            if self.by_step
            else run.progress.initial_epoch - (run.progress.resumed_steps == 0)
        )
        return all(
            index < len(rates) and math.isclose(shortest(rates[index]), rate, rel_tol=1e-6)
            for rates, rate in zip(self._lists_for(bases, run), now)
        )

    def _enter_epoch(self, run: Run, is_first: bool) -> None:
        if not self.by_step:
            self._apply(run.epoch - 1)
            return
        # Counted here, so that a step looks nothing up, and epochs may have other numbers of steps than declared.
        if self.has_own_part(run.epoch) or self.has_own_part(run.epoch - 1):
            self._index = run.progress.steps_before if is_first else (run.epoch - 1) * run.steps_per_epoch
        elif is_first:
            done = None if self._resumed is None else self._resumed.get("steps")
            self._index = run.progress.steps_before if done is None else done
        self._last = run.epoch * run.steps_per_epoch - 1 if self.has_own_part(run.epoch) else sys.maxsize
        if self._index < len(self.lr_list_):  # for code that reads the rate before the first step
            self._apply(self._index)

    def _apply_next(self, run: Run) -> None:
        self._apply(min(self._index, self._last))
        self._index += 1

    def _apply(self, index: int) -> None:
        assert self._rates is not None
        if index >= len(self._lists[0]):
            raise self._exhausted(index)
        rates = [each[index] for each in self._lists]
        if rates != self._applied:
            self._rates.set(rates)
            self._applied = rates

    def _exhausted(self, index: int) -> ValueError:
        run, unit = self.run, "step" if self.by_step else "epoch"
        return ValueError(
            f"{type(self).__name__}: has {counted(len(self._lists[0]), 'rate')}, one per {unit}, for "
            f"{counted(run.epochs, 'epoch')} of {counted(run.steps_per_epoch, 'step')}, as get_dataset_size() of the "
            f"training dataset reported, but there is none for {unit} {index + 1}, in epoch {run.epoch}; "
            f"if the number of steps varies, give a list that is long enough, or use a schedule by epoch"
        )


def _plan(run: Run, rates: Rates) -> Plan:
    return Plan(run.epochs, run.steps_per_epoch, is_grouped=len(rates) > 1)


def _text(rates: Sequence[Any]) -> str:
    return str(rates[0] if len(rates) == 1 else list(rates))


def checked_per_group(owner: str, name: str, value: Any, **bounds: float) -> PerGroup:
    """Return a number, or a list with one for each parameter group, as floats; raise if the value is neither."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError(
                f"{owner}: {name} must be a number, or a list with one for each parameter group, but it is empty"
            )
        return [check_number(owner, f"{name}[{index}]", each, **bounds) for index, each in enumerate(value)]
    return check_number(owner, name, value, **bounds)


def checked_first_rate(owner: str, value: Any) -> Optional[PerGroup]:
    """Return `learning_rate` as `checked_per_group` does; a rate of 0 in a list stands for a frozen group."""
    if isinstance(value, (list, tuple)):
        return checked_per_group(owner, "learning_rate", value, minimum=0)
    return None if value is None else check_number(owner, "learning_rate", value, above=0)


def check_per_group(owner: str, name: str, value: Optional[PerGroup], rates: Rates) -> None:
    """Raise if a list does not have as many values as the optimizer has rates."""
    if isinstance(value, list) and len(value) != len(rates):
        raise ValueError(
            f"{owner}: {name} has {counted(len(value), 'value')}, but the optimizer has "
            f"{counted(len(rates), 'rate')} ({_text(rates.planned())}), in the order of its parameter groups, where "
            f"those without an lr of their own count as one; give as many, or one number for all"
        )


def for_group(value: PerGroup, group: int) -> float:
    """Return the value for one of the parameter groups."""
    return value[group] if isinstance(value, list) else value


def checked_rates(owner: str, name: str, rates: Any) -> list[float]:
    """Return the rates as a list of floats; raise unless there is at least one and all are finite and at least 0."""
    given = getattr(rates, "asnumpy", lambda: rates)()
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{owner}: {name} must be a list of numbers, but got {rates!r}")
    values = [
        shortest(check_number(owner, f"{name}[{index}]", _plain(rate), minimum=0)) for index, rate in enumerate(given)
    ]
    if not values:
        raise ValueError(f"{owner}: {name} must hold at least one learning rate, but it is empty")
    return values


def _plain(value: Any) -> Any:
    """Return a tensor as an array, and an array of one element as its number."""
    array = getattr(value, "asnumpy", lambda: value)()
    return array.item() if isinstance(array, np.ndarray) and array.size == 1 else array
