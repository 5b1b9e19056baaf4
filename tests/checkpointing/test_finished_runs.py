"""What TrainingState makes of a run that has ended: finished, extended to more epochs, or merely interrupted."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
from typing import Any

import mindspore as ms
import pytest
from mindspore import nn
from mindspore.train import Callback
from training import assert_same_weights, dataset, make_model, valid_dataset, weights

from ms_callbacks import (
    BestCheckpoint,
    CallbackProfiler,
    ConfusionMatrix,
    CSVLogger,
    DynamicLR,
    EarlyStopping,
    ExportBest,
    HardExamples,
    History,
    LRCosineAnnealing,
    LRStepDecay,
    LRWarmup,
    TrainingState,
    Validate,
)
from ms_callbacks.checkpointing._states import States
from ms_callbacks.core import callback

CAN_BEGIN_WITHIN = hasattr(ms.dataset.Dataset, "set_init_step")


class NoStep(Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context: Any) -> None:
        raise AssertionError("a step ran")


class Stop(Callback):
    """A user's own: asks for a stop at a step, or at the end of an epoch."""

    def __init__(self, step: int = 0, epoch: int = 0) -> None:
        self.step, self.epoch = step, epoch

    def on_train_step_end(self, run_context: Any) -> None:
        if run_context.original_args()["cur_step_num"] == self.step:
            run_context.request_stop()

    def on_train_epoch_end(self, run_context: Any) -> None:
        if run_context.original_args()["cur_epoch_num"] == self.epoch:
            run_context.request_stop()


class Script:
    """A training script as the documentation shows it; run again, it is a new process's."""

    def __init__(self, folder: pathlib.Path, epochs: int, *more: Callback, **options: Any) -> None:
        self.epochs, self.model, self.data = epochs, make_model(learning_rate=options.pop("rate", 0.05)), dataset()
        self.state = TrainingState(str(folder / "state"), **options)
        self.best = BestCheckpoint(str(folder / "best.ckpt"), monitor="loss", verbose=0)
        self.stopping = EarlyStopping("loss", mode="max", patience=1, restore_best_weights=True, verbose=0)
        self.history = History()
        self.more = more

    def run(self, stopping: bool = False) -> Script:
        ours = [self.state, self.best, self.history, CSVLogger(self.best.filepath + ".csv")]
        callbacks = [*ours, *([self.stopping] if stopping else []), *self.more]
        self.initial_epoch = self.state.resume(self.model, self.data, epochs=self.epochs)
        self.has_trained = not self.state.finished_
        if not self.state.finished_:
            self.model.train(self.epochs, self.data, callbacks=callbacks, initial_epoch=self.initial_epoch)
        return self

    @property
    def results(self) -> Any:
        history = {name: values for name, values in self.history.history.items() if "second" not in name}
        stopping = self.stopping
        stopped = (stopping.best_, stopping.best_epoch_, stopping.stopped_epoch_, stopping.stop_reason_)
        return history, (self.best.best_, self.best.best_epoch_), stopped


def assert_same(one: Script, other: Script) -> None:
    assert one.results == other.results
    assert_same_weights(weights(one.model.train_network), weights(other.model.train_network))


@pytest.mark.parametrize("stopping", [False, True], ids=["at its last epoch", "by EarlyStopping"])
def test_a_finished_script_run_again_does_nothing_and_has_the_same_results(tmp_path, stopping, capsys):
    """The weights are those that the run ended with, the best where EarlyStopping has restored them."""
    first = Script(tmp_path, 4).run(stopping)
    assert first.has_trained
    assert first.state.finished_
    capsys.readouterr()
    again = Script(tmp_path, 4).run(stopping)
    assert not again.has_trained
    assert again.initial_epoch == (2 if stopping else 4)
    assert_same(again, first)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    if stopping:
        assert "is complete, stopped by EarlyStopping after 2 of 4 epochs; the model has its weights; to train" in out
    else:
        assert (
            "is complete, with 4 of 4 epochs; the model has its weights; for more epochs, ask for them, as in resume"
            in out
        )
    fresh = make_model(learning_rate=0.5)
    again.best.load_into(fresh.predict_network)


