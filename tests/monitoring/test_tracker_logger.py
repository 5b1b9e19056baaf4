"""What reaches a tracker, when and in what order; and that a tracker never disturbs the training."""

from __future__ import annotations

import math
import pickle
import threading

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback
from trackers import Failing, Hanging, Kept
from training import (
    FailAt,
    Interrupt,
    Script,
    assert_same_weights,
    dataset,
    grouped,
    make_model,
    valid_dataset,
    weights,
)

from ms_callbacks import (
    ConfusionMatrix,
    EarlyStopping,
    GradientMonitor,
    TrackedRun,
    Tracker,
    TrackerLogger,
    TrainCallback,
    TrainingState,
    Validate,
)
from ms_callbacks.core.artifacts import FigureArtifact, TableArtifact, TextArtifact
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.monitoring import _tracker_thread
from ms_callbacks.monitoring._run_config import flat, plain
from ms_callbacks.monitoring._tracker_thread import TrackerThread
from ms_callbacks.testing import ScriptedRun


def script(tracker, *callbacks, results=None, steps=4, losses=None, initial_epoch=0, **arguments):
    """Plays a scripted run with a logger; the losses of the steps are 1, 2, 3, ... unless given."""
    results = [{"acc": 0.5}] if results is None else results
    numbers = losses or [[float(epoch * steps + step) for step in range(1, steps + 1)] for epoch in range(len(results))]
    logger = TrackerLogger(tracker, **{"every_n_steps": 2, "timeout": 20.0, **arguments})
    Script().run([logger, *callbacks], results, numbers, steps, initial_epoch)
    return logger


def test_each_value_has_its_name_and_the_training_step():
    """Steps by the mean of their interval, evaluations and epochs once; the epoch once a step."""
    kept = Kept()
    logger = script(kept, results=[{"acc": 0.5, "eval_loss": 0.7}, {"acc": 0.6}])
    found = {name: steps for name, steps in kept.values.items() if "second" not in name}
    assert found == {
        "train/loss": {2: 1.5, 4: 3.5, 6: 5.5, 8: 7.5},
        "train/learning_rate": {step: pytest.approx(0.1) for step in (2, 4, 6, 8)},
        "epoch": {2: 1.0, 4: 1.0, 6: 2.0, 8: 2.0},
        "eval/acc": {4: 0.5, 8: 0.6},
        "eval/loss": {4: 0.7},
        "epoch/loss": {4: 2.5, 8: 6.5},
        "epoch/learning_rate": {4: pytest.approx(0.1), 8: pytest.approx(0.1)},
    }
    assert list(kept.values["epoch/seconds"]) == [4, 8]
    assert (logger.id_, logger.lost_, kept.statuses) == ("run 1", 0, ["finished"])


def test_calls_come_in_order_in_one_thread_that_is_not_the_trainings():
    """Steps never decrease; a flush ends each epoch."""
    kept = Kept()
    script(kept, results=[{"acc": 0.5}] * 2)
    steps = [call[-1] for call in kept.calls if call[0] in ("log", "text")]
    assert steps == sorted(steps)
    assert [call[0] for call in kept.calls] == ["start", "text", *["log", "log", "log", "log", "flush"] * 2]
    assert kept.threads == {"ms_callbacks tracker"}


def test_an_interval_may_span_two_epochs():
    """Three steps an epoch, logged every two."""
    kept = Kept()
    script(kept, results=[None, None], steps=3)
    assert kept.values["train/loss"] == {2: 1.5, 4: 3.5, 6: 5.5}
    assert kept.values["epoch/loss"] == {3: 2.0, 6: 5.0}


def test_steps_that_loss_scaling_drops_do_not_count_and_nan_is_logged():
    """And infinity; a value that is None is not logged at all."""
    kept = Kept()
    script(kept, results=[{"acc": math.nan}], losses=[[1.0, math.nan, math.inf, 4.0]])
    assert math.isnan(kept.values["train/loss"][2])
    assert kept.values["train/loss"][4] == math.inf
    assert math.isnan(kept.values["eval/acc"][4])


