"""Increase the learning rate step by step at the start of a run, before it stays or another schedule takes over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Optional, Union

from ..core.arguments import check_int, check_number
from ..core.console import counted
from ..core.learning_rates import Rates
from ..core.lr_arguments import PerGroup, checked_first_rate
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan
from ..core.rate_setter import RateSetter
from ..core.run import Run

__all__ = ["LRWarmup"]


class LRWarmup(Schedule):
    r"""Increase the learning rate linearly, step by step, to the optimizer's own over the first epochs or steps.

    In step :math:`k` (from 1) of the :math:`n` steps of the warm-up the rate is
    :math:`\eta_0 (f + (1 - f) k / n)` with `start_factor` :math:`f`, so that the first step already learns and the last
    one has the full rate. The method: Goyal et al., "Accurate, Large Minibatch SGD", 2017. After the warm-up, `after`
    sets the rate and counts its epochs or steps from there; without `after`, the rate stays. If `steps` end within an
    epoch, that epoch is the first of `after`. Before `LROneCycle` and `LRCyclic`, the warm-up rises to the rate at
    which they begin. A parameter group with a rate of 0 stays frozen. The optimizer's own rate is determined as in
    `LRStepDecay`.

    The list assumes as many steps per epoch as `get_dataset_size()` of the training dataset reports. If an epoch has
    fewer or more (with buckets, `filter` or a generator), the next epoch of a warm-up in `epochs`, or of a schedule by
    epoch, still begins at its own rate, and additional steps keep the last rate of their epoch. A step that loss
    scaling dropped, or that only accumulated gradients, does not count. While the rate changes by step, the flag of
    each step is read to detect dropped steps.

    Args:
        epochs: the number of epochs of the warm-up. Default: None, the warm-up is given in `steps`.
        steps: the number of optimizer steps of the warm-up, instead of `epochs`. Default: None.
        after: the callback that sets the rate after the warm-up: another schedule, `DynamicLR` or `ReduceLROnPlateau`.
            Pass it only here, not in the list of callbacks. The list of a `DynamicLR` begins with the rate of the first
            step, or epoch, after the warm-up. Default: None.
        start_factor: the fraction of the rate to start from, from 0 to below 1. Default: 0.0.
        learning_rate: the rate to warm up to, or a list with one for each parameter group. Default: None, that of
            `after` if it has one, or else the optimizer's own.

    Attributes:
        lr_list_ (list[float]): the rate of every step, for the first parameter group if there are several (without
            what `ReduceLROnPlateau` decides).

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, the run ends before the warm-up does, the list of a
            `DynamicLR` that follows is too short for the rest of the run, or is one for the whole run, sink mode, where
            steps cannot be distinguished, or the rate to warm up to is 0 or cannot be determined.

    Example:
        >>> warmup = LRWarmup(1, after=LRStepDecay(step_size=1, gamma=0.5))
        >>> model.train(3, train_dataset, callbacks=[warmup])
        >>> warmup.lr_list_[-1]
        0.005
    """

    by = "step"

    def __init__(
        self,
        epochs: Optional[int] = None,
        *,
        steps: Optional[int] = None,
        after: Optional[RateSetter] = None,
        start_factor: float = 0.0,
        learning_rate: Union[float, Sequence[float], None] = None,
    ) -> None:
        super().__init__()
        if (epochs is None) == (steps is None):
            raise ValueError(
                f"LRWarmup: give the length of the warm-up as epochs or as steps, but got epochs={epochs} and "
                f"steps={steps}"
            )
        self.epochs = None if epochs is None else check_int("LRWarmup", "epochs", epochs, 1)
        self.steps = None if steps is None else check_int("LRWarmup", "steps", steps, 1)
        if after is not None and (not isinstance(after, RateSetter) or isinstance(after, LRWarmup)):
            raise TypeError(
                f"LRWarmup: after must be DynamicLR, ReduceLROnPlateau or a schedule such as LRStepDecay, "
                f"but got {type(after).__name__}"
            )
        self.after = after
        self.start_factor = check_number("LRWarmup", "start_factor", start_factor, minimum=0, below=1)
        self.learning_rate = checked_first_rate("LRWarmup", learning_rate)
        if learning_rate is not None and self._first_of_after is not None:
            raise ValueError(
                f"LRWarmup: learning_rate is given twice, here and to {type(after).__name__}, which takes over at the "
                f"rate that the warm-up ends with; give it once"
            )

    @property
    def first_rate(self) -> Optional[PerGroup]:
        """The rate to warm up to, if it is given here or to `after`."""
        return self._first_of_after if self.learning_rate is None else self.learning_rate

    @property
    def cycle_momentum(self) -> Optional[bool]:  # type: ignore[override]
        """Whether `after` changes the momentum."""
        return self.after.cycle_momentum if isinstance(self.after, Schedule) else False

    def is_relative(self, plan: Plan) -> bool:
        """Return whether the rates depend on those that the optimizer was created with."""
        follows = isinstance(self.after, Schedule) and self.after.begins_at_own_rate and self.learning_rate is None
        return not follows or self.after.is_relative(plan)  # type: ignore[union-attr]

    def check_groups(self, rates: Rates) -> None:
        """Raise if an argument here, or one of `after`, does not fit the optimizer's parameter groups."""
        super().check_groups(rates)
        if self.after is not None:
            self.after.check_groups(rates)

    def check_length(self, plan: Plan) -> None:
        """Raise if the run ends before the warm-up does, or does not fit `after`."""
        unit, own, given = ("epoch", self.epochs, plan.epochs) if self.epochs else ("step", self.steps, plan.steps)
        assert own is not None
        if given < own:
            raise ValueError(
                f"LRWarmup: the warm-up takes {counted(own, unit)}, but the run has {given} and would "
                f"end before the rate is reached; give LRWarmup at most {given}, or train longer"
            )
        rest = self._split(plan)[1]
        if isinstance(self.after, Schedule):
            self.after.check_length(rest)

    def last_epoch_of_part(self, epoch: int, plan: Plan) -> Optional[int]:
        """Return the last epoch of the part that contains `epoch`: of the warm-up, or of a part of `after`."""
        _, rest = self._split(plan)
        before = rest.epochs_before - plan.epochs_before
        if self.epochs is not None and (epoch <= before or not isinstance(self.after, Schedule)):
            return epoch
        if not isinstance(self.after, Schedule):
            return None
        if epoch <= before and not self.after.by_step and not rest.steps_taken:
            return before
        last = self.after.last_epoch_of_part(max(epoch - before, 1), rest)
        return None if last is None else before + last

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of a step, from 0: that of the warm-up, or of `after`."""
        steps, rest = self._split(plan)
        follower = self.after if isinstance(self.after, Schedule) else None
        if index >= steps:
            return base if follower is None else follower.rate_at(base, follower.index_of(index - steps, rest), rest)
        if follower is not None and follower.begins_at_own_rate and self.learning_rate is None:
            base = follower.rate_at(base, 0, rest)
        return base * (self.start_factor + (1 - self.start_factor) * (index + 1) / steps)

    def momentum_at(self, index: int, plan: Plan) -> Optional[float]:
        """Return the momentum of a step, from 0: the optimizer's own, or that of `after`."""
        steps, rest = self._split(plan)
        if index < steps or not isinstance(self.after, Schedule):
            return None
        return self.after.momentum_at(self.after.index_of(index - steps, rest), rest)

    def count(self, plan: Plan) -> int:
        """Return the number of rates: those of the warm-up and of `after`."""
        steps, rest = self._split(plan)
        by_step = isinstance(self.after, Schedule) and self.after.by_step
        return steps + (self.after.count(rest) if by_step else max(rest.steps, 0))  # type: ignore[union-attr]

    def before_train(self, run: Run) -> None:
        """Set a rate before each step; a plateau in `after` waits until the warm-up is over."""
        super().before_train(run)
        if self._plateau is not None:
            epochs = self.epochs or math.ceil((self.steps or 0) / max(run.updates.per_epoch, 1))
            self._plateau.first_epoch = epochs + 1

    def teardown(self) -> None:
        """Remember the first and the last rates."""
        if self._plateau is not None:
            self._plateau.first_epoch = 1
        super().teardown()

    def state_dict(self) -> dict[str, Any]:
        """Return the initial rate of each parameter group, and the state of a plateau in `after`."""
        return {**super().state_dict(), "after": self._plateau.state_dict() if self._plateau is not None else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        if self._plateau is not None:
            self._plateau.load_state_dict(state["after"])

    def take_results(self, epochs: int) -> None:
        """Take on the results of a finished run, also in a plateau in `after`."""
        super().take_results(epochs)
        if self._plateau is not None:
            self._plateau.take_results(epochs)

    @property
    def inner(self) -> tuple[RateSetter, ...]:
        """The plateau in `after`, if there is one."""
        return () if self._plateau is None else (self._plateau,)

    @property
    def _plateau(self) -> Optional[RateSetter]:
        """The callback in `after` if it decides during the run and has no list."""
        return None if isinstance(self.after, Schedule) else self.after

    @property
    def _first_of_after(self) -> Optional[PerGroup]:
        return self.after.first_rate if isinstance(self.after, Schedule) else None

    def _split(self, plan: Plan) -> tuple[int, Plan]:
        """Return the number of steps of the warm-up, and the plan for `after`."""
        steps = self.steps or (self.epochs or 0) * plan.steps_per_epoch - plan.steps_taken
        epochs, taken = divmod(steps + plan.steps_taken, plan.steps_per_epoch)
        rest = plan._replace(epochs=plan.epochs - epochs, epochs_before=plan.epochs_before + epochs, steps_taken=taken)
        return steps, rest
