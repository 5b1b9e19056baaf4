"""Everything that would go wrong is told at once, and before anything has happened."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import mindspore as ms
import pytest
from mindspore import nn
from training import dataset, make_model, valid_dataset, weights

from ms_callbacks import (
    BestCheckpoint,
    CSVLogger,
    DynamicLR,
    EarlyStopping,
    GracefulStop,
    LossMonitor,
    LRStepDecay,
    ReduceLROnPlateau,
    ShapeInspector,
    TrainingState,
    Validate,
    check_callbacks,
)


def test_a_sound_list_passes_and_nothing_has_changed(tmp_path: Path) -> None:
    """No file, no weight, no rate, no handler, no state of a callback; and the run then works."""
    model, train = make_model(), dataset()
    (tmp_path / "log.csv").write_text("epoch,loss\n")
    before = weights(model.train_network)
    callbacks = [
        Validate(model, valid_dataset()),
        EarlyStopping("acc", restore_best_weights=True),
        BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc"),
        TrainingState(str(tmp_path / "state")),
        CSVLogger(str(tmp_path / "log.csv")),
        LRStepDecay(1),
        GracefulStop(),
        ShapeInspector(),
        LossMonitor(),
    ]
    check_callbacks(model, train, callbacks, epochs=2)
    assert os.listdir(tmp_path) == ["log.csv"]
    assert (tmp_path / "log.csv").read_text() == "epoch,loss\n"
    after = weights(model.train_network)
    assert all((after[name] == before[name]).all() for name in before)
    model.train(2, train, callbacks=callbacks)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """One a line, each as the callback itself says it at the start of a run."""
    model = make_model()
    callbacks = [
        Validate(model, valid_dataset()),
        EarlyStopping("accuracy"),
        BestCheckpoint(str(tmp_path / "nowhere" / "best.ckpt"), monitor="acc"),
        LRStepDecay(5),
        ReduceLROnPlateau("acc"),
    ]
    with pytest.raises(ValueError, match="4 problems:") as error:
        check_callbacks(model, dataset(), callbacks, epochs=3)
    told = str(error.value).splitlines()[1:]
    assert "did you mean 'acc'?" in told[0]
    assert "nowhere" in told[1]
    assert "LRStepDecay and ReduceLROnPlateau both set the learning rate" in told[2]
    with pytest.raises(ValueError, match="did you mean 'acc'"):
        model.train(3, dataset(), callbacks=callbacks)


def test_lists_of_rates_are_held_against_the_steps_of_the_run() -> None:
    """Ours, and one that the optimizer holds: MindSpore finds that out in the middle of the run, or never."""
    with pytest.raises(ValueError, match="12"):
        check_callbacks(make_model(), dataset(), [DynamicLR([0.1] * 11)], epochs=3)
    held = make_model(optimizer=lambda network: nn.SGD(network.trainable_params(), [0.1] * 11))
    with pytest.raises(ValueError, match=r"a list of 11 learning rates, but the run takes it to step 12"):
        check_callbacks(held, dataset(), [LossMonitor()], epochs=3)
    with pytest.raises(ValueError, match=r"a list of 11 learning rates, but the run takes it to step 12"):
        held.train(3, dataset(), callbacks=[LossMonitor()])
    check_callbacks(held, dataset(), [LossMonitor()], epochs=2)


def test_the_plan_is_checked_where_the_run_begins_later() -> None:
    """initial_epoch counts."""
    inspector = ShapeInspector(show_values_at=(13,))
    with pytest.raises(ValueError, match=r"asks for \[13\]"):
        check_callbacks(make_model(), dataset(), [inspector], epochs=3)
    check_callbacks(make_model(), dataset(), [inspector], epochs=4, initial_epoch=2)


def test_a_full_disk_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All checkpoints of the run together, and the one that is written beside."""
    model = make_model()
    callbacks = [
        Validate(model, valid_dataset()),
        BestCheckpoint(str(tmp_path / "{epoch}.ckpt"), monitor="acc", save_top_k=3),
        TrainingState(str(tmp_path / "state")),
    ]
    size = sum(parameter.nbytes for parameter in model.predict_network.get_parameters())
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 4 * size))
    with pytest.raises(ValueError, match=r"need \d.* on the disk of .* make room, keep fewer, or save elsewhere"):
        check_callbacks(model, dataset(), callbacks, epochs=5)
    check_callbacks(model, dataset(), callbacks[:2], epochs=5)
    with pytest.raises(OSError, match="make room"):
        model.train(5, dataset(), callbacks=callbacks)


