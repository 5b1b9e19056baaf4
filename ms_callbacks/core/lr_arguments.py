"""Check arguments that are learning rates: one number for all parameter groups, or a list with one for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

import numpy as np

from .arguments import check_number
from .console import counted
from .learning_rates import Rates, shortest

__all__ = [
    "PerGroup",
    "as_text",
    "check_per_group",
    "checked_first_rate",
    "checked_per_group",
    "checked_rates",
    "for_group",
]

PerGroup = Union[float, list[float]]  # one number for all parameter groups, or one for each


def as_text(rates: Sequence[Any]) -> str:
    """Return rates as Python code: a number, or a list of several."""
    return str(rates[0] if len(rates) == 1 else list(rates))


def checked_per_group(owner: str, name: str, value: Any, **bounds: float) -> PerGroup:
    """Return a number, or a list with one for each parameter group, as floats; raise if `value` is neither."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError(
                f"{owner}: {name} must be a number, or a list with one for each parameter group, but it is empty"
            )
        return [check_number(owner, f"{name}[{index}]", each, **bounds) for index, each in enumerate(value)]
    return check_number(owner, name, value, **bounds)


def checked_first_rate(owner: str, value: Any, name: str = "learning_rate") -> Optional[PerGroup]:
    """Return a rate as `checked_per_group` does; a rate of 0 in a list stands for a frozen group."""
    if isinstance(value, (list, tuple)):
        return checked_per_group(owner, name, value, minimum=0)
    return None if value is None else check_number(owner, name, value, above=0)


def check_per_group(owner: str, name: str, value: Optional[PerGroup], rates: Rates) -> None:
    """Raise if a list does not have as many values as the optimizer has rates."""
    if isinstance(value, list) and len(value) != len(rates):
        raise ValueError(
            f"{owner}: {name} has {counted(len(value), 'value')}, but the optimizer has "
            f"{counted(len(rates), 'rate')} ({as_text(rates.planned())}), in the order of its parameter groups, where "
            f"those without an lr of their own count as one; give as many, or one number for all"
        )


def for_group(value: PerGroup, group: int) -> float:
    """Return the value for one of the parameter groups."""
    return value[group] if isinstance(value, list) else value


def checked_rates(owner: str, name: str, rates: Any) -> list[float]:
    """Return the rates as a list of floats; raise unless there is at least one and all are finite and at least 0."""
    given = getattr(rates, "asnumpy", lambda: rates)()
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{owner}: {name} must be a list of numbers, but got {rates!r}")
    values = [
        shortest(check_number(owner, f"{name}[{index}]", _plain(rate), minimum=0)) for index, rate in enumerate(given)
    ]
    if not values:
        raise ValueError(f"{owner}: {name} must hold at least one learning rate, but it is empty")
    return values


def _plain(value: Any) -> Any:
    """Return a tensor as an array, and an array of one element as its number."""
    array = getattr(value, "asnumpy", lambda: value)()
    return array.item() if isinstance(array, np.ndarray) and array.size == 1 else array
