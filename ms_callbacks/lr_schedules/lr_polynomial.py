"""Lower the learning rate to a final value along a polynomial, as PyTorch's `PolynomialLR` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Union

from ..core.arguments import check_choice, check_int, check_number
from ..core.lr_arguments import checked_first_rate
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan, check_by

__all__ = ["LRPolynomial"]


class LRPolynomial(Schedule):
    r"""Lower the learning rate from its initial value to `eta_min` along a polynomial, in `total` epochs or steps.

    In epoch :math:`t` (from 1) the rate is :math:`\eta_{min} + (\eta_0 - \eta_{min}) (1 - (t-1) / T)^p` with `total`
    :math:`T` and `power` :math:`p`, as in PyTorch's `PolynomialLR` (where :math:`\eta_{min}` is 0). Epoch `total + 1`
    is the first with `eta_min`. A longer run is an error, unless `beyond="stay"`. The optimizer is not rebuilt and
    keeps its moments; a parameter group with a rate of 0 stays frozen. The initial rate is determined as in
    `LRStepDecay`.

    Args:
        total: the number of epochs, or with `by="step"` of optimizer steps, until `eta_min` is reached.
        power: the exponent, above 0; 1 is a straight line. Default: 1.0.
        eta_min: the lowest rate, at least 0. Default: 0.0.
        learning_rate: the initial rate, or a list with one for each parameter group. Default: None, the optimizer's
            own.
        beyond: what follows after `total + 1` epochs or steps: `"stay"` keeps `eta_min`, like PyTorch's. Default: None,
            the run must not be longer; only steps beyond those that the dataset declares keep `eta_min`.
        by: `"epoch"`, or `"step"` to change the rate with every optimizer step. Default: "epoch".

    Attributes:
        lr_list_ (list[float]): the rate of every epoch or step, for the first parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, the run is longer than `total + 1` and `beyond` is
            not given, `learning_rate` does not fit the parameter groups, `by="step"` in sink mode, or the initial rate
            is 0 or cannot be determined.

    Example:
        >>> polynomial = LRPolynomial(4, power=2.0)
        >>> model.train(2, train_dataset, callbacks=[polynomial])
        >>> polynomial.lr_list_
        [0.01, 0.005625]
    """

    def __init__(
        self,
        total: int,
        *,
        power: float = 1.0,
        eta_min: float = 0.0,
        learning_rate: Union[float, Sequence[float], None] = None,
        beyond: Optional[str] = None,
        by: str = "epoch",
    ) -> None:
        super().__init__()
        owner = "LRPolynomial"
        self.total = check_int(owner, "total", total, 1)
        self.power = check_number(owner, "power", power, above=0)
        self.eta_min = check_number(owner, "eta_min", eta_min, minimum=0)
        self.learning_rate = checked_first_rate(owner, learning_rate)
        self.beyond = check_choice(owner, "beyond", beyond, (None, "stay"))
        self.by = check_by(owner, by)

    def check_length(self, plan: Plan) -> None:
        """Raise if the run is longer than the curve."""
        if self.beyond is None:
            self.check_not_longer("total", self.total, plan, "stays there", "beyond='stay' to accept that")

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of an epoch or step, from 0."""
        if base == 0:  # a frozen parameter group
            return 0.0
        left = 1 - min(index, self.total) / self.total
        return float(self.eta_min + (base - self.eta_min) * left**self.power)
