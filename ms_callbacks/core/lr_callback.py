"""The base class of schedules: applies a curve of rates, and of momentum, to the optimizers of a run."""

from __future__ import annotations

import contextlib
import hashlib
import math
import sys
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from .console import counted
from .initial_rates import determine, first_rates, remember
from .learning_rates import Rates, shortest
from .lr_arguments import PerGroup, check_per_group, for_group
from .lr_curve import Curve, NoRateError, Plan
from .momenta import Momenta
from .rate_setter import RateSetter
from .run import Run

__all__ = ["Schedule"]


class Schedule(RateSetter, Curve):
    """A learning rate that is known for every epoch or step before the run begins.

    After the run `lr_list_` holds the list that was applied, one rate per epoch or step (those of the first parameter
    group if there are several). A second run with the same optimizer begins at the same rate as the first, unless the
    rate was changed in between.
    """

    transient: tuple[str, ...] = ("_rates", "_momenta", "_plan")
    lr_list_: list[float]
    learning_rate: Optional[PerGroup] = None
    takes_first_rate = True
    _bases: Optional[list[float]] = None
    _applied: Optional[list[float]] = None
    _resumed: Optional[dict[str, Any]] = None
    _index = 0  # of the next step, if the rate changes by step
    _plan: Optional[Plan] = None
    _momenta: Optional[Momenta] = None
    _own_momenta: Optional[list[Optional[float]]] = None  # the optimizers' own momentum
    _momentum: Optional[float] = None  # the momentum that the schedule has set; `None` for the optimizers' own

    @property
    def first_rate(self) -> Optional[PerGroup]:
        """The initial rate, if it is given to the schedule; `None` for the optimizer's own."""
        return self.learning_rate

    def reset_state(self) -> None:
        """Forget the previous run."""
        self._resumed = self._bases = self._applied = self._own_momenta = None
        self._index = 0

    def before_train(self, run: Run) -> None:
        """Find the optimizers, and their momentum if that is changed too."""
        super().before_train(run)
        self._lists: list[list[float]] = []
        self._momenta = None if self.cycle_momentum is False else Momenta(run.parts.optimizers)

    def check(self, run: Run) -> None:
        """Raise if steps cannot be distinguished but have to be."""
        super().check(run)
        if self.by_step:
            problem = "steps run on the device unseen, and none can have a rate of its own"
            run.progress.check_sees_steps(type(self).__name__, problem, "use a schedule by epoch")

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
            self._plan = _plan(run, self._rates)
            self._bases = self._bases_for(run, self._rates)
            self._lists = self._lists_for(self._bases, run)
            self.lr_list_ = self._lists[0]
            self._begin_momentum()
            if not self.inner:  # an inner callback may have set another rate since
                self._applied = None
        self._enter_epoch(run, is_first)
        if is_first:
            remember(self._rates, self._bases)

    def flush(self) -> None:
        """Restore the optimizers' own momentum before the last state is saved."""
        self._set_momentum(None)

    def teardown(self) -> None:
        """Remember the last rates, so that a second run can detect whether they were changed since."""
        self._set_momentum(None)
        if self._rates is not None and self._bases is not None:
            remember(self._rates, self._bases)
        self._resumed = self._momenta = self._plan = None
        super().teardown()

    def state_dict(self) -> dict[str, Any]:
        """Return the initial and last rates of the groups, the optimizer steps, and the optimizers' own momentum."""
        return {
            "bases": self._bases,
            "applied": self._applied,
            "steps": self._index,
            "updates": self._index,
            "momenta": self._own_momenta,
        }

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
        self._own_momenta = state.get("momenta")

    def digest_of_rates(self, run: Run, epochs: int, steps: int) -> str:
        """Return a digest of the rates of the first epochs and steps; schedules that begin alike have the same."""
        lists = self._lists or self._lists_for(self._bases_for(run, Rates(run.parts.optimizers)), run)
        updates = epochs * run.updates.per_epoch + steps // run.updates.steps_per_update
        taken = updates if self.by_step else epochs + (steps > 0)
        return hashlib.sha256(np.array([rates[:taken] for rates in lists]).tobytes()).hexdigest()

    def _lists_for(self, bases: Sequence[float], run: Run) -> list[list[float]]:
        plan = _plan(run, bases)
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
        bases = determine(
            type(self).__name__,
            rates,
            continues=run.progress.steps_before > 0,
            had_led_to=lambda bases, now: self._had_led_to(bases, now, run),
            takes_first_rate=self.takes_first_rate,
        )
        if not any(bases):
            raise ValueError(
                f"{type(self).__name__}: the optimizer's learning rate is 0, and so would be all rates derived from "
                f"it; make the optimizer with the initial rate, as in learning_rate=0.01"
            )
        return bases

    def _had_led_to(self, bases: list[float], now: list[float], run: Run) -> bool:
        """Return whether a schedule that began with `bases` has the rates `now` just before the run's first step."""
        index = (
            run.updates.before - 1 if self.by_step else run.progress.initial_epoch - (run.progress.resumed_steps == 0)
        )
        return all(
            index < len(rates) and math.isclose(shortest(rates[index]), rate, rel_tol=1e-6)
            for rates, rate in zip(self._lists_for(bases, run), now)
        )

    # How rates are applied

    def _enter_epoch(self, run: Run, is_first: bool) -> None:
        assert self._plan is not None
        if not self.by_step:
            self._apply(run.epoch - 1)
            return
        # Counted here, so that a step looks nothing up, and epochs may have other numbers of steps than declared.
        before = run.epoch - 1
        begins_part = before == 0 or self.last_epoch_of_part(before, self._plan) == before
        last = self.last_epoch_of_part(run.epoch, self._plan)
        if begins_part and not (is_first and run.progress.resumed_steps):
            self._index = before * self._plan.steps_per_epoch
        elif is_first:
            self._index = self._steps_done(run, has_own_part=last == run.epoch)
        self._last = sys.maxsize if last is None else last * self._plan.steps_per_epoch - 1
        with contextlib.suppress(NoRateError):  # for code that reads the rate before the first step
            self._apply(min(self._index, self._last))
        # Counting updates may wait for the device, so updates are not counted while the rate is constant.
        is_constant = last == run.epoch and self._is_constant(self._index, self._last)
        run.step_hooks.on_step_begin(self, None if is_constant else self._apply_next)
        run.step_hooks.on_optimizer_step(self, None if is_constant else self._advance)

    def _is_constant(self, first: int, last: int) -> bool:
        """Return whether all steps from the first to the last have the same rates and momentum."""
        assert self._plan is not None
        if any(len(set(rates[first : last + 1])) > 1 for rates in self._lists):
            return False
        if self._momenta is None:
            return True
        return len({self.momentum_at(index, self._plan) for index in range(first, last + 1)}) <= 1

    def _steps_done(self, run: Run, has_own_part: bool) -> int:
        """Return the number of optimizer steps before the run, which is the index of its first rate in the list."""
        state = self._resumed or {}
        # Version 0.1 counted a step before it was done.
        done = state.get("updates", None if has_own_part else state.get("steps"))
        return run.updates.before if done is None else int(done)

    def _apply_next(self, run: Run) -> None:
        try:
            self._apply(min(self._index, self._last))
        except NoRateError:
            raise self._exhausted() from None

    def _advance(self, run: Run) -> None:
        self._index += 1

    def _apply(self, index: int) -> None:
        assert self._rates is not None
        assert self._plan is not None
        rates = [self._rate(group, index) for group in range(len(self._lists))]
        if rates != self._applied:
            self._rates.set(rates)
            self._applied = rates
        if self._momenta is not None:
            self._set_momentum(self.momentum_at(index, self._plan))

    def _rate(self, group: int, index: int) -> float:
        assert self._bases is not None
        assert self._plan is not None
        rates = self._lists[group]
        if index < len(rates):
            return rates[index]
        return self.rate_at(self._bases[group], index, self._plan._replace(group=group))

    def _begin_momentum(self) -> None:
        """Store the optimizers' own momentum; restore it if a checkpoint has loaded one that a schedule set."""
        if self._momenta is None:
            return
        if self._own_momenta is None:
            self._own_momenta = self._momenta.read()
        self._momenta.set(self._own_momenta)
        self._momentum = None

    def _set_momentum(self, value: Optional[float]) -> None:
        """Set the momentum of the optimizers that have one; `None` for their own."""
        if self._momenta is None or self._own_momenta is None or value == self._momentum:
            return
        # An optimizer that was created with a momentum of 0 gets another one only with `cycle_momentum=True`.
        least = -1 if self.cycle_momentum else 0
        own = self._own_momenta
        self._momenta.set(own if value is None else [value if one is not None and one > least else None for one in own])
        self._momentum = value

    def _exhausted(self) -> ValueError:
        run = self.run
        return ValueError(
            f"{type(self).__name__}: has {counted(len(self._lists[0]), 'rate')}, one per step, for "
            f"{counted(run.epochs, 'epoch')} of {counted(run.updates.per_epoch, 'step')}, as get_dataset_size() of the "
            f"training dataset reported, but there is none for step {self._index + 1}, in epoch {run.epoch}; "
            f"if the number of steps varies, give a list that is long enough, or use a schedule by epoch"
        )


def _plan(run: Run, rates: Any) -> Plan:
    return Plan(run.epochs, run.updates.per_epoch, is_grouped=len(rates) > 1)
