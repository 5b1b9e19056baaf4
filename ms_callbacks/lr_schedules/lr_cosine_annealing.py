"""Lower the learning rate along half a cosine, as PyTorch's `CosineAnnealingLR` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional, Union

from ..core.arguments import check_choice, check_int, check_number
from ..core.lr_arguments import checked_first_rate
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan, check_by

__all__ = ["LRCosineAnnealing"]


class LRCosineAnnealing(Schedule):
    r"""Lower the learning rate from its initial value to `eta_min` along a cosine, in `T_max` epochs.

    In epoch :math:`t` (from 1) the rate is :math:`\eta_{min} + \frac{1}{2} (\eta_0 - \eta_{min}) (1 + \cos(\pi (t-1) /
    T_{max}))`, as in PyTorch's `CosineAnnealingLR`. Epoch `T_max + 1` is the one with `eta_min`; a longer run is an
    error, unless `beyond` says what follows. The method: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with
    Warm Restarts", 2016 (without its restarts). The optimizer is not rebuilt and keeps its moments; each parameter
    group goes from its own rate to `eta_min`, and one with a rate of 0 stays frozen. The initial rate is determined as
    in `LRStepDecay`.

    Args:
        T_max: the number of epochs until `eta_min` is reached.
        eta_min: the lowest rate, at least 0. Default: 0.0.
        learning_rate: the initial rate in epoch 1, or a list with one for each parameter group. Default: None, the
            optimizer's own.
        beyond: what follows after `T_max + 1` epochs: `"stay"` keeps `eta_min`, like Keras's `CosineDecay`; `"rise"`
            rises again along the same curve, like PyTorch's. Default: None, the run must not be longer.
        by: the unit of the schedule, `"epoch"` or `"step"` for optimizer steps. Steps beyond those that the dataset
            declares keep `eta_min`, unless `beyond="rise"`. Default: "epoch".

    Attributes:
        lr_list_ (list[float]): the rate of every epoch or step, for the first parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, the run is longer than `T_max + 1` epochs and
            `beyond` is not given, `learning_rate` does not fit the parameter groups, or the initial rate is 0 or cannot
            be determined.

    Example:
        >>> annealing = LRCosineAnnealing(T_max=2)
        >>> model.train(2, train_dataset, callbacks=[annealing])
        >>> [round(rate, 6) for rate in annealing.lr_list_]
        [0.01, 0.005]
    """

    def __init__(
        self,
        T_max: int,
        *,
        eta_min: float = 0.0,
        learning_rate: Union[float, Sequence[float], None] = None,
        beyond: Optional[str] = None,
        by: str = "epoch",
    ) -> None:
        super().__init__()
        owner = "LRCosineAnnealing"
        self.T_max = check_int(owner, "T_max", T_max, 1)
        self.eta_min = check_number(owner, "eta_min", eta_min, minimum=0)
        self.learning_rate = checked_first_rate(owner, learning_rate)
        self.beyond = check_choice(owner, "beyond", beyond, (None, "stay", "rise"))
        self.by = check_by(owner, by)

    def check_length(self, plan: Plan) -> None:
        """Raise if the run is longer than the curve."""
        if self.beyond is None:
            remedy = "beyond='stay' to keep eta_min, or beyond='rise'"
            self.check_not_longer("T_max", self.T_max, plan, "rises again", remedy)

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of an epoch or step, from 0."""
        if base == 0:  # a frozen parameter group
            return 0.0
        is_surplus = self.beyond is None and index >= self.count(plan)  # an epoch has more steps than declared
        place = min(index, self.T_max) if self.beyond == "stay" or is_surplus else index
        return self.eta_min + (base - self.eta_min) / 2 * (1 + math.cos(math.pi * place / self.T_max))
