"""Plans and curves: which index a step has, and which epochs belong together."""

from __future__ import annotations

import pytest

from ms_callbacks.core.lr_curve import Curve, Plan


class Counting(Curve):
    """The rate is the index."""

    def __init__(self, by="epoch"):
        self.by = by

    def rate_at(self, base, index, plan):
        return base * index


def test_a_plan_counts_steps_without_those_that_are_taken():
    """By a warm-up that ends within an epoch."""
    assert Plan(3, 4).steps == 12
    assert Plan(3, 4, steps_taken=3).steps == 9


def test_a_curve_has_a_rate_for_each_epoch_or_step():
    """As long as the plan is; never a negative number."""
    assert Counting().rates_for(2.0, Plan(3, 4)) == [0, 2, 4]
    assert Counting("step").rates_for(1.0, Plan(2, 2, steps_taken=1)) == [0, 1, 2]
    assert Counting().rates_for(1.0, Plan(-1, 2)) == []


def test_the_index_of_a_step():
    """The first epoch is shorter by the steps that are taken."""
    plan = Plan(3, 4, steps_taken=3)
    assert [Counting().index_of(step, plan) for step in range(6)] == [0, 1, 1, 1, 1, 2]
    assert [Counting("step").index_of(step, plan) for step in range(3)] == [0, 1, 2]


def test_epochs_are_parts_of_their_own_unless_steps_are_counted():
    """And a curve has no momentum unless it says so."""
    assert Counting().last_epoch_of_part(2, Plan(3, 4)) == 2
    assert Counting("step").last_epoch_of_part(2, Plan(3, 4)) is None
    assert Counting().momentum_at(0, Plan(3, 4)) is None


@pytest.mark.parametrize(("base", "gamma", "times"), [(1.0, 10.0, 400), (1e300, 1e10, 1), (1.0, 1e300, 2)])
def test_a_rate_too_large_for_a_number_is_refused(base, gamma, times):
    """Whether Python raises or has infinity."""
    with pytest.raises(ValueError, match="Counting: gamma=.* makes the rate too large for a number within 3 steps"):
        Counting("step").decayed(base, gamma, times, Plan(1, 3))
    assert Counting().decayed(2.0, 0.5, 2, Plan(1, 3)) == 0.5


def test_a_curve_that_has_an_end():
    """At the index of its length; the message has the numbers that would fit."""
    Counting().check_not_longer("total", 2, Plan(3, 1), "stays", "beyond='stay'")
    message = "Counting: with total=2 the rate reaches eta_min in epoch 3 and stays in the 1 epoch left of its 4; give "
    with pytest.raises(ValueError, match=message + "total=3 or total=4, or beyond='stay'"):
        Counting().check_not_longer("total", 2, Plan(4, 1), "stays", "beyond='stay'")
