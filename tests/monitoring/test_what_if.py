"""History.what_if: what EarlyStopping would have done is what it does."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re

import pytest
from mindspore.train import F1
from training import dataset, make_model, valid_dataset

from ms_callbacks import EarlyStopping, History, StepOutputs, Validate
from ms_callbacks.testing import ScriptedRun

NAN = math.nan


def recorded(values, **run):
    """The History of a run that nothing stops."""
    history = History()
    ScriptedRun([None if value is None else {"acc": value} for value in values], **run).play([history])
    return history


def stopped(script, monitor, **arguments):
    """What EarlyStopping does in a run by a script, in the terms of a row."""
    stopping = EarlyStopping(monitor, verbose=0, **arguments)
    ScriptedRun(**script).play([stopping])
    return {
        "patience": stopping.patience,
        "stopped_epoch": stopping.stopped_epoch_,
        "stopped_step": stopping.stopped_step_,
        "best": stopping.best_,
        "best_epoch": stopping.best_epoch_,
        "best_step": stopping.best.best_step,
        "reason": stopping.stop_reason_,
    }


def row(found):
    costs = ("worse_by", "epochs", "seconds")
    return {key: value for key, value in dataclasses.asdict(found).items() if key not in costs}


def a_script(chance):
    """A run with gaps, ties and now and then NaN, evaluated at the ends of its epochs, between its steps, or both."""

    def value():
        return NAN if chance.random() < 0.02 else chance.choice([0.1, 0.2, 0.3, 0.30000001, 0.5, 0.75, 1.0])

    def results():
        return {"acc": value(), "eval_loss": value()}

    epochs, steps, done = chance.randint(1, 12), chance.randint(1, 4), chance.choice([0, 0, 2])
    kind = chance.choice(["epochs", "steps", "both"])
    evaluations = None
    if kind != "epochs":
        every, last = chance.randint(1, 3), (done + epochs) * steps
        due = range(every, last + 1, every)
        evaluations = {step: results() for step in due if step > done * steps and chance.random() < 0.8}
    return {
        "metrics": [None if kind == "steps" or chance.random() < 0.3 else results() for _ in range(epochs)],
        "losses": [[value() for _ in range(steps)] for _ in range(epochs)],
        "steps_per_epoch": steps,
        "evaluations": evaluations or None,
        "initial_epoch": done,
    }


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(10, 60))])
def test_a_row_is_what_early_stopping_does_in_that_run(seed):
    """For any run and any arguments: the epoch, the step, the best, its place, and why."""
    chance = random.Random(seed)
    for _ in range(2):
        script = a_script(chance)
        arguments = {
            "mode": chance.choice(["min", "max"]),
            "min_delta": chance.choice([0, 0, 0.1]),
            "baseline": chance.choice([None, None, 0.3]),
            "start_from_epoch": chance.choice([0, 0, 2]),
        }
        history = History()
        ScriptedRun(**script).play([history])
        history_of_state = History()
        history_of_state.load_state_dict(json.loads(json.dumps(history.state_dict())))
        has_results = history.evaluations_ or "acc" in history.history
        for monitor in ("loss", *(("acc", "val_loss") if has_results else ())):
            patiences = [0, 1, 2, 3, 5]
            found = history.what_if(monitor, patience=patiences, **arguments)
            assert repr(found) == repr(history_of_state.what_if(monitor, patience=patiences, **arguments))
            for patience, each in zip(patiences, found):
                expected = stopped(script, monitor, patience=patience, **arguments)
                assert repr(row(each)) == repr(expected), (script, monitor, arguments)


def test_costs_and_losses_are_those_of_the_record():
    """Epochs and seconds until it stops, and how much worse its best is than the best of all."""
    history = recorded([0.5, 0.7, 0.6, 0.6, 0.9, 0.8], steps_per_epoch=2)
    seconds = history.history["seconds"] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    one, two, three, four = history.what_if("acc", patience=[1, 2, 3, 4])
    assert (one.stopped_epoch, one.epochs, one.seconds) == (3, 3, 6.0)
    assert one.worse_by == pytest.approx(0.2)
    assert (two.stopped_epoch, two.best, two.best_epoch, two.seconds) == (4, 0.7, 2, 10.0)
    assert (three.stopped_epoch, three.best, three.worse_by, three.epochs) == (0, 0.9, 0.0, 6)
    assert four.seconds == sum(seconds)
    (minimum,) = history.what_if("acc", patience=1, mode="min")
    assert (minimum.best, minimum.worse_by) == (0.5, 0.0)


def test_a_stop_between_two_steps_costs_the_steps_until_then():
    """And counts the epoch that it ends."""
    evaluations = {step: {"acc": value} for step, value in enumerate([0.5, 0.4, 0.3, 0.9], 1)}
    history = recorded([None, None], steps_per_epoch=2, evaluations=evaluations)
    history.history["seconds"] = [2.0, 2.0]
    for each, seconds in zip(history.evaluations_, (0.5, 1.5, 1.0, 1.75)):
        each["seconds"] = seconds
    (found,) = history.what_if("acc", patience=2)
    assert (found.stopped_epoch, found.stopped_step, found.epochs, found.seconds) == (2, 3, 2, 3.0)
    assert found.worse_by == pytest.approx(0.4)


def test_an_evaluation_after_the_last_step_of_an_epoch_is_one_observation():
    """Though the epoch's record has its values too."""
    evaluations = {step: {"acc": value} for step, value in ((2, 0.5), (4, 0.4), (6, 0.3))}
    history = recorded([None] * 3, steps_per_epoch=2, evaluations=evaluations)
    assert history.history["acc"] == [0.5, 0.4, 0.3]
    assert [one.stopped_step for one in history.what_if("acc", patience=(1, 2, 3))] == [4, 6, 0]


