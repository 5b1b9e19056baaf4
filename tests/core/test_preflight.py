"""What a list of callbacks must fulfil as a whole, before the first step; and each fact of a run told once."""

from __future__ import annotations

import shutil
import types

import mindspore as ms
import pytest
from mindspore import Tensor, nn
from mindspore.train import Accuracy, Callback, Loss
from mindspore.train import EarlyStopping as MindSporesEarlyStopping
from sinking import sinking_model
from training import dataset, loss_fn, make_model, seeded, valid_dataset

from ms_callbacks import (
    BestCheckpoint,
    CSVLogger,
    EarlyStopping,
    GracefulStop,
    History,
    LossMonitor,
    LRStepDecay,
    ProgressBar,
    ReduceLROnPlateau,
    StepOutputs,
    TrainCallback,
    Validate,
    check_callbacks,
)
from ms_callbacks.core.mindspore_compat import COUNTS_STEPS
from ms_callbacks.testing import ScriptedRun

ASKS = {
    "a monitor": lambda folder: [EarlyStopping(verbose=0)],
    "Keras's name": lambda folder: [ReduceLROnPlateau("val_loss")],
    "a file's name": lambda folder: [BestCheckpoint(f"{folder}/{{val_loss:.2f}}.ckpt", monitor="acc", verbose=0)],
    "a record": lambda folder: [History(), CSVLogger(f"{folder}/log.csv")],
    "lines": lambda folder: [LossMonitor(per_print_times=0)],
    "a bar": lambda folder: [ProgressBar()],
    "a line an epoch": lambda folder: [EarlyStopping("acc", verbose=2)],
}
ASKS_NOT = {
    "another monitor": lambda folder: [EarlyStopping("acc", verbose=0), LRStepDecay(1), GracefulStop()],
    "the training loss": lambda folder: [EarlyStopping("loss", verbose=0)],
    "MindSpore's": lambda folder: [MindSporesEarlyStopping()],
}


@pytest.mark.parametrize(
    ("make", "how", "told"),
    [
        *((make, "fit", 1) for make in ASKS.values()),
        *((make, "fit", 0) for make in ASKS_NOT.values()),
        # What puts it right, and where there is none, or the last batch is all there is.
        (ASKS["a record"], "fit with Validate", 0),
        (ASKS["a record"], "fit with a metric", 0),
        (ASKS["a record"], "fit with a metric eval_loss", 0),
        (ASKS["a record"], "fit on one batch", 0),
        (ASKS["a record"], "fit that never evaluates", 0),
        (ASKS["a record"], "train", 0),
        (ASKS["a record"], "train with Validate", 0),
    ],
)
def test_what_the_eval_loss_of_fit_is_is_said_once(tmp_path, capsys, make, how, told):
    """Before the first step of a run in which a callback makes use of it, in a second run of the same objects too."""
    said = (
        "Model.fit: its eval_loss is the loss of the last validation batch only, as MindSpore computes it; for the "
        "mean over all samples add Validate(model, valid_dataset) to the callbacks, or 'loss' to the Model's metrics\n"
    )
    metrics = {
        "fit with a metric": {"acc", "loss"},
        "fit with a metric eval_loss": {"acc": Accuracy(), "eval_loss": Loss()},
    }
    model = make_model(metrics=metrics.get(how, {"acc"}))
    valid = dataset(12, 12) if how == "fit on one batch" else valid_dataset()
    callbacks = make(tmp_path)
    callbacks += [Validate(model, valid)] if "Validate" in how else []
    before = []

    class Before(Callback):
        def on_train_step_end(self, run_context):
            before.append(capsys.readouterr().out)

    for _ in range(2):
        if how.startswith("train"):
            model.train(2, dataset(24), callbacks=[*callbacks, Before()])
        else:
            frequency = 3 if how == "fit that never evaluates" else 1
            model.fit(2, dataset(24), valid, frequency, callbacks=[*callbacks, Before()])
    printed = "".join(before) + capsys.readouterr().out
    assert printed.count(said) == 2 * told
    assert before[0].count(said) == told
    check_callbacks(model, dataset(24), callbacks, epochs=2, valid_dataset=valid)
    assert capsys.readouterr().out == ""


LATE = "Model: the run begins with epoch 3, but its optimizer has done no step: first load the weights and "


@pytest.mark.parametrize(("initial_epoch", "steps_done", "told"), [(2, 0, 1), (2, 8, 0), (0, 0, 0)])
def test_a_run_that_begins_late_with_a_new_optimizer_is_told_once(capsys, initial_epoch, steps_done, told):
    """Where steps are counted: nothing was loaded. Each run is told."""
    run = ScriptedRun([None, None], steps_per_epoch=4, initial_epoch=initial_epoch)
    run.optimizer.global_step.set_data(Tensor([steps_done], ms.int32))
    for _ in range(2):
        run.play([History(), EarlyStopping("loss", mode="min", verbose=0)])
        assert capsys.readouterr().out.count(LATE) == (told if COUNTS_STEPS else 0)


def test_what_a_sink_gives_of_its_losses_is_told_once(capsys, graph):
    """Where a callback uses them; in sink mode as MindSpore has it on a device."""
    told = "Model: in sink mode the device returns only the loss of the last of each 4 steps"
    for callback, count in ((LossMonitor(per_print_times=0), 1), (GracefulStop(), 0)):
        sinking_model().train(2, dataset(), callbacks=[callback], dataset_sink_mode=True)
        assert capsys.readouterr().out.count(told) == count


