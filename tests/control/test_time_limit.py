"""TimeLimit: when it stops, on a clock of the test's own, and what a later run continues from."""

from __future__ import annotations

import json
import math

import pytest
from mindspore.train import Callback
from training import Recorder, assert_same_weights, dataset, make_model, valid_dataset, weights

from ms_callbacks import History, TimeLimit, TrainCallback, TrainingState, Validate
from ms_callbacks.control import time_limit
from ms_callbacks.core.metrics import EvaluationSource
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.testing import ScriptedRun


class Clock(TrainCallback):
    """Seconds that pass in a run: in a step, in the first of a run, in an evaluation, in a save after an epoch."""

    def __init__(self, monkeypatch, *, step=1, first=0, evaluation=0, save=0, every=None, evaluates=True):
        super().__init__()
        self.now = 1000.0
        self.takes = {"step": step, "first": first, "evaluation": evaluation, "save": save}
        self.every, self.evaluates = every, evaluates
        self.began = self.trained_until = self.now
        monkeypatch.setattr(time_limit, "monotonic", lambda: self.now)

    def before_train(self, run):
        self.began, self.now = self.now, self.now + self.takes["first"]
        run.step_hooks.on_step_begin(self, self.step)

    def step(self, run):
        step = self.takes["step"]
        self.now += step(run.step) if callable(step) else step

    @property
    def evaluation_source(self):
        return EvaluationSource(None, None, self.every)

    def evaluates_at_epoch_end(self, run):
        return self.evaluates

    def run_evaluation(self, run):
        self.now += self.takes["evaluation"]
        run.metrics.publish({"acc": 0.5}, None)

    def save_run_state(self, run, epochs, steps, finished_by):
        self.now += self.takes["save"]

    def after_train(self, run):
        self.trained_until = self.now

    @property
    def used(self):
        return self.trained_until - self.began


class Steps(Clock):
    """In a run that something else evaluates."""

    evaluation_source = None


class Saves(TrainCallback):
    """Saves the state of a run, as far as a run can see."""

    saves_run_states = True

    def __init__(self):
        super().__init__()
        self.saved = []

    def save_run_state(self, run, epochs, steps, finished_by):
        self.saved.append((epochs, steps, finished_by))


def play(limit, clock, *others, epochs=10, steps=10):
    ScriptedRun([None] * epochs, steps_per_epoch=steps).play([limit, clock, *others])
    return limit.stopped_epoch_, limit.stopped_step_


@pytest.mark.parametrize(
    ("takes", "seconds", "stopped"),
    [
        # Steps of one second, ten an epoch: the next one just fits, or does not.
        ({}, 25, (3, 25)),
        ({}, 24.9, (3, 24)),
        ({}, 1e9, (0, 0)),
        ({}, 100, (0, 0)),
        # The first step compiles, and says nothing about the others.
        ({"first": 50}, 70, (2, 20)),
        # An evaluation of 5 seconds at an epoch's end: 15 seconds an epoch, and 6 in reserve.
        ({"evaluation": 5}, 40, (3, 25)),
        # Evaluations between steps are known from the first; a save of 3 seconds only once an epoch is over.
        ({"evaluation": 5, "every": 5, "evaluates": False}, 20, (1, 10)),
        ({"evaluation": 5, "every": 5, "evaluates": False}, 22, (1, 0)),
        ({"evaluation": 5, "save": 3}, 40, (2, 0)),
        ({"evaluation": 5, "save": 3}, 46, (3, 22)),
        # Where not even one more step fits after an epoch's evaluation, the run ends there.
        ({"evaluation": 30}, 70, (1, 0)),
        # The longest step counts.
        ({"step": lambda step: 9 if step == 3 else 1}, 30, (2, 14)),
    ],
)
def test_it_stops_while_what_is_left_to_do_still_fits(monkeypatch, takes, seconds, stopped):
    """In the step after which it would no more: evaluation and save are reckoned in, and the limit is kept."""
    clock = Clock(monkeypatch, **takes)
    assert play(TimeLimit(seconds=seconds, verbose=0), clock) == stopped
    assert clock.used <= seconds


@pytest.mark.parametrize(
    ("takes", "seconds", "stopped"),
    [
        # Lightning's Timer lets one more epoch begin as long as any time is left.
        ({}, 29, (2, 0)),
        ({}, 30, (3, 0)),
        ({"evaluation": 5}, 44, (2, 0)),
        ({"evaluation": 5, "save": 3}, 53, (2, 0)),
        ({"evaluation": 5, "save": 3}, 57, (3, 0)),
        # The first epoch, which compiles, counts until there is another.
        ({"first": 100}, 225, (0, 0)),
        ({"first": 100}, 219, (1, 0)),
    ],
)
def test_an_interval_of_epochs_stops_between_two(monkeypatch, takes, seconds, stopped):
    """Before an epoch that would end after the limit."""
    clock = Clock(monkeypatch, **takes)
    limit = TimeLimit(seconds=seconds, interval="epoch", verbose=0)
    assert play(limit, clock) == stopped
    assert clock.used <= seconds


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_one_step_or_epoch_runs_however_small_the_limit(monkeypatch, interval):
    """As a run is told to stop only after a step."""
    limit = TimeLimit(seconds=1e-3, interval=interval, verbose=0)
    assert play(limit, Clock(monkeypatch)) == ((1, 1) if interval == "step" else (1, 0))


