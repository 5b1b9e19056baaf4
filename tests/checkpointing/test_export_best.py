"""ExportBest: the file holds the best weights, was read back and compared, and the run is what it was without it."""

from __future__ import annotations

import json
import os
import sys
import types

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from training import (
    Network,
    NetworkWithLoss,
    Recorder,
    Script,
    assert_same_weights,
    dataset,
    loss_fn,
    make_model,
    valid_dataset,
    weights,
)

from ms_callbacks import EarlyStopping, Validate
from ms_callbacks.checkpointing import _export
from ms_callbacks.checkpointing.export_best import ExportBest

INPUTS = Tensor(np.random.RandomState(3).randn(5, 1, 4, 4).astype(np.float32))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory, monkeypatch):
    """MindSpore dumps the graphs that it cannot compile into the working folder."""
    monkeypatch.chdir(tmp_path_factory.mktemp("dumps"))


class NoStep(ms.train.Callback):
    """Fails the test if a step runs."""

    def on_train_step_end(self, run_context):
        raise AssertionError("a step ran")


class Doubled(nn.Cell):
    """Two inputs and two outputs, one of them within a tuple."""

    def __init__(self):
        super().__init__()
        self.head = nn.Dense(2, 1)

    def construct(self, x, y):
        return self.head(x) + y, (x * y,)


class Sorted(nn.Cell):
    """Leaves MindSpore for NumPy, which runs in PYNATIVE mode and compiles nowhere."""

    def __init__(self):
        super().__init__()
        self.head = nn.Dense(4, 3)

    def construct(self, x):
        return Tensor(np.sort(self.head(x).asnumpy()))


