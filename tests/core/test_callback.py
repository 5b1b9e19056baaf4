"""What every callback has from its base: phases instead of MindSpore's hooks, and a state that each run begins with."""

from __future__ import annotations

import contextlib
import copy
import gc

import pytest
from mindspore.train import Callback
from mindspore.train import LossMonitor as MindSporesLossMonitor
from training import dataset, make_model

from ms_callbacks import EarlyStopping, History, LossMonitor, TrainingState
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


def test_a_callback_that_stands_in_no_list_is_refused():
    """Of another that calls its hooks itself."""

    class Holds(Callback):
        def on_train_begin(self, run_context):
            History().on_train_begin(run_context)

    with pytest.raises(ValueError, match="was called that is not in the list of callbacks; add it to the list"):
        make_model().train(1, dataset(), callbacks=[Holds()])


def test_what_ended_training_stays_the_exception_that_is_raised():
    """One in a teardown after it is a note of it; alone, it is raised itself."""

    class Fails(TrainCallback):
        def after_epoch(self, run, summary):
            raise ValueError("first")

    class Breaks(TrainCallback):
        def teardown(self):
            raise OSError("second")

    with pytest.raises(ValueError, match="first") as raised:
        make_model().train(1, dataset(), callbacks=[Breaks(), Fails()])
    assert raised.value.__notes__[-1] == "after that, Breaks.teardown raised OSError('second')"
    with pytest.raises(OSError, match="second"):
        make_model().train(1, dataset(), callbacks=[Breaks()])


class CountsEpochs(TrainCallback):
    """Learns something, but puts it into no state."""

    def reset_state(self):
        self.epochs_ = 0

    def after_epoch(self, run, summary):
        self.epochs_ += 1


def test_a_resumed_run_resets_a_new_callback_without_a_state(tmp_path, capsys):
    """Otherwise it would lack what `reset_state` sets; a line says that it is not resumed."""
    counts, other = CountsEpochs(), CountsEpochs()
    make_model().train(1, dataset(), callbacks=[counts, TrainingState(tmp_path / "state")])
    model, data, state = make_model(), dataset(), TrainingState(tmp_path / "state")
    begun = state.resume(model, data, epochs=3)
    model.train(3, data, callbacks=[other, state], initial_epoch=begun)
    assert (counts.epochs_, other.epochs_) == (1, 2)
    assert "CountsEpochs has no state_dict; what it has learnt is not resumed" in capsys.readouterr().out


class ForgetsSuper(CountsEpochs):
    """Has a state, but does not call `super()` when it is loaded."""

    def state_dict(self):
        return {"epochs": self.epochs_}

    def load_state_dict(self, state):
        self.epochs_ = state["epochs"]


def test_a_loaded_state_is_not_reset_by_a_forgotten_super(tmp_path):
    """The run continues with it all the same."""
    make_model().train(1, dataset(), callbacks=[ForgetsSuper(), TrainingState(tmp_path / "state")])
    model, data, state, other = make_model(), dataset(), TrainingState(tmp_path / "state"), ForgetsSuper()
    begun = state.resume(model, data, epochs=3)
    model.train(3, data, callbacks=[other, state], initial_epoch=begun)
    assert other.epochs_ == 3
