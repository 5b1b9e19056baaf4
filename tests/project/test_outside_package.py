"""Callbacks of a user's own, in a package of their own, which knows only the guide and `help()`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from mindspore import Tensor
from mindspore.train import Callback
from training import dataset, make_model, valid_dataset

from ms_callbacks import TrainingState, Validate
from ms_callbacks.testing import ScriptedRun, check_callback

SOURCE = pathlib.Path(__file__).parents[1] / "outside"
MODULES = ("outside_callbacks", "outside_mistakes")


def _is_importable(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # the package that it is in is missing
        return False


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Both modules of the package, from where pip has installed it; nothing is downloaded."""
    needed = [("pip",), ("setuptools",), ("wheel", "setuptools.command.bdist_wheel")]
    missing = [names[0] for names in needed if not any(map(_is_importable, names))]
    if missing:
        pytest.skip(f"a package cannot be built here without {' and '.join(missing)}")
    target = tmp_path_factory.mktemp("site")
    source = shutil.copytree(SOURCE, tmp_path_factory.mktemp("source") / "outside")  # setuptools writes beside it
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-index", "--no-build-isolation", "--no-compile", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(target))
        yield tuple(importlib.import_module(name) for name in MODULES)
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture
def ours(installed):
    """The callbacks that are as the guide says."""
    return installed[0]


@pytest.fixture
def mistakes(installed):
    """Those that are not."""
    return installed[1]


def function(step, loss):
    """What a user has called every n steps."""


CHECKED = {
    "floor": (lambda ours: ours.MetricFloor("acc", 2.0, 3), {"changes_training": True}),  # stops the resumed run
    "drift": (lambda ours: ours.WeightDrift(2), {}),
    "steps": (lambda ours: ours.StepCallbackEvery(2, function), {"reads_each_step": True}),  # as it reads within epochs
    "timer": (lambda ours: ours.EvaluationTimer(), {"varying": ["seconds"]}),
}
checked = pytest.mark.parametrize("name", CHECKED)


def test_it_is_imported_from_where_pip_has_installed_it(installed):
    """Its metadata is there too."""
    folders = {pathlib.Path(module.__file__).parent for module in installed}
    assert len(folders) == 1
    assert SOURCE not in folders
    assert [path.name for path in folders.pop().glob("*.dist-info")] == ["outside_callbacks-1.0.dist-info"]


@pytest.mark.slow  # as test_contract.py does by default with those of the package
def test_one_with_arrays_in_its_state_fulfils_the_contract(ours):
    """A second run, `train` and `fit`, both orders, an exception, a resume, and the rest."""
    make, how = CHECKED["drift"]
    check_callback(lambda: make(ours), modes=["PYNATIVE_MODE"], **how)


@pytest.mark.slow
@checked
def test_each_callback_fulfils_the_contract_in_both_modes(name, ours):
    """GRAPH mode included, where each network is compiled."""
    make, how = CHECKED[name]
    check_callback(lambda: make(ours), **how)


@pytest.mark.parametrize(
    ("values", "after", "stopped"),
    [
        ([0.1, 0.2, 0.9], 2, 2),
        ([0.1, 0.2, 0.9], 3, 0),
        ([0.5, 0.5, 0.4], 1, 3),
        ([0.9, float("nan"), 0.9], 1, 2),
        ([0.9, None, 0.9], 1, 0),
    ],
)
def test_metric_floor_stops_below_the_floor(values, after, stopped, ours):
    """From the epoch on that it was given; a value equal to the floor is good enough, NaN is not."""
    script = ScriptedRun([None if value is None else {"acc": value} for value in values])
    floor = ours.MetricFloor("acc", 0.5, after)
    script.play([floor])
    assert (script.stopped_epoch, floor.failed_epoch_) == (stopped, stopped)


def test_metric_floor_holds_between_two_steps_too(ours):
    """An evaluation in the middle of epoch 2 ends the run there, before the end of its epoch."""
    script = ScriptedRun([{"acc": 0.9}] * 3, steps_per_epoch=4, evaluations={6: {"acc": 0.1}})
    floor = ours.MetricFloor("acc", 0.5)
    script.play([floor])
    assert (script.stopped_epoch, floor.failed_epoch_) == (2, 2)


def test_metric_floor_raises_what_reaches_the_caller(ours):
    """With a note of where it was raised."""
    floor = ours.MetricFloor("acc", 0.5, action="raise")
    with pytest.raises(RuntimeError, match=r"^MetricFloor: acc 0\.1 in epoch 2 is below the floor of 0\.5") as raised:
        ScriptedRun([{"acc": 0.7}, {"acc": 0.1}]).play([floor])
    assert raised.value.__notes__ == ["raised in MetricFloor.after_evaluation, epoch 2, step 1"]


def test_metric_floor_refuses_a_metric_that_the_run_has_not(ours):
    """Before the first step, with the nearest name."""
    model = make_model()
    with pytest.raises(ValueError, match="MetricFloor: monitor 'accuracy' is not among .* did you mean 'acc'"):
        model.train(1, dataset(), callbacks=[ours.MetricFloor("accuracy", 0.5), Validate(model, valid_dataset())])