class Erf(nn.Cell):
    """An operator that ONNX export does not know."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.head = nn.Dense(16, 3)

    def construct(self, x):
        return ops.erf(self.head(self.flatten(x)))


def loaded_outputs(path, *inputs):
    """What the file makes of inputs."""
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        outputs = nn.GraphCell(ms.load(str(path)))(*inputs)
    finally:
        ms.set_context(mode=mode)
    return outputs.asnumpy()


def network_outputs(arrays, inputs):
    """What a fresh network with these weights makes of inputs when it is not training."""
    network = make_model().predict_network
    for name, parameter in network.parameters_dict().items():
        parameter.set_data(Tensor(arrays[name]))
    return network.set_train(False)(inputs).asnumpy()


def plain_script(weight=1.0):
    """A scripted run of a network whose output is its input times this weight."""
    script = Script()
    script.network.weight.set_data(Tensor([[weight]], ms.float32))
    script.network.bias.set_data(Tensor([0.0], ms.float32))
    return script


def scripted(filepath, values, **arguments):
    """Runs with written values of `x`; the network's weight is the epoch's number."""
    exporting = ExportBest(
        str(filepath),
        **{"monitor": "x", "mode": "min", "inputs": Tensor([[1.0]], ms.float32), "verbose": 0, **arguments},
    )
    script = plain_script()

    class Number(ms.train.Callback):
        def on_train_epoch_begin(self, run_context):
            epoch = run_context.original_args()["cur_epoch_num"]
            script.network.weight.set_data(Tensor([[float(epoch)]], ms.float32))

    script.run([Number(), exporting], [None if value is None else {"x": value} for value in values])
    assert script.network.weight.asnumpy().item() == len(values)
    return exporting


@pytest.mark.parametrize(
    ("values", "arguments", "epoch"),
    [
        ([3.0, 1.0, 2.0], {}, 2),
        ([3.0, 1.0, 2.0], {"mode": "max"}, 1),
        ([1.0, 1.0], {}, 1),  # a tie stays with the first
        ([float("nan"), 5.0, float("-inf")], {}, 2),
        ([None, 4.0, None], {}, 2),
    ],
)
def test_the_file_holds_the_weights_of_the_best_epoch(tmp_path, values, arguments, epoch):
    """And the network its final ones."""
    exporting = scripted(tmp_path / "best.mindir", values, **arguments)
    assert (exporting.best_, exporting.best_epoch_) == (values[epoch - 1], epoch)
    assert (exporting.path_, exporting.difference_) == (str(tmp_path / "best.mindir"), 0.0)
    assert os.listdir(tmp_path) == ["best.mindir"]
    assert loaded_outputs(exporting.path_, Tensor([[1.0]], ms.float32)).item() == epoch


def test_a_real_run_in_both_modes(tmp_path, mode):
    """The file gives the outputs of the best epoch's weights, with BatchNorm's running statistics."""
    model, recorder = make_model(), Recorder()
    exporting = ExportBest(tmp_path / "best.mindir", monitor="loss", mode="max", inputs=INPUTS, verbose=0)
    model.train(3, dataset(), callbacks=[exporting, recorder])
    assert exporting.best_epoch_ == 1
    outputs = loaded_outputs(exporting.path_, INPUTS)
    np.testing.assert_allclose(outputs, network_outputs(recorder.weights[0], INPUTS), rtol=1e-5, atol=1e-6)
    assert not np.allclose(outputs, network_outputs(recorder.weights[2], INPUTS), rtol=1e-2)


@pytest.mark.parametrize("ending", ["mindir", "onnx"])
def test_nothing_of_the_run_changes(tmp_path, ending, mode):
    """Losses, weights to the last bit, training flags and settings are those of a run without; training goes on."""
    runs = []
    for with_export in (False, True):
        model, recorder = make_model(), Recorder()
        network = model.predict_network
        network.norm.set_train(False)
        callbacks = [recorder]
        if with_export:
            callbacks.append(ExportBest(str(tmp_path / f"best.{ending}"), monitor="loss", mode="max", verbose=0))
        model.train(2, dataset(), callbacks=callbacks)
        flags = [cell.training for _, cell in network.cells_and_names()]
        settings = ms.get_context("mode"), None if ms.__version__ < "2.1" else ms.get_context("jit_syntax_level")
        final = weights(network)
        model.train(2, dataset(), callbacks=[recorder])
        runs.append((recorder.losses, final, weights(network), flags, settings))
    assert runs[1][0] == runs[0][0]
    assert runs[1][3:] == runs[0][3:]
    for index in (1, 2):
        assert_same_weights(runs[1][index], runs[0][index])
    assert not np.array_equal(runs[1][1]["head.weight"], runs[1][2]["head.weight"])


def test_the_flags_of_single_cells_stay(mode):
    """Export switches all of them; each gets its own back."""
    network = Network()
    network.set_train(True)
    network.norm.set_train(False)
    flags = [cell.training for _, cell in network.cells_and_names()]
    assert True in flags
    assert False in flags
    for ending in _export.FORMATS:
        _export.export("T", network, (INPUTS,), "x" + ending, "x")
        assert [cell.training for _, cell in network.cells_and_names()] == flags
        assert ms.get_context("mode") == {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}[mode]


def test_after_an_early_stop_that_restores_another_epoch(tmp_path, mode):
    """What is exported is the best by its own monitor; the network ends with the weights EarlyStopping restores."""
    model, recorder = make_model(), Recorder()
    stopping = EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True, verbose=0)
    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="loss", mode="min", inputs=INPUTS, verbose=0)
    for callbacks in ([exporting, stopping, recorder], [stopping, exporting, recorder]):
        recorder.weights.clear()
        model.train(9, dataset(), callbacks=callbacks)
        stopped, best = stopping.stopped_epoch_, exporting.best_epoch_
        assert 0 < stopped < 9
        assert best != stopping.best_epoch_
        assert_same_weights(weights(model.predict_network), recorder.weights[stopping.best_epoch_ - 1])
        expected = network_outputs(recorder.weights[best - 1], INPUTS)
        np.testing.assert_allclose(loaded_outputs(exporting.path_, INPUTS), expected, rtol=1e-5, atol=1e-6)


def test_the_example_inputs_are_those_of_the_first_batch(tmp_path):
    """Without the label, with its batch size; the rest of the run's batches do not matter."""
    model = make_model()
    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="acc", verbose=0)
    model.fit(2, dataset(batch_size=7), valid_dataset(), callbacks=[exporting])
    assert loaded_outputs(exporting.path_, Tensor(np.zeros((7, 1, 4, 4), np.float32))).shape == (7, 3)