def test_evaluations_between_steps_are_logged_once_at_their_step():
    """The last of an epoch too."""
    kept, model = Kept(), make_model()
    validate = Validate(model, valid_dataset(), every_n_steps=2)
    model.train(2, dataset(), callbacks=[TrackerLogger(kept, every_n_steps=1), validate])
    assert list(kept.values["eval/acc"]) == [2, 4, 6, 8]
    assert list(kept.values["train/loss"]) == list(range(1, 9))
    assert kept.values["epoch"] == {step: 1.0 + (step > 4) for step in range(1, 9)}


def test_the_rate_of_each_parameter_group_has_a_name():
    """Of one group it is plain."""
    kept, model = Kept(), make_model(grouped(0.2, 0.1))
    model.train(1, dataset(), callbacks=TrackerLogger(kept, every_n_steps=4))
    rates = {name: steps[4] for name, steps in kept.values.items() if name.startswith("train/learning_rate")}
    assert rates == {"train/learning_rate_1": pytest.approx(0.2), "train/learning_rate_2": pytest.approx(0.1)}


def test_numbers_that_other_callbacks_add_to_an_epoch_are_logged():
    """Gradient norms, for example."""
    kept, model = Kept(), make_model()
    model.train(1, dataset(), callbacks=[TrackerLogger(kept), GradientMonitor(2, verbose=0)])
    assert any("grad" in name for name in kept.values if name.startswith("epoch/"))


def test_the_hyper_parameters_are_plain_values():
    """What is trained, how, by which callbacks with which arguments, and the user's own."""
    kept, model = Kept(), make_model()
    logger = TrackerLogger(kept, config={"seed": np.int64(3), "epochs": "many", "nested": {"a": None, 1: (ms,)}})
    model.train(2, dataset(), callbacks=[EarlyStopping("loss", patience=5), logger, Callback()])
    (run,) = kept.runs
    config = run.config
    assert pickle.loads(pickle.dumps(run)) == run
    assert (config["steps_per_epoch"], config["batch_size"], config["network"]) == (4, 12, "Network")
    assert config["parameters"] == {"total": 78, "trainable": 72}
    assert config["optimizer"] == {"class": "Adam", "learning_rate": pytest.approx(0.05)}
    assert config["loss"] == "SoftmaxCrossEntropyWithLogits"
    assert list(config["callbacks"]) == ["EarlyStopping", "TrackerLogger", "mindspore Callback"]
    assert config["callbacks"]["EarlyStopping"] == {"monitor": "loss", "patience": 5}
    assert config["versions"]["mindspore"] == ms.__version__
    assert (config["seed"], config["epochs"]) == (3, "many")
    assert config["nested"] == {"a": None, "1": [str(ms)]}
    assert run.name.startswith("Network-")


def test_nested_keys_are_joined():
    """For clients without nested hyper-parameters."""
    assert flat({"a": {"b": {"c": 1}, "d": None}, "e": {}, "f": [1]}) == {"a.b.c": 1, "a.d": None, "f": [1]}
    assert plain({"x": {1: np.float32(0.5)}, "y": (True, Kept)}) == {"x": {"1": 0.5}, "y": [True, str(Kept)]}


class Shows(TrainCallback):
    """Shows a text and a figure that say how many epochs it has seen."""

    epochs = 0

    def __init__(self, draws=True, changes=True):
        super().__init__()
        self.draws, self.changes = draws, changes

    def after_epoch(self, run, summary):
        self.epochs += 1

    def artifacts(self):
        text = str(self.epochs if self.changes else "same")
        return [TextArtifact("text", "T", text), FigureArtifact("figure", "F", self._draw)]

    def _draw(self):
        if not self.draws:
            raise ValueError("nothing to draw")
        return ("figure", self.epochs)


@pytest.mark.parametrize("after", [False, True])
def test_texts_come_after_the_first_epoch_and_again_at_the_end_if_changed(after):
    """Whatever the order of the list: the text shows what all callbacks have learnt of the epoch."""
    for changes, expected in ((True, [4, 12]), (False, [4])):
        kept, shows = Kept(), Shows(changes=changes)
        logger = TrackerLogger(kept)
        Script().run([shows, logger] if after else [logger, shows], [None] * 3, steps=4)
        assert kept.named("text") == [("texts/config", 0), *(("texts/text", step) for step in expected)]


