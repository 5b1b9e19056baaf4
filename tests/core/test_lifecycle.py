"""The life of a run: each phase once on every callback, in one order, and an end in good order however it comes."""

from __future__ import annotations

import contextlib

import pytest
from mindspore.train import Callback
from training import dataset, make_model, valid_dataset

from ms_callbacks import EarlyStopping, History, Validate
from ms_callbacks.core.callback import TrainCallback
from ms_callbacks.core.lifecycle import Lifecycle
from ms_callbacks.core.metrics import EvaluationSource
from ms_callbacks.testing import ScriptedRun

BEGIN = ["load_run_state", "check", "reset_state", "before_train", "check_plan", "before_epoch", "check_batch"]
EVALUATION = ["before_checkpoint", "before_evaluation", "after_evaluation", "end_evaluation"]
EPOCH_ENDS = [*EVALUATION, "after_epoch", "end_epoch"]
END = ["flush", "save_run_state", "finalize_weights", "restore_weights", "after_train", "end_train"]
# Two epochs of two steps, with an evaluation after the first step of each, and one at its end.
LIFE = [*BEGIN, *EVALUATION, *EPOCH_ENDS, "save_run_state", "before_epoch", *EVALUATION, *EPOCH_ENDS, *END]
PHASES = [*dict.fromkeys(LIFE), "teardown"]
CHECKS = ["check", "check_plan", "check_batch"]


class Wrong(Exception):
    """What a phase raises."""


class Told(TrainCallback):
    """Tells the phases as they are called; raises in one of them, if it is to."""

    def __init__(self, log, name="one", *, fails_in=None, inner=()):
        super().__init__()
        self.log_of_all, self.name, self.fails_in, self.held = log, name, fails_in, inner

    @property
    def inner(self):
        return self.held


def telling(phase):
    def tell(self, *arguments):
        getattr(super(Told, self), phase)(*arguments)
        self.log_of_all.append((phase, self.name))
        if phase == self.fails_in:
            raise Wrong("as it was")

    return tell


for each in PHASES:
    setattr(Told, each, telling(each))


class Evaluates(TrainCallback):
    """Evaluates after every step and at the end of every epoch, by a script."""

    @property
    def evaluation_source(self):
        return EvaluationSource(None, None, 1)

    def evaluates_at_epoch_end(self, run):
        return True

    def run_evaluation(self, run):
        run.metrics.publish({"acc": 0.5}, 0.25)


def play(callbacks, epochs=2, **arguments):
    ScriptedRun([None] * epochs, steps_per_epoch=2, **arguments).play(callbacks)


def names_in(log, phase):
    return [name for each, name in log if each == phase]


def phases_of(log, name):
    return [phase for phase, each in log if each == name]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("names", ["a", "ab", "abcde"])
@pytest.mark.parametrize("at", [0, 1])
def test_each_phase_is_called_once_on_all_before_the_next(names, order, at):
    """Whichever callback hears of it first; a second run is as the first. MindSpore leaves the last callback first."""
    log = []
    callbacks = [Told(log, name) for name in names][::order]
    callbacks.insert(at, Evaluates())
    listed = names[::order]
    for _ in range(2):
        log.clear()
        play(callbacks)
        assert log == [
            *((phase, name) for phase in LIFE for name in listed),
            *(("teardown", name) for name in listed[::-1]),
        ]


def test_model_train_goes_through_the_same_phases():
    """As the script, which has no loop of MindSpore's."""
    log, model = [], make_model()
    callbacks = [Told(log, "a"), Told(log, "b"), Validate(model, valid_dataset(), every_n_steps=1)]
    model.train(2, dataset(24), callbacks=callbacks)
    assert log == [
        *((phase, name) for phase in LIFE for name in "ab"),
        ("teardown", "b"),
        ("teardown", "a"),
    ]