def test_a_network_with_its_own_loss_takes_the_label_too(tmp_path, mode):
    """All columns of the batch are its inputs; with network= the one inside is exported."""
    network = NetworkWithLoss(Network(), loss_fn())
    model = ms.Model(network, optimizer=nn.SGD(network.trainable_params(), 0.1))
    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="loss", verbose=0)
    model.train(1, dataset(), callbacks=[exporting])
    images, labels = next(dataset().create_tuple_iterator())
    assert np.isfinite(loaded_outputs(exporting.path_, images, labels))
    inside = ExportBest(str(tmp_path / "inside.mindir"), monitor="loss", network=network.backbone, verbose=0)
    model.train(1, dataset(), callbacks=[inside])
    assert loaded_outputs(inside.path_, images).shape == (12, 3)


def test_a_network_in_a_cell_of_mindspores_with_its_loss_is_exported_alone(tmp_path, mode):
    """What a user would call in production."""
    network = nn.WithLossCell(Network(), loss_fn())
    model = ms.Model(network, optimizer=nn.SGD(network.trainable_params(), 0.1))
    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="loss", verbose=0)
    model.train(1, dataset(), callbacks=[exporting])
    images, _ = next(dataset().create_tuple_iterator())
    assert loaded_outputs(exporting.path_, images).shape == (12, 3)


@pytest.mark.parametrize("ending", ["mindir", "onnx"])
def test_several_inputs_and_outputs(tmp_path, ending):
    """In their order, those within a tuple too."""
    if ending == "onnx":
        pytest.importorskip("onnxruntime")
    inputs = tuple(Tensor(np.random.RandomState(seed).randn(3, 2).astype(np.float32)) for seed in (1, 2))
    difference, verdict = _export.export("T", Doubled(), inputs, str(tmp_path / f"x.{ending}"), "x")
    assert difference < 1e-6
    assert verdict.startswith("read back, its outputs differ by at most")


def test_a_path_that_mindspore_would_refuse(tmp_path):
    """Blanks and letters beyond ASCII in the folder and in the name."""
    folder = tmp_path / "meine Netze 网络"
    folder.mkdir()
    exporting = scripted(folder / "bestes Netz (é).mindir", [1.0])
    assert os.listdir(folder) == ["bestes Netz (é).mindir"]
    assert os.access(exporting.path_, os.W_OK)


def test_a_second_run_begins_anew_and_overwrites(tmp_path):
    """Its best is its own, even where the first run's was better."""
    exporting = ExportBest(
        str(tmp_path / "best.mindir"), monitor="x", mode="min", inputs=Tensor([[1.0]], ms.float32), verbose=0
    )
    outputs = []
    for weight, value in ((2.0, 1.0), (3.0, 5.0)):
        plain_script(weight).run([exporting], [{"x": value}])
        outputs.append(loaded_outputs(exporting.path_, Tensor([[1.0]], ms.float32)).item())
        assert exporting.best_ == value
    assert outputs == [2.0, 3.0]


def test_says_what_was_exported(tmp_path, capsys):
    """One line, with epoch, value, file and comparison."""
    scripted(tmp_path / "best.mindir", [2.0, 1.0, 3.0], verbose=1)
    assert capsys.readouterr().out == (
        f"ExportBest: exported the weights of epoch 2 (x: 1) to {tmp_path}/best.mindir: "
        f"read back, its outputs differ by at most 0\n"
    )


def test_without_a_finite_value_nothing_is_exported_and_that_is_said(tmp_path, capsys):
    """Also with verbose=0, for a file is expected."""
    exporting = scripted(tmp_path / "best.mindir", [float("nan"), None])
    assert "ExportBest: nothing was exported: x has not been finite" in capsys.readouterr().out
    assert (exporting.path_, exporting.best_, exporting.best_epoch_, exporting.difference_) == (None, None, 0, None)
    assert os.listdir(tmp_path) == []


def test_a_run_that_goes_on_exports_only_what_is_better(tmp_path, capsys):
    """The weights of the run before are in its file, which stays until they are beaten."""
    state = json.loads(json.dumps(scripted(tmp_path / "best.mindir", [2.0]).state_dict()))
    before = (tmp_path / "best.mindir").read_bytes()
    for value, epoch in ((3.0, 1), (1.0, 2)):
        exporting = ExportBest(
            str(tmp_path / "best.mindir"), monitor="x", mode="min", inputs=Tensor([[1.0]], ms.float32), verbose=0
        )
        exporting.load_state_dict(state)
        Script().run([exporting], [{"x": 9.0}, {"x": value}])
        assert (exporting.best_, exporting.best_epoch_) == (min(value, 2.0), epoch)
        assert exporting.path_ == str(tmp_path / "best.mindir")
        assert ((tmp_path / "best.mindir").read_bytes() == before) == (value == 3.0)
    assert "x has not been better than the 2 of the previous run" in capsys.readouterr().out


