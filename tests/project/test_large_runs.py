"""What of a run on many devices works, and what is refused by the name of its setting, before the first step.

`pytest -n 0 tests/project/test_large_runs.py tests/project/test_sink.py tests/core/test_agreement.py --matrix` prints
which callback does what in which setting: it is the table of `docs/en/large_runs.md`, and each cell is tried there.
"""

from __future__ import annotations

import importlib.util
import itertools
import re

import mindspore as ms
import numpy as np
import pytest
from every_callback import MAKE, watched
from large_runs_table import check_cell
from mindspore import Tensor, nn, ops
from mindspore.parallel import _auto_parallel_context
from mindspore.train import Callback
from sinking import sinking_model
from training import (
    Network,
    assert_same_weights,
    dataset,
    in_parallel_mode,
    loss_fn,
    make_model,
    seeded,
    valid_dataset,
    weights,
)

from ms_callbacks import (
    BatchAccuracy,
    BestCheckpoint,
    CSVLogger,
    EarlyStopping,
    ExportBest,
    History,
    LossMonitor,
    NonFiniteGuard,
    ReduceLROnPlateau,
    TrainingState,
    Validate,
    check_callbacks,
    load_int8_weights,
    save_int8_weights,
)
from ms_callbacks.core import distributed, mindspore_compat
from ms_callbacks.core.learning_rates import Rates
from ms_callbacks.core.rate_setter import RateSetter
from ms_callbacks.diagnostics._layer_values import numbers_of, values_of

HAS_AUTO_PARALLEL = importlib.util.find_spec("mindspore.parallel.auto_parallel") is not None
MODELCHECKPOINT = r"ModelCheckpoint and CheckpointConfig\(integrated_save=False\)"


class TrainFaultTolerance(Callback):
    """By its name, which is how MindSpore's own is told: that one needs a device."""


class NoStep(Callback):
    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


def simple_model():
    return make_model(optimizer=lambda network: nn.SGD(network.trainable_params(), 0.05))


def in_mode(parallel_mode):
    """A Model that was made for this mode, in a context that a CPU can train in."""

    def make(monkeypatch):
        return in_parallel_mode(parallel_mode, simple_model())

    return make


def in_stages(monkeypatch):
    monkeypatch.setattr(mindspore_compat, "pipeline_stages", lambda cell=None: 2)
    return in_mode("semi_auto_parallel")(monkeypatch)


def with_parameter(**flags):
    def make(monkeypatch):
        model = simple_model()
        for name, value in flags.items():
            setattr(model.predict_network.head.weight, name, value)
        return model

    return make


def with_parallel_optimizer(monkeypatch):
    model = in_mode("data_parallel")(monkeypatch)
    optimizer = mindspore_compat.made_with(model).optimizer
    optimizer.use_parallel = True
    optimizer.broadcast_params = lambda updated: updated
    return model


def with_repair(monkeypatch):
    monkeypatch.setenv("MS_ENABLE_TFT", "{TTP:1,UCE:1}")
    return simple_model()


# Columns of the table, each with what makes a Model in it and what an error says of it; those of sink mode and of
# several processes are tried where these are.
SEVERAL = "NonFiniteGuard: one process cannot repeat the steps of several"
SETTINGS = {
    "semi-auto, auto parallel": (in_mode("semi_auto_parallel"), "parallel_mode='semi_auto_parallel'"),
    "hybrid parallel": (in_mode("hybrid_parallel"), "parallel_mode='hybrid_parallel'"),
    "pipeline": (in_stages, "pipeline_stages=2"),
    "layerwise parameter": (with_parameter(layerwise_parallel=True), "with layerwise_parallel=True"),
    "parallel optimizer": (with_parallel_optimizer, "enable_parallel_optimizer=True"),
    "fault recovery": (with_repair, "with TrainFaultTolerance and MS_ENABLE_TFT="),
}


def tried(kind, setting, monkeypatch, folder):
    """Trains; returns what came of it, and the error."""
    model = SETTINGS[setting][0](monkeypatch)
    if kind is BatchAccuracy:
        mode, callback = mindspore_compat.parallel_mode_of(model), watched(model)
        in_parallel_mode(mode, model)
    else:
        callback = MAKE[kind](model, folder)
    besides = [TrainFaultTolerance()] if setting == "fault recovery" else []
    besides += [] if kind is Validate else [Validate(model, valid_dataset())]
    before = weights(model.train_network)
    try:
        model.train(1, dataset(24), callbacks=[callback, *besides])
    except ValueError as error:
        assert_same_weights(before, weights(model.train_network))
        return "refused", str(error)
    return "works", ""


