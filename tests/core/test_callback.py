"""What every callback has from its base: phases instead of MindSpore's hooks, and a state that each run begins with."""

from __future__ import annotations

import pytest
from mindspore.train import Callback
from training import dataset, make_model

from ms_callbacks import EarlyStopping, History
from ms_callbacks.core.callback import TrainCallback


class Told(TrainCallback):
    """Tells the phases in their order."""

    def __init__(self):
        super().__init__()
        self.phases = []

    def reset_state(self):
        self.phases.append("reset_state")

    def before_train(self, run):
        self.phases.append("before_train")

    def before_epoch(self, run):
        self.phases.append(f"before_epoch {run.epoch}")

    def after_epoch(self, run, summary):
        self.phases.append(f"after_epoch {summary.epoch}")

    def after_train(self, run):
        self.phases.append("after_train")

    def teardown(self):
        self.phases.append("teardown")


LIFE = "reset_state before_train before_epoch-1 after_epoch-1 before_epoch-2 after_epoch-2 after_train teardown".split()


def test_the_life_of_a_run():
    """In this order, and again for a second run."""
    told = Told()
    for _ in range(2):
        told.phases = []
        make_model().train(2, dataset(), callbacks=[told])
        assert told.phases == [phase.replace("-", " ") for phase in LIFE]


def test_a_run_that_continues_keeps_what_was_learnt():
    """Where a state was loaded, and where the callback learns over all runs of a loop."""
    told = Told()
    told.load_state_dict({})
    make_model().train(1, dataset(), callbacks=[told])
    assert "reset_state" not in told.phases
    assert told.continues
    told = Told()
    told.reset_on_train_begin = False
    for _ in range(2):
        make_model().train(1, dataset(), callbacks=[told])
    assert told.phases.count("reset_state") == 1


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

    make_model().train(1, dataset(), callbacks=[Mine("loss") if base is EarlyStopping else Mine()])


@pytest.mark.parametrize("phase", ["before_train", "before_epoch", "after_epoch", "after_train"])
def test_an_exception_comes_out_as_it_was_raised_with_a_note(phase):
    """Of the callback, the phase, the epoch and the step."""

    class Wrong(Exception):
        pass

    def fail(self, run, summary=None):
        raise Wrong("as it was")

    failing = type("Failing", (TrainCallback,), {phase: fail})()
    with pytest.raises(Wrong) as caught:
        make_model().train(1, dataset(), callbacks=[failing])
    assert str(caught.value) == "as it was"
    (note,) = caught.value.__notes__
    assert note.startswith(f"raised in Failing.{phase}, epoch ")


@pytest.mark.parametrize(
    ("name", "method", "error"),
    [
        ("after_epoch", lambda self, run: None, r"after_epoch\(self, run\) is called as after_epoch\(run, summary\)"),
        ("before_train", lambda self: None, r"before_train\(self\) is called as before_train\(run\); define it as"),
        ("teardown", lambda self, run: None, r"teardown\(self, run\) is called as teardown\(\)"),
        ("after_epochs", lambda self, run, summary: None, "after_epochs is no phase.*did you mean 'after_epoch'"),
        ("before_training", lambda self, run: None, "did you mean 'before_train'"),
        ("after_eval", lambda self, run, evaluation: None, "did you mean 'after_evaluation'"),
        ("after_step", lambda self, run: None, "after_step is no phase, for steps have none; .*run.step_hooks"),
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

        def after_the_storm(self, boat):
            """A method like any other."""

    make_model().train(1, dataset(), callbacks=[Mine()])


def test_a_callback_that_stands_in_no_list_is_refused():
    """Of another that calls its hooks itself."""

    class Holds(Callback):
        def on_train_begin(self, run_context):
            History().on_train_begin(run_context)

    with pytest.raises(ValueError, match="is called that is not in the list of callbacks; put it in the list"):
        make_model().train(1, dataset(), callbacks=[Holds()])
