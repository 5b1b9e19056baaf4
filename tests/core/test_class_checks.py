"""What is refused when the class of a callback is made: a phase that is never called, or not as it is defined."""

from __future__ import annotations

import pytest
from training import dataset, make_model

from ms_callbacks import EarlyStopping, History
from ms_callbacks.core.callback import TrainCallback
from ms_callbacks.testing import ScriptedRun


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
    called = []

    class Mine(TrainCallback):
        def after_epoch(self, run, summary=None, *others, **named):
            called.append(("after_epoch", summary.epoch))

        def before_train(self, *arguments):
            called.append(("before_train", len(arguments)))

        def after_step(self, run):
            """A method of its own, which is no phase."""
            called.append("after_step")

    make_model().train(1, dataset(), callbacks=[Mine()])
    assert called == [("before_train", 1), ("after_epoch", 1)]


@pytest.mark.parametrize("name", ["after_epoch", "run", "check", "monitors", "teardown", "needs_losses", "inner"])
def test_an_argument_with_the_name_of_something_that_every_callback_has_is_refused(name):
    """It could not be kept under its own name."""
    made = {}
    exec(f"def __init__(self, {name}):\n    self.{name} = {name}", made)
    with pytest.raises(TypeError, match=f"Mine: the argument '{name}' has the name of something that every callback"):
        type("Mine", (TrainCallback,), {"__init__": made["__init__"]})


@pytest.mark.parametrize(
    ("hook", "instead"),
    [
        ("step_end", "run.step_hooks.on_step_begin, on_step_end or every"),
        ("epoch_end", r"after_epoch\(run, summary\)"),
        ("begin", r"before_train\(run\)"),
        ("on_epoch_end", r"after_epoch\(run, summary\)"),
        ("on_train_batch_end", "run.step_hooks"),
        ("on_validation_end", r"after_evaluation\(run, evaluation\)"),
    ],
)
def test_a_hook_of_elsewhere_is_refused_when_the_class_is_made(hook, instead):
    """Of Keras, of Lightning, and of MindSpore before 2.0: it would never be called."""
    with pytest.raises(TypeError, match=f"Mine: {hook} is never called; use {instead}"):
        type("Mine", (TrainCallback,), {hook: lambda self, *arguments: None})
