"""The learning rates of an optimizer: read without side effects, set without rebuilding it.

MindSpore keeps a plain rate as a `Parameter`, a list or a schedule as a cell that looks the rate up by `global_step`,
and parameter groups as a tuple of either, one entry a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

__all__ = ["Rates", "shortest"]


def shortest(value: Any) -> float:
    """The shortest decimal that is the same 32-bit number: 0.01, not 0.009999999776482582."""
    return float(str(np.float32(value)))


class Rates:
    """The distinct learning rates of an optimizer, one a parameter group at the most."""

    def __init__(self, optimizer: Any) -> None:
        rate = getattr(optimizer, "learning_rate", None)
        if not isinstance(optimizer, nn.Optimizer) or rate is None:
            raise TypeError(
                f"expected a Model with an optimizer of mindspore.nn to read the learning rate from, "
                f"but found {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        distinct = {id(one): one for one in (rate if optimizer.is_group_lr else (rate,))}
        self._sources: list[Any] = list(distinct.values())

    @property
    def is_dynamic(self) -> bool:
        """Whether the optimizer was made with a list or a schedule, and so sets its rate itself."""
        return bool(self.optimizer.dynamic_lr)

    def read(self) -> list[float]:
        """The rates that the last step used; before the first step, those that it will use."""
        # `Optimizer.get_lr` must not be called for this: on MindSpore 2.0 it advances `global_step`.
        step = max(int(self.optimizer.global_step.asnumpy().item()) - 1, 0) if self.is_dynamic else 0
        return [shortest(_rate_at(source, step)) for source in self._sources]

    def as_given(self) -> list[float]:
        """The rates that the optimizer was made with: a list where it holds one, else those of `read`."""
        inner = getattr(self._sources[0], "learning_rate", None)
        if len(self._sources) == 1 and isinstance(inner, Parameter):
            return [shortest(rate) for rate in inner.asnumpy().reshape(-1)]
        return self.read()

    def set(self, values: Sequence[float]) -> None:
        """Sets the rates from the next step on; the optimizer's moments stay as they are."""
        for parameter, value in zip(self._sources, values):
            # Assigning works in both modes without recompiling; `set_data` detaches the parameter in PYNATIVE mode.
            ops.assign(parameter, Tensor(value, mstype.float32))


def _rate_at(source: Any, step: int) -> Any:
    if isinstance(source, Parameter):
        return source.asnumpy()
    inner = getattr(source, "learning_rate", None)
    if isinstance(inner, Parameter):  # a list, or a plain rate beside other groups' schedules
        values = inner.asnumpy().reshape(-1)
        return values[min(step, values.size - 1)]
    return source(Tensor([step], mstype.int32)).asnumpy().reshape(-1)[0]