class _Halve(Callback):
    """Halves the weights at the end of each epoch; of a user who knows only MindSpore's callbacks."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def on_train_epoch_end(self, run_context):
        for one in self.network.trainable_params():
            one.set_data(Tensor(one.asnumpy() * np.float32(0.5)))


@pytest.mark.parametrize(
    ("every", "drifts"), [(1, {"1": 0.5, "2": 0.5, "3": 0.5, "4": 0.5}), (2, {"2": 0.75, "4": 0.75}), (5, {})]
)
def test_weight_drift_is_the_change_over_the_size(every, drifts, ours):
    """Halved weights have moved by half of their norm, and twice halved ones by three quarters."""
    script = ScriptedRun([None] * 4)
    drift = ours.WeightDrift(every)
    script.play([_Halve(script.network), drift])
    assert drift.drifts_ == pytest.approx(drifts)


def test_step_callback_every_counts_from_the_first_step_of_the_run(ours):
    """Not from the first of each epoch; the loss is that of the step."""
    losses = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
    for n, expected in ((1, [*range(1, 9)]), (3, [3, 6]), (4, [4, 8])):
        calls = []
        callback = ours.StepCallbackEvery(n, lambda step, loss, calls=calls: calls.append((step, loss)))
        ScriptedRun([None] * 2, losses, steps_per_epoch=4).play([callback])
        assert calls == [(step, float(step)) for step in expected]


def test_evaluation_timer_sees_each_evaluation(ours):
    """Those between two steps, and one at the end of each epoch, in `train` and in `fit`."""
    model, timer = make_model(), ours.EvaluationTimer()
    model.train(2, dataset(), callbacks=[timer, Validate(model, valid_dataset(), every_n_steps=3)])
    assert timer.steps_ == [3, 4, 6, 8]
    assert len(timer.seconds_) == 4
    assert min(timer.seconds_) > 0
    model.fit(2, dataset(), valid_dataset(), callbacks=[timer])
    assert timer.steps_ == [4, 8]


class _InterruptedError(Exception):
    """What ends the run that is resumed."""


def test_all_of_them_are_resumed(ours, tmp_path):
    """In fresh objects, another order and the middle of the run; what they have learnt is that of a whole run."""

    def run(interrupt_in=None, *, resumes=False, folder=None):
        def function(step, loss):
            steps.append(step)
            if step == interrupt_in:
                raise _InterruptedError

        steps, model, train = [], make_model(), dataset()
        callbacks = [ours.MetricFloor("acc", 0.0), ours.WeightDrift(), ours.EvaluationTimer()]
        callbacks += [ours.StepCallbackEvery(2, function), Validate(model, valid_dataset(), every_n_steps=3)]
        state = [TrainingState(folder)] if folder else []
        begun = state[0].resume(model, train, epochs=3) if resumes else 0
        listed = [*callbacks, *state][:: -1 if resumes else 1]
        model.train(3, train, callbacks=listed, initial_epoch=begun)
        return callbacks, steps, begun

    whole, steps, _ = run()
    assert steps == [2, 4, 6, 8, 10, 12]
    with pytest.raises(_InterruptedError):
        run(interrupt_in=10, folder=str(tmp_path))
    resumed, steps, begun = run(resumes=True, folder=str(tmp_path))
    assert begun == 2
    assert steps == [10, 12]
    for one, other in zip(whole[:2], resumed):
        assert one.state_dict() == other.state_dict()
    assert whole[2].steps_ == resumed[2].steps_ == [3, 4, 6, 8, 9, 12]
    assert len(resumed[2].seconds_) == 6
    assert whole[1].previous_.keys() == resumed[1].previous_.keys()
    for name, array in whole[1].previous_.items():
        assert np.array_equal(array, resumed[1].previous_[name])


def test_a_hook_overridden_without_super_is_refused_when_the_class_is_made(mistakes):
    """The error names the phase to override instead."""
    with pytest.raises(TypeError, match=r"OverridesHook: on_train_begin .*; override before_train\(run\) instead"):
        mistakes.override_a_hook()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda mistakes: mistakes.ChangesItsArgument(3), "the argument left was 3 and is 1 after a run"),
        (lambda mistakes: mistakes.LearnsWithoutState(), "learns epochs_, but state_dict does not return it"),
        pytest.param(  # as `Reading` of test_testing.py
            lambda mistakes: mistakes.ReadsEachStep(),
            "reads from the device 4 times in 4 steps within an epoch",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["argument", "state", "reads"],
)
def test_the_contract_names_a_beginners_mistake(make, text, mistakes):
    """What is wrong, of which callback."""
    with pytest.raises(AssertionError, match=f"^{type(make(mistakes)).__name__}: {text}"):
        check_callback(lambda: make(mistakes), modes=["PYNATIVE_MODE"])