# By default, of those that set the rate one of each sort.
SCHEDULES = ("DynamicLR", "LRStepDecay", "LRWarmup", "ReduceLROnPlateau")
KINDS = [
    pytest.param(
        kind,
        id=kind.__name__,
        marks=[pytest.mark.slow] if issubclass(kind, RateSetter) and kind.__name__ not in SCHEDULES else [],
    )
    for kind in MAKE
]


@pytest.mark.parametrize(
    "setting",
    [pytest.param(each, marks=[pytest.mark.slow] if each == "hybrid parallel" else []) for each in SETTINGS],
)
@pytest.mark.parametrize("kind", KINDS)
def test_it_works_or_is_refused_by_name_as_the_page_says(kind, setting, monkeypatch, tmp_path, record_property):
    """Before the first step, with the setting's name."""
    outcome, error = tried(kind, setting, monkeypatch, tmp_path)
    if outcome == "refused":
        assert error.startswith(f"{kind.__name__}: "), error
        assert SETTINGS[setting][1] in error or error.startswith(SEVERAL), error
    check_cell(kind, setting, outcome, record_property)


SAVERS = {
    "BestCheckpoint": lambda folder: BestCheckpoint(str(folder / "best.ckpt"), monitor="acc"),
    "EarlyStopping": lambda folder: EarlyStopping("acc", restore_best_weights=True),
    "ExportBest": lambda folder: ExportBest(str(folder / "best.mindir"), monitor="acc"),
    "TrainingState": lambda folder: TrainingState(str(folder / "state")),
}


@pytest.mark.parametrize("parallel_mode", ["semi_auto_parallel", "auto_parallel", "hybrid_parallel"])
@pytest.mark.parametrize("name", SAVERS)
def test_the_models_own_mode_is_asked(graph, name, parallel_mode, tmp_path):
    """And not MindSpore's context, which says `stand_alone` again once the Model is made."""
    if parallel_mode == "hybrid_parallel":
        model = in_mode(parallel_mode)(None)
    else:
        network = seeded()
        optimizer = nn.Adam(network.trainable_params(), 0.05)
        ms.set_auto_parallel_context(parallel_mode=parallel_mode, device_num=2, global_rank=0)
        try:
            model = ms.Model(network, loss_fn(), optimizer, metrics={"acc"})
        finally:
            ms.reset_auto_parallel_context()
    assert ms.get_auto_parallel_context("parallel_mode") == "stand_alone"
    callbacks = [SAVERS[name](tmp_path), Validate(model, valid_dataset()), NoStep()]
    expected = f"^{name}: parallel_mode='{parallel_mode}' gives each process a part of the weights.*{MODELCHECKPOINT}"
    with pytest.raises(ValueError, match=expected):
        model.train(1, dataset(), callbacks=callbacks)
    with pytest.raises(ValueError, match=expected[1:]):
        check_callbacks(model, dataset(), callbacks, epochs=1)


def test_what_keeps_nothing_is_not_refused_for_what_it_might():
    """`EarlyStopping` alone decides only; with `restore_best_weights` it keeps."""
    for mode in ("semi_auto_parallel", "hybrid_parallel"):
        model, stopping = in_mode(mode)(None), EarlyStopping("acc", patience=0)
        model.train(3, dataset(), callbacks=[stopping, Validate(model, valid_dataset())])
        assert stopping.best_ is not None