def test_results_come_back_to_callbacks_that_are_named(tmp_path):
    """A user's own too; one that is not of the run stays as it is."""

    class Count(Callback):
        total = 0

        def on_train_step_end(self, run_context):
            self.total += 1

        def state_dict(self):
            return {"total": self.total}

        def load_state_dict(self, state):
            self.total = state["total"]

    Script(tmp_path, 2, Count()).run()
    count, other = Count(), EarlyStopping("loss", patience=7)
    state = TrainingState(str(tmp_path / "state"))
    assert state.resume(make_model(), dataset(), epochs=2, callbacks=[count, other]) == 2
    assert (count.total, other.best_) == (8, None)


def test_callbacks_that_are_made_after_a_finished_run_was_found_are_named(tmp_path, capsys, monkeypatch):
    """In the same line, unless it was said who is to get results; those that learn nothing are not."""

    class MadeLater(History):
        """None of which is made before."""

    make_model().train(1, dataset(), callbacks=[TrainingState(str(tmp_path)), MadeLater(), CallbackProfiler()])
    monkeypatch.setattr(callback, "_MADE", [])  # as in a new process: else they are there, and have their results
    for given, told in (
        (None, "; for the results of MadeLater(), create them before calling resume, or pass them as callbacks=[...]"),
        ([], ""),
    ):
        capsys.readouterr()
        TrainingState(str(tmp_path)).resume(make_model(), dataset(), callbacks=given)
        assert capsys.readouterr().out.endswith(f"epochs=2){told}\n")


def test_callbacks_that_were_trained_with_have_their_results(tmp_path, capsys):
    """As where a notebook's cell is run again: nothing is missing."""
    script = Script(tmp_path, 1).run()
    capsys.readouterr()
    results = script.results
    assert not script.run().has_trained
    assert capsys.readouterr().out.endswith("epochs=2)\n")
    assert script.results == results


def test_an_export_is_part_of_a_run_that_is_finished(tmp_path, monkeypatch):
    """A kill within it costs the last epoch, and the file is there in the end."""

    class Killed(BaseException):
        pass

    def run() -> tuple[ExportBest, bool]:
        model, data, state = make_model(), dataset(), TrainingState(str(tmp_path / "state"))
        exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="loss", verbose=0)
        first = state.resume(model, data, epochs=2)
        has_trained = not state.finished_
        if has_trained:
            model.train(2, data, callbacks=[state, exporting], initial_epoch=first)
        return exporting, has_trained

    def kill(self: ExportBest, run: Any) -> str:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ExportBest, "_export", kill)
        with pytest.raises(Killed):
            run()
    exported, has_trained = run()
    assert has_trained
    assert os.path.exists(exported.filepath)
    again, has_trained = run()
    assert not has_trained
    assert (again.path_, again.difference_) == (exported.path_, exported.difference_) != (None, None)


@pytest.mark.parametrize("state_first", [False, True])
def test_results_go_to_the_callbacks_that_were_made_for_the_run(tmp_path, state_first):
    """Of several runs that are made ahead, and beside a callback that nobody has used."""

    def make(number: int) -> tuple[TrainingState, History, BestCheckpoint]:
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        state = TrainingState(str(folder / "state")) if state_first else None
        history = History()
        best = BestCheckpoint(str(folder / "best.ckpt"), monitor="loss", verbose=0)
        return state or TrainingState(str(folder / "state")), history, best

    epochs = {1: 2, 2: 3}
    for number, count in epochs.items():
        make_model().train(count, dataset(), callbacks=list(make(number)))
    unused = History()
    runs = {number: make(number) for number in epochs}
    for number, (state, _, _) in runs.items():
        assert state.resume(make_model(), dataset(), epochs=epochs[number]) == epochs[number]
    assert [len(history.epoch) for _, history, _ in runs.values()] == [2, 3]
    assert [best.best_epoch_ > 0 for _, _, best in runs.values()] == [True, True]
    assert not hasattr(unused, "epoch") or unused.epoch == []


