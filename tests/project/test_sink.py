"""Sink mode through MindSpore's own loop: a stand-in takes the place of the device's queue, and nothing else's."""

from __future__ import annotations

import csv

import mindspore as ms
import numpy as np
import pytest
from every_callback import MAKE
from large_runs_table import check_cell
from mindspore import nn
from sinking import SinkingModel, sinking_model
from training import assert_same_weights, dataset, loss_fn, make_model, seeded, valid_dataset, weights

from ms_callbacks import (
    BatchAccuracy,
    BestCheckpoint,
    ConfusionMatrix,
    CSVLogger,
    DynamicLR,
    EarlyStopping,
    ExportBest,
    History,
    LossMonitor,
    LossSpike,
    LRStepDecay,
    ProgressBar,
    ReduceLROnPlateau,
    TrainingState,
    Validate,
    check_callbacks,
)
from ms_callbacks.core.mindspore_compat import COUNTS_STEPS
from ms_callbacks.core.rate_setter import RateSetter

SIZES = {"all": -1, "a divisor": 2, "no divisor": 3}  # of the four batches
in_both_modes = pytest.mark.parametrize(
    ("mode", "sink_size"),
    [
        pytest.param(
            mode, size, id=f"{mode}-{name}", marks=[] if mode == "graph" or name == "all" else [pytest.mark.slow]
        )
        for mode in ("graph", "pynative")
        for name, size in SIZES.items()
    ],
    indirect=["mode"],
)
# What needs the batches of single steps says so by name; all else works.
REFUSED = {
    "DynamicLR": "in sink mode steps run on the device unseen, and none can have a rate of its own",
    "AdversarialTraining": "in sink mode batches go to the device unseen and cannot be replaced",
    "LRCyclic": "in sink mode steps run on the device unseen, and none can have a rate of its own",
    "LROneCycle": "in sink mode steps run on the device unseen, and none can have a rate of its own",
    "LRWarmup": "in sink mode steps run on the device unseen, and none can have a rate of its own",
    "EMAWeightAveraging": "in sink mode steps run on the device unseen, so weights cannot be averaged",
    "ActivationMonitor": "in sink mode batches go to the device unseen",
    "ExportBest": "in sink mode batches go to the device unseen; .* or pass inputs=",
    "GradientMonitor": "in sink mode batches go to the device unseen",
    "GradualUnfreezing": "in sink mode steps run on the device unseen",
    "LossSpike": "in sink mode the device returns only the loss of a sink's last step",
    "NonFiniteGuard": "in sink mode batches go to the device unseen",
    "ShapeInspector": "in sink mode batches go to the device unseen; .* or pass inputs=",
    "ThroughputMonitor": "in sink mode neither single steps nor their batches can be seen",
}
IN_GRAPH_MODE_ALONE = ("LossSpike",)  # each step of PYNATIVE mode returns its loss


def steps_of(sink_size):
    return 4 if sink_size == -1 else sink_size


def train(model, callbacks, sink_size, how="train", epochs=3, data=None, **more):
    data = dataset() if data is None else data
    arguments = {"callbacks": callbacks, "dataset_sink_mode": True, "sink_size": sink_size, **more}
    if how == "train":
        model.train(epochs, data, **arguments)
    else:
        model.fit(epochs, data, valid_dataset(), **arguments)


@pytest.mark.parametrize("how", [pytest.param("train", marks=pytest.mark.slow), "fit"])
@in_both_modes
def test_what_keeps_decides_and_records_does_it_as_ever(mode, sink_size, how, tmp_path):
    """Training is bit for bit what it is without them, and what they tell is of the epochs and steps that ran."""
    model, history = sinking_model(), History()
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc", save_optimizer=True)
    stopping = EarlyStopping("acc", patience=9, restore_best_weights=False)
    state, logger = TrainingState(str(tmp_path / "state")), CSVLogger(str(tmp_path / "log.csv"))
    others = [state, logger, LossMonitor(), best, stopping, Validate(model, valid_dataset())]
    train(model, [history, *others], sink_size, how)
    bare = sinking_model()
    train(bare, [], sink_size)
    assert_same_weights(weights(bare.train_network), weights(model.train_network))
    rows = list(csv.DictReader(open(tmp_path / "log.csv")))
    assert [int(row["epoch"]) for row in rows] == history.epoch == [1, 2, 3]
    assert [float(row["loss"]) for row in rows] == history.history["loss"]
    assert history.history["learning_rate"] == [0.05] * 3
    assert history.history["acc"][stopping.best_epoch_ - 1] == stopping.best_ == max(history.history["acc"])
    record = best.load_into(bare.train_network)
    assert record["step"] == record["epoch"] * steps_of(sink_size)
    if COUNTS_STEPS:
        assert int(bare.train_network.optimizer.global_step.asnumpy().item()) == record["step"]