def test_hours_minutes_and_seconds_add_up(monkeypatch):
    """Fractions too."""
    limit = TimeLimit(hours=0.5, minutes=1.5, seconds=10, verbose=0)
    assert play(limit, Clock(monkeypatch, step=100)) == (2, 19)
    assert limit.elapsed_ == 1900


@pytest.mark.parametrize("saves", [True, False])
def test_a_stop_is_an_interruption_where_a_state_is_saved(monkeypatch, saves):
    """Else it is final, and the epoch is evaluated and counted as far as it came."""
    state, history = Saves(), History()
    state.saves_run_states = saves
    play(TimeLimit(seconds=14, verbose=0), Clock(monkeypatch), state, history)
    assert state.saved[-1] == ((1, 4, "") if saves else (2, 0, "TimeLimit"))
    assert history.history["acc"] == ([0.5] if saves else [0.5, 0.5])


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_run_that_its_last_epoch_ends_was_not_stopped(monkeypatch, interval):
    """Though the limit is reached with its last step."""
    state, limit = Saves(), TimeLimit(seconds=20, interval=interval, verbose=0)
    assert play(limit, Clock(monkeypatch), state, epochs=2) == (0, 0)
    assert state.saved[-1] == (2, 0, "its last epoch")


def test_what_another_has_stopped_it_leaves_alone(monkeypatch, capsys):
    """And says nothing."""

    class Stops(TrainCallback):
        def before_train(self, run):
            run.step_hooks.every(13, self, lambda run: run.request_stop("Stops"))

    state = Saves()
    assert play(TimeLimit(seconds=14), Clock(monkeypatch), state, Stops(), epochs=3) == (0, 0)
    assert (state.saved[-1], capsys.readouterr().out) == ((2, 0, "Stops"), "")


def test_a_write_in_the_background_is_reckoned_in(monkeypatch):
    """As the end of a run waits for the last one."""

    class Writes(TrainCallback):
        def before_epoch(self, run):
            run.background.longest = 4.0

    assert play(TimeLimit(seconds=25, verbose=0), Clock(monkeypatch), Writes()) == (3, 21)


def test_the_clock_is_one_that_nobody_sets():
    """A change of the computer's time would stop a run at once, or never."""
    import time

    assert time_limit.monotonic is time.monotonic


# Later runs


def test_a_second_run_has_all_of_its_time_again(monkeypatch):
    """And what was measured in the first is forgotten."""
    clock, limit = Clock(monkeypatch), TimeLimit(seconds=25, verbose=0)
    for evaluation in (5, 0):
        clock.takes["evaluation"] = evaluation
        play(limit, clock)
    assert (limit.stopped_epoch_, limit.stopped_step_, limit.elapsed_, limit.reserve_) == (3, 25, 25, 1)


def resumed(limit):
    """Another of the same arguments, given the state of one."""
    arguments = {name: getattr(limit, name) for name in ("hours", "minutes", "seconds", "interval", "across_runs")}
    other = TimeLimit(**arguments, verbose=0)
    other.load_state_dict(json.loads(json.dumps(limit.state_dict())))
    return other


def test_a_resumed_run_has_all_of_its_time_and_knows_what_was_measured(monkeypatch):
    """An evaluation that no epoch of its own has shown yet is reckoned in."""
    limit = TimeLimit(seconds=30, verbose=0)
    assert play(limit, Clock(monkeypatch, evaluation=5)) == (2, 20)
    limit = resumed(limit)
    clock = Clock(monkeypatch, evaluation=5)
    assert play(limit, clock, steps=100) == (1, 25)
    assert clock.used <= 30


def test_the_time_of_all_runs_together_can_be_limited(monkeypatch):
    """Lightning's Timer, given the state of a run that has used its time up, has less than no time left."""
    first = TimeLimit(seconds=30, across_runs=True, verbose=0)
    play(first, Clock(monkeypatch), epochs=2)
    assert (first.stopped_epoch_, first.elapsed_) == (0, 20)
    second = resumed(first)
    assert play(second, Clock(monkeypatch)) == (1, 10)
    assert second.elapsed_ == 30
    third = resumed(second)
    assert play(third, Clock(monkeypatch)) == (1, 1)
    assert third.elapsed_ == 31
    more = TimeLimit(seconds=60, across_runs=True, verbose=0)
    more.load_state_dict(third.state_dict())
    assert play(more, Clock(monkeypatch)) == (3, 29)