@pytest.mark.parametrize(("figures", "steps"), [("end", [8]), ("epoch", [4, 8]), (None, [])])
def test_figures_come_when_asked_for(figures, steps):
    """At the end by default."""
    kept = Kept()
    script(kept, Shows(), results=[None] * 2, figures=figures)
    assert kept.named("figure") == [("figures/figure", step) for step in steps]


def test_a_figure_that_cannot_be_drawn_does_not_end_the_run(capsys):
    """It is reported, and the others are drawn."""
    kept = Kept()
    script(kept, Shows(draws=False), Shows())
    assert kept.named("figure") == [("figures/figure", 4)]
    line = "TrackerLogger: the figure 'figure' could not be drawn (ValueError: nothing to draw)\n"
    assert capsys.readouterr().out == line


def test_results_that_cannot_be_shown_do_not_end_the_run(capsys):
    """A callback whose artifacts raise, or a table without a cell, is reported, and the others are logged."""

    class Raises(TrainCallback):
        def artifacts(self):
            raise ValueError("nothing there")

    class Ragged(TrainCallback):
        def artifacts(self):
            return [TableArtifact("ragged", "R", ["a", "b"], [["1"]])]

    class Odd(TrainCallback):
        def artifacts(self):
            return [TextArtifact("odd", "O", "a file's name that is no text: \udcff")]

    kept = Kept()
    script(kept, Raises(), Ragged(), Odd(), Shows(draws=False, changes=False), figures=None)
    assert kept.named("text") == [("texts/config", 0), ("texts/odd", 4), ("texts/text", 4)]
    lines = set(capsys.readouterr().out.splitlines())
    assert "TrackerLogger: Raises could not show its results (ValueError: nothing there)" in lines
    assert "TrackerLogger: the table 'ragged' could not be made (IndexError: list index out of range)" in lines
    assert kept.statuses == ["finished"]


def test_tables_and_figures_of_real_callbacks():
    """Of ConfusionMatrix, whose results are those of the last evaluation."""
    pytest.importorskip("matplotlib")
    kept, model = Kept(), make_model()
    callbacks = [TrackerLogger(kept), Validate(model, valid_dataset()), ConfusionMatrix(verbose=0)]
    model.train(1, dataset(), callbacks=callbacks)
    assert ("texts/confusion_matrix", 4) in kept.named("text")
    assert kept.named("figure") == [("figures/confusion_matrix", 4)]


def test_histograms_are_of_the_trained_weights_every_n_epochs():
    """And of no statistics."""
    kept, model = Kept(), make_model()
    model.train(4, dataset(), callbacks=TrackerLogger(kept, histograms=2))
    names = sorted(each.name for each in model.predict_network.trainable_params())
    found = kept.named("histogram")
    assert sorted({name for name, _ in found}) == [f"weights/{name}" for name in names]
    assert sorted({step for _, step in found}) == [8, 16]


@pytest.mark.skipif(not hasattr(ms, "bfloat16"), reason="this MindSpore has no bfloat16")
def test_histograms_of_bfloat16():
    """NumPy 2 cannot hold it; as float32 each value is exact."""
    kept, network = Kept(), nn.Dense(1, 1)
    network.weight.set_dtype(ms.bfloat16)
    optimizer = nn.SGD(nn.Dense(1, 1).trainable_params(), 0.1)
    ScriptedRun([None], network=network, optimizer=optimizer).play([TrackerLogger(kept, histograms=1)])
    assert ("weights/weight", 1) in kept.named("histogram")


def test_watching_changes_nothing():
    """Weights are the same, bit for bit, whatever is logged."""
    plain_model, watched = make_model(), make_model()
    plain_model.train(2, dataset())
    watched.train(2, dataset(), callbacks=TrackerLogger(Kept(), every_n_steps=1, histograms=1, figures="epoch"))
    assert_same_weights(weights(watched.predict_network), weights(plain_model.predict_network))


# How runs end