@pytest.mark.parametrize(
    ("flag", "setting"),
    [
        ("layerwise_parallel", "with layerwise_parallel=True"),
        ("cache_enable", "with cache_enable=True"),
        ("sliced", "which MindSpore has sliced"),
    ],
)
def test_a_parameter_that_is_not_whole_here_is_named(flag, setting, tmp_path):
    """By what keeps weights, before a step, and by what reads or writes a file of them."""
    expected = f"the parameter 'head.weight' {setting} is not whole in this process"
    make_model().train(1, dataset(), callbacks=[best := BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss")])
    save_int8_weights(seeded(), str(tmp_path / "weights.int8"))
    for name, make in SAVERS.items():
        model = with_parameter(**{flag: True})(None)
        (folder := tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=f"{name}: {expected}"):
            model.train(1, dataset(), callbacks=[make(folder), Validate(model, valid_dataset()), NoStep()])
    network = model.predict_network
    before = weights(network)
    with pytest.raises(ValueError, match=f"TrainingState: {expected}"):
        TrainingState(str(tmp_path / "state")).resume(model, dataset())
    with pytest.raises(ValueError, match=f"BestCheckpoint: {expected}"):
        best.load_into(network)
    with pytest.raises(ValueError, match=f"save_int8_weights: {expected}"):
        save_int8_weights(network, str(tmp_path / "other.int8"))
    with pytest.raises(ValueError, match=f"load_int8_weights: {expected}"):
        load_int8_weights(str(tmp_path / "weights.int8"), network)
    assert_same_weights(before, weights(network))


@pytest.mark.skipif(not HAS_AUTO_PARALLEL, reason="this MindSpore has no AutoParallel")
def test_an_auto_parallel_on_several_devices_is_named_and_on_one_is_whole(graph, tmp_path):
    """Where it stands around the network, in a Model and alone."""
    from mindspore.parallel.auto_parallel import AutoParallel

    def make(devices):
        around = AutoParallel(network := seeded())
        around._device_num = devices
        return around, ms.Model(around, loss_fn(), nn.Adam(network.trainable_params(), 0.05), metrics={"acc"})

    around, model = make(1)
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc")
    model.train(1, dataset(), callbacks=[best, Validate(model, valid_dataset())])
    best.load_into(around)
    around, model = make(2)
    with pytest.raises(ValueError, match=r"BestCheckpoint: parallel_mode='semi_auto_parallel' gives each process"):
        model.train(1, dataset(), callbacks=[best, Validate(model, valid_dataset()), NoStep()])
    with pytest.raises(ValueError, match=r"BestCheckpoint: AutoParallel on 2 devices gives each process a part"):
        best.load_into(around)
    around._pipeline_stages = 2
    with pytest.raises(ValueError, match=r"BestCheckpoint: pipeline_stages=2 gives each process the weights of its"):
        best.load_into(around)
    ms.reset_auto_parallel_context()


def context():
    names = ("gradients_mean", "parallel_mode", "device_num", "full_batch", "comm_fusion", "gradient_fp32_sync")
    return {name: ms.get_auto_parallel_context(name) for name in names}


@pytest.mark.skipif(not HAS_AUTO_PARALLEL, reason="this MindSpore has no AutoParallel")
def test_an_evaluation_leaves_the_auto_parallel_context_as_it_was(graph, monkeypatch):
    """`Model.eval` resets it, and gradients were no longer averaged from then on."""
    from mindspore.parallel.auto_parallel import AutoParallel

    around = AutoParallel(network := seeded())
    around._gradients_mean = True
    model = ms.Model(around, loss_fn(), nn.Adam(network.trainable_params(), 0.05), metrics={"acc"})
    seen = []

    class Look(Callback):
        def on_train_epoch_begin(self, run_context):
            seen.append(context())

        def on_train_epoch_end(self, run_context):
            seen.append(context())

    for level in ("warning", "error"):
        monkeypatch.setattr(_auto_parallel_context.logger, level, lambda *given: pytest.fail(f"said: {given}"))
    model.train(3, dataset(), callbacks=[Validate(model, valid_dataset()), Look()])
    assert len(seen) == 6
    assert all(each == seen[0] for each in seen)
    assert seen[0]["gradients_mean"]
    ms.reset_auto_parallel_context()


# A pipeline: two processes of two stages, played one after the other in this one


class Pipeline:
    """Plays two processes: the second, which has the last stage, is run first, and what it sends is kept."""

    def __init__(self, monkeypatch):
        self.place, self._sent = 1, []
        monkeypatch.setattr(distributed, "count", lambda: 2)
        monkeypatch.setattr(distributed, "place", lambda: self.place)
        monkeypatch.setattr(distributed, "sums", self.sums)
        monkeypatch.setattr(mindspore_compat, "pipeline_stages", lambda cell=None: 2)

    def sums(self, array):
        if self.place == 1:
            self._sent.append(np.array(array))
            return array
        return array + self._sent.pop(0)

    def run(self, network, callbacks, place):
        self.place = place
        model = in_parallel_mode("semi_auto_parallel", make_model(network=network))
        model.train(2, dataset(24), callbacks=callbacks)


class Elsewhere(nn.Cell):
    """A stage that is not the last gives no loss: whatever it returns is none."""

    def __init__(self):
        super().__init__()
        self.network = Network()

    def construct(self, x):
        return ops.log(-ops.abs(self.network(x)))


def test_a_pipelines_loss_is_that_of_its_last_stage(graph, monkeypatch, capsys, tmp_path):
    """It is printed and written there, and no other stage's numbers are taken for one."""
    monkeypatch.setattr("ms_callbacks.core.lifecycle.check_agreement", lambda *given: None)
    pipeline = Pipeline(monkeypatch)
    last, first = History(), History()
    monitor = lambda: LossMonitor(per_print_times=1)  # noqa: E731
    pipeline.run(None, [last, monitor(), CSVLogger(str(tmp_path / "last.csv"))], place=1)
    printed = capsys.readouterr().out
    assert printed.count("Epoch:[") == 4
    pipeline.run(Elsewhere(), [first, monitor(), CSVLogger(str(tmp_path / "first.csv"))], place=0)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "first.csv").exists()
    alone = History()
    monkeypatch.undo()
    make_model().train(2, dataset(24), callbacks=[alone])
    assert first.history["loss"] == last.history["loss"] == pytest.approx(alone.history["loss"], abs=1e-6)
    assert first.history["samples_per_second"] == [None, None]


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: EarlyStopping("loss"),
        lambda folder: ReduceLROnPlateau("loss"),
        lambda folder: BestCheckpoint(str(folder / "best.ckpt"), monitor="loss"),
    ],
)
def test_who_decides_by_the_loss_is_refused_in_a_pipeline(make, monkeypatch, tmp_path):
    """It is known on the last stage alone."""
    model = in_stages(monkeypatch)
    with pytest.raises(ValueError, match="pipeline_stages=2 gives each process the weights of its own stage, and only"):
        model.train(1, dataset(), callbacks=[make(tmp_path), NoStep()])


