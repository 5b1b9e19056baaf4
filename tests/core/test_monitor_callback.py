"""Watching one value: which are observed and when, what is known of the best, and what is refused before a step."""

from __future__ import annotations

import json
import math

import pytest
from mindspore.train import Callback
from training import dataset, make_model, valid_dataset

from ms_callbacks import MonitorCallback, StepOutputs, Validate
from ms_callbacks.testing import ScriptedRun

NAN = math.nan


class Watch(MonitorCallback):
    """Keeps what it observes, and when."""

    def reset_state(self):
        super().reset_state()
        self.observed_ = []

    def observe(self, run, value, observation):
        self.observed_.append((observation.epoch, observation.step_between, value))
        self.best.observe(value, observation.epoch, observation.step_between)


def watched(monitor, metrics, mode="max", **arguments):
    """What was observed in a run by a script."""
    watch = Watch(monitor, mode)
    ScriptedRun(metrics, **arguments).play([watch])
    return watch.observed_


ACC = [{"acc": 0.5}, None, {"acc": 0.7}]


@pytest.mark.parametrize(
    ("monitor", "arguments", "observed"),
    [
        # A validation value: at each evaluation, and in no other epoch.
        ("acc", {}, [(1, 0, 0.5), (3, 0, 0.7)]),
        ("val_acc", {}, [(1, 0, 0.5), (3, 0, 0.7)]),
        ("acc", {"initial_epoch": 4}, [(5, 0, 0.5), (7, 0, 0.7)]),
        (
            "acc",
            {"steps_per_epoch": 2, "evaluations": {1: {"acc": 0.1}, 3: {"acc": 0.2}}},
            [(1, 1, 0.1), (1, 0, 0.5), (2, 3, 0.2), (3, 0, 0.7)],
        ),
        # One of the training steps: once an epoch, evaluated or not, whatever is evaluated between steps.
        ("loss", {"losses": [[1.0], [2.0], [3.0]]}, [(1, 0, 1.0), (2, 0, 2.0), (3, 0, 3.0)]),
        ("train_loss", {"losses": [[1.0], [2.0], [3.0]]}, [(1, 0, 1.0), (2, 0, 2.0), (3, 0, 3.0)]),
        (
            "loss",
            {"losses": [[1.0, 2.0]] * 3, "steps_per_epoch": 2, "evaluations": {1: {"acc": 0.1}}},
            [(1, 0, 1.5), (2, 0, 1.5), (3, 0, 1.5)],
        ),
    ],
)
def test_a_value_is_observed_when_it_comes(monitor, arguments, observed):
    """With the epoch, and the step where it was between two."""
    assert watched(monitor, ACC, **arguments) == observed


def test_a_value_that_need_not_come_is_observed_where_it_does():
    """An evaluation without it is no observation."""
    metrics = [{"det": {"a": 1.0}}, {"det": {"b": 1.0}}, {"det": {"a": 2.0}}]
    assert watched("a", metrics) == [(1, 0, 1.0), (3, 0, 2.0)]


def test_an_evaluation_whose_loss_is_nan_is_observed_as_nan():
    """Which is never the best."""
    watch = Watch("acc")
    ScriptedRun([{"acc": 0.5, "eval_loss": 1.0}, {"acc": 0.9, "eval_loss": NAN}]).play([watch])
    assert math.isnan(watch.observed_[1][2])
    assert (watch.best_, watch.best_epoch_, watch.wait_) == (0.5, 1, 1)


def test_another_number_of_the_steps_is_observed_once_an_epoch():
    """One that `StepOutputs` names."""
    watch = Watch("kl", "min")
    run = ScriptedRun([{"acc": 0.5}] * 2, losses=[[(1.0, 0.5)], [(1.0, 0.25)]])
    run.play([StepOutputs(others={"kl": 1}), watch])
    assert watch.observed_ == [(1, 0, 0.5), (2, 0, 0.25)]


def test_losses_are_read_where_one_is_watched_alone():
    """A validation value needs none."""
    seen = []

    class Looks(Watch):
        def after_epoch(self, run, summary):
            super().after_epoch(run, summary)
            seen.append(summary.loss)

    for monitor in ("loss", "acc"):
        ScriptedRun([{"acc": 0.5}], losses=[[2.0]]).play([Looks(monitor)])
    assert seen == [2.0, None]


def test_what_is_known_of_the_best():
    """Before the first observation, after some, and in a second run."""
    watch = Watch("acc")
    assert (watch.best_, watch.best_epoch_, watch.wait_) == (None, 0, 0)
    run = ScriptedRun([{"acc": value} for value in (0.5, 0.7, 0.7, 0.6)])
    for _ in range(2):
        run.play([watch])
        assert (watch.best_, watch.best_epoch_, watch.wait_) == (0.7, 2, 2)
    ScriptedRun([None]).play([watch])
    assert (watch.best_, watch.best_epoch_, watch.wait_) == (None, 0, 0)