def test_an_epoch_that_is_resumed_in_its_middle_is_reckoned_as_a_whole_one(monkeypatch):
    """Else the next one would begin although it could not end in time."""

    class Continues(TrainCallback):
        def place(self, run):
            run.progress.resume(8, {})

        def join(self, lifecycle):
            super().join(lifecycle)
            self.place(lifecycle.run)

    clock, limit = Clock(monkeypatch, evaluation=5), TimeLimit(seconds=18, interval="epoch", verbose=0)
    run = ScriptedRun([None] * 3, steps_per_epoch=10)
    run.play([limit, Continues(), clock])
    assert limit._longest["first_epoch"] >= 15


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="MindSpore 2.0 cannot begin in the middle of an epoch")
def test_runs_of_limited_time_come_to_where_one_alone_does(monkeypatch, tmp_path):
    """Each is stopped in the middle of an epoch and continued by the next, bit for bit."""
    whole = make_model()
    whole.train(3, dataset(), callbacks=[Validate(whole, valid_dataset())])
    runs = 0
    while runs < 9:
        model, train, state = make_model(), dataset(), TrainingState(tmp_path)
        epoch = state.resume(model, train, epochs=3)
        if state.finished_:
            break
        runs += 1
        clock = Steps(monkeypatch)
        limit = TimeLimit(seconds=5, verbose=0)
        callbacks = [limit, clock, state, Validate(model, valid_dataset())]
        model.train(3, train, callbacks=callbacks, initial_epoch=epoch)
    assert runs == 3
    assert_same_weights(weights(model.train_network), weights(whole.train_network))


def test_it_says_why_it_stopped(monkeypatch, capsys):
    """With the time used, and what was kept in reserve."""
    play(TimeLimit(minutes=70), Clock(monkeypatch, step=100, evaluation=50))
    assert capsys.readouterr().out == (
        "TimeLimit: stopped after epoch 4, step 40: 1 h 9 min of 1 h 10 min used, 2 min 30 s kept in reserve\n"
    )
    play(TimeLimit(seconds=5, verbose=0), Clock(monkeypatch))
    assert capsys.readouterr().out == ""


# In a real run


@pytest.mark.parametrize(
    ("mode", "fits"),
    [
        ("pynative", False),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (("pynative", True), ("graph", False), ("graph", True))
        ),
    ],
    indirect=["mode"],
)
def test_it_limits_a_real_run_and_changes_nothing_before_that(mode, monkeypatch, fits):
    """The losses are those of a run without it."""
    losses = []
    for limited in (False, True):
        model, recorder = make_model(), Recorder()
        clock = Steps(monkeypatch)
        limit = TimeLimit(seconds=6, verbose=0)
        callbacks = [clock, recorder, *([limit] if limited else [])]
        if fits:
            model.fit(2, dataset(), valid_dataset(), callbacks=callbacks)
        else:
            model.train(2, dataset(), callbacks=[*callbacks, Validate(model, valid_dataset())])
        losses.append(recorder.losses)
    assert (limit.stopped_epoch_, limit.stopped_step_) == (2, 6)
    assert losses[1] == losses[0][:6]


def test_an_exception_leaves_it_ready_for_another_run(monkeypatch):
    """With all of its time."""

    class Fail(Callback):
        def on_train_step_end(self, run_context):
            raise RuntimeError("mine")

    limit, clock = TimeLimit(seconds=14, verbose=0), Clock(monkeypatch)
    with pytest.raises(RuntimeError, match="mine"):
        play(limit, clock, Fail())
    assert play(limit, clock) == (2, 14)


def test_all_processes_stop_where_the_time_of_one_is_over(monkeypatch):
    """Though their own is not."""

    class OfTwo:
        asked = 0

        def is_due(self):
            return True

        def highest(self, own):
            OfTwo.asked += 1
            assert own == [False]
            return [float(OfTwo.asked == 15)]  # once per step, and once at the end of an epoch

    monkeypatch.setattr(time_limit, "Rounds", OfTwo)
    limit = TimeLimit(hours=1, verbose=0)

    class Together(TrainCallback):  # which the other callbacks need not know
        def before_train(self, run):
            limit._is_alone = False

    assert play(limit, Clock(monkeypatch), Together()) == (2, 14)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "the limit is 0; pass hours, minutes or seconds"),
        ({"hours": 0, "seconds": 0.0}, "the limit is 0"),
        ({"hours": -1}, "hours must be finite and at least 0, but got -1"),
        ({"minutes": math.nan}, "minutes must be finite and at least 0, but got nan"),
        ({"seconds": math.inf}, "seconds must be finite"),
        ({"hours": "2"}, "hours must be a number, but got '2'"),
        ({"hours": True}, "hours must be a number"),
        ({"hours": 1, "interval": "epochs"}, "interval must be one of 'step', 'epoch'"),
        ({"hours": 1, "across_runs": 1}, "across_runs must be True or False"),
        ({"hours": 1, "verbose": 2}, "verbose must be one of"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error):
    """When it is made."""
    with pytest.raises((TypeError, ValueError), match=f"TimeLimit: {error}"):
        TimeLimit(**arguments)