def test_a_kill_after_the_last_state_loses_nothing(tmp_path, monkeypatch):
    """As between the end of training and the next line: the run is finished, its best weights are there."""
    whole = Script(tmp_path / "whole", 3) if (tmp_path / "whole").mkdir() is None else None
    whole.run(stopping=True)

    class Killed(BaseException):
        pass

    def kill(self, together):
        raise Killed

    (tmp_path / "killed").mkdir()
    killed = Script(tmp_path / "killed", 3)
    with monkeypatch.context() as patch:
        patch.setattr(EarlyStopping, "_restore", kill)
        with pytest.raises(Killed):
            killed.run(stopping=True)
    again = Script(tmp_path / "killed", 3).run(stopping=True)
    assert not again.has_trained
    assert_same(again, whole)


@pytest.mark.parametrize("every_n_epochs", [1, 3])
def test_more_epochs_are_those_of_a_run_that_had_asked_for_them_at_once(tmp_path, every_n_epochs):
    """To the last bit, whichever epochs have a state."""
    for name in ("whole", "longer"):
        (tmp_path / name).mkdir()
    whole = Script(tmp_path / "whole", 5, LRStepDecay(1, gamma=0.7), every_n_epochs=every_n_epochs).run()
    Script(tmp_path / "longer", 2, LRStepDecay(1, gamma=0.7), every_n_epochs=every_n_epochs).run()
    longer = Script(tmp_path / "longer", 5, LRStepDecay(1, gamma=0.7), every_n_epochs=every_n_epochs).run()
    assert longer.initial_epoch == 2
    assert_same(longer, whole)
    shorter = Script(tmp_path / "longer", 3).run()
    assert (shorter.has_trained, shorter.initial_epoch) == (False, 5)


def test_a_run_that_was_stopped_for_good_stays_finished(tmp_path, capsys):
    """Whatever is asked for; what the line says works."""
    Script(tmp_path, 4).run(stopping=True)
    again = Script(tmp_path, 9).run(stopping=True)
    assert not again.has_trained
    assert "pass another directory and initial_epoch=2" in capsys.readouterr().out
    state = TrainingState(str(tmp_path / "other"))
    assert state.resume(again.model, again.data, epochs=3) == 0
    again.model.train(3, again.data, callbacks=[state], initial_epoch=2)
    assert state.finished_


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (lambda: LRStepDecay(1, gamma=0.5), lambda: LRStepDecay(2, gamma=0.5), "LRStepDecay"),
        (lambda: LRCosineAnnealing(2), lambda: LRCosineAnnealing(4), "LRCosineAnnealing"),
        (lambda: DynamicLR([0.1] * 8), lambda: DynamicLR([0.1] * 7 + [0.2] * 13), "DynamicLR"),
        (lambda: LRWarmup(1), lambda: LRWarmup(2), "LRWarmup"),
    ],
)
def test_a_schedule_that_would_have_gone_otherwise_is_named(tmp_path, before, after, name):
    """Where more epochs are asked for: they cannot be those of one run."""
    Script(tmp_path, 2, before()).run()
    with pytest.raises(ValueError, match=f"TrainingState: {name} would have set other rates in the first 2 epochs"):
        Script(tmp_path, 5, after(), NoStep()).run()


def test_a_list_of_rates_that_begins_alike_makes_a_run_longer(tmp_path):
    """One that a callback applies, and one that the optimizer holds itself."""
    for name in ("whole", "longer"):
        (tmp_path / name).mkdir()
    rates = [0.1, 0.05, 0.02, 0.01] * 5
    whole = Script(tmp_path / "whole", 5, DynamicLR(rates)).run()
    Script(tmp_path / "longer", 2, DynamicLR(rates[:8])).run()
    assert_same(Script(tmp_path / "longer", 5, DynamicLR(rates)).run(), whole)


@pytest.mark.parametrize("kind", ["list", "schedule"])
def test_the_optimizers_own_rates(tmp_path, kind):
    """A list that begins alike may be longer; other rates are an error that says so."""

    def rate(epochs: int, top: float = 0.1) -> Any:
        if kind == "list":
            return [top * 0.9**step for step in range(4 * epochs)]
        return nn.ExponentialDecayLR(top, 0.9, 4)

    for name in ("whole", "longer"):
        (tmp_path / name).mkdir()
    whole = Script(tmp_path / "whole", 3, rate=rate(3)).run()
    Script(tmp_path / "longer", 2, rate=rate(2)).run()
    with pytest.raises(ValueError, match="rates does not begin|the optimizer's schedule gives"):
        Script(tmp_path / "longer", 3, NoStep(), rate=rate(3, top=0.2)).run()
    longer = Script(tmp_path / "longer", 3, rate=rate(3)).run()
    assert longer.has_trained
    assert_same(longer, whole)