@pytest.mark.parametrize(
    ("mode", "min_delta", "best_epoch"), [("max", 0.0, 3), ("max", 0.25, 2), ("min", 0.0, 4), ("auto", 0.25, 2)]
)
def test_mode_and_min_delta_are_those_that_were_given(mode, min_delta, best_epoch):
    """They are kept under their names; `auto` takes a larger accuracy for better."""
    watch = Watch("acc", mode, min_delta)
    ScriptedRun([{"acc": value} for value in (0.25, 0.75, 1.0, 0.0)]).play([watch])
    assert watch.best_epoch_ == best_epoch
    assert (watch.monitor, watch.mode, watch.min_delta) == ("acc", mode, min_delta)


def test_a_state_goes_on_where_the_run_had_stopped():
    """Through JSON, in the next run alone."""
    first, other = Watch("acc"), Watch("acc")
    ScriptedRun([{"acc": 0.7}, {"acc": 0.6}]).play([first])
    state = json.loads(json.dumps(first.state_dict()))
    assert state == {"best": 0.7, "best_epoch": 1, "best_step": 0, "wait": 1}
    other.reset_state()
    other.load_state_dict(state)
    ScriptedRun([{"acc": 0.7}, {"acc": 0.8}, {"acc": 0.8}], initial_epoch=2).play([other])
    assert (other.best_, other.best_epoch_, other.wait_) == (0.8, 4, 1)
    ScriptedRun([{"acc": 0.1}]).play([other])
    assert (other.best_, other.best_epoch_) == (0.1, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1,), TypeError, "Watch: monitor must be a string, but got 1"),
        (("",), ValueError, "Watch: monitor must not be empty"),
        (("acc", "Max"), ValueError, "Watch: mode must be one of 'auto', 'min', 'max', but got 'Max'; did you mean"),
        (("acc", None), ValueError, "Watch: mode must be one of"),
        (("acc", "max", -1e-9), ValueError, "Watch: min_delta must be finite and at least 0, but got -1e-09"),
        (("acc", "max", NAN), ValueError, "Watch: min_delta must be finite"),
        (("acc", "max", True), TypeError, "Watch: min_delta must be a number"),
    ],
)
def test_wrong_arguments_are_refused_when_it_is_made(arguments, error, message):
    """In the name of the subclass."""
    with pytest.raises(error, match=message):
        Watch(*arguments)


class NoStep(Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


@pytest.mark.parametrize(
    ("arguments", "validates", "message"),
    [
        (("Acc",), True, "Watch: monitor 'Acc' is not among .* did you mean 'acc'"),
        (
            ("acc", "min"),
            True,
            "Watch: mode='min' treats a smaller 'acc' as better, but it is MindSpore's",
        ),
        (("acc",), False, "Watch: 'acc' needs an evaluation, but this run never evaluates"),
        (("val_loss",), False, "Watch: 'val_loss' needs an evaluation"),
    ],
)
def test_what_the_run_will_not_have_is_refused_before_the_first_step(arguments, validates, message):
    """In the words of who knows it."""
    model = make_model()
    callbacks = [Watch(*arguments), NoStep(), *([Validate(model, valid_dataset())] if validates else [])]
    with pytest.raises(ValueError, match=message):
        model.train(1, dataset(12), callbacks=callbacks)


def test_a_mode_that_cannot_be_told_is_asked_for_before_the_first_step():
    """A name without a word that tells; also where the values to come cannot be seen."""
    with pytest.raises(ValueError, match="Watch: mode='auto' cannot tell whether a smaller or a larger 'hmean'"):
        ScriptedRun([{"hmean": 0.5}]).play([Watch("hmean"), NoStep()])


def test_a_name_that_is_found_out_at_the_first_evaluation_is_an_error_there():
    """Where nobody could see the names ahead, and for what turns out to be no number."""
    with pytest.raises(ValueError, match=r"Watch: monitor 'accuracy' is not among .*; did you mean 'acc'\?"):
        ScriptedRun([{"acc": 0.5}]).play([Watch("accuracy")])
    with pytest.raises(TypeError, match=r"Watch: monitor 'acc' must be a single number, .* returned \[0.5, 0.5\]"):
        ScriptedRun([{"acc": [0.5, 0.5]}]).play([Watch("acc")])


def test_it_says_what_to_do_with_a_value():
    """A subclass without `observe` is none yet."""
    with pytest.raises(TypeError, match="abstract"):
        MonitorCallback("acc")