class Outside(Callback):
    """A user's own of MindSpore's, which keeps the validation values that it finds at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_train_epoch_end(self, run_context):
        self.found.append(run_context.original_args().get("eval_results"))


def test_callbacks_of_others_find_an_evaluation_when_an_epoch_ends():
    """In MindSpore's own loop also one that stands before all of ours; in a loop of somebody's, those behind."""
    first, last, model = Outside(), Outside(), make_model()
    model.train(1, dataset(24), callbacks=[first, Validate(model, valid_dataset()), last])
    assert sorted(first.found[0]) == sorted(last.found[0]) == ["acc", "eval_loss"]
    play([Evaluates(), last], epochs=1)
    assert last.found[1:] == [{"acc": 0.5, "eval_loss": 0.25}]


def test_the_lifecycle_is_one_for_each_run():
    """All who ask with its context get the same; the next run has another."""
    found = []

    class Look(Callback):
        def on_train_step_end(self, run_context):
            found.append(Lifecycle.of(run_context))

    for _ in range(2):
        play([Told([]), Look()], epochs=1)
    assert found[0] is found[1] is not found[2] is found[3]


# What a callback holds


def test_callbacks_that_another_holds_are_called_as_any_other():
    """Right after the one that holds them; a check of theirs counts too."""
    log = []
    within = Told(log, "within"), Told(log, "beside")
    callbacks = [Told(log, "outer", inner=within), Told(log, "last"), Evaluates()]
    play(callbacks)
    names = ["outer", "within", "beside", "last"]
    assert log == [
        *((phase, name) for phase in LIFE for name in names),
        *(("teardown", name) for name in ["last", "outer", "within", "beside"]),
    ]
    assert not any(each.in_run for each in (*callbacks, *within))
    log.clear()
    with pytest.raises(Wrong):
        play([Told(log, "outer", inner=(Told(log, "within", fails_in="check"),))])
    assert [phase for phase, _ in log] == ["load_run_state"] * 2 + ["check"] * 2 + ["teardown"] * 2


# Exceptions


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["first", "last"])
def test_an_exception_in_any_phase_ends_the_run_in_good_order(name, phase):
    """It comes out as it was; all are torn down, weights restored before that, and the same objects serve a new run."""
    log = []
    failing = Told(log, name, fails_in=phase)
    others = [Told(log, "other"), Told(log, "another")]
    listed = [failing, *others] if name == "first" else [*others, failing]
    callbacks = [*listed, Evaluates()]
    with pytest.raises(Wrong) as caught:
        play(callbacks)
    assert str(caught.value) == "as it was"
    notes = getattr(caught.value, "__notes__", [])
    if phase in CHECKS:
        assert notes == []
    else:
        called = "join" if phase == "reset_state" else phase
        assert len(notes) == 1
        assert notes[0].startswith(f"raised in Told.{called}, epoch ")
    assert sorted(names_in(log, "teardown")) == sorted([name, "other", "another"])
    has_joined = phase not in ("load_run_state", "check", "reset_state")
    if phase != "restore_weights":
        assert len(names_in(log, "restore_weights")) == (3 if has_joined else 0)
    if has_joined:
        assert max(i for i, one in enumerate(log) if one[0] == "restore_weights") < log.index(
            ("teardown", names_in(log, "teardown")[0])
        )
    assert not any(each.in_run for each in callbacks)
    failing.fails_in = None
    log.clear()
    play(callbacks)
    assert phases_of(log, name) == [*LIFE, "teardown"]
    assert len(log) == 3 * (len(LIFE) + 1)


@pytest.mark.parametrize(
    ("phase", "place"),
    [
        ("before_train", "epoch 0, step 0"),
        ("before_epoch", "epoch 1, step 0"),
        ("after_evaluation", "epoch 1, step 1"),
        ("after_epoch", "epoch 1, step 2"),
        ("after_train", "epoch 2, step 2"),
    ],
)
def test_a_note_names_callback_phase_and_place(phase, place):
    """Python before 3.11 keeps it and does not print it."""
    with pytest.raises(Wrong) as caught:
        play([Told([], fails_in=phase), Evaluates()])
    assert caught.value.__notes__ == [f"raised in Told.{phase}, {place}"]


def test_notes_that_were_there_stay():
    """Ours comes after."""

    class Noted(TrainCallback):
        def before_train(self, run):
            error = Wrong()
            error.__notes__ = ["mine"]
            raise error

    with pytest.raises(Wrong) as caught:
        play([Noted()])
    assert [note.partition(",")[0] for note in caught.value.__notes__] == ["mine", "raised in Noted.before_train"]


def test_an_exception_of_somebody_else_restores_and_tears_down_too():
    """As of a user's own callback, or of the data, within an epoch."""

    class Fails(Callback):
        def on_train_step_end(self, run_context):
            raise Wrong

    log = []
    with pytest.raises(Wrong) as caught:
        play([Told(log, "a"), Fails(), Told(log, "b")])
    assert not hasattr(caught.value, "__notes__")
    assert log[-4:] == [("restore_weights", "a"), ("restore_weights", "b"), ("teardown", "b"), ("teardown", "a")]
    assert not names_in(log, "after_train")
    assert not names_in(log, "flush")


