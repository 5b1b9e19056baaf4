"""Increase the learning rate step by step at the start of a run, before it stays or another schedule takes over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

from ..core.arguments import check_int, check_number
from ..core.console import counted
from ..core.learning_rates import Rates
from ..core.lr_callback import PerGroup, Plan, RateSetter, Schedule, checked_first_rate
from ..core.run import Run

__all__ = ["LRWarmup"]


class LRWarmup(Schedule):
    r"""Increase the learning rate linearly, step by step, to the optimizer's own over the first `epochs` epochs.

    In step :math:`k` (from 1) of the :math:`n` steps of the warm-up the rate is
    :math:`\eta_0 (f + (1 - f) k / n)` with `start_factor` :math:`f`, so that the first step already learns and the last
    one has the full rate. The method: Goyal et al., "Accurate, Large Minibatch SGD", 2017. After the warm-up, `after`
    takes over and counts its epochs from there, or the rate stays. A parameter group with a rate of 0 stays frozen. The
    optimizer's own rate is determined as in `LRStepDecay`.

    The list assumes as many steps per epoch as `get_dataset_size()` of the training dataset reports. If an epoch has
    fewer or more (with buckets, `filter` or a generator), the next epoch still begins at its own rate, and surplus
    steps keep the last rate of their epoch.

    Args:
        epochs: the number of epochs of the warm-up.
        after: what sets the rate from then on: `DynamicLR`, `LRStepDecay`, `LRCosineAnnealing` or
            `ReduceLROnPlateau`. Pass it only here, not in the list of callbacks. The list of a `DynamicLR` begins with
            the rate of the first step, or epoch, after the warm-up. Default: None.
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

    def __init__(
        self,
        epochs: int,
        *,
        after: Optional[RateSetter] = None,
        start_factor: float = 0.0,
        learning_rate: Union[float, Sequence[float], None] = None,
    ) -> None:
        super().__init__()
        self.epochs = check_int("LRWarmup", "epochs", epochs, 1)
        if after is not None and (not isinstance(after, RateSetter) or isinstance(after, LRWarmup)):
            raise TypeError(
                f"LRWarmup: after must be DynamicLR, LRStepDecay, LRCosineAnnealing or ReduceLROnPlateau, "
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
    def by_step(self) -> bool:
        """Whether the list has one rate per step, rather than one per epoch."""
        return True

    @property
    def first_rate(self) -> Optional[PerGroup]:
        """The rate to warm up to, if it is given here or to `after`."""
        return self._first_of_after if self.learning_rate is None else self.learning_rate

    def has_own_part(self, epoch: int) -> bool:
        """Return whether an epoch has its own part of the list: not once a list by step has taken over."""
        return epoch <= self.epochs or not isinstance(self.after, Schedule) or not self.after.by_step

    def check_groups(self, rates: Rates) -> None:
        """Raise if an argument here, or one of `after`, does not fit the optimizer's parameter groups."""
        super().check_groups(rates)
        if self.after is not None:
            self.after.check_groups(rates)

    def check_length(self, plan: Plan) -> None:
        """Raise if the run ends before the warm-up does, or does not fit `after`."""
        rest = plan.epochs - self.epochs
        if rest < 0:
            raise ValueError(
                f"LRWarmup: the warm-up takes {counted(self.epochs, 'epoch')}, but the run has {plan.epochs} and would "
                f"end before the rate is reached; give LRWarmup at most {plan.epochs}, or train longer"
            )
        if isinstance(self.after, Schedule):
            self.after.check_length(plan._replace(epochs=rest, epochs_before=self.epochs))

    def rates_for(self, base: float, plan: Plan) -> list[float]:
        """Return one rate per step: the ramp, then what `after` has for the remaining epochs."""
        steps = self.epochs * plan.steps_per_epoch
        ramp = [base * (self.start_factor + (1 - self.start_factor) * step / steps) for step in range(1, steps + 1)]
        rest = plan._replace(epochs=plan.epochs - self.epochs)
        if not isinstance(self.after, Schedule):
            return ramp + [base] * (rest.epochs * plan.steps_per_epoch)
        rates = self.after.rates_for(base, rest)
        return ramp + (rates if self.after.by_step else [rate for rate in rates for _ in range(plan.steps_per_epoch)])

    def before_train(self, run: Run) -> None:
        """Set a rate before each step; a plateau in `after` waits until the warm-up is over."""
        super().before_train(run)
        if self._plateau is not None:
            self._plateau.first_epoch = self.epochs + 1

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