def test_an_exception_ends_the_run_without_an_export(tmp_path):
    """An earlier file stays, and nothing is left beside it."""

    class Fail(ms.train.Callback):
        def on_train_epoch_end(self, run_context):
            raise RuntimeError("mine")

    (tmp_path / "best.mindir").write_bytes(b"earlier")
    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="loss")
    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(1, dataset(), callbacks=[exporting, Fail()])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


# ONNX


def test_onnx_is_compared_where_onnxruntime_is_installed(tmp_path, mode):
    """By running the file, the network's second export in one process included."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model, recorder = make_model(), Recorder()
    exporting = ExportBest(str(tmp_path / "best.onnx"), monitor="loss", mode="max", inputs=INPUTS, verbose=0)
    model.train(2, dataset(), callbacks=[exporting, recorder])
    assert exporting.difference_ < 1e-5
    session = onnxruntime.InferenceSession(exporting.path_, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: INPUTS.asnumpy()})
    np.testing.assert_allclose(outputs, network_outputs(recorder.weights[0], INPUTS), rtol=1e-4, atol=1e-5)


def fake_runtime(outputs):
    """An onnxruntime that gives these outputs."""

    class InferenceSession:
        def __init__(self, path, providers):
            assert os.path.getsize(path)

        def get_inputs(self):
            return [types.SimpleNamespace(name="x")]

        def run(self, names, feed):
            return outputs(feed["x"])

    module = types.ModuleType("onnxruntime")
    module.InferenceSession = InferenceSession
    return module


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: [x * 1.001], "gives other outputs than the network: they differ by up to 0.00"),
        (lambda x: [x[0]], r"outputs of shape \[\(1,\)\] where the network gives \[\(2, 1\)\]"),
        (lambda x: [x, x], r"outputs of shape \[\(2, 1\), \(2, 1\)\] where"),
        (lambda x: [x * np.nan], "gives other outputs than the network"),
    ],
)
def test_a_file_with_other_outputs_is_an_error_and_is_not_kept(tmp_path, monkeypatch, outputs, message):
    """Found before the first step; an earlier file stays."""
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_runtime(outputs))
    (tmp_path / "best.onnx").write_bytes(b"earlier")
    with pytest.raises(
        ValueError, match=f"ExportBest: .*best.onnx' {message if message[0] == 'g' else 'gives ' + message}"
    ):
        identity_run(tmp_path / "best.onnx")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def identity_run(path):
    """One epoch of a network whose outputs are its inputs."""
    script = plain_script()
    exporting = ExportBest(str(path), monitor="x", mode="min", inputs=Tensor([[1.0], [-3.0]], ms.float32), verbose=1)
    script.run([exporting], [{"x": 1.0}])
    return exporting


def test_a_file_whose_outputs_differ_by_a_rounding_is_kept(tmp_path, monkeypatch):
    """Another order of the same sums is no fault; the difference is told."""
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_runtime(lambda x: [x * np.float32(1.000001)]))
    assert identity_run(tmp_path / "best.onnx").difference_ == pytest.approx(3e-6, rel=0.2)


def test_onnx_without_onnxruntime_is_checked_with_onnx(tmp_path, monkeypatch, capsys):
    """And what the checker finds is an error."""
    checker = types.ModuleType("onnx.checker")
    checked = []
    checker.check_model = checked.append
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", types.ModuleType("onnx"))
    monkeypatch.setitem(sys.modules, "onnx.checker", checker)
    exporting = identity_run(tmp_path / "best.onnx")
    assert len(checked) == 2
    assert exporting.difference_ is None
    assert "a valid ONNX file; its outputs were not compared" in capsys.readouterr().out

    def refuse(path):
        raise ValueError("no opset")

    checker.check_model = refuse
    with pytest.raises(
        RuntimeError, match=r"best.onnx' was written but cannot be read back: no opset; it was not kept"
    ):
        identity_run(tmp_path / "best.onnx")


def test_onnx_with_neither_is_said_not_to_have_been_compared(tmp_path, monkeypatch, capsys):
    """The file is there, and its difference is unknown."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnx.checker", None)
    exporting = identity_run(tmp_path / "best.onnx")
    assert exporting.difference_ is None
    assert os.path.getsize(exporting.path_) > 0
    assert "not compared, because neither onnxruntime nor onnx is installed" in capsys.readouterr().out


