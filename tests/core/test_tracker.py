"""What a tracker is, and what it is told about a run."""

from __future__ import annotations

import dataclasses

import pytest
from trackers import Kept

from ms_callbacks import TrackedRun, Tracker

METHODS = ["close", "flush", "log", "log_figure", "log_histogram", "log_text", "start"]


def test_whatever_has_the_methods_is_a_tracker():
    """It needs no base class."""
    assert isinstance(Kept(), Tracker)
    assert sorted(name for name in vars(Tracker) if not name.startswith("_")) == METHODS


@pytest.mark.parametrize("missing", METHODS)
def test_each_method_is_needed(missing):
    """One that lacks any is none."""
    partial = type("Partial", (), {name: print for name in METHODS if name != missing})
    assert not isinstance(partial(), Tracker)


def test_what_it_is_told_cannot_be_changed():
    """A new run has no id and begins with step 0."""
    run = TrackedRun("name")
    assert (run.id, run.step, run.config) == (None, 0, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.step = 1
