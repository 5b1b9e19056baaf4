"""The phases that a callback may override: none does anything, and every one that is called or told of is there."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from ms_callbacks import TrainCallback
from ms_callbacks.core import lifecycle
from ms_callbacks.core.phases import Phases
from ms_callbacks.core.placement import Needs


def called(source):
    """The phases that a lifecycle calls by name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "_call":
            yield ast.literal_eval(node.args[0])


CALLED = sorted(set(called(inspect.getsource(lifecycle))))


def test_every_phase_that_is_called_can_be_overridden():
    """And takes what it is called with."""
    assert {"check", "before_train", "after_epoch", "save_run_state", "restore_weights"} <= set(CALLED)
    assert [phase for phase in CALLED if not callable(getattr(Phases, phase, None))] == []


def test_every_phase_that_authors_are_told_of_is_one():
    """In the life of a run, as `TrainCallback` describes it."""
    life = inspect.getdoc(TrainCallback).partition("code-block:: text")[2].partition("Keep each argument")[0]
    hooks = {"on_step_begin", "on_step_end", "on_optimizer_step", "every", "before_every", "request_stop"}
    told = set(re.findall(r"\b(\w+)\(", life)) - hooks
    assert {"check", "check_plan", "after_epoch", "teardown"} <= told
    assert [phase for phase in sorted(told) if not callable(getattr(Phases, phase, None))] == []


@pytest.mark.parametrize(
    "phase", sorted({*CALLED, "teardown", "part", "run_evaluation", "request_state", "reset_state"})
)
def test_no_phase_does_anything_by_itself(phase):
    """A subclass need not call what it overrides."""
    phases = Phases()
    before = dict(vars(phases))
    arguments = [None for each in inspect.signature(getattr(phases, phase)).parameters.values()]
    assert getattr(phases, phase)(*arguments) is None
    assert vars(phases) == before


def test_what_it_is_asked_has_a_usual_answer():
    """It needs nothing, evaluates nothing, holds nothing and has learnt nothing."""
    phases = Phases()
    assert phases.inner == ()
    assert not any((phases.needs_losses, phases.needs_samples, phases.saves_run_states))
    assert not phases.evaluates_at_epoch_end(None)
    assert phases.evaluation_source is phases.output_reader() is None
    assert phases.needs(None) is Needs.NOTHING
    assert phases.summary_names(None) == ()
    assert phases.summary_values(None) == {}
    assert phases.disk_space(None) == phases.final_weights() == phases.state_dict() == phases.state_arrays() == {}


@pytest.mark.parametrize(
    ("monitor", "name", "expected"),
    [
        ("acc", "acc", True),
        ("val_acc", "acc", True),
        ("val_loss", "eval_loss", True),
        ("loss", "eval_loss", False),
        ("acc", "eval_loss", False),
        (None, "acc", False),
    ],
)
def test_what_it_watches_is_told_by_its_monitor(monitor, name, expected):
    """Where it has one."""
    phases = Phases()
    if monitor is not None:
        phases.monitor = monitor
    assert phases.monitors(name) is expected
