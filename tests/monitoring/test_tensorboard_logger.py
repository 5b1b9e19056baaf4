"""What TensorBoard's own readers find in the files of a run, also after a resume and after a kill."""

from __future__ import annotations

import glob
import math
import os
import subprocess
import sys

import pytest
from training import FailAt, Interrupt, Script, dataset, make_model, valid_dataset

from ms_callbacks import ConfusionMatrix, EarlyStopping, TensorBoardLogger, TrainingState, Validate
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN

pytest.importorskip("tensorboardX")
accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder):
    """The events of one run, as TensorBoard loads them."""
    found = accumulators.EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0, "histograms": 0})
    return found.Reload()


def scalars(folder):
    """{name: [(step, value)]} of one run, in the order of the files."""
    found = read(folder)
    return {name: [(each.step, each.value) for each in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_tensorboard_reads_what_a_run_has_logged(tmp_path):
    """Scalars by name, texts as blocks, figures and histograms."""
    model = make_model()
    logger = TensorBoardLogger(tmp_path / "runs", every_n_steps=2, histograms=1, config={"note": "<b>"})
    validate = Validate(model, valid_dataset(), every_n_steps=2)
    model.train(2, dataset(), callbacks=[logger, validate, ConfusionMatrix(verbose=0)])
    folder = tmp_path / "runs" / logger.id_
    assert [step for step, _ in scalars(folder)["train/loss"]] == [2, 4, 6, 8]
    assert [step for step, _ in scalars(folder)["eval/acc"]] == [2, 4, 6, 8]
    assert scalars(folder)["eval/acc"][-1][1] == pytest.approx(validate.results_["acc"])
    assert [step for step, _ in scalars(folder)["epoch/loss"]] == [4, 8]
    tags = read(folder).Tags()
    assert tags["images"] == ["figures/confusion_matrix"]
    assert "weights/head.weight" in tags["histograms"]
    (text,) = read(folder).Tensors("texts/config/text_summary")
    assert "    note: <b>\n    " in text.tensor_proto.string_val[0].decode() + "\n    "
    assert text.step == 0


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin within an epoch")
def test_a_resume_neither_doubles_nor_loses_steps(tmp_path):
    """Several event files of one run: what the interrupted process had logged beyond the state is hidden."""

    def callbacks(model):
        validate = Validate(model, valid_dataset(), every_n_steps=2)
        return [TensorBoardLogger(tmp_path / "runs", every_n_steps=1), validate]

    model = make_model()
    whole = callbacks(model)
    model.train(3, dataset(), callbacks=whole)
    model = make_model()
    first = callbacks(model)
    with pytest.raises(InterruptedError):
        model.train(3, dataset(), callbacks=[*first, TrainingState(tmp_path / "s", every_n_steps=3), FailAt(10)])
    assert len(os.listdir(tmp_path / "runs")) == 2
    model, data, state = make_model(), dataset(), TrainingState(tmp_path / "s")
    second = callbacks(model)
    begun = state.resume(model, data, epochs=3)
    model.train(3, data, callbacks=[*second, state], initial_epoch=begun)
    assert second[0].id_ == first[0].id_ != whole[0].id_
    folder = tmp_path / "runs" / second[0].id_
    assert len(glob.glob(f"{folder}/events*")) == 4  # two for each process: the second has what was logged
    found, expected = scalars(folder), scalars(tmp_path / "runs" / whole[0].id_)
    for values in (found, expected):
        for name in [name for name in values if "second" in name]:
            assert [step for step, _ in values.pop(name)] == [4, 8, 12]
    assert found == expected
    assert [step for step, _ in found["train/loss"]] == list(range(1, 13))


def test_the_web_interface_finds_the_same_runs_and_points(tmp_path):
    """Through the data provider that its plugins use; two runs are two, also of one object and in one second."""
    multiplexers = pytest.importorskip("tensorboard.backend.event_processing.plugin_event_multiplexer")
    providers = pytest.importorskip("tensorboard.backend.event_processing.data_provider")
    context = pytest.importorskip("tensorboard.context")
    logger = TensorBoardLogger(tmp_path, every_n_steps=2)
    ids = []
    for _ in range(2):
        Script().run([logger], [{"acc": 0.5}], steps=4)
        ids.append(logger.id_)
    multiplexer = multiplexers.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = providers.MultiplexerDataProvider(multiplexer, str(tmp_path))
    empty = context.RequestContext()
    assert {run.run_name for run in provider.list_runs(empty, experiment_id="")} == set(ids)
    assert len(set(ids)) == 2
    found = provider.read_scalars(empty, experiment_id="", plugin_name="scalars", downsample=100)
    assert all([point.step for point in found[run]["train/loss"]] == [2, 4] for run in ids)


def test_values_that_are_not_finite_are_written(tmp_path):
    """And no status is left open, as TensorBoard has none."""
    logger = TensorBoardLogger(tmp_path, every_n_steps=1)
    Script().run([logger, Interrupt(2)], [None], [[math.nan, math.inf, 1.0]], steps=3)
    (first, second) = scalars(tmp_path / logger.id_)["train/loss"]
    assert math.isnan(first[1])
    assert second == (2, math.inf)


def test_the_writer_is_there_for_values_of_the_users_own(tmp_path):
    """While the run lasts; a number of steps that is never reached makes no difference."""
    logger = TensorBoardLogger(tmp_path, every_n_steps=10**9)

    class Adds(EarlyStopping):
        def after_epoch(self, run, summary):
            logger.experiment.add_scalar("mine", 3.0, run.step)

    Script().run([logger, Adds("loss")], [None], steps=4)
    assert scalars(tmp_path / logger.id_)["mine"] == [(4, 3.0)]
    assert logger.experiment is None


KILLED = """
import os, signal, sys, threading
sys.path[:0] = [{tests!r}]
from training import Script
from ms_callbacks import TensorBoardLogger, TrainCallback

class Kill(TrainCallback):
    def before_epoch(self, run):
        if run.epoch == 2:
            run.step_hooks.on_step_end(self, self.kill)

    def kill(self, run):
        assert flushed.wait(60)
        os.kill(os.getpid(), signal.SIGKILL)

logger, flushed = TensorBoardLogger({folder!r}, every_n_steps=1), threading.Event()
flush = logger.tracker.flush
logger.tracker.flush = lambda: (flush(), flushed.set())
Script().run([logger, Kill()], [None] * 3, steps=4)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_process_has_lost_nothing_of_the_epochs_before(tmp_path):
    """Files are flushed at the end of each epoch."""
    tests = os.path.dirname(os.path.dirname(__file__))
    code = KILLED.format(tests=tests, folder=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == -9
    (folder,) = tmp_path.iterdir()
    assert [step for step, _ in scalars(folder)["train/loss"]] == [1, 2, 3, 4]
    assert scalars(folder)["epoch/loss"] == [(4, 1.0)]


def test_a_missing_package_is_named_before_the_first_step(tmp_path, monkeypatch):
    """With the command that installs it."""
    monkeypatch.setattr(TensorBoardLogger, "_package", "tensorboard_of_nobody")
    with pytest.raises(ImportError, match=r"'tensorboard_of_nobody' is not.*pip install 'ms-callbacks\[tensorboard\]'"):
        Script().run([TensorBoardLogger(tmp_path)], [None])


def test_a_folder_that_cannot_be_made_refuses_the_run(tmp_path):
    """A file is in its place."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(RuntimeError, match="TensorBoardLogger: the tracker could not be started: FileExistsError"):
        Script().run([TensorBoardLogger(tmp_path / "runs")], [None])


def test_bad_input():
    """As for every path."""
    with pytest.raises(TypeError, match="TensorBoardLogger: log_dir must be a string"):
        TensorBoardLogger(3)
