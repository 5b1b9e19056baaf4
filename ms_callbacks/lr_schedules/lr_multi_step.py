"""Lower the learning rate at given epochs or steps, as PyTorch's `MultiStepLR` does."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Union

from ..core.arguments import check_int, check_number
from ..core.lr_arguments import checked_first_rate
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan, check_by

__all__ = ["LRMultiStep"]


class LRMultiStep(Schedule):
    r"""Multiply the learning rate by `gamma` at each of the `milestones`.

    After :math:`t` epochs the rate is :math:`\eta_0 \gamma^m`, where :math:`m` is the number of milestones up to
    :math:`t`, as in PyTorch's `MultiStepLR`: with `milestones=[30, 80]`, epoch 31 is the first with a lower rate. It is
    computed from the epoch alone, so that a resumed run never multiplies twice. The optimizer is not rebuilt and keeps
    its moments; a parameter group with a rate of 0 stays frozen. The initial rate is determined as in `LRStepDecay`.

    Args:
        milestones: the numbers of epochs after which the rate is lowered, in ascending order, each at least 1. A number
            that occurs twice lowers the rate twice. Milestones that the run does not reach have no effect.
        gamma: the factor for the rate, above 0. Default: 0.1.
        learning_rate: the initial rate, or a list with one for each parameter group. Default: None, the optimizer's
            own.
        by: `"epoch"`, or `"step"` if the milestones are numbers of optimizer steps. Default: "epoch".

    Attributes:
        lr_list_ (list[float]): the rate of every epoch or step, for the first parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, `learning_rate` does not fit the parameter groups,
            `by="step"` in sink mode, or the initial rate is 0 or cannot be determined.

    Example:
        >>> multi_step = LRMultiStep([1, 2], gamma=0.5)
        >>> model.train(3, train_dataset, callbacks=[multi_step])
        >>> multi_step.lr_list_
        [0.01, 0.005, 0.0025]
    """

    def __init__(
        self,
        milestones: Sequence[int],
        *,
        gamma: float = 0.1,
        learning_rate: Union[float, Sequence[float], None] = None,
        by: str = "epoch",
    ) -> None:
        super().__init__()
        owner = "LRMultiStep"
        if isinstance(milestones, (str, bytes)) or not hasattr(milestones, "__iter__"):
            raise TypeError(f"{owner}: milestones must be a list of whole numbers, but got {milestones!r}")
        self._sorted = [check_int(owner, f"milestones[{place}]", each, 1) for place, each in enumerate(milestones)]
        if not self._sorted:
            raise ValueError(f"{owner}: milestones must hold at least one number, but it is empty")
        if self._sorted != sorted(self._sorted):
            raise ValueError(f"{owner}: milestones must be in ascending order, but got {self._sorted}; sort them")
        self.milestones = milestones
        self.gamma = check_number(owner, "gamma", gamma, above=0)
        self.learning_rate = checked_first_rate(owner, learning_rate)
        self.by = check_by(owner, by)

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of an epoch or step, from 0."""
        return self.decayed(base, self.gamma, bisect.bisect_right(self._sorted, index), plan)
