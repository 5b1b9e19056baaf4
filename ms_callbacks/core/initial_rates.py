"""The initial rates of an optimizer, as opposed to those that a schedule or a checkpoint has set since."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional

from .learning_rates import Rates
from .lr_arguments import as_text
from .mindspore_compat import COUNTS_STEPS

__all__ = ["determine", "first_rates", "remember"]


class _Begun(NamedTuple):
    """The initial rates of an optimizer, the last known rates, and its number of steps at that time."""

    bases: list[float]
    left: list[float]
    steps: int


_BEGUN: weakref.WeakKeyDictionary[Any, _Begun] = weakref.WeakKeyDictionary()


def remember(rates: Rates, bases: Optional[Sequence[float]] = None) -> None:
    """Remember the current and the initial rates.

    The initial rates are `bases` if given. Otherwise they are the remembered ones, or the current ones if the rates
    were changed since.
    """
    for each in rates.of_each:
        known, left = _BEGUN.get(each.optimizers[0]), each.planned()
        begun = known.bases if known is not None and known.left == left else left
        if bases is not None:
            begun, bases = list(bases[: len(each)]), bases[len(each) :]
        _BEGUN[each.optimizers[0]] = _Begun(begun, left, each.steps)


def first_rates(rates: Rates) -> list[float]:
    """Return the rates that an optimizer had before any schedule of this package."""
    if len(rates.optimizers) > 1:
        return [rate for each in rates.of_each for rate in first_rates(each)]
    begun, now = _BEGUN.get(rates.optimizers[0]), rates.as_given()
    return begun.bases if begun is not None and begun.left == now else now


def determine(
    owner: str,
    rates: Rates,
    *,
    continues: bool,
    had_led_to: Callable[[list[float], list[float]], bool],
    takes_first_rate: bool,
) -> list[float]:
    """Return the initial rates of the optimizers, even if a checkpoint has loaded others since.

    Args:
        owner: the name of the schedule, for error messages.
        rates: the optimizers' rates.
        continues: whether the run continues an earlier one.
        had_led_to: takes two lists of rates; returns whether the schedule, with the first list as its initial rates,
            has the rates of the second list just before the run's first step.
        takes_first_rate: whether the schedule has an argument for the initial rate.
    """
    now = rates.planned()
    begun: list[Optional[float]] = []
    left: list[Optional[float]] = []
    steps, is_seen = 0, True
    for each in rates.of_each:
        known = _BEGUN.get(each.optimizers[0])
        begun += each.made if known is None else known.bases
        left += each.made if known is None else known.left
        steps += 0 if known is None else known.steps
        is_seen = is_seen and known is not None
    bases = [base for base in begun if base is not None]
    is_known = len(bases) == len(now)
    if is_known and (now in (left, bases) or (continues and had_led_to(bases, now))):
        return bases
    # If an optimizer still has the remembered step count, no later state has been loaded into it.
    is_unchanged = rates.steps == steps and (is_seen or not continues or COUNTS_STEPS)
    if is_unchanged or not (is_known or continues):
        return now
    argument = f"learning_rate={as_text(bases if is_known else now)}"
    raise ValueError(
        f"{owner}: the optimizer began with {as_text(bases) if is_known else 'a rate that is not known'} and holds "
        f"{as_text(now)}, which may come from a checkpoint, or may be meant for this run; "
        + (f"pass the rate that epoch 1 begins with, as in {owner}(..., {argument}), or " if takes_first_rate else "")
        + "leave the entries that begin with 'learning_rate' out of what is loaded"
    )