def test_a_run_is_closed_once_with_its_status():
    """Also after an exception and an interruption."""
    outcomes = {
        "finished": [],
        "stopped": [EarlyStopping("acc", patience=1, verbose=0)],
        "interrupted": [Interrupt(6)],
        "failed": [FailAt(6)],
    }
    for status, callbacks in outcomes.items():
        kept = Kept()
        try:
            script(kept, *callbacks, results=[{"acc": 0.5}] * 4)
        except InterruptedError:
            assert status == "failed"
        assert kept.statuses == [status]


def test_ctrl_c_is_an_interruption():
    """As in Lightning: nothing is wrong with the run."""

    class Press(Callback):
        def on_train_step_end(self, run_context):
            raise KeyboardInterrupt

    kept = Kept()
    with pytest.raises(KeyboardInterrupt):
        script(kept, Press())
    assert kept.statuses == ["interrupted"]


def test_what_was_logged_before_an_exception_arrives():
    """All of it, before the run is closed."""
    kept = Kept()
    with pytest.raises(InterruptedError):
        script(kept, FailAt(7), results=[None] * 2)
    assert kept.values["train/loss"] == {2: 1.5, 4: 3.5, 6: 5.5}


def test_a_second_run_of_the_same_logger_is_a_run_of_its_own():
    """Two runs never become one."""
    kept = Kept()
    logger = TrackerLogger(kept, every_n_steps=2)
    for number in (1, 2):
        Script().run([logger], [None], steps=4)
        assert (logger.id_, kept.runs[-1].id, kept.runs[-1].step) == (f"run {number}", None, 0)
        assert list(kept.values["train/loss"]) == [2, 4]
    assert kept.statuses == ["finished", "finished"]


# Resumes


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin within an epoch")
@pytest.mark.parametrize(
    ("at", "every"),
    [(7, 3), pytest.param(9, 1, marks=pytest.mark.slow), pytest.param(6, 5, marks=pytest.mark.slow)],
)
def test_a_resumed_run_has_every_step_once(at, every, tmp_path):
    """The same values as a run that was never interrupted, whatever was logged after the saved state."""

    def callbacks(tracker, model):
        validate = Validate(model, valid_dataset(), every_n_steps=2)
        return [TrackerLogger(tracker, every_n_steps=3), validate, Shows()]

    whole, model = Kept(), make_model()
    model.train(4, dataset(), callbacks=callbacks(whole, model))
    kept, model = Kept(), make_model()
    state = TrainingState(tmp_path, every_n_steps=every)
    with pytest.raises(InterruptedError):
        model.train(4, dataset(), callbacks=[*callbacks(kept, model), state, FailAt(at)])
    model, data, state = make_model(), dataset(), TrainingState(tmp_path)
    again = callbacks(kept, model)
    begun = state.resume(model, data, epochs=4)
    model.train(4, data, callbacks=[*again, state], initial_epoch=begun)
    assert [run.id for run in kept.runs] == [None, "run 1"]
    assert 0 < kept.runs[1].step < at
    for values in (kept.values, whole.values):
        values = {name: values.pop(name) for name in list(values) if "second" in name}
        assert all(list(steps) == [4, 8, 12, 16] for steps in values.values())
    assert kept.values == whole.values
    assert kept.statuses == ["failed", "finished"]
    assert kept.named("text").count(("texts/config", 0)) == 1


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin within an epoch")
@pytest.mark.parametrize(("method", "fail_at"), [("log", 9), ("log", 3), ("flush", 9)])
def test_what_waited_for_a_slow_tracker_is_logged_by_the_resumed_run(method, fail_at, tmp_path):
    """The state holds it, because a process that dies takes it along; what was stored, but not flushed, comes again."""
    whole, model = Kept(), make_model()
    model.train(4, dataset(), callbacks=[TrackerLogger(whole, every_n_steps=1)])
    slow, model = Hanging(method), make_model()
    state = TrainingState(tmp_path, every_n_steps=2)
    with pytest.raises(InterruptedError):
        logger = TrackerLogger(slow, every_n_steps=1, timeout=0.1)
        model.train(4, dataset(), callbacks=[logger, state, FailAt(fail_at)])
    slow.released.set()
    assert logger.lost_
    assert logger._earlier.has_ended(60)
    model, data, state, logger = make_model(), dataset(), TrainingState(tmp_path), TrackerLogger(slow, every_n_steps=1)
    begun = state.resume(model, data, epochs=4)
    model.train(4, data, callbacks=[logger, state], initial_epoch=begun)
    assert logger.lost_ == 0  # the tracker has refused no step that it had already
    for values in (slow.values, whole.values):
        for name in [name for name in values if "second" in name]:
            del values[name]
    assert slow.values == whole.values