def test_mindspores_own_are_known() -> None:
    """One that finds its results wherever it stands, one that sets the rate too, one that handles signals too."""
    model = make_model()
    check_callbacks(model, dataset(), [ms.train.EarlyStopping("acc"), Validate(model, valid_dataset())], epochs=1)
    scheduler = ms.train.LearningRateScheduler(lambda rate, step: rate)
    with pytest.raises(ValueError, match="both set the learning rate"):
        check_callbacks(model, dataset(), [LRStepDecay(1), scheduler], epochs=1)
    if hasattr(ms.train, "OnRequestExit"):
        with pytest.raises(ValueError, match="both handle signals"):
            check_callbacks(model, dataset(), [GracefulStop(), ms.train.OnRequestExit()], epochs=1)


def test_fit_and_sink_mode_are_taken_as_they_will_be() -> None:
    """With a valid_dataset the run evaluates; in sink mode there are no steps to set a rate for."""
    model = make_model()
    check_callbacks(model, dataset(), [EarlyStopping("acc")], epochs=1, valid_dataset=valid_dataset())
    with pytest.raises(ValueError, match="never evaluates"):
        check_callbacks(model, dataset(), EarlyStopping("acc"), epochs=1)
    check_callbacks(model, dataset(), [DynamicLR([0.1] * 4)], epochs=1, dataset_sink_mode=True)  # never on a CPU


def test_sink_mode_is_refused_where_there_is_one(monkeypatch) -> None:
    """On GPU and Ascend, steps cannot be told apart."""
    model, read = make_model(), ms.get_context
    monkeypatch.setattr(ms, "get_context", lambda name: "Ascend" if name == "device_target" else read(name))
    with pytest.raises(ValueError, match="dataset_sink_mode=False"):
        check_callbacks(model, dataset(), [DynamicLR([0.1] * 4)], epochs=1, dataset_sink_mode=True)


def test_a_run_that_could_go_on_is_not_overlooked(tmp_path: Path) -> None:
    """Where an unfinished one is there, resume comes first."""
    model, train = make_model(), dataset()

    class Fail(ms.train.Callback):
        def on_train_epoch_end(self, run_context: object) -> None:
            if run_context.original_args()["cur_epoch_num"] == 2:
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        model.train(3, train, callbacks=[TrainingState(str(tmp_path / "state")), Fail()])
    state = TrainingState(str(tmp_path / "state"))
    with pytest.raises(ValueError, match="holds the state of a run; to continue it, call initial_epoch = state.resume"):
        check_callbacks(model, train, [state], epochs=3)
    initial_epoch = state.resume(model, train)
    check_callbacks(model, train, [state], epochs=3, initial_epoch=initial_epoch)


def test_nonsense_is_refused() -> None:
    """What is no Model, no dataset, no callback, no number of epochs."""
    model = make_model()
    with pytest.raises(TypeError, match=r"model must be a mindspore\.train\.Model"):
        check_callbacks(model.predict_network, dataset(), [], epochs=1)
    with pytest.raises(TypeError, match="train_dataset must be a MindSpore dataset"):
        check_callbacks(model, [], [], epochs=1)
    with pytest.raises(TypeError, match="valid_dataset must be a MindSpore dataset"):
        check_callbacks(model, dataset(), [], epochs=1, valid_dataset=[])
    with pytest.raises(TypeError, match=r"EarlyStopping is a class; write EarlyStopping\(\.\.\.\)"):
        check_callbacks(model, dataset(), [EarlyStopping], epochs=1)
    with pytest.raises(ValueError, match="epochs must be at least 3"):
        check_callbacks(model, dataset(), [], epochs=2, initial_epoch=2)
