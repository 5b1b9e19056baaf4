"""Raise the learning rate once and lower it to almost 0, as PyTorch's `OneCycleLR` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional, Union

from ..core.arguments import check_bool, check_choice, check_number
from ..core.lr_curve import Plan
from ..core.lr_cycle import CycleSchedule, checked_peak

__all__ = ["LROneCycle"]


class LROneCycle(CycleSchedule):
    r"""Raise the learning rate to `max_lr` and lower it to almost 0, in one cycle over the whole run.

    The rate changes with every optimizer step, from `max_lr / div_factor` to `max_lr` and then to
    `max_lr / div_factor / final_div_factor`, with the same values as PyTorch's `OneCycleLR`. The momentum changes in
    the opposite direction, from `max_momentum` to `base_momentum` and back. The method: Smith and Topin,
    "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018. The paper uses three
    phases, as with `three_phase=True`.

    The cycle is as long as the run, or as the part that `LRWarmup` or `LRSequence` assigns to it: the number of epochs
    times the steps per epoch that `get_dataset_size()` of the training dataset reports. Additional steps keep the last
    rate. The rate that the optimizer was created with is not used, except that a parameter group with a rate of 0 stays
    frozen. The optimizer's own momentum is restored after the run, even if an exception ends it. The state of a
    finished run has that momentum too.

    Args:
        max_lr: the highest rate, or a list with one for each parameter group.
        pct_start: the fraction of the steps in which the rate rises, at least 0 and below 1; at most 0.5 with
            `three_phase`. Default: 0.3.
        anneal_strategy: `"cos"` or `"linear"`. Default: "cos".
        cycle_momentum: whether to change the momentum too. This needs `nn.Momentum` or `nn.SGD`, because the beta1 of
            Adam cannot be changed during training. Default: None, only for optimizers that were created with a momentum
            above 0 that can be changed.
        base_momentum: the lowest momentum. Default: 0.85.
        max_momentum: the highest momentum. Default: 0.95.
        div_factor: the highest rate divided by the first, at least 1. Default: 25.0.
        final_div_factor: the first rate divided by the last, at least 1. Default: 1e4.
        three_phase: whether the rate first returns to that of the first step, as fast as it rose, before the last phase
            lowers it further. Default: False.

    Attributes:
        lr_list_ (list[float]): the rate of every step, for the first parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, the length of `max_lr` is not the number of groups,
            `cycle_momentum=True` and an optimizer has no momentum that can be changed, or sink mode, where steps cannot
            be distinguished.

    Example:
        >>> one_cycle = LROneCycle(0.1)
        >>> model.train(2, train_dataset, callbacks=[one_cycle])
        >>> [round(rate, 4) for rate in one_cycle.lr_list_]
        [0.004, 0.0819, 0.0972, 0.0812, 0.0556, 0.0283, 0.0077, 0.0]
    """

    def __init__(
        self,
        max_lr: Union[float, Sequence[float]],
        *,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: Optional[bool] = None,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        super().__init__()
        owner = "LROneCycle"
        self.max_lr = checked_peak(owner, max_lr)
        self.pct_start = check_number(owner, "pct_start", pct_start, minimum=0, below=1)
        self.anneal_strategy = check_choice(owner, "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.set_momentum_arguments(cycle_momentum, base_momentum, max_momentum)
        self.div_factor = check_number(owner, "div_factor", div_factor, minimum=1)
        self.final_div_factor = check_number(owner, "final_div_factor", final_div_factor, minimum=1)
        self.three_phase = check_bool(owner, "three_phase", three_phase)
        if three_phase and self.pct_start > 0.5:
            raise ValueError(
                f"{owner}: with three_phase the rate rises and returns in pct_start of the steps each, so pct_start "
                f"must be at most 0.5, but got {pct_start}"
            )

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of a step, from 0."""
        peak = self.peak_of(base, plan)
        if not peak:
            return 0.0
        first = peak / self.div_factor
        return self._between(
            [first, peak, *([first] if self.three_phase else []), first / self.final_div_factor], index, plan
        )

    def momentum_at(self, index: int, plan: Plan) -> Optional[float]:
        """Return the momentum of a step, from 0."""
        if self.cycle_momentum is False:
            return None
        low, high = self.base_momentum, self.max_momentum
        return self._between([high, low, high, *([high] if self.three_phase else [])], index, plan)

    def _between(self, corners: list[float], index: int, plan: Plan) -> float:
        """Return the value of a step on the curve through `corners`."""
        up = self.pct_start * plan.steps - 1
        places = [0, up, *([2 * up] if self.three_phase else []), plan.steps - 1]
        phase = next((each for each in range(1, len(places)) if index <= places[each]), len(places) - 1)
        start, end = places[phase - 1], places[phase]
        # A phase of length 0 is already complete; steps beyond the last one keep its value.
        done = min((index - start) / (end - start), 1.0) if end > start else 1.0
        one, other = corners[phase - 1], corners[phase]
        if self.anneal_strategy == "linear":
            return one + (other - one) * done
        return other + (one - other) / 2 * (1 + math.cos(math.pi * done))
