"""What a list of callbacks must fulfil as a whole, before the first step; and each fact of a run told once."""

from __future__ import annotations

import pytest
from mindspore.train import Accuracy, Callback, Loss
from mindspore.train import EarlyStopping as MindSporesEarlyStopping
from training import dataset, make_model, valid_dataset

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
    Validate,
    check_callbacks,
)

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
        "Model.fit: its eval_loss is the loss of the last validation batch alone, as MindSpore computes it; for the "
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