# Rates and values


def test_a_schedules_rate_is_read_without_compiling_it(graph):
    """What is compiled in such a context is cut too, or fails."""
    network = seeded()
    rates = Rates(nn.SGD(network.trainable_params(), nn.ExponentialDecayLR(0.1, 0.5, 1)))
    ms.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=2, global_rank=0)
    try:
        assert rates.read() == [0.1]
    finally:
        ms.reset_auto_parallel_context()


@pytest.mark.skipif(
    not hasattr(getattr(nn, "utils", None), "no_init_parameters"), reason="this MindSpore gives all parameters values"
)
def test_parameters_without_values_are_given_some_before_they_are_loaded(mode, tmp_path):
    """As `nn.utils.no_init_parameters` leaves them, and the moments of an optimizer that was made of them."""
    best, state = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss"), TrainingState(str(tmp_path / "state"))
    model = make_model()
    model.train(1, dataset(), callbacks=[best, state])
    with nn.utils.no_init_parameters():
        network = Network()
    optimizer = nn.Adam(network.trainable_params(), 0.05)
    assert network.head.weight.has_init
    best.load_into(network)
    assert_same_weights(weights(model.predict_network), weights(network))
    again, state = ms.Model(network, loss_fn(), optimizer), TrainingState(str(tmp_path / "state"))
    assert optimizer.moment1[0].has_init
    data = dataset()
    assert state.resume(again, data, epochs=2) == 1
    again.train(2, data, callbacks=[state], initial_epoch=1)
    model.train(1, dataset())
    assert_same_weights(weights(model.train_network), weights(again.train_network))


# Repair


@pytest.mark.parametrize("setting", ["{UCE:1}", "{TTP:1,ARF:1}", "{HCCE:1}", "{TRE:1}", "{TRE:2}"])
def test_what_keeps_or_restores_is_refused_beside_a_repair(setting, monkeypatch, tmp_path):
    """It would give the best weights back in the middle of training, and training would go on from them."""
    monkeypatch.setenv("MS_ENABLE_TFT", setting)
    for name, make in SAVERS.items():
        model = make_model()
        with pytest.raises(ValueError, match=f"{name}: with TrainFaultTolerance and MS_ENABLE_TFT={setting!r}.*leave"):
            model.train(
                1,
                dataset(),
                callbacks=[TrainFaultTolerance(), make(tmp_path), Validate(model, valid_dataset()), NoStep()],
            )


@pytest.mark.parametrize("setting", ["", "{TTP:1}", "{TSP:1}"])
def test_what_does_not_train_again_is_not_refused(setting, monkeypatch, tmp_path):
    """MindSpore saves at a fault there, or pauses, and ends."""
    monkeypatch.setenv("MS_ENABLE_TFT", setting)
    stopping = EarlyStopping("loss", restore_best_weights=True)
    make_model().train(1, dataset(), callbacks=[TrainFaultTolerance(), stopping])
    assert stopping.best_epoch_ == 1


