"""Lower the learning rate along cosines that restart, as PyTorch's `CosineAnnealingWarmRestarts` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

from ..core.arguments import check_int, check_number
from ..core.lr_arguments import checked_first_rate
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan, check_by

__all__ = ["LRCosineWarmRestarts"]


class LRCosineWarmRestarts(Schedule):
    r"""Lower the learning rate towards `eta_min` along a cosine, and restart repeatedly from its initial value.

    The first cosine takes `T_0` epochs or optimizer steps. Each following cosine is `T_mult` times as long as the
    previous one. :math:`t` epochs after the start of a cosine of length :math:`T` the rate is :math:`\eta_{min} +
    \frac{1}{2} (\eta_0 - \eta_{min}) (1 + \cos(\pi t / T))`, as in PyTorch's `CosineAnnealingWarmRestarts`. The method:
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016. Restarts are located with
    integer arithmetic, so that none is early or late. The optimizer is not rebuilt and keeps its moments; a parameter
    group with a rate of 0 stays frozen. The initial rate is determined as in `LRStepDecay`. The run may have any
    length; if it ends within a cosine, it does not reach `eta_min`.

    Args:
        T_0: the length of the first cosine, in epochs or optimizer steps, at least 1.
        T_mult: the factor for the length of each following cosine, a whole number of at least 1. Default: 1.
        eta_min: the lowest rate, at least 0. Default: 0.0.
        learning_rate: the initial rate, or a list with one for each parameter group. Default: None, the optimizer's
            own.
        by: the unit of the schedule, `"epoch"` or `"step"` for optimizer steps. Default: "epoch".

    Attributes:
        lr_list_ (list[float]): the rate of every epoch or step, for the first parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, `learning_rate` does not fit the parameter groups,
            `by="step"` in sink mode, or the initial rate is 0 or cannot be determined.

    Example:
        >>> restarts = LRCosineWarmRestarts(2)
        >>> model.train(3, train_dataset, callbacks=[restarts])
        >>> [round(rate, 6) for rate in restarts.lr_list_]
        [0.01, 0.005, 0.01]
    """

    def __init__(
        self,
        T_0: int,
        *,
        T_mult: int = 1,
        eta_min: float = 0.0,
        learning_rate: Union[float, Sequence[float], None] = None,
        by: str = "epoch",
    ) -> None:
        super().__init__()
        owner = "LRCosineWarmRestarts"
        self.T_0 = check_int(owner, "T_0", T_0, 1)
        self.T_mult = check_int(owner, "T_mult", T_mult, 1)
        self.eta_min = check_number(owner, "eta_min", eta_min, minimum=0)
        self.learning_rate = checked_first_rate(owner, learning_rate)
        self.by = check_by(owner, by)

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of an epoch or step, from 0."""
        if base == 0:  # a frozen parameter group
            return 0.0
        place, length = (index % self.T_0 if self.T_mult == 1 else index), self.T_0
        while place >= length:
            place -= length
            length *= self.T_mult
        return self.eta_min + (base - self.eta_min) / 2 * (1 + math.cos(math.pi * place / length))