@pytest.fixture(scope="module")
def shared():
    """A Model for many runs, which is compiled once."""
    return sinking_model()


# By default all in GRAPH mode, but two of the schedules; in PYNATIVE mode, where each step returns, one of each sort.
SCHEDULES = [kind for kind in MAKE if issubclass(kind, RateSetter) and kind not in (DynamicLR, LRStepDecay)]
IN_BOTH_MODES = (ConfusionMatrix, EarlyStopping, LossSpike, LRStepDecay, ProgressBar, TrainingState)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param(
            kind,
            mode,
            id=f"{mode}-{kind.__name__}",
            marks=[] if kind in IN_BOTH_MODES or (mode == "graph" and kind not in SCHEDULES) else [pytest.mark.slow],
        )
        for mode in ("graph", "pynative")
        for kind in MAKE
    ],
    indirect=["mode"],
)
def test_each_alone_runs_twice_or_is_refused_by_name(mode, kind, shared, tmp_path, record_property):
    """Before the first step, as the page says."""
    is_refused = kind.__name__ in REFUSED and not (mode == "pynative" and kind.__name__ in IN_GRAPH_MODE_ALONE)
    outcome = "refused" if is_refused else "works"
    check_cell(kind, f"sink, {mode.upper()}", outcome, record_property)
    model = sinking_model() if kind is BatchAccuracy else shared
    callback = MAKE[kind](model, tmp_path)
    besides = [] if kind is Validate else [Validate(model, valid_dataset())]
    if is_refused:
        reason, before = REFUSED[kind.__name__], weights(model.train_network)
        with pytest.raises(ValueError, match=f"{kind.__name__}: {reason}"):
            train(model, [callback, *besides], 3)
        assert_same_weights(before, weights(model.train_network))
    else:
        for epochs in (2, 1):
            train(model, [callback, *besides], 3, epochs=epochs)
            assert model.queue.taken == 3 * epochs


@pytest.mark.parametrize("sink_size", [-1, pytest.param(2, marks=pytest.mark.slow), 3], ids=SIZES)
def test_the_loss_of_a_sink_is_that_of_its_last_step(graph, sink_size, capsys):
    """The device gives back no other: one line says so, and the epoch's line does not speak of a mean."""
    model, alone, history = sinking_model(), make_model(), History()
    train(model, [history, LossMonitor(per_print_times=0)], sink_size)
    losses = []

    class Each(ms.train.Callback):
        def on_train_step_end(self, run_context):
            losses.append(float(run_context.original_args()["net_outputs"].asnumpy()))

    alone.train(3, dataset(), callbacks=[Each()])
    steps = steps_of(sink_size)
    assert history.history["loss"] == losses[steps - 1 : 3 * steps : steps]
    printed = capsys.readouterr().out
    assert printed.count(f"in sink mode the device returns only the loss of the last of each {steps} steps") == 1
    assert printed.count("loss of the last step: ") == 3
    assert "avg loss" not in printed


def test_a_sink_that_gives_each_loss_has_a_mean(capsys):
    """As in PYNATIVE mode, where steps come back one by one; and where an epoch has one step alone."""
    for mode, data in ((ms.PYNATIVE_MODE, dataset()), (ms.GRAPH_MODE, dataset(12, 12))):
        ms.set_context(mode=mode)
        train(sinking_model(), [LossMonitor(per_print_times=0)], -1, epochs=1, data=data)
    printed = capsys.readouterr().out
    assert printed.count("avg loss: ") == 2
    assert "in sink mode" not in printed