# What cannot be exported


def test_an_operator_that_onnx_does_not_know_is_found_before_the_first_step(tmp_path, mode):
    """With the network, MindSpore's reason, and what to do; nothing is changed or left behind."""
    model = make_model(network=Erf())
    before = weights(model.predict_network)
    settings = ms.get_context("mode"), None if ms.__version__ < "2.1" else ms.get_context("jit_syntax_level")
    with pytest.raises(
        RuntimeError,
        match=r"ExportBest: the network Erf cannot be exported to '.*best.onnx': Can not find key Erf .*; "
        r"export to '.mindir', which takes more operators",
    ):
        model.train(1, dataset(), callbacks=[ExportBest(str(tmp_path / "best.onnx"), monitor="loss"), NoStep()])
    assert_same_weights(weights(model.predict_network), before)
    assert settings == (ms.get_context("mode"), None if ms.__version__ < "2.1" else ms.get_context("jit_syntax_level"))
    assert os.listdir(tmp_path) == []
    model.train(1, dataset(), callbacks=[ExportBest(str(tmp_path / "best.mindir"), monitor="loss", verbose=0)])


def test_a_network_that_does_not_compile_is_found_before_the_first_step(tmp_path):
    """Such a network runs in PYNATIVE mode; its inputs are not blamed, and MindSpore's settings are as before."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    settings = None if ms.__version__ < "2.1" else ms.get_context("jit_syntax_level")
    exporting = ExportBest(
        str(tmp_path / "best.mindir"), monitor="x", mode="min", inputs=Tensor(np.ones((2, 4)), ms.float32)
    )
    script = Script()
    script.network = Sorted()
    with pytest.raises(
        RuntimeError, match="the network Sorted cannot be exported to .*; replace what MindSpore cannot"
    ) as e:
        script.run([exporting, NoStep()], [{"x": 1.0}])
    assert "-----" not in str(e.value)
    assert ms.get_context("mode") == ms.PYNATIVE_MODE
    assert settings == (None if ms.__version__ < "2.1" else ms.get_context("jit_syntax_level"))


def test_a_failure_at_the_end_leaves_the_final_weights_and_the_earlier_file(tmp_path, monkeypatch, mode):
    """Whatever MindSpore raises then."""
    model, recorder = make_model(), Recorder()
    (tmp_path / "best.mindir").write_bytes(b"earlier")
    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="loss", mode="max")

    class BreakMindSpore(ms.train.Callback):
        def on_train_epoch_end(self, run_context):
            monkeypatch.setattr(ms, "export", lambda *inputs, **arguments: 1 / 0)

    with pytest.raises(RuntimeError, match="cannot be exported to .*: division by zero; replace what"):
        model.train(2, dataset(), callbacks=[exporting, recorder, BreakMindSpore()])
    assert exporting.best_epoch_ == 1
    assert_same_weights(weights(model.predict_network), recorder.weights[1])
    assert all(cell.training for _, cell in model.predict_network.cells_and_names())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]
    assert exporting.path_ is None


def test_a_network_that_mindspore_splits_into_several_files_is_refused(tmp_path, monkeypatch):
    """As it does above 1 GB; a part would be useless."""

    def split(network, *inputs, file_name, file_format):
        for name in ("network_graph.mindir", "network_variables"):
            open(os.path.join(os.path.dirname(file_name), name), "wb").close()

    monkeypatch.setattr(ms, "export", split)
    with pytest.raises(RuntimeError, match="so large that MindSpore writes several files .*network_graph.mindir"):
        scripted(tmp_path / "best.mindir", [1.0])


def test_a_disk_that_is_full_at_the_end_is_an_oserror(tmp_path, monkeypatch):
    """An earlier file stays whole."""
    (tmp_path / "best.mindir").write_bytes(b"earlier")

    replace = os.replace

    def full(source, target):
        if target == str(tmp_path / "best.mindir"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        OSError, match=r"could not export to .*No space left on device; an earlier file there is untouched"
    ):
        scripted(tmp_path / "best.mindir", [1.0])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


# Wrong arguments


def test_inputs_that_the_network_does_not_take_are_found_before_the_first_step(tmp_path, mode):
    """With their shapes."""
    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="loss", inputs=Tensor(np.ones((2, 3)), ms.float32))
    with pytest.raises(ValueError, match=r"inputs must be what Network takes, but it fails on \(2, 3\) Float32: "):
        make_model().train(1, dataset(), callbacks=[exporting, NoStep()])


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("missing/best.mindir", {}, FileNotFoundError, "the folder '.*missing' of .* does not exist; create it first"),
        ("folder.mindir", {}, IsADirectoryError, "is a folder; pass the path of a file"),
        ("best.mindir", {"monitor": "accuracy"}, ValueError, r"monitor 'accuracy' .*did you mean 'acc'\?"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(tmp_path, name, arguments, error, message):
    """A folder that is not there, a folder in its place, a value that the run does not have."""
    (tmp_path / "folder.mindir").mkdir()
    exporting = ExportBest(str(tmp_path / name), **{"monitor": "acc", "mode": "max", **arguments})
    model = make_model()
    with pytest.raises(error, match=f"ExportBest: .*{message}"):
        model.train(1, dataset(), callbacks=[Validate(model, valid_dataset()), exporting, NoStep()])


def test_a_folder_that_takes_no_files_is_refused_before_the_first_step(tmp_path, monkeypatch):
    """Found by making one there."""

    def refuse(path, *rest):
        raise PermissionError(13, "Permission denied", path)

    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="loss")
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(PermissionError, match="ExportBest: cannot write in the folder"):
        make_model().train(1, dataset(), callbacks=[exporting, NoStep()])


def test_two_that_export_to_one_place_are_refused(tmp_path):
    """Each would overwrite the other's."""
    two = [ExportBest(str(tmp_path / "best.mindir"), monitor=monitor) for monitor in ("loss", "acc")]
    with pytest.raises(ValueError, match="two callbacks export to '.*best.mindir'; give each a filepath of its own"):
        make_model().fit(1, dataset(), valid_dataset(), callbacks=[*two, NoStep()])