@pytest.mark.parametrize("phase", [None, "before_train", "after_epoch", "after_train"])
def test_restore_weights_can_tell_how_training_has_ended(phase):
    """After an exception in training it is not over; one that comes once it is does not change that."""
    seen = []

    class Restores(TrainCallback):
        def restore_weights(self, run):
            seen.append(run.progress.is_over)

    with pytest.raises(Wrong) if phase else contextlib.nullcontext():
        play([Restores(), Told([], fails_in=phase)])
    assert seen == [phase in (None, "after_train")]


@pytest.mark.parametrize("phase", ["load_run_state", "check"])
def test_where_a_check_fails_no_callback_has_begun(phase):
    """None is reset, so that what it has learnt from earlier runs is still there."""
    log, learnt = [], []

    class Learns(TrainCallback):
        def reset_state(self):
            self.count_ = 0

        def after_epoch(self, run, summary):
            self.count_ += 1

        def teardown(self):
            learnt.append((self.in_run, self.count_))

    first, last = Learns(), Learns()
    play([first, last])
    learnt.clear()
    with pytest.raises(Wrong):
        play([first, Told(log, fails_in=phase), last])
    assert learnt == [(False, 2), (False, 2)]
    assert "reset_state" not in phases_of(log, "one")


# How a run ends


class Saves(TrainCallback):
    """Keeps what it is to save of the run, and which epochs have ended for it."""

    saves_run_states = True

    def __init__(self):
        super().__init__()
        self.saved, self.epochs = [], []

    def save_run_state(self, run, epochs, steps, finished_by):
        self.saved.append((epochs, steps, finished_by))

    def after_epoch(self, run, summary):
        self.epochs.append(summary.epoch)


class Stops(TrainCallback):
    """Requests a stop after a step of the run, or after an epoch, once or several times."""

    def __init__(self, *requests, step=0, epoch=0):
        super().__init__()
        self.requests, self.step, self.epoch = requests, step, epoch
        self.answers = []

    def before_train(self, run):
        run.step_hooks.on_step_end(self, self.after_step)

    def after_step(self, run):
        if run.step == self.step:
            self.stop(run)

    def after_epoch(self, run, summary):
        if summary.epoch == self.epoch:
            self.stop(run)

    def stop(self, run):
        self.answers += [run.request_stop("Stops", interrupt=request == "interrupt") for request in self.requests]


GOOD, INTERRUPT = "good", "interrupt"


@pytest.mark.parametrize(
    ("requests", "at", "saved", "epochs"),
    [
        ((), {}, [(1, 0, None), (2, 0, "its last epoch")], [1, 2]),
        # For good: the epoch counts, however many steps it has had.
        ((GOOD,), {"step": 1}, [(1, 0, "Stops")], [1]),
        ((GOOD,), {"step": 2}, [(1, 0, "Stops")], [1]),
        ((GOOD,), {"epoch": 1}, [(1, 0, "Stops")], [1]),
        ((GOOD,), {"step": 3}, [(1, 0, None), (2, 0, "Stops")], [1, 2]),
        ((GOOD,), {"epoch": 2}, [(1, 0, None), (2, 0, "Stops")], [1, 2]),
        # An interruption: the epoch that it cuts short does not count.
        ((INTERRUPT,), {"step": 1}, [(0, 1, "")], []),
        ((INTERRUPT,), {"step": 2}, [(1, 0, "")], [1]),
        ((INTERRUPT,), {"epoch": 1}, [(1, 0, "")], [1]),
        ((INTERRUPT,), {"step": 3}, [(1, 0, None), (1, 1, "")], [1]),
        # When the last epoch is over, so is the run.
        ((INTERRUPT,), {"step": 4}, [(1, 0, None), (2, 0, "its last epoch")], [1, 2]),
        ((INTERRUPT,), {"epoch": 2}, [(1, 0, None), (2, 0, "its last epoch")], [1, 2]),
        # What was decided for good is not interrupted.
        (
            (
                GOOD,
                INTERRUPT,
            ),
            {"step": 1},
            [(1, 0, "Stops")],
            [1],
        ),
    ],
)
def test_what_is_saved_of_a_run_tells_where_it_ended_and_by_whom(requests, at, saved, epochs):
    """For each place in a run of two epochs of two steps; no epoch is saved before it is over for every callback."""
    for done in (0, 3):  # epochs of an earlier run
        saves, steps = Saves(), {"step": 2 * done, "epoch": done}
        stops = Stops(*requests, **{place: number + steps[place] for place, number in at.items()})
        play([stops, saves], initial_epoch=done)
        assert saves.saved == [(done + epochs, *rest) for epochs, *rest in saved]
        assert saves.epochs == [done + epoch for epoch in epochs]


