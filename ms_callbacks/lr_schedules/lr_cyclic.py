"""Raise and lower the learning rate in cycles, as PyTorch's `CyclicLR` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Union

from ..core.arguments import check_choice, check_int, check_number
from ..core.learning_rates import Rates
from ..core.lr_arguments import check_per_group, checked_per_group, for_group
from ..core.lr_curve import Plan
from ..core.lr_cycle import CycleSchedule, checked_peak

__all__ = ["LRCyclic"]


class LRCyclic(CycleSchedule):
    r"""Raise the learning rate linearly from `base_lr` to `max_lr` and lower it again, in repeated cycles.

    The rate changes with every optimizer step, as in PyTorch's `CyclicLR`. The momentum changes in the opposite
    direction, from `max_momentum` to `base_momentum` and back. The method: Smith, "Cyclical Learning Rates for Training
    Neural Networks", 2017. The run may have any length. The rate that the optimizer was created with is not used,
    except that a parameter group with a rate of 0 stays frozen. The optimizer's own momentum is restored after the run,
    even if an exception ends it.

    Args:
        base_lr: the lowest rate, at least 0, or a list with one for each parameter group.
        max_lr: the highest rate, not below `base_lr`, or a list with one for each parameter group.
        step_size_up: the number of steps in which the rate rises. Default: 2000.
        step_size_down: the number of steps in which the rate falls. Default: None, the same as `step_size_up`.
        mode: `"triangular"` reaches `max_lr` in each cycle, `"triangular2"` halves the height with each cycle, and
            `"exp_range"` multiplies it by `gamma` with each step. Default: "triangular".
        gamma: the factor of `"exp_range"`, above 0 and at most 1. Default: 1.0.
        cycle_momentum: whether to change the momentum too, as in `LROneCycle`. Default: None, only for optimizers that
            were created with a momentum above 0 that can be changed.
        base_momentum: the lowest momentum. Default: 0.8.
        max_momentum: the highest momentum. Default: 0.9.

    Attributes:
        lr_list_ (list[float]): the rate of every step, for the first parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, the length of a list is not the number of groups,
            `cycle_momentum=True` and an optimizer has no momentum that can be changed, or sink mode, where steps cannot
            be distinguished.

    Example:
        >>> cyclic = LRCyclic(0.01, 0.05, step_size_up=2)
        >>> model.train(2, train_dataset, callbacks=[cyclic])
        >>> [round(rate, 4) for rate in cyclic.lr_list_]
        [0.01, 0.03, 0.05, 0.03, 0.01, 0.03, 0.05, 0.03]
    """

    def __init__(
        self,
        base_lr: Union[float, Sequence[float]],
        max_lr: Union[float, Sequence[float]],
        *,
        step_size_up: int = 2000,
        step_size_down: Optional[int] = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        cycle_momentum: Optional[bool] = None,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        owner = "LRCyclic"
        self.base_lr = checked_per_group(owner, "base_lr", base_lr, minimum=0)
        self.max_lr = checked_peak(owner, max_lr)
        self.step_size_up = check_int(owner, "step_size_up", step_size_up, 1)
        self.step_size_down = None if step_size_down is None else check_int(owner, "step_size_down", step_size_down, 1)
        self.mode = check_choice(owner, "mode", mode, ("triangular", "triangular2", "exp_range"))
        self.gamma = check_number(owner, "gamma", gamma, above=0)
        if self.gamma > 1:
            raise ValueError(f"{owner}: gamma must be at most 1, but got {gamma}; the height would grow without bound")
        self.set_momentum_arguments(cycle_momentum, base_momentum, max_momentum)
        lists = [each for each in (self.base_lr, self.max_lr) if isinstance(each, list)]
        if len(lists) == 2 and len(lists[0]) != len(lists[1]):
            raise ValueError(
                f"{owner}: base_lr and max_lr must hold as many values as there are parameter groups, but got "
                f"{len(lists[0])} and {len(lists[1])}"
            )
        for group in range(len(lists[0]) if lists else 1):
            low, high = for_group(self.base_lr, group), for_group(self.max_lr, group)
            if high < low:
                raise ValueError(f"{owner}: max_lr={high} must not be below base_lr={low}; exchange the two")

    def check_groups(self, rates: Rates) -> None:
        """Raise if a list does not have one entry for each parameter group, or the momentum cannot be set."""
        super().check_groups(rates)
        check_per_group("LRCyclic", "base_lr", self.base_lr, rates)

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of a step, from 0."""
        peak = self.peak_of(base, plan)
        if not peak:
            return 0.0
        low = for_group(self.base_lr, plan.group)
        return low + (peak - low) * self._height(index)

    def momentum_at(self, index: int, plan: Plan) -> Optional[float]:
        """Return the momentum of a step, from 0."""
        if self.cycle_momentum is False:
            return None
        return self.max_momentum - (self.max_momentum - self.base_momentum) * self._height(index)

    def _height(self, index: int) -> float:
        """Return the height of a step above the lowest rate, from 0 to 1."""
        up, down = self.step_size_up, self.step_size_down or self.step_size_up
        cycle, place = divmod(index, up + down)
        height = place / up if place <= up else (up + down - place) / down
        if self.mode == "triangular2":
            return height * 0.5**cycle
        return height * self.gamma**index if self.mode == "exp_range" else height
