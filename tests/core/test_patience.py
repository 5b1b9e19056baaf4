"""The rule by which a run stops that no longer improves: one value after the other, and nothing else."""

from __future__ import annotations

import math

import pytest

from ms_callbacks.core.monitor import BestTracker, Monitor
from ms_callbacks.core.patience import StopRule


def decide(values, mode="min", min_delta=0.0, **rule):
    """The epoch in which the rule stops, 0 for none; why; and the best so far."""
    best, stop_rule = BestTracker(Monitor("x", mode, min_delta)), StopRule(**rule)
    for epoch, value in enumerate(values, 1):
        reason = stop_rule.observe(best, value, epoch, is_first=epoch == 1).reason
        if reason:
            return epoch, reason, best.best
    return 0, "", best.best


@pytest.mark.parametrize(
    ("values", "arguments", "expected"),
    [
        ([3, 2, 1], {"patience": 0}, (0, "", 1)),
        ([3], {"patience": 0}, (0, "", 3)),
        ([1, 2, 2], {"patience": 2}, (3, "x was not better than 1 (epoch 1) 2 times in a row", 1)),
        ([1, 1], {"patience": 1}, (2, "x was not better than 1 (epoch 1) once", 1)),
        (
            [1, 0.9, 0.8],
            {"patience": 2, "min_delta": 0.5},
            (3, "x was not better than 1 (epoch 1) 2 times in a row", 1),
        ),
        ([5, 4, 3], {"patience": 2, "baseline": 1}, (0, "", 3)),
        ([5, 4, 4], {"patience": 3, "baseline": 1}, (3, "x was not better than 4 (epoch 2) 3 times in a row", 4)),
        ([1, math.nan], {"patience": 9}, (2, "x is nan", 1)),
        ([math.nan], {"patience": 9}, (1, "x is nan", None)),
        (
            [math.nan, math.nan],
            {"patience": 1, "check_finite": False},
            (2, "x has not been finite in 2 observations", None),
        ),
        ([5, 0.1], {"patience": 9, "stopping_threshold": 1}, (2, "better than the stopping threshold 1", 0.1)),
        ([5, 50], {"patience": 9, "divergence_threshold": 10}, (2, "worse than the divergence threshold 10", 5)),
        ([1, 2, 1.5], {"patience": 2, "mode": "max"}, (0, "", 2)),
    ],
)
def test_it_stops_in_this_epoch_for_this_reason(values, arguments, expected):
    """Or does not; the best is what it has seen by then."""
    epoch, reason, best = decide(values, **arguments)
    assert (epoch, best) == (expected[0], expected[2])
    assert reason.endswith(expected[1])


def test_a_value_tells_whether_it_is_the_best():
    """With the step that it was observed at."""
    best, rule = BestTracker(Monitor("x", "min")), StopRule(3)
    assert [rule.observe(best, value, 1, step, is_first=step == 1).is_best for step, value in ((1, 2.0), (2, 2.0))] == [
        True,
        False,
    ]
    assert (best.best_epoch, best.best_step, best.wait) == (1, 1, 1)