@pytest.mark.parametrize(
    ("filepath", "arguments", "message"),
    [
        ("best.pb", {}, r"filepath must end in one of '.mindir', '.onnx', but got 'best.pb'"),
        ("best", {}, "filepath must end in one of"),
        (3, {}, "filepath must be a string, but got 3"),
        ("", {}, "filepath must not be empty"),
        ("best.mindir", {"inputs": np.ones(3)}, "inputs must be a Tensor or a tuple of Tensors, but got ndarray"),
        ("best.mindir", {"inputs": ()}, "inputs must hold at least one Tensor, but it is empty"),
        ("best.mindir", {"mode": "best"}, "mode must be one of"),
        ("best.mindir", {"monitor": ""}, "monitor must not be empty"),
        ("best.mindir", {"verbose": 2}, "verbose must be one of"),
    ],
)
def test_wrong_arguments_are_refused_where_it_is_made(filepath, arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"ExportBest: .*{message}"):
        ExportBest(filepath, **arguments)


def test_batches_unseen_in_sink_mode_need_inputs(tmp_path):
    """Said before the first step."""
    exporting = ExportBest(str(tmp_path / "best.mindir"), monitor="x", mode="min")
    script = Script()

    class Sink(ms.train.Callback):
        def on_train_begin(self, run_context):
            run_context.original_args()["dataset_sink_mode"] = True

    with pytest.raises(ValueError, match=r"in sink mode batches go .* or pass inputs=Tensor\(...\)"):
        script.run([Sink(), exporting, NoStep()], [{"x": 1.0}])


def test_making_one_touches_no_file(tmp_path):
    """Only a run does."""
    ExportBest(str(tmp_path / "new" / "best.mindir"))
    assert os.listdir(tmp_path) == []