def test_a_schedule_that_is_another_only_in_its_beginning_is_told(tmp_path):
    """As a longer warm-up is, which is over where the run has ended."""
    Script(tmp_path, 2, rate=nn.WarmUpLR(0.1, 4)).run()
    with pytest.raises(ValueError, match="the optimizer's schedule gives"):
        Script(tmp_path, 3, NoStep(), rate=nn.WarmUpLR(0.1, 6)).run()
    assert Script(tmp_path, 3, rate=nn.WarmUpLR(0.1, 4)).run().has_trained


@pytest.mark.parametrize("stop", [Stop(epoch=2), Stop(step=8), Stop(step=6)], ids=["epoch", "last step", "mid-epoch"])
def test_a_stop_of_somebody_elses_is_an_interruption(tmp_path, stop):
    """As of a time limit: the state is that of where the run ended, and a resume ends as if it had not been stopped."""
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = Script(tmp_path / "whole", 3).run()
    stopped = Script(tmp_path / "stopped", 3, stop, every_n_epochs=2).run()
    assert not stopped.state.finished_
    if stop.step == 6 and not CAN_BEGIN_WITHIN:
        return
    resumed = Script(tmp_path / "stopped", 3, every_n_epochs=2).run()
    assert resumed.initial_epoch == (1 if stop.step == 6 else 2)
    assert resumed.state.finished_
    assert_same(resumed, whole)


def test_a_stop_in_the_last_epochs_end_is_no_interruption(tmp_path):
    """Nothing is left to be done."""
    assert Script(tmp_path, 2, Stop(epoch=2)).run().state.finished_
    assert not Script(tmp_path, 2).run().has_trained


def test_a_list_of_rates_of_another_length_is_no_obstacle_where_nothing_is_left_to_train(tmp_path):
    """Fewer epochs than the run had, or more where it was stopped for good."""
    for name, stopping, other in (("ended", False, 1), ("stopped", True, 4)):
        (tmp_path / name).mkdir()
        Script(tmp_path / name, 2, rate=[0.05] * 8).run(stopping)
        assert not Script(tmp_path / name, other, rate=[0.05] * 4 * other).run(stopping).has_trained


def test_results_of_a_finished_run_are_those_of_its_own_callbacks(tmp_path):
    """Where those of several runs are made before the first; trained with after, they begin at their beginning."""

    def prepared() -> list[Script]:
        return [Script(tmp_path / name, 2, rate=rate) for name, rate in (("a", 0.05), ("b", 0.2))]

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    losses = [script.run().history.history["loss"] for script in prepared()]
    assert losses[0] != losses[1]
    shutil.rmtree(tmp_path / "b" / "state")
    again = prepared()
    assert [script.run().history.history["loss"] for script in again] == losses
    assert [script.has_trained for script in again] == [False, True]
    finished = prepared()
    assert [script.run().history.history["loss"] for script in finished] == losses
    finished[0].model.train(1, finished[0].data, callbacks=[finished[0].history])
    assert finished[0].history.epoch == [1]


@pytest.mark.parametrize("callbacks", [5, "x", [None], [[]], EarlyStopping], ids=str)
def test_what_is_no_callback_is_refused(tmp_path, callbacks):
    """Instead of giving nobody the results."""
    state = TrainingState(str(tmp_path / "state"))
    with pytest.raises(TypeError, match="callbacks must be a Callback or a list of them"):
        state.resume(make_model(), dataset(), callbacks=callbacks)


def test_a_run_whose_last_state_could_not_be_saved_is_not_finished(tmp_path, monkeypatch):
    """Its last epoch is learnt again."""

    def fail(states: States, content: Any, arrays: Any) -> None:
        raise OSError("full")

    script = Script(tmp_path, 2, every_n_epochs=2)
    monkeypatch.setattr(States, "write", fail)
    with pytest.raises(OSError, match="could not save the state after epoch 2 .*full"):
        script.run()
    assert not script.state.finished_


