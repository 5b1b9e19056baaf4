"""Multiply the learning rate by what a function returns, as PyTorch's `LambdaLR` does."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, Callable, Union

from ..core.learning_rates import Rates
from ..core.lr_arguments import check_per_group, checked_first_rate
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan, check_by

__all__ = ["LRLambda"]


class LRLambda(Schedule):
    """Multiply the initial learning rate by `lr_lambda(epoch)`, with the epoch counted from 0, as PyTorch's `LambdaLR`.

    All values for the run are computed and checked before the first step. The function may be called several times for
    the same epoch and must always return the same value. With `by="step"`, it is also called during the run, for steps
    beyond those that the dataset declares. A saved state contains only numbers, so the function need not be picklable.
    The optimizer is not rebuilt and keeps its moments; a parameter group with a rate of 0 stays frozen. The initial
    rate is determined as in `LRStepDecay`.

    Args:
        lr_lambda: takes the number of completed epochs, or with `by="step"` of completed optimizer steps, and returns
            the factor for the initial rate, finite and at least 0; or a list of such functions, one for each parameter
            group.
        learning_rate: the initial rate, or a list with one for each parameter group. Default: None, the optimizer's
            own.
        by: `"epoch"`, or `"step"` to compute a factor for every optimizer step. Default: "epoch".

    Attributes:
        lr_list_ (list[float]): the rate of every epoch or step, for the first parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: a value that the function returns
            is not as described, the optimizer already holds a list or a schedule, another callback sets the rate too,
            an argument does not fit the parameter groups, `by="step"` in sink mode, or the initial rate is 0 or cannot
            be determined.

    Example:
        >>> schedule = LRLambda(lambda epoch: 1 / (1 + epoch))
        >>> model.train(2, train_dataset, callbacks=[schedule])
        >>> schedule.lr_list_
        [0.01, 0.005]
    """

    def __init__(
        self,
        lr_lambda: Union[Callable[[int], float], Sequence[Callable[[int], float]]],
        *,
        learning_rate: Union[float, Sequence[float], None] = None,
        by: str = "epoch",
    ) -> None:
        super().__init__()
        functions = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda]
        if not functions or not all(map(callable, functions)):
            raise TypeError(
                f"LRLambda: lr_lambda must be a function of the epoch, or a list with one for each parameter group, "
                f"but got {lr_lambda!r}"
            )
        self.lr_lambda = lr_lambda
        self.learning_rate = checked_first_rate("LRLambda", learning_rate)
        self.by = check_by("LRLambda", by)

    def check_groups(self, rates: Rates) -> None:
        """Raise if a list does not have one entry for each parameter group."""
        super().check_groups(rates)
        listed: Any = list(self.lr_lambda) if isinstance(self.lr_lambda, (list, tuple)) else None
        check_per_group("LRLambda", "lr_lambda", listed, rates)

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of an epoch or step, from 0."""
        if base == 0:  # a frozen parameter group
            return 0.0
        given: Any = self.lr_lambda
        factor: Any = given[plan.group](index) if isinstance(given, (list, tuple)) else given(index)
        if isinstance(factor, bool) or not isinstance(factor, numbers.Real):
            kind = type(factor).__name__
            raise TypeError(f"{self._called(index)} must return a number, but returned {factor!r} ({kind})")
        if not math.isfinite(factor) or factor < 0:
            raise ValueError(f"{self._called(index)} must return a finite number of at least 0, but returned {factor}")
        return base * float(factor)

    def _called(self, index: int) -> str:
        return f"LRLambda: lr_lambda({index}), for {self.by} {index + 1},"