# What is refused


class NoStep(Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


def refused(error, message, run, callbacks=()):
    """A run is refused before its first step."""
    with pytest.raises(error, match=message):
        run.play([*callbacks, History(), NoStep()])


def test_a_metric_has_another_name_than_what_the_training_steps_give():
    """One of the two would be lost."""
    model = make_model(metrics={"kl": Accuracy()})
    callbacks = [StepOutputs(others={"kl": 1}), Validate(model, valid_dataset()), NoStep()]
    with pytest.raises(ValueError, match="^Model: the metric 'kl' has the name of a value that the training steps"):
        model.train(1, dataset(), callbacks=callbacks)


@pytest.mark.parametrize(
    ("count", "done", "initial_epoch", "needed"),
    [
        (8, 0, 0, None),
        (7, 0, 0, 8),
        (1, 0, 0, 8),
        (9, 0, 0, None),
        # Steps that the optimizer has done take their part of the list.
        (11, 4, 0, 12),
        (12, 4, 0, None),
        # A run that continues: the epochs before are done.
        (16, 8, 2, None),
        (15, 8, 2, 16),
    ],
)
def test_a_list_of_rates_lasts_to_the_end_of_the_run(count, done, initial_epoch, needed):
    """Two epochs of four steps; else it would be an error in the middle, or a rate of 0."""
    run = ScriptedRun(
        [None, None],
        steps_per_epoch=4,
        initial_epoch=initial_epoch,
        learning_rate=[0.1 / (1 + i) for i in range(count)],
    )
    run.optimizer.global_step.set_data(Tensor([done], ms.int32))
    if needed is None:
        run.play([History()])
    else:
        told = f"a list of {count} learning rates?, but the run takes it to step {needed} .* make the list that long"
        refused(ValueError, f"^Model: the optimizer holds {told}", run)


def frozen_network(*names):
    network = nn.SequentialCell(nn.Dense(2, 2), nn.BatchNorm1d(2), nn.Dense(2, 2))
    optimizer = nn.Momentum([*network.get_parameters()] if not names else network.trainable_params(), 0.1, 0.9)
    for name, one in network.parameters_and_names():
        if name in names:
            one.requires_grad = False
    return ScriptedRun([None], network=network, optimizer=optimizer)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), None),  # the optimizer holds a BatchNorm's statistics too
        (("0.weight",), "holds '0.weight', where requires_grad is False"),
        (("0.weight", "0.bias", "2.weight"), "holds '0.weight', '0.bias', '2.weight', where"),
        (("0.weight", "0.bias", "2.weight", "2.bias"), r"'0.weight', '0.bias', '\S+', \.\.\., where"),
    ],
)
def test_what_is_frozen_is_not_in_the_optimizer(names, told):
    """It would be trained all the same."""
    run = frozen_network(*names)
    if told is None:
        run.play([History()])
    else:
        refused(ValueError, f"^Model: the optimizer .*{told}.*; freeze first, then make the optimizer", run)


class Keeps(TrainCallback):
    """Is to keep files."""

    def __init__(self, space):
        super().__init__()
        self.space = space

    def disk_space(self, run):
        return self.space


@pytest.mark.parametrize(
    ("sizes", "is_refused"), [([1000], False), ([1001], True), ([400, 600], False), ([401, 600], True), ([0], False)]
)
def test_there_is_room_for_all_files_of_all_callbacks(monkeypatch, tmp_path, sizes, is_refused):
    """On each disk; a folder that is missing is its owner's concern."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
    keeps = [Keeps({str(tmp_path): size}) for size in sizes]
    keeps.append(Keeps({str(tmp_path / "missing"): 10**9}))
    if is_refused:
        told = "^the checkpoints of this run need 1.0 kB on the disk of '.*', where 1.0 kB are free; make room"
        refused(OSError, told, ScriptedRun([None]), keeps)
    else:
        ScriptedRun([None]).play(keeps)


def test_an_evaluation_that_cannot_work_is_refused_before_the_first_step():
    """In the name of who would make it; `fit` needs to know which output is the loss."""
    model = make_model()
    wide = valid_dataset().map(lambda images: images[..., :2], "images")
    for how, owner in (("fit", "Model.fit"), ("train", "Validate")):
        callbacks = [History(), NoStep(), *([Validate(model, wide)] if how == "train" else [])]
        with pytest.raises(ValueError, match=f"^{owner}: the first batch of the validation dataset, .*does not go"):
            if how == "fit":
                model.fit(1, dataset(), wide, callbacks=callbacks)
            else:
                model.train(1, dataset(), callbacks=callbacks)
    network = seeded()
    own = nn.WithEvalCell(network, loss_fn())
    optimizer = nn.SGD(network.trainable_params(), 0.1)
    model = ms.Model(network, loss_fn(), optimizer, metrics={"acc"}, eval_network=own)
    with pytest.raises(ValueError, match=r"^Model.fit: .*give it eval_indexes=\[loss, prediction, label\], or call"):
        model.fit(1, dataset(), valid_dataset(), callbacks=[History(), NoStep()])