def test_the_last_epoch_has_a_state_whatever_the_interval(tmp_path):
    """And it is the newest."""
    Script(tmp_path, 4, every_n_epochs=3).run()
    state = TrainingState(str(tmp_path / "state"))
    assert state.resume(make_model(), dataset(), epochs=9) == 4


def test_other_numbers_of_epochs_than_resume_was_told_are_refused(tmp_path):
    """Before the first step, in a first run too."""
    state, model, data = TrainingState(str(tmp_path / "state")), make_model(), dataset()
    assert state.resume(model, data, epochs=5) == 0
    with pytest.raises(ValueError, match="resume was called with epochs=5, but the run has 4; give both the same"):
        model.train(4, data, callbacks=[state, NoStep()])
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        state.resume(model, data, epochs=0)


def test_a_finished_run_is_not_trained_over(tmp_path):
    """Where `finished_` is not looked at, MindSpore or the callback refuses."""
    Script(tmp_path, 2).run()
    script = Script(tmp_path, 2)
    assert script.state.resume(script.model, script.data) == 2
    with pytest.raises(ValueError, match="initial_epoch"):
        script.model.train(2, script.data, callbacks=[script.state], initial_epoch=2)
    with pytest.raises(ValueError, match="holds the state of a run; to continue it"):
        script.model.train(5, script.data, callbacks=[script.state, NoStep()], initial_epoch=2)


@pytest.mark.parametrize("mode", ["pynative"], indirect=True)
def test_in_fit_and_pynative_too(tmp_path, mode):
    """With the results of evaluations."""
    results = []
    for _ in range(2):
        model, data = make_model(), dataset()
        state, stopping, history = TrainingState(str(tmp_path / "state")), EarlyStopping("acc", verbose=0), History()
        first = state.resume(model, data, epochs=2)
        if not state.finished_:
            callbacks = [state, stopping, history, Validate(model, valid_dataset())]
            model.train(2, data, callbacks=callbacks, initial_epoch=first)
        results.append((stopping.best_, history.history["acc"], weights(model.train_network)))
    assert results[0][:2] == results[1][:2]
    assert_same_weights(results[0][2], results[1][2])


def test_a_process_that_is_started_again_ends_well(tmp_path):
    """As a cluster does that puts a finished job into its queue again: exit status 0, the same lines at the end."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from training import dataset, make_model
            from ms_callbacks import BestCheckpoint, TrainingState

            model, train = make_model(), dataset()
            state, best = TrainingState("state"), BestCheckpoint("best.ckpt", monitor="loss", verbose=0)
            initial_epoch = state.resume(model, train, epochs=2)
            if not state.finished_:
                model.train(2, train, callbacks=[state, best], initial_epoch=initial_epoch)
            print("best", best.best_epoch_, best.best_)
            """
        )
    )
    tests = pathlib.Path(__file__).parents[1]
    paths = [str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    lines = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        lines.append([line for line in done.stdout.splitlines() if line.startswith("best")])
    assert lines[0] == lines[1] != []
    assert "Traceback" not in done.stderr


def test_what_was_learnt_of_the_network_comes_back_too(tmp_path):
    """Confusion matrix, hardest examples with their images, values of the last evaluation, and the list of rates."""
    found = []
    for _ in range(2):
        model, data = make_model(), dataset()
        matrix, hardest, schedule = ConfusionMatrix(), HardExamples(3, picture=str(tmp_path / "x.png")), LRStepDecay(1)
        validate, state = Validate(model, valid_dataset()), TrainingState(str(tmp_path / "state"))
        first = state.resume(model, data, epochs=2)
        if not state.finished_:
            model.train(2, data, callbacks=[state, matrix, hardest, schedule, validate], initial_epoch=first)
        images = [image.tolist() for image in hardest.images_]
        found.append((matrix.matrix_.tolist(), hardest.examples_, images, schedule.lr_list_, validate.results_))
    assert found[0] == found[1]
    assert len(found[0][2]) == 3
    assert sum(map(sum, found[0][0])) == 30
