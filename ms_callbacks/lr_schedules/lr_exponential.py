"""Lower the learning rate by the same factor every epoch or step, as PyTorch's `ExponentialLR` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from ..core.arguments import check_number
from ..core.lr_arguments import checked_first_rate
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan, check_by

__all__ = ["LRExponential"]


class LRExponential(Schedule):
    r"""Multiply the learning rate by `gamma` after every epoch or optimizer step.

    In epoch :math:`t` (from 1) the rate is :math:`\eta_0 \gamma^{t-1}`, as in PyTorch's `ExponentialLR`. It is computed
    from the epoch alone and not from the previous rate, so that rounding errors do not accumulate. The run may have any
    length. The optimizer is not rebuilt and keeps its moments; a parameter group with a rate of 0 stays frozen. The
    initial rate is determined as in `LRStepDecay`.

    Args:
        gamma: the factor for the rate, above 0.
        learning_rate: the initial rate, or a list with one for each parameter group. Default: None, the optimizer's
            own.
        by: `"epoch"`, or `"step"` to multiply after every optimizer step. Default: "epoch".

    Attributes:
        lr_list_ (list[float]): the rate of every epoch or step, for the first parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, `learning_rate` does not fit the parameter groups,
            `by="step"` in sink mode, `gamma` makes the rate too large for a number, or the initial rate is 0 or cannot
            be determined.

    Example:
        >>> exponential = LRExponential(0.5)
        >>> model.train(3, train_dataset, callbacks=[exponential])
        >>> exponential.lr_list_
        [0.01, 0.005, 0.0025]
    """

    def __init__(
        self, gamma: float, *, learning_rate: Union[float, Sequence[float], None] = None, by: str = "epoch"
    ) -> None:
        super().__init__()
        self.gamma = check_number("LRExponential", "gamma", gamma, above=0)
        self.learning_rate = checked_first_rate("LRExponential", learning_rate)
        self.by = check_by("LRExponential", by)

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of an epoch or step, from 0."""
        return self.decayed(base, self.gamma, index, plan)