def test_the_result_reads_as_a_table():
    """A line for each patience."""
    history = recorded([0.5, 0.7, 0.6, 0.6, 0.9, 0.8])
    history.history["seconds"] = [1.0] * 6
    assert str(history.what_if("acc", patience=range(1, 4))) == "\n".join(
        [
            "Patience  Stops after  Best acc  In       Worse by  Epochs  Seconds",
            "-------------------------------------------------------------------",
            "       1  epoch 3           0.7  epoch 2       0.2       3      3.0",
            "       2  epoch 4           0.7  epoch 2       0.2       4      4.0",
            "       3  -                 0.9  epoch 5         0       6      6.0",
            "-------------------------------------------------------------------",
        ]
    )
    nothing = recorded([NAN, NAN]).what_if("acc", patience=3)
    assert str(nothing).splitlines()[2].split()[:5] == ["3", "epoch", "1", "-", "-"]


def test_what_was_not_evaluated_is_no_observation():
    """Neither better nor worse."""
    history = recorded([1.0, None, None, 0.5, None, 0.5, None])
    assert [one.stopped_epoch for one in history.what_if("acc", patience=[1, 2, 3])] == [4, 6, 0]


@pytest.mark.parametrize("fits", [False, True])
def test_a_real_run_and_its_resume_are_recorded_for_it(fits):
    """With the direction that the metric's class shows, whatever the name."""

    class Score(F1):
        def eval(self):
            return float(super().eval(average=True))

    model, history = make_model(metrics={"quality": Score()}), History()
    if fits:
        model.fit(4, dataset(), valid_dataset(), callbacks=[history])
    else:
        model.train(4, dataset(), callbacks=[history, Validate(model, valid_dataset(), every_n_epochs=2)])
    (found,) = history.what_if("quality", patience=0)
    values = [value for value in history.history["quality"] if value is not None]
    assert len(values) == (4 if fits else 2)
    assert found.worse_by >= 0
    assert found.best == max(values[: values.index(found.best) + 1])
    other = History()
    other.load_state_dict(json.loads(json.dumps(history.state_dict())))
    assert other.what_if("quality", patience=0) == [found]


def test_a_value_of_the_training_steps_is_observed_once_an_epoch():
    """Though every evaluation between steps has one so far."""
    outputs = StepOutputs(loss=0, others={"penalty": 1})
    script = {
        "metrics": [None] * 3,
        "losses": [[(1.0, value), (1.0, value)] for value in (3.0, 4.0, 5.0)],
        "steps_per_epoch": 2,
        "evaluations": {step: {"acc": 0.5} for step in range(1, 7)},
    }
    history = History()
    ScriptedRun(**script).play([history, outputs])
    assert history.history["penalty"] == [3.0, 4.0, 5.0]
    (found,) = history.what_if("penalty", patience=2, mode="min")
    assert (found.stopped_epoch, found.best) == (3, 3.0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"monitor": "accuracy"}, "monitor 'accuracy' is not among .*did you mean 'acc'"),
        ({"monitor": "learning_rate"}, "monitor 'learning_rate' is not among"),
        ({"monitor": "seconds"}, "monitor 'seconds' is not among"),
        ({"monitor": ""}, "monitor must not be empty"),
        ({"patience": []}, "patience must be a whole number or several"),
        ({"patience": -1}, "patience must be at least 0, but got -1"),
        ({"patience": [1, 2.5]}, "patience must be a whole number, but got 2.5"),
        ({"patience": "3"}, "patience must be a whole number, but got '3'"),
        ({"mode": "maximum"}, "mode must be one of"),
        ({"min_delta": -1}, "min_delta must be finite and at least 0"),
        ({"baseline": NAN}, "baseline must be finite"),
        ({"start_from_epoch": -1}, "start_from_epoch must be at least 0"),
        ({"monitor": "odd"}, "mode='auto' cannot tell"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error):
    """With what would be right."""
    history = History()
    ScriptedRun([{"acc": 0.5, "odd": 1.0}]).play([history])
    with pytest.raises((TypeError, ValueError), match=error):
        history.what_if(**{"monitor": "acc", **arguments})


def test_without_a_run_there_is_nothing_to_ask():
    """Nor after a reset."""
    with pytest.raises(ValueError, match="nothing is recorded yet; train with this History"):
        History().what_if("acc")


def test_a_state_of_version_0_1_can_be_asked():
    """Which recorded neither evaluations between steps nor which epochs were evaluated."""
    history = History()
    state = {"epoch": [1, 2, 3], "history": {"loss": [3.0, 2.0, 1.0], "acc": [0.5, None, 0.4], "seconds": [1.0] * 3}}
    history.load_state_dict(state)
    assert history.what_if("acc", patience=1)[0].stopped_epoch == 3
    assert history.what_if("loss", patience=1)[0].stopped_epoch == 0


def test_a_notebook_shows_the_same_table():
    """As HTML."""
    history = History()
    ScriptedRun([{"acc": value} for value in (0.5, 0.7, 0.6)]).play([history])
    found = history.what_if("acc", patience=[1, 9])
    cells = re.findall(r">([^<>]+)</t[hd]>", found._repr_html_())
    assert cells[:3] == ["Patience", "Stops after", "Best acc"]
    assert " ".join(cells[7:]).split() == " ".join(str(found).splitlines()[2:-1]).split()
