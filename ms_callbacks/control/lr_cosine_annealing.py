"""Lowers the learning rate along half a cosine: the schedule of PyTorch's `CosineAnnealingLR`, by epoch."""

from __future__ import annotations

import math

from ..core._checks import check_int, check_number
from ..core._schedule import Plan, Schedule

__all__ = ["LRCosineAnnealing"]


class LRCosineAnnealing(Schedule):
    r"""Takes the learning rate from its start to `eta_min` along a cosine, in `T_max` epochs.

    In epoch :math:`t` (from 1) the rate is
    :math:`\eta_{min} + \frac{1}{2} (\eta_0 - \eta_{min}) (1 + \cos(\pi (t-1) / T_{max}))`, as with PyTorch's
    `CosineAnnealingLR`; after `T_max + 1` epochs it rises again along the same curve, as there. The method: Loshchilov
    and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016 (without its restarts). The optimizer is
    not rebuilt and keeps its moments; each parameter group goes from its own rate to `eta_min`.

    Args:
        T_max: how many epochs it takes to reach `eta_min`.
        eta_min: the lowest rate, at least 0. Default: 0.0.

    Attributes:
        lr_list_ (list[float]): the rate of every epoch, of the first parameter group where there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, or another callback sets the rate too.

    Example:
        >>> annealing = LRCosineAnnealing(T_max=2)
        >>> model.train(2, train_dataset, callbacks=[annealing])
        >>> [round(rate, 6) for rate in annealing.lr_list_]
        [0.01, 0.005]
    """

    def __init__(self, T_max: int, *, eta_min: float = 0.0) -> None:
        super().__init__()
        self.T_max = check_int("LRCosineAnnealing", "T_max", T_max, 1)
        self.eta_min = check_number("LRCosineAnnealing", "eta_min", eta_min, minimum=0)

    def rates_for(self, base: float, plan: Plan) -> list[float]:
        """One rate an epoch."""
        half = (base - self.eta_min) / 2
        return [self.eta_min + half * (1 + math.cos(math.pi * epoch / self.T_max)) for epoch in range(plan.epochs)]
