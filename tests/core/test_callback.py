"""What every callback has from its base: phases instead of MindSpore's hooks, and a state that each run begins with."""

from __future__ import annotations

import contextlib
import copy
import gc

import pytest
from mindspore.train import Callback
from mindspore.train import LossMonitor as MindSporesLossMonitor
from training import dataset, make_model

from ms_callbacks import EarlyStopping, History, LossMonitor
from ms_callbacks.core.callback import TrainCallback, only_one
from ms_callbacks.testing import ScriptedRun


class Counts(TrainCallback):
    """Counts epochs, and over all runs where it is not reset between them."""

    def reset_state(self):
        self.count_, self.epochs_ = 0, []

    def after_epoch(self, run, summary):
        self.count_ += 1
        self.epochs_.append(self.epoch_of(run))


def test_each_run_begins_with_nothing_learnt_unless_it_continues():
    """Where a state was loaded, the next run alone continues."""
    counts = Counts()
    for _ in range(2):
        ScriptedRun([None, None]).play([counts])
        assert (counts.count_, counts.epochs_, counts.continues) == (2, [1, 2], False)
    counts.load_state_dict({})
    ScriptedRun([None, None]).play([counts])
    assert (counts.count_, counts.continues) == (4, True)
    ScriptedRun([None, None]).play([counts])
    assert (counts.count_, counts.continues) == (2, False)


@pytest.mark.parametrize(("initial_epochs", "epochs"), [((0, 0), [1, 2, 3, 4]), ((0, 2), [1, 2, 3, 4])])
def test_a_callback_of_a_loop_of_runs_counts_over_all(initial_epochs, epochs):
    """Whether each run begins at epoch 1 again or after those before it."""
    counts = Counts()
    counts.reset_on_train_begin = False
    for initial_epoch in initial_epochs:
        ScriptedRun([None, None], initial_epoch=initial_epoch).play([counts])
    assert counts.epochs_ == epochs


def test_a_callback_has_a_run_while_it_lasts():
    """From the time that it joins; after that, and after a failure, an error says so."""
    seen = []

    class Looks(TrainCallback):
        def reset_state(self):
            seen.append(self.in_run and self.run.epochs)

        def teardown(self):
            seen.append(self.run.epochs)

    looks = Looks()
    ScriptedRun([None, None]).play([looks])
    assert seen == [2, 2]
    assert not looks.in_run
    with pytest.raises(AttributeError, match="Looks is in no run; it has one from check_plan to teardown"):
        looks.run  # noqa: B018


def test_a_line_begins_with_the_name_of_the_callback(capsys):
    """Of a subclass, with its own."""

    class Mine(Counts):
        pass

    Mine().log("epoch 1")
    assert capsys.readouterr().out == "Mine: epoch 1\n"


def test_what_was_made_is_known_while_somebody_holds_it():
    """In the order in which it was made, copies included."""
    first, last = Counts(), Counts()
    copied = copy.deepcopy(first)
    made = TrainCallback.made()
    assert made[-3:] == [first, last, copied]
    del made, last
    gc.collect()
    assert TrainCallback.made()[-2:] == [first, copied]


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([], None),
        ([History()], None),
        ([History(), EarlyStopping("acc")], "Owner: History and EarlyStopping both keep it; keep one of them, please"),
        ([LossMonitor(), MindSporesLossMonitor()], "Owner: LossMonitor and mindspore LossMonitor both keep it; keep"),
    ],
)
def test_only_one_of_several_that_do_the_same(callbacks, message):
    """Named with their package where two have one name."""
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        only_one("Owner", callbacks, "keep it", ", please")


@pytest.mark.parametrize(
    ("hook", "phase"),
    [
        ("on_train_begin", "before_train"),
        ("on_train_epoch_begin", "before_epoch"),
        ("on_train_epoch_end", "after_epoch"),
        ("on_train_end", "after_train"),
    ],
)
@pytest.mark.parametrize("base", [TrainCallback, EarlyStopping, History])
def test_a_hook_without_its_base_is_refused_when_the_class_is_made(base, hook, phase):
    """With the phase to override instead; a call of the base's, whichever way, is enough."""
    with pytest.raises(TypeError, match=rf"Mine: {hook} is overridden without .*; override {phase}\(run\) instead"):
        type("Mine", (base,), {hook: lambda self, run_context: None})

    class Mine(base):
        def on_train_begin(self, run_context):
            super().on_train_begin(run_context)

        def on_train_end(self, run_context):
            base.on_train_end(self, run_context)

        def on_train_step_end(self, run_context):
            """A step has no phase, and no need of its base."""

    ScriptedRun([None]).play([Mine("loss") if base is EarlyStopping else Mine()])


@pytest.mark.parametrize(
    ("name", "method", "error"),
    [
        ("after_epoch", lambda self, run: None, r"after_epoch\(self, run\) is called as after_epoch\(run, summary\)"),
        ("before_train", lambda self: None, r"before_train\(self\) is called as before_train\(run\); define it as"),
        ("teardown", lambda self, run: None, r"teardown\(self, run\) is called as teardown\(\)"),
        ("after_epochs", lambda self, run, summary: None, "after_epochs is not a phase.*did you mean 'after_epoch'"),
        ("before_training", lambda self, run: None, "did you mean 'before_train'"),
        ("after_evaluations", lambda self, run, evaluation: None, "did you mean 'after_evaluation'"),
    ],
)
def test_a_phase_that_could_not_be_called_is_refused_when_the_class_is_made(name, method, error):
    """Not at the end of the first epoch, and not never."""
    with pytest.raises(TypeError, match=f"Mine: .*{error}"):
        type("Mine", (TrainCallback,), {name: method})


def test_a_phase_may_take_more_and_other_methods_have_any_name():
    """What can be called as it is called is right."""

    class Mine(TrainCallback):
        def after_epoch(self, run, summary=None, *others, **named):
            """With more."""

        def before_train(self, *arguments):
            """Whatever there is."""

        def after_step(self, run):
            """What it may ask to be called at."""

    make_model().train(1, dataset(), callbacks=[Mine()])


def test_a_callback_that_stands_in_no_list_is_refused():
    """Of another that calls its hooks itself."""

    class Holds(Callback):
        def on_train_begin(self, run_context):
            History().on_train_begin(run_context)

    with pytest.raises(ValueError, match="was called that is not in the list of callbacks; add it to the list"):
        make_model().train(1, dataset(), callbacks=[Holds()])
