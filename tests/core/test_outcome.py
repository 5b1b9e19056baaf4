"""How a run ended is known to every callback at the end, whatever ended it."""

from __future__ import annotations

import pytest
from training import Interrupt, dataset, make_model

from ms_callbacks import TrainCallback, TrainingState
from ms_callbacks.testing import ScriptedRun


class Sees(TrainCallback):
    """Keeps the outcome at each moment."""

    def before_train(self, run):
        self.seen = [run.outcome.status]
        self.is_torn_down = False

    def after_epoch(self, run, summary):
        self.seen.append(run.outcome.status)

    def after_train(self, run):
        self.seen.append(run.outcome.status)

    def teardown(self):
        self.is_torn_down = True
        self.last = self.run.outcome


class Ends(TrainCallback):
    """Ends the run in its first epoch."""

    def __init__(self, how, error=None):
        super().__init__()
        self.how, self.error = how, error

    def after_epoch(self, run, summary):
        if self.how == "raise":
            raise self.error
        run.request_stop("Ends", interrupt=self.how == "interrupt", error=self.error)


def test_the_last_epoch_finishes_it():
    """Until then it is running."""
    sees = Sees()
    ScriptedRun([None, None]).play([sees])
    assert sees.seen == ["running", "running", "running", "finished"]
    assert (sees.last.status, sees.last.by, sees.last.error) == ("finished", "", None)


@pytest.mark.parametrize("first", [True, False])
def test_a_callback_stops_it_for_good(first):
    """The callback is named."""
    sees, ends = Sees(), Ends("stop")
    ScriptedRun([None, None]).play([ends, sees] if first else [sees, ends])
    assert (sees.last.status, sees.last.by, sees.last.error) == ("stopped", "Ends", None)


def test_a_callback_interrupts_it():
    """A later run may continue it."""
    sees = Sees()
    ScriptedRun([None, None]).play([Ends("interrupt"), sees])
    assert (sees.last.status, sees.last.by) == ("interrupted", "Ends")


def test_a_stop_may_have_an_error():
    """It is raised once the run has ended as usual."""
    sees, error = Sees(), ValueError("pruned")
    with pytest.raises(ValueError, match="pruned"):
        ScriptedRun([None, None]).play([Ends("stop", error), sees])
    assert (sees.last.status, sees.last.by, sees.last.error) == ("stopped", "Ends", error)


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("first", [True, False])
def test_an_exception_fails_it(first, error, mode):
    """In training with MindSpore, whichever callback raises."""
    sees, ends = Sees(), Ends("raise", error)
    trained = make_model()
    with pytest.raises(type(error)):
        trained.train(2, dataset(), callbacks=[ends, sees] if first else [sees, ends])
    assert sees.is_torn_down
    status = "failed" if isinstance(error, ValueError) else "interrupted"
    assert (sees.last.status, sees.last.by) == (status, "")
    assert sees.last.error is error


@pytest.mark.parametrize("first", [True, False])
def test_what_a_teardown_raises_does_not_change_it(first):
    """As the exit of the process that `GracefulStop` has been asked for."""

    class Exits(TrainCallback):
        def teardown(self):
            raise SystemExit(143)

    sees, ends, exits = Sees(), Ends("interrupt"), Exits()
    with pytest.raises(SystemExit):
        ScriptedRun([None, None]).play([sees, ends, exits] if first else [exits, ends, sees])
    assert (sees.last.status, sees.last.by, sees.last.error) == ("interrupted", "Ends", None)


def test_it_is_found_anew_in_a_second_run(tmp_path):
    """A run that another interrupts is resumed and finishes."""
    sees, state = Sees(), TrainingState(tmp_path / "state")
    trained = make_model()
    interrupt = Interrupt(4)
    trained.train(2, dataset(), callbacks=[sees, state, interrupt])
    assert sees.last.status == "interrupted"
    data = dataset()
    begun = state.resume(trained, data, epochs=2)
    trained.train(2, data, callbacks=[sees, state, interrupt], initial_epoch=begun)
    assert sees.last.status == "finished"