@pytest.mark.parametrize(
    ("requests", "answers"),
    [
        ([GOOD], [True]),
        ([INTERRUPT], [True]),
        ([GOOD, GOOD], [True, False]),
        ([GOOD, INTERRUPT], [True, False]),
        ([INTERRUPT, INTERRUPT], [True, False]),
        ([INTERRUPT, GOOD], [True, False]),
    ],
)
def test_the_first_request_is_the_one_that_stops(requests, answers):
    """Which the callback is told, so that it says so once."""
    stops = Stops(*requests, step=1)
    play([stops])
    assert stops.answers == answers


@pytest.mark.parametrize("saves_run_states", [True, False])
def test_a_stop_of_somebody_else_is_an_interruption_where_a_state_is_saved(saves_run_states):
    """For a later run can continue there; where nobody saves one, the epoch ends as it is."""

    class Halt(Callback):
        def on_train_step_end(self, run_context):
            run_context.request_stop()

    saves = Saves()
    saves.saves_run_states = saves_run_states
    play([saves, Halt()])
    assert (saves.saved, saves.epochs) == (([(0, 1, "")], []) if saves_run_states else ([(1, 0, "")], [1]))


@pytest.mark.parametrize(("request_", "ends"), [(GOOD, EPOCH_ENDS), (INTERRUPT, ["before_checkpoint"])])
def test_an_epoch_that_an_interruption_cuts_short_is_not_evaluated(request_, ends):
    """For it is to be resumed; one that is stopped for good is evaluated as it is."""
    log = []

    class AtTheEnd(Evaluates):
        @property
        def evaluation_source(self):
            return EvaluationSource(None, None)

    play([Stops(request_, step=1), Told(log), AtTheEnd()], epochs=1)
    assert phases_of(log, "one") == [*BEGIN, *ends, *END, "teardown"]


# What a request to stop raises


class Raises(TrainCallback):
    """Requests a stop with an error, after the second step of the run."""

    def __init__(self, error, *, fails=None):
        super().__init__()
        self.error, self.fails = error, fails

    def before_train(self, run):
        run.step_hooks.every(2, self, lambda run: run.request_stop("Raises", error=self.error))

    def teardown(self):
        if self.fails is not None:
            raise self.fails


@pytest.mark.parametrize("order", [1, -1])
def test_an_error_that_came_with_a_request_is_raised_once_the_run_is_over(order):
    """As it was; every phase and teardown comes first, the run was decided, and the same objects serve another."""
    log, saves, error = [], Saves(), Wrong("at the end")
    callbacks = [Told(log, "a"), Raises(error), saves, Told(log, "b")][::order]
    for _ in range(2):
        with pytest.raises(Wrong) as raised:
            play(callbacks)
        assert raised.value is error
        assert error.__cause__ is error.__context__ is None
        assert not hasattr(error, "__notes__")
        for name in "ab":
            assert phases_of(log, name) == [*BEGIN, "before_checkpoint", "after_epoch", "end_epoch", *END, "teardown"]
        assert saves.saved == [(1, 0, "Raises")]
        log.clear()
        saves.saved.clear()
    callbacks[1 if order == 1 else 2].error = None
    play(callbacks)


@pytest.mark.parametrize("fits", [False, True])
def test_model_train_and_fit_raise_it(fits):
    """Though `fit` leaves the callbacks at every evaluation."""
    model, error = make_model(), KeyError("x")
    callbacks = [Told([]), Raises(error), Outside()]
    with pytest.raises(KeyError) as raised:
        if fits:
            model.fit(2, dataset(), valid_dataset(), callbacks=callbacks)
        else:
            model.train(2, dataset(), callbacks=callbacks)
    assert raised.value is error