@pytest.mark.parametrize(("interval", "lines"), [(1, 3), (2, 3), (3, 3), (5, 1), (6, 1)])
def test_a_line_waits_for_the_end_of_its_sink(graph, interval, lines, shared, capsys):
    """Nine steps in sinks of three: those of the interval that a sink ends on or has passed."""
    train(shared, [LossMonitor(per_print_times=interval)], 3)
    assert capsys.readouterr().out.count("Epoch:[") == lines


def test_an_interval_that_no_sink_ends_on_is_refused(graph):
    """Where a line is of one batch, none could be printed."""
    network, accuracy = seeded(), BatchAccuracy(per_print_times=2)
    model = SinkingModel(network, accuracy.watch(loss_fn()), nn.SGD(network.trainable_params(), 0.01))
    with pytest.raises(
        ValueError, match=r"per_print_times=2 cannot be met in sink mode, where 3 steps come back as one"
    ):
        train(model, [accuracy], 3)
    train(model, [accuracy], 4)


@pytest.mark.parametrize("where", ["alone", "in a training cell"])
def test_rates_are_those_of_the_optimizer_within_a_training_cell(mode, where, tmp_path):
    """MindSpore's wrapper around a sink has no optimizer of its own."""
    if where == "alone":
        model = sinking_model(optimizer=lambda network: nn.SGD(network.trainable_params(), 0.1))
    else:
        model = sinking_model(
            cell=lambda net: nn.TrainOneStepCell(nn.WithLossCell(net, loss_fn()), nn.SGD(net.trainable_params(), 0.1))
        )
    history, logger = History(), CSVLogger(str(tmp_path / "log.csv"))
    train(model, [LRStepDecay(1, gamma=0.5), history, logger], 3)
    assert history.history["learning_rate"] == [0.1, 0.05, 0.025]
    rows = list(csv.DictReader(open(tmp_path / "log.csv")))
    assert [row["learning_rate"] for row in rows] == ["0.1", "0.05", "0.025"]


def test_by_step_schedules_and_states_are_refused_where_steps_cannot_be_told_apart(tmp_path):
    """Each says what to do."""
    with pytest.raises(ValueError, match="DynamicLR: in sink mode .* or use a schedule by epoch"):
        train(sinking_model(), [DynamicLR([0.1] * 9)], 3)
    train(sinking_model(), [DynamicLR([0.1, 0.05, 0.02], by="epoch")], 3)
    with pytest.raises(ValueError, match="leave every_n_steps out"):
        train(sinking_model(), [TrainingState(str(tmp_path / "state"), every_n_steps=2)], 3)


# A resume


@pytest.mark.skipif(not hasattr(ms.dataset.Dataset, "set_init_step"), reason="MindSpore begins no dataset elsewhere")
@pytest.mark.parametrize(
    ("mode", "sink_size"),
    [
        pytest.param(
            mode,
            sink_size,
            id=f"{mode}-{name}",
            marks=[] if (mode, name) == ("graph", "no divisor") else [pytest.mark.slow],
        )
        for mode in ("graph", "pynative")
        for name, sink_size in SIZES.items()
    ],
    indirect=["mode"],
)
def test_a_resume_continues_with_the_batch_after_the_last(mode, sink_size, tmp_path):
    """Bit for bit as one run, whatever the size of a sink."""

    def make(folder):
        model = sinking_model()
        return model, [
            TrainingState(str(folder)),
            ReduceLROnPlateau("acc", patience=1),
            Validate(model, valid_dataset()),
        ]

    whole, callbacks = make(tmp_path / "whole")
    train(whole, callbacks, sink_size, epochs=4)
    first, callbacks = make(tmp_path / "state")
    train(first, callbacks, sink_size, epochs=2)
    again, callbacks = make(tmp_path / "state")
    train_dataset = dataset()
    begun = callbacks[0].resume(again, train_dataset, epochs=4)
    assert begun == 2
    train(again, callbacks, sink_size, epochs=4, data=train_dataset, initial_epoch=begun)
    assert_same_weights(weights(whole.train_network), weights(again.train_network))


