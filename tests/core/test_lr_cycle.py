"""The arguments and groups that schedules with a highest rate share."""

from __future__ import annotations

import pytest

from ms_callbacks.core.lr_curve import Plan
from ms_callbacks.core.lr_cycle import CycleSchedule, checked_peak


class Peak(CycleSchedule):
    """The highest rate all the time."""

    def __init__(self, max_lr):
        super().__init__()
        self.max_lr = max_lr

    def rate_at(self, base, index, plan):
        return self.peak_of(base, plan) or 0.0


def test_a_group_has_its_own_highest_rate_unless_it_is_frozen():
    """An optimizer's only rate may be anything."""
    plan = Plan(1, 1, is_grouped=True, group=1)
    assert Peak([0.1, 0.2]).peak_of(0.5, plan) == 0.2
    assert Peak([0.1, 0.2]).peak_of(0.0, plan) is None
    assert Peak(0.3).peak_of(0.0, Plan(1, 1)) == 0.3
    assert not Peak(0.3).is_relative(Plan(1, 1))
    assert Peak(0.3).is_relative(plan)


@pytest.mark.parametrize(
    ("value", "message"),
    [(0, "max_lr must be finite and above 0"), ([-1], r"max_lr\[0\] must be finite and at least 0")],
)
def test_a_wrong_highest_rate_is_refused(value, message):
    """With its name."""
    with pytest.raises(ValueError, match=f"O: {message}"):
        checked_peak("O", value)


@pytest.mark.parametrize("arguments", [(1, 0.8, 0.9), (None, 0.9, 0.8), (None, -1, 0.8), (True, 0.8, 1.0)])
def test_a_wrong_momentum_is_refused(arguments):
    """In the name of the schedule."""
    with pytest.raises((TypeError, ValueError), match="Peak: .*momentum"):
        Peak(0.1).set_momentum_arguments(*arguments)
