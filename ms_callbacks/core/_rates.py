"""The learning rates of an optimizer: read without side effects, set without rebuilding it.

MindSpore keeps a plain rate as a `Parameter`, a list or a schedule as a cell that looks the rate up by `global_step`,
and parameter groups as a tuple of either, one entry a parameter.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

from ._tensors import is_plain, number

__all__ = ["Rates", "shortest"]


@functools.lru_cache(maxsize=1000)
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
        self._plain = {index: source for index, source in enumerate(self._sources) if is_plain(source)}
        # A schedule is compiled, as the optimizer compiles it: run operator by operator, the first of a process may
        # fail on MindSpore 2.10 with NumPy 2.
        self._schedules = {
            index: ms.jit(source.construct)
            for index, source in enumerate(self._sources)
            if not isinstance(_table_of(source), Parameter)
        }

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters that hold rates."""
        return [table for table in map(_table_of, self._sources) if isinstance(table, Parameter)]

    @property
    def is_dynamic(self) -> bool:
        """Whether the optimizer was made with a list or a schedule, and so sets its rate itself."""
        return bool(self.optimizer.dynamic_lr)

    def read(self) -> list[float]:
        """The rates that the last step used; before the first step, those that it will use."""
        # `Optimizer.get_lr` must not be called for this: on MindSpore 2.0 it advances `global_step`.
        step = max(int(self.optimizer.global_step.asnumpy().item()) - 1, 0) if self.is_dynamic else 0
        return [self._read_one(index, step) for index in range(len(self._sources))]

    def as_given(self) -> list[float]:
        """The rates that the optimizer was made with: a list where it holds one, else those of `read`."""
        table = _table_of(self._sources[0])
        if len(self._sources) == 1 and isinstance(table, Parameter):
            return [shortest(rate) for rate in table.asnumpy().reshape(-1)]
        return self.read()

    def set(self, values: Sequence[float]) -> None:
        """Sets the rates from the next step on; the optimizer's moments stay as they are."""
        for parameter, value in zip(self._sources, values):
            # Assigning works in both modes without recompiling; `set_data` detaches the parameter in PYNATIVE mode.
            ops.assign(parameter, Tensor(value, mstype.float32))

    def _read_one(self, index: int, step: int) -> float:
        if index in self._plain:
            return shortest(float(self._plain[index]))
        schedule = self._schedules.get(index)
        if schedule is not None:
            return shortest(schedule(Tensor([step], mstype.int32)).asnumpy().item())
        table = _table_of(self._sources[index])
        if table.shape == ():
            return shortest(number(table))
        values = table.asnumpy().reshape(-1)
        return shortest(values[min(step, values.size - 1)])


def _table_of(source: Any) -> Any:
    """The Parameter that holds a rate or a list of them; `None` for a schedule that computes it."""
    return source if isinstance(source, Parameter) else getattr(source, "learning_rate", None)