def test_steps_count_from_the_first_epoch_of_all():
    """A run with `initial_epoch` that continues no state is a new one, at its own steps."""
    kept = Kept()
    script(kept, results=[None], initial_epoch=3)
    assert list(kept.values["train/loss"]) == [14, 16]
    assert (kept.runs[0].id, kept.runs[0].step) == (None, 0)


# Trackers that misbehave


def test_a_tracker_that_cannot_start_refuses_the_run():
    """Before the first step, and the half-started run is closed."""

    class Refusing(Kept):
        def start(self, run):
            super().start(run)
            raise PermissionError("not logged in")

    kept = Refusing()

    class NoStep(Callback):
        def on_train_step_begin(self, run_context):
            raise AssertionError("a step ran")

    message = "TrackerLogger: the tracker could not be started: PermissionError: not logged in; correct that, or leave "
    with pytest.raises(RuntimeError, match=message) as error:
        script(kept, NoStep())
    assert isinstance(error.value.__cause__, PermissionError)
    assert kept.statuses == ["failed"]


def test_a_tracker_that_exits_does_not_end_the_process():
    """Some clients call sys.exit where they are not logged in."""

    class Exiting(Kept):
        def start(self, run):
            raise SystemExit(1)

    with pytest.raises(RuntimeError, match="could not be started: SystemExit: 1"):
        script(Exiting())


def test_a_tracker_that_hangs_at_its_start_refuses_the_run():
    """After the timeout; if it ever starts, its run is closed as failed."""
    kept = Hanging("start")
    with pytest.raises(RuntimeError, match=r"could not be started: TimeoutError: it did not start within 0\.05 s"):
        script(kept, timeout=0.05)
    assert kept.statuses == []
    kept.released.set()
    wait_until(lambda: kept.statuses == ["failed"])


def wait_until(condition):
    """For what the tracker's thread does after it was abandoned."""
    for thread in threading.enumerate():
        if thread.name == "ms_callbacks tracker":
            thread.join(20)
    assert condition()


def test_a_tracker_that_fails_is_reported_once_and_tried_again(capsys):
    """What it lost is counted; the training is not disturbed."""
    kept = Failing({2, 4})
    logger = script(kept, results=[None] * 2)
    assert list(kept.values["train/loss"]) == [6, 8]
    assert logger.lost_ == 3 + 3 + 3  # the rows of steps 2 and 4, and of the epoch
    assert capsys.readouterr().out == (
        "TrackerLogger: the tracker failed (ConnectionError: no route to host at step 2); training continues\n"
        "TrackerLogger: 9 values of this run did not reach the tracker\n"
    )
    assert kept.statuses == ["finished"]


def test_a_tracker_that_hangs_stops_nothing(capsys):
    """The run ends after the timeout of `close`, and says what is missing."""
    kept = Hanging("log")
    logger = script(kept, results=[None] * 2, timeout=0.2)
    assert logger.lost_ == 4 * 3 + 2 * 3
    assert capsys.readouterr().out == (
        "TrackerLogger: the tracker did not close within 0.2 s\n"
        "TrackerLogger: 18 values of this run did not reach the tracker\n"
    )
    kept.released.set()
    wait_until(lambda: kept.statuses == ["finished"])


def test_a_close_that_hangs_or_fails_ends_in_time(capsys):
    """Nothing was lost then."""
    kept = Hanging("close")
    assert script(kept, timeout=0.2).lost_ == 0
    kept.released.set()
    wait_until(lambda: kept.statuses == ["finished"])

    class Failing(Kept):
        def close(self, status):
            raise OSError("disk full")

    assert script(Failing()).lost_ == 0
    assert capsys.readouterr().out == (
        "TrackerLogger: the tracker did not close within 0.2 s\n"
        "TrackerLogger: the tracker failed (OSError: disk full); training continues\n"
    )