def test_another_exception_takes_precedence():
    """Of a step, of a later phase, or of a teardown."""

    class Fails(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 2:
                raise Wrong("in the step")

    with pytest.raises(Wrong, match="in the step"):
        play([Raises(KeyError()), Fails()])
    with pytest.raises(Wrong, match="as it was"):
        play([Raises(KeyError()), Told([], fails_in="after_train")])
    for place in (0, 1):
        callbacks = [Told([])]
        callbacks.insert(place, Raises(KeyError(), fails=SystemExit(3)))
        with pytest.raises(SystemExit):
            play(callbacks)


def test_of_several_errors_the_first_counts():
    """And a stop that another has requested does not lose it."""
    first = Wrong("first")
    with pytest.raises(Wrong, match="first"):
        play([Stops(GOOD, step=2), Raises(first), Raises(KeyError())])


def test_an_error_that_is_none_is_refused():
    """Where it is requested, not at the end."""
    with pytest.raises(TypeError, match="error of request_stop must be an exception, but got 'x'"):
        play([Raises("x")])


# What an epoch comes to


@pytest.mark.parametrize("needs_losses", [True, False])
def test_an_epochs_mean_loss_is_known_where_somebody_needs_it(needs_losses):
    """Of its steps so far for an evaluation between two; nothing is read where nobody does."""
    seen, does_need = [], needs_losses

    class Looks(TrainCallback):
        needs_losses = does_need

        def after_evaluation(self, run, evaluation):
            seen.append((evaluation.epoch, evaluation.step, evaluation.at_epoch_end, evaluation.loss))

        def after_epoch(self, run, summary):
            seen.append((summary.epoch, summary.step, summary.loss, summary.results, summary.learning_rates))

    play([Looks(), Evaluates()], epochs=1, losses=[[1.0, 2.0]], learning_rate=0.5)
    losses = [1.0, 1.5, 1.5] if needs_losses else [None] * 3
    results = {"acc": 0.5, "eval_loss": 0.25}
    assert seen == [(1, 1, False, losses[0]), (1, 2, True, losses[1]), (1, 2, losses[2], results, (0.5,))]


def test_weights_are_checked_by_all_before_they_are_kept():
    """Whoever keeps them; one that refuses stops it."""
    log, kept = [], []

    class Keeps(TrainCallback):
        def before_epoch(self, run):
            run.before_checkpoint()
            kept.append(run.epoch)

    play([Told(log, "a"), Keeps(), Told(log, "b")], epochs=1)
    assert (names_in(log, "before_checkpoint"), kept) == (["a", "b"] * 2, [1])
    with pytest.raises(Wrong):
        play([Keeps(), Told(log, fails_in="before_checkpoint")])
    assert kept == [1]


@pytest.mark.parametrize("order", [1, -1])
def test_a_decision_for_good_outweighs_an_interruption_in_the_same_step(order):
    """The epoch is evaluated and counted, and the run is finished; nothing is left for a later one to continue."""
    ends = []

    class Ends(TrainCallback):
        saves_run_states = True

        def before_train(self, run):
            requests = [lambda: run.request_stop(interrupt=True), lambda: run.request_stop("Ends")][::order]
            run.step_hooks.on_step_end(self, lambda run: [request() for request in requests])

        def after_epoch(self, run, summary):
            ends.append(summary.epoch)

        def save_run_state(self, run, epochs, steps, finished_by):
            ends.append((epochs, steps, finished_by))

    ScriptedRun([None] * 3, steps_per_epoch=4).play([Ends()])
    assert ends == [1, (1, 0, "Ends")]


class Counts(TrainCallback):
    """Gives each epoch the number of its steps, under a name of its own."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def summary_names(self, run):
        return (self.name,)

    def summary_values(self, run):
        return {self.name: None if run.epoch == 2 else float(run.step_in_epoch)}


def test_a_callback_may_add_numbers_to_the_summary_of_an_epoch():
    """They are there between steps too, can be monitored, and are recorded whatever the order of the list."""
    history, stopping = History(), EarlyStopping("counted", mode="max", patience=2, verbose=0)
    script = ScriptedRun([None] * 3, steps_per_epoch=4, evaluations={2: {"acc": 0.5}})
    script.play([history, stopping, Counts("counted")])
    assert history.history["counted"] == [4.0, None, 4.0]
    assert history.evaluations_[0]["counted"] == 2.0
    assert (stopping.best_, stopping.best_epoch_, stopping.wait_) == (4.0, 1, 1)
    with pytest.raises(ValueError, match="two callbacks give each epoch a number named 'counted'"):
        ScriptedRun([None]).play([Counts("counted"), Counts("counted")])
    with pytest.raises(ValueError, match="two callbacks give each epoch a number named 'loss'"):
        ScriptedRun([None]).play([Counts("loss")])
