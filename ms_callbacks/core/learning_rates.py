"""The learning rates of optimizers: read without side effects, set without rebuilding the optimizer.

MindSpore stores a plain rate as a `Parameter`, a list or a schedule as a cell that looks the rate up by `global_step`,
and the rates of parameter groups as a tuple of either, with one entry per parameter. If one group has a list or a
schedule, the plain rates of the others are in a cell too.
"""

from __future__ import annotations

import functools
import numbers
import weakref
from collections.abc import Sequence
from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

from .mindspore_compat import is_lars
from .placement import ALL_SEE_THE_SAME
from .tensors import is_plain, number
from .updates import Accumulating

__all__ = ["Rates", "shortest", "without_wrapper"]


@functools.lru_cache(maxsize=1000)
def shortest(value: Any) -> float:
    """Return the shortest decimal that is the same 32-bit number: 0.01, not 0.009999999776482582."""
    return float(str(np.float32(value)))


def without_wrapper(optimizer: Any) -> Any:
    """Return the optimizer that holds the rates.

    `nn.LARS` wraps another optimizer, and its own rate of 0 is unused. An optimizer that accumulates gradients also
    wraps another one.
    """
    return without_wrapper(optimizer.opt) if is_lars(optimizer) or isinstance(optimizer, Accumulating) else optimizer


# The rates that are held at 0, by optimizer and by their place in it, with what they would be otherwise: known to all
# `Rates` of an optimizer, so that a schedule need not know of them.
_HELD: weakref.WeakKeyDictionary[Any, dict[int, float]] = weakref.WeakKeyDictionary()


class Rates:
    """The distinct learning rates of one or several optimizers, at most one per parameter group.

    They are in the order of the optimizers, and within each in the order in which it was given its parameter groups;
    groups without a rate of their own share one.
    """

    def __init__(self, optimizers: Any) -> None:
        several = optimizers if isinstance(optimizers, (tuple, list)) else (optimizers,)
        self.optimizers = tuple(map(without_wrapper, several))
        for optimizer in self.optimizers or (None,):
            if not isinstance(optimizer, nn.Optimizer) or getattr(optimizer, "learning_rate", None) is None:
                raise TypeError(
                    f"expected a Model with an optimizer of mindspore.nn to read the learning rate from, "
                    f"but found {type(optimizer).__name__}"
                )
        self._sources = [source for optimizer in self.optimizers for source in _sources_of(optimizer)]

    def __len__(self) -> int:
        return len(self._sources)

    @property
    def of_each(self) -> list[Rates]:
        """Return the rates of each optimizer."""
        return [self] if len(self.optimizers) == 1 else [Rates(optimizer) for optimizer in self.optimizers]

    @property
    def trained(self) -> list[list[Parameter]]:
        """Return, for each rate, the parameters that are trained with it."""
        return [source.trained for source in self._sources]

    @property
    def parameters(self) -> list[Parameter]:
        """Return the parameters that hold rates."""
        return [source.parameter for source in self._sources if source.parameter is not None]

    @property
    def lists(self) -> list[tuple[Parameter, int]]:
        """Return the parameters that hold a list of rates, each with the number of steps its optimizer has done."""
        return [(each.parameter, _steps_of(each.optimizer)) for each in self._sources if each.is_list]

    @property
    def is_dynamic(self) -> bool:
        """Return whether any rate is a list or a schedule, so that an optimizer sets it itself."""
        return not all(source.is_number for source in self._sources)

    @property
    def steps(self) -> int:
        """Return the steps counted by the optimizers; MindSpore 2.0 counts them only if a rate depends on them."""
        return sum(map(_steps_of, self.optimizers))

    @property
    def made(self) -> list[Optional[float]]:
        """Return the numbers that the optimizers were created with; `None` for a rate that is not a number, or unknown.

        `nn.AdamWeightDecay` and most custom optimizers do not keep it.
        """
        return [source.made for source in self._sources]

    def read(self) -> list[float]:
        """Return the rates used by the last step; before the first step, those that it will use."""
        # `Optimizer.get_lr` must not be called here: on MindSpore 2.0 it advances `global_step`.
        return [
            source.read(0 if source.is_number else max(_steps_of(source.optimizer) - 1, 0)) for source in self._sources
        ]

    def planned(self) -> list[float]:
        """Return the same; for a rate that is held at 0, what it would be otherwise."""
        return [rate if source.planned is None else source.planned for source, rate in zip(self._sources, self.read())]

    def hold(self, index: int) -> None:
        """Hold a rate at 0, whatever is set, until it is released; its parameters then stay as they are."""
        source = self._sources[index]
        if source.planned is None:
            source.plan(source.read(0))
            source.write(0.0)

    def release(self, index: int) -> None:
        """Give a rate that is held its value: the last one that was set, or the one that it had."""
        source = self._sources[index]
        value = source.planned
        if value is not None:
            source.plan(None)
            source.write(value)

    def so_far(self) -> list[float]:
        """Return the rates of the first step, the second, the third, the fifth and so on, and of the last step done."""
        found = []
        for source in self._sources:
            last = _steps_of(source.optimizer) - 1
            steps = {0, last, *(1 << power for power in range(last.bit_length() if last > 0 else 0))}
            found += [source.read(step) for step in sorted(steps) if 0 <= step <= last]
        return found

    def as_given(self) -> list[float]:
        """Return the rates that the optimizer was created with: a list if it holds one, otherwise those of `read`."""
        if len(self._sources) == 1 and self._sources[0].is_list:
            return [shortest(rate) for rate in self._sources[0].parameter.asnumpy().reshape(-1)]
        return self.planned()

    def set(self, values: Sequence[float]) -> None:
        """Set the rates from the next step on; the optimizers' moments are kept.

        A list or a schedule is left unchanged. A rate that is held takes effect when it is released.
        """
        for source, value in zip(self._sources, values):
            if source.planned is not None:
                source.plan(shortest(value))
            elif source.is_number:
                source.write(value)