def test_a_run_waits_until_the_tracker_has_closed_the_one_before():
    """Otherwise the thread of the earlier run would log to the later one, and close it."""
    kept = Hanging("log")
    logger = script(kept, timeout=0.2)
    message = r"could not be started: TimeoutError: it has not closed its earlier run within 0\.2 s"
    with pytest.raises(RuntimeError, match=message):
        Script().run([logger], [None], steps=4)
    assert (len(kept.runs), kept.statuses) == (1, [])
    kept.released.set()
    wait_until(lambda: kept.statuses == ["finished"])
    Script().run([logger], [None], steps=4)
    assert (len(kept.runs), kept.statuses) == (2, ["finished", "finished"])


def test_two_loggers_cannot_share_a_tracker():
    """They would call it from two threads, and one would close it under the other."""
    kept = Kept()
    with pytest.raises(ValueError, match="TrackerLogger and TrackerLogger both log to the same tracker; keep one"):
        script(kept, TrackerLogger(kept))
    assert kept.runs == []


def test_a_password_in_an_argument_of_a_callback_is_not_logged():
    """Such as that of a server's address; the user's own `config` is logged as it is."""

    class Sends(TrainCallback):
        def __init__(self, url, api_key):
            super().__init__()
            self.url, self.api_key = url, api_key

    kept = Kept()
    script(kept, Sends("https://me:s1@host/x", "s2"), config={"token": "own"})
    (run,) = kept.runs
    assert run.config["callbacks"]["Sends"] == {"url": "https://me:***@host/x", "api_key": "***"}
    assert run.config["token"] == "own"


def test_a_full_queue_drops_the_oldest_steps_and_keeps_epochs(monkeypatch):
    """Of epochs and texts nothing is dropped while there are steps."""
    monkeypatch.setattr(_tracker_thread, "MOST_QUEUED", 6)
    kept = Hanging("log")
    thread = TrackerThread(kept)
    thread.start(TrackedRun("run"), 20)
    thread.log({"first": 0.0}, 0)
    assert kept.entered.wait(20)
    for step in range(1, 10):
        thread.log({"step": 1.0, "other": 2.0}, step, of_step=True)
        if step % 3 == 0:
            thread.log({"epoch": float(step)}, step)
    kept.released.set()
    assert thread.close("finished", 20)
    assert kept.values["epoch"] == {3: 3.0, 6: 6.0, 9: 9.0}
    assert list(kept.values["step"]) == [7, 8, 9]
    assert thread.lost == 2 * 6


def test_only_so_many_figures_wait():
    """They are large."""
    kept = Hanging("log")
    thread = TrackerThread(kept)
    thread.start(TrackedRun("run"), 20)
    thread.log({"first": 0.0}, 0)
    assert kept.entered.wait(20)
    for step in range(20):
        thread.log_figure("figure", None, step)
    kept.released.set()
    assert thread.close("finished", 20)
    assert [step for _, step in kept.named("figure")] == list(range(4, 20))
    assert thread.lost == 4


# Arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tracker": object()}, TypeError, "tracker must have the methods of ms_callbacks.Tracker, but object has no"),
        ({"every_n_steps": 0}, ValueError, "every_n_steps must be at least 1, but got 0"),
        ({"every_n_steps": 1.5}, TypeError, "every_n_steps must be a whole number"),
        ({"config": [1]}, TypeError, "config must be a dictionary"),
        ({"histograms": True}, TypeError, "histograms must be a whole number"),
        ({"figures": "never"}, ValueError, "figures must be one of 'end', 'epoch', None"),
        ({"timeout": 0}, ValueError, "timeout must be finite and above 0"),
    ],
)
def test_bad_input(arguments, error, message):
    """It raises at once and says what was expected."""
    with pytest.raises(error, match=f"TrackerLogger: {message}"):
        TrackerLogger(**{"tracker": Kept(), **arguments})


def test_what_a_tracker_lacks_is_named():
    """All of it."""

    class Partial:
        def start(self, run): ...

        def log(self, values, step): ...

    assert isinstance(Kept(), Tracker)
    with pytest.raises(TypeError, match="Partial has no close, flush, log_figure, log_histogram, log_text$"):
        TrackerLogger(Partial())
