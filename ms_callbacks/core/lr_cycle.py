"""The base class of schedules that raise the rate and lower the momentum, and then change both back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

from .arguments import check_bool, check_number
from .learning_rates import Rates
from .lr_arguments import PerGroup, check_per_group, checked_per_group, for_group
from .lr_callback import Schedule
from .lr_curve import Plan
from .momenta import Momenta

__all__ = ["CycleSchedule", "checked_peak"]


class CycleSchedule(Schedule):
    """A schedule by optimizer step between given rates, with the momentum in the opposite direction.

    The optimizer's own rate is not used, except that a parameter group with a rate of 0 stays frozen.
    """

    by = "step"
    takes_first_rate = False
    begins_at_own_rate = True
    max_lr: PerGroup
    base_momentum: float
    max_momentum: float

    def set_momentum_arguments(self, cycle: Any, base: Any, highest: Any) -> None:
        """Check and store `cycle_momentum`, `base_momentum` and `max_momentum`."""
        owner = type(self).__name__
        self.cycle_momentum = cycle if cycle is None else check_bool(owner, "cycle_momentum", cycle)
        self.base_momentum = check_number(owner, "base_momentum", base, minimum=0, below=1)
        self.max_momentum = check_number(owner, "max_momentum", highest, minimum=0, below=1)
        if self.max_momentum < self.base_momentum:
            raise ValueError(
                f"{owner}: max_momentum={self.max_momentum} must not be below base_momentum={self.base_momentum}"
            )

    def is_relative(self, plan: Plan) -> bool:
        """Return whether there are parameter groups, because one of them may be frozen."""
        return plan.is_grouped

    def check_groups(self, rates: Rates) -> None:
        """Raise if a list does not have one entry for each parameter group, or the momentum cannot be set."""
        super().check_groups(rates)
        owner = type(self).__name__
        check_per_group(owner, "max_lr", self.max_lr, rates)
        if self.cycle_momentum:
            Momenta(rates.optimizers).check(owner)

    def peak_of(self, base: float, plan: Plan) -> Optional[float]:
        """Return the highest rate of a parameter group; `None` if the group is frozen."""
        return None if plan.is_grouped and base == 0 else for_group(self.max_lr, plan.group)


def checked_peak(owner: str, value: Union[float, Sequence[float]]) -> PerGroup:
    """Return `max_lr` as `checked_per_group` does; a rate of 0 in a list stands for a frozen group."""
    if isinstance(value, (list, tuple)):
        return checked_per_group(owner, "max_lr", value, minimum=0)
    return check_number(owner, "max_lr", value, above=0)