@pytest.mark.skipif(not hasattr(ms.train, "TrainFaultTolerance"), reason="this MindSpore repairs nothing")
@pytest.mark.parametrize(("sinks", "epochs", "steps"), [(False, 3, 4), (True, 5, 1)])  # it repairs sinks of one step
def test_steps_count_on_after_a_repair(sinks, epochs, steps, monkeypatch, capsys):
    """Through MindSpore's own handler, with a stand-in for the device's: it goes on after the third step."""
    from mindspore.train import model as mindspores

    monkeypatch.setenv("MS_ENABLE_TFT", "{UCE:1}")
    faults = ["UCEError error_code=1"]

    class Value:
        value = 1

    class Repairs(ms.train.TrainFaultTolerance):
        """Ends a step with what MindSpore repairs."""

        def __init__(self):
            Callback.__init__(self)
            self.tft = self
            self.Action = type("Action", (), {"EXIT": None})
            self.Action.EXIT = type("Exit", (), {"value": "exit"})
            self.ReportState = type("State", (), {"RS_UCE": Value, "RS_UNKNOWN": Value})

        def on_train_step_begin(self, run_context):
            if len(seen) == 3 and faults:
                raise RuntimeError(faults.pop())

        def nothing(self, *given):
            """Of a device there is nothing to report, and nothing to clear."""

        on_train_begin = on_train_end = on_train_epoch_begin = on_train_epoch_end = on_train_step_end = nothing
        begin = end = epoch_begin = epoch_end = step_begin = step_end = nothing
        tft_report_error = _reset_acc_grads = nothing

        def tft_wait_next_action(self):
            return "retry"

        def tft_get_repair_step(self):
            return 3

    class Steps(Callback):
        def on_train_step_end(self, run_context):
            seen.append(run_context.original_args()["cur_step_num"])

    monkeypatch.setattr(mindspores, "_reset_error_state", lambda: None, raising=False)
    monkeypatch.setattr(mindspores, "_reset_training_dataset", lambda *given: None, raising=False)
    seen = []
    model = sinking_model() if sinks else make_model()
    sinking = {"dataset_sink_mode": True, "sink_size": 1} if sinks else {}
    model.train(epochs, dataset(), callbacks=[Repairs(), LossMonitor(), Steps()], **sinking)
    lines = re.findall(r"Epoch:\[ *(\d+)/ *\d+\], step:\[ *(\d+)/", capsys.readouterr().out)
    expected = list(itertools.product(range(1, epochs + 1), range(1, steps + 1)))
    assert [(int(epoch), int(step)) for epoch, step in lines] == expected


# Numbers of half the size


def of_half(kind):
    if not hasattr(ms, "bfloat16") and kind == "bfloat16":
        pytest.skip("this MindSpore has no bfloat16")
    return getattr(ms, kind)


def has_arrays_of_bfloat16():
    try:
        return Tensor(np.array([1.0, np.nan], np.float32)).astype(of_half("bfloat16")).asnumpy()
    except TypeError:
        pytest.skip("this MindSpore makes no array of bfloat16 with this NumPy")


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_loss_of_half_the_size_is_a_number(mode, kind, tmp_path):
    """Monitored, recorded and printed as what it is; and what is not finite is found."""
    half = of_half(kind)
    if kind == "bfloat16" and mode == "graph":
        has_arrays_of_bfloat16()  # of which MindSpore makes one when it compiles

    class Halved(nn.Cell):
        def __init__(self, factor):
            super().__init__()
            self.network, self.loss, self.factor = seeded(), loss_fn(), factor

        def construct(self, x, label):
            return ops.cast(self.loss(self.network(x), label) * self.factor, half)

    def train(factor, callbacks):
        cell = Halved(Tensor(factor, ms.float32))
        ms.Model(cell, None, nn.SGD(cell.network.trainable_params(), 0.01)).train(2, dataset(24), callbacks=callbacks)

    history, best = History(), BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss")
    train(1.0, [history, LossMonitor(), best, EarlyStopping("loss")])
    assert history.history["loss"][0] == pytest.approx(1.25, abs=0.1)
    assert best.best_ == min(history.history["loss"])
    with pytest.raises(ValueError, match=r"LossMonitor: the loss is not finite in epoch 1, step 1"):
        train(3.4e38, [LossMonitor()])
    with pytest.raises(ValueError, match="NonFiniteGuard: the loss is inf in epoch 1, step 1"):
        train(3.4e38, [NonFiniteGuard(str(tmp_path / "dumps"))])


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_layer_of_half_the_size_has_its_values(kind):
    """And is found to be dead, or not finite."""
    half = of_half(kind)
    for numbers, finding in (([0.5, 2.0], ""), ([0.0, 0.0], "dead"), ([1.0, float("nan")], "not finite")):
        values = values_of("layer", "Dense", numbers_of(Tensor(np.array(numbers, np.float32)).astype(half)))
        assert values.finding == finding
        assert values.maximum == numbers[1] or finding == "not finite"
