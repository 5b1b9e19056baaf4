"""Read and set the momentum of optimizers that hold it as a parameter.

`nn.SGD` and `nn.Momentum` do. The beta1 of Adam and the momentum of `nn.RMSProp` are constants after compilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import mindspore as ms
from mindspore import Parameter, Tensor, ops

from .arguments import quoted
from .learning_rates import shortest, without_wrapper
from .tensors import number

__all__ = ["Momenta"]


class Momenta:
    """The momentum of each of several optimizers."""

    def __init__(self, optimizers: Sequence[Any]) -> None:
        self._optimizers = [without_wrapper(each) for each in optimizers]
        self._parameters = [_parameter_of(each) for each in self._optimizers]

    def read(self) -> list[Optional[float]]:
        """Return the momentum of each optimizer; `None` for one without a momentum that can be set."""
        return [None if one is None else shortest(number(one)) for one in self._parameters]

    def set(self, values: Sequence[Optional[float]]) -> None:
        """Set the momentum of each optimizer from the next step on; `None` leaves it unchanged."""
        for parameter, value in zip(self._parameters, values):
            if parameter is not None and value is not None:
                ops.assign(parameter, Tensor(value, ms.float32))

    def check(self, owner: str) -> None:
        """Raise unless the momentum of every optimizer can be set."""
        without = [type(each).__name__ for each, found in zip(self._optimizers, self._parameters) if found is None]
        if without:
            raise ValueError(
                f"{owner}: cycle_momentum=True needs an optimizer whose momentum can be set while it trains, such as "
                f"nn.Momentum or nn.SGD, but got {quoted(without)}; leave cycle_momentum out to change the rate alone"
            )


def _parameter_of(optimizer: Any) -> Optional[Parameter]:
    found = getattr(optimizer, "momentum", None)
    return found if isinstance(found, Parameter) and found.ndim == 0 else None