class _Source:
    """The source of one of an optimizer's rates: a number, a list, or a schedule that computes it."""

    def __init__(
        self, optimizer: Any, held: Any, made: Optional[float], trained: list[Parameter], place: int = 0
    ) -> None:
        self.optimizer = optimizer
        self.made = made
        self.trained = trained
        self._place = place
        # The cells that MindSpore itself puts around a number or a list; a schedule may have a `learning_rate` too.
        is_wrapped = type(held).__module__ == nn.Optimizer.__module__
        self.parameter: Any = held.learning_rate if is_wrapped else held if isinstance(held, Parameter) else None
        self.is_number = self.parameter is not None and self.parameter.ndim == 0
        self.is_list = self.parameter is not None and not self.is_number
        self._is_plain = is_plain(self.parameter)
        self._schedule = held.construct if self.parameter is None else None

    def read(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        if self._is_plain:
            return shortest(float(self.parameter))
        if self._schedule is not None:
            # Compiled, as the optimizer compiles it: run operator by operator, the first one of a process may fail on
            # MindSpore 2.10 with NumPy 2. But while a network is split, whatever is compiled is split too.
            is_split = ms.get_auto_parallel_context("parallel_mode") in ALL_SEE_THE_SAME
            compute = self._schedule if is_split else self._compiled
            return shortest(compute(Tensor([step], mstype.int32)).asnumpy().item())
        if self.is_number:
            return shortest(number(self.parameter))
        values = self.parameter.asnumpy().reshape(-1)
        return shortest(values[min(step, values.size - 1)])

    @property
    def planned(self) -> Optional[float]:
        """What the rate would be if it were not held at 0; `None` if it is not held."""
        return _HELD.get(self.optimizer, {}).get(self._place)

    def plan(self, value: Optional[float]) -> None:
        """Set what a rate that is held would be otherwise; `None` if it is no longer held."""
        if value is None:
            _HELD[self.optimizer].pop(self._place)
        else:
            _HELD.setdefault(self.optimizer, {})[self._place] = value

    def write(self, value: float) -> None:
        """Set a rate that is a number."""
        # Assigning works in both modes without recompiling; `set_data` detaches the parameter in PYNATIVE mode.
        ops.assign(self.parameter, Tensor(value, mstype.float32))

    @functools.cached_property
    def _compiled(self) -> Any:
        return ms.jit(self._schedule)


def _sources_of(optimizer: Any) -> list[_Source]:
    if not optimizer.is_group_lr:
        made = _made(getattr(optimizer, "init_learning_rate", None))
        return [_Source(optimizer, optimizer.learning_rate, made, list(optimizer.parameters))]
    # With `order_params`, the parameters are not in the order of the groups.
    held = {id(parameter): rate for parameter, rate in zip(optimizer.parameters, optimizer.learning_rate)}
    sources: dict[int, _Source] = {}

    def add(rate: Any, made: Optional[float]) -> None:
        trained = [one for one in optimizer.parameters if held[id(one)] is rate]
        sources[id(rate)] = _Source(optimizer, rate, made, trained, len(sources))

    for group in getattr(optimizer, "init_params", {}).get("params", ()):
        rate = next((held[id(one)] for one in group.get("params", ()) if id(one) in held), None)
        if rate is not None and id(rate) not in sources:
            given = group.get("lr", getattr(optimizer, "init_learning_rate", None))
            add(rate, _made(given))
    for rate in held.values():
        if id(rate) not in sources:
            add(rate, None)
    return list(sources.values())


def _made(given: Any) -> Optional[float]:
    """Return a rate as it was given to an optimizer; `None` if it is not a number."""
    if isinstance(given, Tensor) and given.ndim == 0:
        return shortest(number(given))
    return shortest(float(given)) if isinstance(given, numbers.Real) else None


def _steps_of(optimizer: Any) -> int:
    return int(optimizer.global_step.asnumpy().item())