@pytest.fixture
def sunk(tmp_path):
    """The state of two epochs of three steps, in a dataset of four batches."""
    train(sinking_model(), [TrainingState(str(tmp_path / "state"))], 3, epochs=2)
    return str(tmp_path / "state")


@pytest.mark.skipif(not hasattr(ms.dataset.Dataset, "set_init_step"), reason="MindSpore begins no dataset elsewhere")
def test_what_would_continue_elsewhere_is_refused(sunk):
    """Another size of a sink, another dataset, and one whose queue is made already, with the order to use."""
    model, state = sinking_model(), TrainingState(sunk)
    with pytest.raises(ValueError, match="was saved with 4 batches in the dataset, but train_dataset has 3"):
        state.resume(model, dataset(36, 12), epochs=3)
    for sink_size in (-1, 2):
        data = dataset()
        assert state.resume(model, data, epochs=3) == 2
        with pytest.raises(
            ValueError, match="was saved with 3 steps an epoch, but this run has .*; pass the same sink"
        ):
            train(model, [state], sink_size, data=data, initial_epoch=2)
    used = dataset()
    train(sinking_model(), [], 3, epochs=1, data=used)
    with pytest.raises(ValueError, match="has already made a queue of train_dataset.*call resume before Model.build"):
        state.resume(model, used, epochs=3)


@pytest.mark.skipif(not hasattr(ms.dataset.Dataset, "set_init_step"), reason="MindSpore begins no dataset elsewhere")
def test_a_state_within_an_epoch_is_for_steps_that_come_back(tmp_path):
    """Sink mode begins at the beginning of one."""

    class Stop(ms.train.Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 6:
                run_context.request_stop()

    folder = str(tmp_path / "state")
    make_model().train(3, dataset(), callbacks=[Stop(), TrainingState(folder)])
    model, state, data = sinking_model(), TrainingState(folder), dataset()
    begun = state.resume(model, data, epochs=3)
    with pytest.raises(ValueError, match="in the middle of an epoch, where sink mode cannot begin"):
        train(model, [state], -1, data=data, initial_epoch=begun)


def test_an_export_knows_its_inputs_from_an_argument(tmp_path):
    """Batches are not seen."""
    model = sinking_model()
    inputs = ms.Tensor(np.zeros((1, 1, 4, 4), np.float32))
    export = ExportBest(str(tmp_path / "best.mindir"), monitor="acc", inputs=inputs)
    train(model, [export, Validate(model, valid_dataset())], 3)
    assert export.path_ is not None


@pytest.mark.skipif(not hasattr(ms.dataset.Dataset, "set_init_step"), reason="MindSpore begins no dataset elsewhere")
def test_check_callbacks_is_told_the_size_of_a_sink(sunk, monkeypatch):
    """A run that continues has as many steps an epoch as before; asked on a machine that sinks."""
    model, state, data = sinking_model(), TrainingState(sunk), dataset()
    begun = state.resume(model, data, epochs=3)
    get = ms.get_context
    monkeypatch.setattr(ms, "get_context", lambda name: "Ascend" if name == "device_target" else get(name))
    arguments = {"epochs": 3, "initial_epoch": begun, "dataset_sink_mode": True}
    check_callbacks(model, data, [state], sink_size=3, **arguments)
    with pytest.raises(
        ValueError, match="was saved with 3 steps an epoch, but this run has 4; pass the same sink_size"
    ):
        check_callbacks(model, data, [state], **arguments)
    for wrong, error in ((0, ValueError), (-2, ValueError), ("3", TypeError)):
        with pytest.raises(error, match="check_callbacks: sink_size must be"):
            check_callbacks(model, data, [state], sink_size=wrong, **arguments)


def test_check_callbacks_says_the_same(monkeypatch):
    """Asked on a machine that sinks."""
    get = ms.get_context
    monkeypatch.setattr(ms, "get_context", lambda name: "Ascend" if name == "device_target" else get(name))
    with pytest.raises(ValueError, match="leave every_n_steps out"):
        check_callbacks(
            make_model(), dataset(), [TrainingState("state", every_n_steps=2)], epochs=1, dataset_sink_mode=True
        )
