"""BestCheckpoint: what is on disk is whole, and what is loaded is what was saved."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import stat
import string
import threading
import time
from concurrent import futures

import forked
import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import nn
from training import (
    CopiesInMemory,
    Network,
    Recorder,
    Script,
    assert_same_weights,
    dataset,
    make_model,
    valid_dataset,
    weights,
)

from ms_callbacks import BestCheckpoint, Validate
from ms_callbacks.core import atomic_files, checkpoint_io
from ms_callbacks.core.path_template import PathTemplate

FORMATS = ["ckpt", "safetensors"]


def scripted(folder, values, name="best.ckpt", **arguments):
    """Runs with written values of `x`; the network's weight is the epoch's number."""
    best = BestCheckpoint(str(folder / name), **{"monitor": "x", "mode": "min", "verbose": 0, **arguments})
    script = Script()

    class Number(ms.train.Callback):
        def on_train_epoch_begin(self, run_context):
            epoch = run_context.original_args()["cur_epoch_num"]
            script.network.weight.set_data(ms.Tensor([[float(epoch)]], ms.float32))

        def on_train_begin(self, run_context):
            pass

    script.run([Number(), best], [None if value is None else {"x": value} for value in values])
    return best


def loaded_epoch(best):
    """The epoch whose weights are loaded into a fresh network."""
    network = nn.Dense(1, 1)
    best.load_into(network)
    return int(network.weight.asnumpy().item())


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    ("values", "arguments", "epoch"),
    [
        ([3.0, 1.0, 2.0], {}, 2),
        ([3.0, 1.0, 2.0], {"mode": "max"}, 1),
        ([1.0, 1.0, 1.0], {}, 1),  # a tie stays with the first
        ([1.0, 0.95, 0.8], {"min_delta": 0.1}, 3),
        ([1.0, 0.95, 0.93], {"min_delta": 0.1}, 1),
        ([0.0, 0.0], {"mode": "max"}, 1),
        ([-1.0, -2.0], {}, 2),
        ([float("nan"), 5.0, float("-inf")], {}, 2),
        ([5.0, 4.0, 3.0], {"initial_value_threshold": 3.5}, 3),
        ([None, 4.0, None], {}, 2),
    ],
)
def test_the_best_is_on_disk(tmp_path, ending, values, arguments, epoch):
    """Bit for bit, in both formats, with its record beside it."""
    best = scripted(tmp_path, values, f"best.{ending}", **arguments)
    assert (best.best_epoch_, best.best_, best.best_path_) == (
        epoch,
        values[epoch - 1],
        str(tmp_path / f"best.{ending}"),
    )
    assert loaded_epoch(best) == epoch
    assert sorted(os.listdir(tmp_path)) == [f"best.{ending}", f"best.{ending}.json"]
    record = json.loads((tmp_path / f"best.{ending}.json").read_text())
    assert (record["monitor"], record["value"], record["epoch"], record["step"]) == (
        "x",
        values[epoch - 1],
        epoch,
        epoch,
    )
    assert record["learning_rate"] == [0.1]
    assert record["versions"] == {"mindspore": ms.__version__, "numpy": np.__version__}


def test_nothing_is_saved_where_nothing_is_good_enough(tmp_path):
    """Only NaN, or nothing beyond the threshold: no file, and loading says there is none."""
    for arguments in ({}, {"initial_value_threshold": 0.5}):
        best = scripted(tmp_path, [float("nan")] if not arguments else [0.6], **arguments)
        assert (best.best_path_, best.best_, best.best_epoch_) == (None, None, 0)
        with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
            loaded_epoch(best)
    assert os.listdir(tmp_path) == []


def test_top_k_keeps_the_best_and_deletes_the_rest(tmp_path):
    """By value, with the values in their names; the rest go only after."""
    values = [5.0, 3.0, 4.0, 9.0, 1.0, 3.5]
    best = scripted(tmp_path, values, "{epoch:02d}-{x:.1f}.ckpt", save_top_k=3)
    assert sorted(each for each in os.listdir(tmp_path) if not each.endswith(".json")) == [
        "02-3.0.ckpt",
        "05-1.0.ckpt",
        "06-3.5.ckpt",
    ]
    assert best.best_path_ == str(tmp_path / "05-1.0.ckpt")
    all_of_them = scripted(tmp_path, values, "all-{epoch}.ckpt", save_top_k=-1)
    assert len(all_of_them.state_dict()["kept"]) == 6
    assert loaded_epoch(all_of_them) == 5


def test_the_last_is_saved_every_epoch(tmp_path):
    """Beside the best, or instead of it; also where the epoch was not evaluated."""
    best = scripted(tmp_path, [1.0, 2.0, None], save_last=True)
    assert sorted(os.listdir(tmp_path)) == ["best.ckpt", "best.ckpt.json", "last.ckpt", "last.ckpt.json"]
    assert json.loads((tmp_path / "last.ckpt.json").read_text())["epoch"] == 3
    assert loaded_epoch(best) == 1
    assert loaded_epoch(BestCheckpoint(str(tmp_path / "best.ckpt"))) == 1
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    scripted(tmp_path, [1.0, 2.0], save_last=True, save_top_k=0)
    assert sorted(os.listdir(tmp_path)) == ["last.ckpt", "last.ckpt.json"]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_real_run_in_both_modes(tmp_path, ending, mode):
    """A fresh network gets the weights of the best epoch to the last bit, statistics too, and scores the same."""
    model, recorder = make_model(), Recorder()
    best = BestCheckpoint(str(tmp_path / f"best.{ending}"), monitor="acc", verbose=0)
    validate = Validate(model, valid_dataset())
    model.train(3, dataset(), callbacks=[recorder, best, validate])
    fresh = make_model()
    record = best.load_into(fresh.predict_network)
    assert_same_weights(weights(fresh.predict_network), recorder.weights[best.best_epoch_ - 1])
    assert fresh.eval(valid_dataset())["acc"] == best.best_ == record["value"]


def test_training_goes_on_from_loaded_weights(tmp_path, mode):
    """Loaded into the network that is training, they are where the optimizer goes on from.

    In PYNATIVE mode of MindSpore 2.8 and newer, weights loaded by `load_param_into_net` would be frozen from then on.
    """
    model, first = make_model(), Recorder()
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", mode="max", verbose=0)
    model.train(3, dataset(), callbacks=[best, first])
    best.load_into(model.predict_network)
    assert_same_weights(weights(model.predict_network), first.weights[0])
    second = Recorder()
    model.train(2, dataset(), callbacks=[second])
    for name in ("hidden.weight", "head.weight"):
        assert not np.array_equal(second.weights[0][name], first.weights[0][name])
        assert not np.array_equal(second.weights[1][name], second.weights[0][name])


def test_the_optimizer_comes_along_without_its_rate(tmp_path):
    """Its moments are loaded into the train network; the schedule stays the user's; the network alone loads too."""
    model = make_model(learning_rate=0.05)
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", save_optimizer=True, verbose=0)
    model.train(2, dataset(), callbacks=[best])
    other = make_model(learning_rate=0.7)
    best.load_into(other.train_network)
    assert_same_weights(
        {name: each for name, each in weights(other.train_network).items() if name != "learning_rate"},
        {name: each for name, each in weights(model.train_network).items() if name != "learning_rate"},
    )
    assert float(other.train_network.optimizer.learning_rate.asnumpy()) == pytest.approx(0.7)
    best.load_into(make_model().predict_network)


def test_a_new_process_finds_the_latest_run(tmp_path):
    """An object that has not trained loads what the latest run with the same filepath left, the best first."""
    scripted(tmp_path, [0.1, 0.5], "{epoch}-{x:.1f}.ckpt", save_top_k=2)
    scripted(tmp_path, [0.9, 0.8, 0.85], "{epoch}-{x:.1f}.ckpt", save_top_k=2)
    fresh = BestCheckpoint(str(tmp_path / "{epoch}-{x:.1f}.ckpt"), save_top_k=2)
    assert loaded_epoch(fresh) == 2
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        loaded_epoch(BestCheckpoint(str(tmp_path / "other.ckpt")))


def test_a_run_that_goes_on_keeps_the_earlier_best(tmp_path):
    """With initial_epoch the best on disk stays until it is beaten, and counts as the run's own."""
    path = str(tmp_path / "best.ckpt")
    model = make_model()
    first = BestCheckpoint(path, monitor="loss", mode="max", verbose=0)
    model.train(2, dataset(), callbacks=[first])
    assert first.best_epoch_ == 1
    second = BestCheckpoint(path, monitor="loss", mode="max", verbose=0)
    model.train(4, dataset(), callbacks=[second], initial_epoch=2)
    assert (second.best_epoch_, second.best_) == (1, first.best_)
    assert second.load_into(model.predict_network)["epoch"] == 1


# What an earlier run has left


@pytest.mark.parametrize(
    ("arguments", "value", "best", "said"),
    [
        ({}, 2.0, 1.0, "is kept until 1 (epoch 1) is beaten, or pass overwrite=True"),
        ({}, 1.0, 1.0, "is kept until 1 (epoch 1) is beaten, or pass overwrite=True"),  # a tie
        ({}, 0.5, 0.5, "is kept until 1 (epoch 1) is beaten, or pass overwrite=True"),
        ({"min_delta": 0.75}, 0.5, 1.0, "is kept until 1 (epoch 1) is beaten, or pass overwrite=True"),
        ({"overwrite": True}, 2.0, 2.0, None),
        (
            {"initial_value_threshold": 3.0},
            2.0,
            2.0,
            "is replaced by the first value better than initial_value_threshold=3.0",
        ),
        ({"save_top_k": 0, "save_last": True}, 0.5, None, None),
    ],
)
def test_a_better_file_stays_until_it_is_beaten(tmp_path, capsys, arguments, value, best, said):
    """After a run that is over, in a new object; the run says so at its start."""
    scripted(tmp_path, [1.0])
    capsys.readouterr()
    second = scripted(tmp_path, [value], **arguments)
    path = str(tmp_path / "best.ckpt")
    assert capsys.readouterr().out == (f"BestCheckpoint: {path!r} of an earlier run {said}\n" if said else "")
    assert second.best_ == best
    assert BestCheckpoint(path).load_into(nn.Dense(1, 1))["value"] == (1.0 if best is None else best)


def test_a_better_file_stays_in_a_second_run_of_the_same_object(tmp_path):
    """Each call of train is a run of its own, and what it saves is compared with what is there."""
    best, script = best_of(tmp_path), Script()
    bests = []
    for value in (1.0, 0.5, 2.0, 1.5):
        script.run([best], [{"x": value}])
        bests.append(best.best_)
    assert bests == [1.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"monitor": "y"}, "it is the best by 'x' ('min')"),
        ({"mode": "max"}, "it is the best by 'x' ('min')"),
        ({"save_optimizer": True}, "it holds no optimizer's state"),
        ("truncated", "it is damaged or incomplete"),
        ("emptied", "it is damaged or incomplete"),
        ("no record", "it has no record that can be read"),
        ("MindSpore's", "it has no record that can be read"),
    ],
)
def test_what_cannot_be_compared_is_replaced_with_a_word(tmp_path, capsys, change, reason):
    """A value of something else, or one that nobody can vouch for."""
    scripted(tmp_path, [0.25])
    path = tmp_path / "best.ckpt"
    if isinstance(change, str):
        (tmp_path / "best.ckpt.json").unlink() if change in ("no record", "MindSpore's") else damage(path, change)
        if change == "MindSpore's":
            path.unlink()
            ms.save_checkpoint(nn.Dense(1, 1), str(path))
    best = BestCheckpoint(
        str(path), **{"monitor": "x", "mode": "min", "verbose": 0, **(change if isinstance(change, dict) else {})}
    )
    capsys.readouterr()
    Script().run([best], [{"x": 2.0, "y": 2.0}])
    assert capsys.readouterr().out == (
        f"BestCheckpoint: '{path}' of an earlier run is replaced by this run's first best, because {reason}\n"
    )
    assert best.best_ == 2.0


class OtherShape(nn.Cell):
    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(ms.Tensor(np.zeros((2, 1), np.float32)), name="weight")
        self.bias = ms.Parameter(ms.Tensor(np.zeros(1, np.float32)), name="bias")


class OtherType(nn.Cell):
    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(ms.Tensor(np.zeros((1, 1), np.float16)), name="weight")
        self.bias = ms.Parameter(ms.Tensor(np.zeros(1, np.float32)), name="bias")


class More(nn.Dense):
    def __init__(self):
        super().__init__(1, 1)
        self.more = ms.Parameter(ms.Tensor(1.0), name="more")


class Less(nn.Cell):
    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(ms.Tensor(np.zeros((1, 1), np.float32)), name="weight")


@pytest.mark.parametrize("name", ["best.ckpt", "best.safetensors", "{epoch}.ckpt", "last.ckpt"])
@pytest.mark.parametrize(
    ("network", "problem"),
    [
        (OtherShape, r"weight is \(1, 1\) float32 there and \(2, 1\) float32 here"),
        (OtherType, r"weight is \(1, 1\) float32 there and \(1, 1\) float16 here"),
        (More, "it lacks more"),
        (Less, "this one has no bias"),
    ],
)
def test_the_weights_of_another_network_are_not_replaced(tmp_path, name, network, problem):
    """An error before the first step, with the two ways out, both of which work."""
    scripted(tmp_path, [1.0], "other.ckpt" if name == "last.ckpt" else name, save_last=name == "last.ckpt")
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}

    def run(**arguments):
        given = {"filepath": str(tmp_path / ("best.ckpt" if name == "last.ckpt" else name)), **arguments}
        best = BestCheckpoint(monitor="x", mode="min", verbose=0, save_last=name == "last.ckpt", **given)
        script = Script()
        script.network = network()
        script.run([best, NoStep()] if not arguments else [best], [{"x": 2.0}])
        return best

    message = f"holds the weights of another network .*{problem}.*; pass overwrite=True to replace it, or another filep"
    with pytest.raises(ValueError, match=f"BestCheckpoint: '{tmp_path}/.*' {message}"):
        run()
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    if name != "last.ckpt":
        assert run(filepath=str(tmp_path / "elsewhere.ckpt")).best_ == 2.0
    best = run(overwrite=True)
    assert best.load_into(network())["value"] == 2.0


def test_a_plain_file_of_another_network_is_not_replaced_either(tmp_path):
    """Such as one of MindSpore's own, which has no record; what an optimizer adds to one does not matter."""
    path = str(tmp_path / "best.ckpt")
    ms.save_checkpoint(nn.Dense(2, 1), path)
    with pytest.raises(ValueError, match="another network"):
        scripted(tmp_path, [1.0])
    model = make_model()
    os.remove(path)
    ms.save_checkpoint(model.train_network, path)
    best = BestCheckpoint(path, monitor="loss", verbose=0)
    model.train(1, dataset(), callbacks=[best])
    assert best.best_epoch_ == 1


def test_a_finished_run_can_be_run_again(tmp_path, capsys):
    """The same script, with a real Model, and with the optimizer's state."""
    for save_optimizer in (False, True):
        path = str(tmp_path / f"{save_optimizer}.ckpt")
        values = []
        for _ in range(2):
            best = BestCheckpoint(path, monitor="loss", save_optimizer=save_optimizer, verbose=0)
            model = make_model()
            model.train(2, dataset(), callbacks=[best])
            values.append((best.best_, best.best_epoch_, best.best_path_))
        loaded = model.train_network if save_optimizer else model.predict_network
        assert values[0] == values[1] == (best.load_into(loaded)["value"], 2, path)
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"BestCheckpoint: '{path}' of an earlier run is kept until")


def test_of_a_template_only_the_file_that_would_be_replaced_stays(tmp_path, capsys):
    """A run of its own otherwise: names tell them apart."""
    scripted(tmp_path, [3.0, 0.5], "{epoch}.ckpt", save_top_k=2)
    capsys.readouterr()
    best = scripted(tmp_path, [2.0, 1.0, 0.75], "{epoch}.ckpt", save_top_k=2)
    assert capsys.readouterr().out.splitlines() == [
        f"BestCheckpoint: '{tmp_path}/2.ckpt' of an earlier run is kept until 0.5 (epoch 2) is beaten, or pass "
        f"overwrite=True, if a new one would take its name",
        f"BestCheckpoint: x 1 in epoch 2 is not saved: '{tmp_path}/2.ckpt' of an earlier run has 0.5",
    ]
    assert [(kept["path"], kept["record"]["value"]) for kept in best.state_dict()["kept"]] == [
        (f"{tmp_path}/3.ckpt", 0.75),
        (f"{tmp_path}/1.ckpt", 2.0),
    ]
    assert BestCheckpoint(str(tmp_path / "2.ckpt")).load_into(nn.Dense(1, 1))["value"] == 0.5
    best = scripted(tmp_path, [2.0, 1.0], "{epoch}.ckpt", save_top_k=2, overwrite=True)
    assert [kept["record"]["value"] for kept in best.state_dict()["kept"]] == [1.0, 2.0]


# Weights that are no good


def poisoned(folder, values, poison, name="best.ckpt", **arguments):
    """Each epoch is better than the one before, and the weights of some are not finite."""
    script = Script()
    script.network = nn.Cell()
    for each, requires_grad in (("weight", True), ("mask", False), ("half", True), ("count", False)):
        dtype = {"half": np.float16, "count": np.int32}.get(each, np.float32)
        tensor = ms.Tensor(np.full((2, 2), 60000 if each == "half" else 1, dtype))
        setattr(script.network, each, ms.Parameter(tensor, name=each, requires_grad=requires_grad))

    class Poison(ms.train.Callback):
        def on_train_epoch_begin(self, run_context):
            for name, value in poison.get(run_context.original_args()["cur_epoch_num"], {"weight": 1.0}).items():
                parameter = getattr(script.network, name)
                array = parameter.asnumpy().copy()
                array[0, 1] = value
                parameter.set_data(ms.Tensor(array))

    best = best_of(folder, name, **arguments)
    script.run([Poison(), best], [{"x": value} for value in values])
    return best


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "is_kept"),
    [
        ("weight", np.nan, False),
        ("weight", np.inf, False),
        ("weight", -np.inf, False),
        ("half", np.nan, False),
        ("half", np.inf, False),
        ("mask", np.nan, False),
        ("mask", -np.inf, True),  # as masks of attention have it
        ("weight", 3e38, True),
    ],
)
def test_weights_that_are_not_finite_are_never_the_best(tmp_path, capsys, background, name, value, is_kept):
    """However good the value is: the best stays what it was, and the next that is better than it is the best."""
    best = poisoned(tmp_path, [1.0, 9.0, 2.0], {2: {name: value}}, background=background, save_last=True)
    said = capsys.readouterr().out
    if is_kept:
        assert (best.best_, said) == (9.0, "")
        return
    kind = "NaN" if np.isnan(value) else "an infinity"
    if name == "weight":
        assert (best.best_, best.best_epoch_) == (2.0, 3)
        assert said == f"BestCheckpoint: x 9 in epoch 2 is not saved: the weights hold {kind} ('weight')\n"
    else:  # there to stay
        assert (best.best_, best.best_epoch_) == (1.0, 1)
    assert json.loads((tmp_path / "last.ckpt.json").read_text())["epoch"] == 3


def test_of_several_kept_none_is_not_finite(tmp_path):
    """Not even where all are kept."""
    best = poisoned(tmp_path, [1.0, 9.0, 2.0], {2: {"weight": np.nan}}, "{epoch}.ckpt", save_top_k=-1)
    assert [kept["record"]["value"] for kept in best.state_dict()["kept"]] == [2.0, 1.0]
    assert not (tmp_path / "2.ckpt").exists()


def test_weights_that_the_last_step_spoils_are_not_kept(tmp_path, mode):
    """The training loss does not tell: it was finite before the step."""
    model = make_model()
    head = model.predict_network.head.weight

    class Spoil(ms.train.Callback):
        def on_train_step_end(self, run_context):
            args = run_context.original_args()
            if args["cur_step_num"] == 8:
                ms.ops.assign(head, ms.Tensor(np.full(head.shape, np.nan, np.float32)))

    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", verbose=0)
    model.train(2, dataset(), callbacks=[Spoil(), best])
    assert best.best_epoch_ == 1
    fresh = Network()
    best.load_into(fresh)
    assert all(np.isfinite(array).all() for array in weights(fresh).values())


def test_a_file_is_loaded_by_its_own_name(tmp_path, monkeypatch):
    """The last as well as any of the best, by a bare name too, also where the last epoch was not evaluated."""
    monkeypatch.chdir(tmp_path)
    script = Script()
    best = BestCheckpoint("{epoch}.ckpt", monitor="x", mode="min", save_top_k=2, save_last=True, verbose=0)
    script.run([best], [{"x": 2.0}, {"x": 1.0}, None])
    for name, epoch in (("last.ckpt", 3), ("1.ckpt", 1), ("2.ckpt", 2), ("{epoch}.ckpt", 2)):
        assert BestCheckpoint(name, save_last=name == "{epoch}.ckpt").load_into(nn.Dense(1, 1))["epoch"] == epoch
    (tmp_path / "2.ckpt").write_bytes(b"")
    assert BestCheckpoint("{epoch}.ckpt", save_last=True).load_into(nn.Dense(1, 1))["epoch"] == 1


def test_fields_may_have_the_names_that_keras_gives_them(tmp_path):
    """`val_loss` and `val_acc` in a name as in `monitor`."""
    model = make_model()
    best = BestCheckpoint(
        str(tmp_path / "{epoch:02d}-{val_loss:.2f}-{val_acc:.2f}.ckpt"), monitor="val_loss", verbose=0
    )
    validate = Validate(model, valid_dataset())
    model.train(1, dataset(), callbacks=[best, validate])
    assert best.best_path_.endswith(f"01-{validate.results_['eval_loss']:.2f}-{validate.results_['acc']:.2f}.ckpt")


def test_a_layer_may_be_called_learning_rate(tmp_path):
    """Only the optimizer's own rate is left out, whatever the names of the weights."""

    class Named(nn.Cell):
        def __init__(self):
            super().__init__()
            self.learning_rate_head = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))

        def construct(self, x):
            return self.learning_rate_head(x)

    for save_optimizer in (False, True):
        network = Named()
        model = ms.Model(
            network, nn.SoftmaxCrossEntropyWithLogits(True, "mean"), nn.Adam(network.trainable_params(), 0.1)
        )
        best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", save_optimizer=save_optimizer, verbose=0)
        model.train(1, dataset(), callbacks=[best])
        fresh = Named()
        best.load_into(fresh)
        assert_same_weights(weights(fresh), weights(network))


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool"])
def test_parameters_of_any_shape_and_type(tmp_path, ending, dtype, mode):
    """Scalars too; a file of another type is refused."""

    class Odd(nn.Cell):
        def __init__(self, dtype):
            super().__init__()
            self.scalar = ms.Parameter(ms.Tensor(np.array(1, dtype)), name="scalar", requires_grad=False)
            self.matrix = ms.Parameter(ms.Tensor(np.eye(2, 3).astype(dtype)), name="matrix", requires_grad=False)

    script = Script()
    script.network = Odd(dtype)
    best = BestCheckpoint(str(tmp_path / f"best.{ending}"), monitor="x", mode="min", verbose=0)
    script.run([best], [{"x": 1.0}])
    fresh = Odd(dtype)
    ms.ops.assign(fresh.matrix, ms.Tensor(np.zeros((2, 3), dtype)))
    best.load_into(fresh)
    assert_same_weights(weights(fresh), weights(script.network))
    with pytest.raises(ValueError, match=f"matrix is .* {dtype} in the file and .* float64 in the network"):
        best.load_into(Odd("float64"))


def test_a_record_of_another_kind_is_no_checkpoint(tmp_path):
    """Whatever JSON stands beside."""
    scripted(tmp_path, [1.0], "{epoch}.ckpt")
    for index, content in enumerate(
        ['{"filepath": "{epoch}.ckpt"}', '{"filepath": "{epoch}.ckpt", "value": null}', "7"]
    ):
        (tmp_path / f"x{index}.ckpt.json").write_text(content)
    assert loaded_epoch(BestCheckpoint(str(tmp_path / "{epoch}.ckpt"))) == 1


def test_of_equal_values_the_first_ranks_first(tmp_path):
    """A tie stays with the earlier, among the best few as well."""
    best = scripted(tmp_path, [2.0, 1.0, 1.0], "{epoch}.ckpt", save_top_k=3)
    assert [each["record"]["epoch"] for each in best.state_dict()["kept"]] == [2, 3, 1]


def test_what_a_killed_run_left_is_removed_at_the_start(tmp_path):
    """A half-written file of a process that is gone, beside the link and beside what it points to."""
    lefts = []
    for folder in (tmp_path / "links", tmp_path / "files"):
        lefts.append(folder / f"{atomic_files._PREFIX}abcdefgh")
        lefts[-1].mkdir(parents=True)
        for name in ("lock", "file", "."):
            (lefts[-1] / name).touch() if name != "." else None
            os.utime(lefts[-1] / name, (0, 0))
    (tmp_path / "links" / "best.ckpt").symlink_to(tmp_path / "files" / "best.ckpt")
    scripted(tmp_path / "links", [1.0])
    assert not any(left.exists() for left in lefts)


def test_the_folder_is_flushed_after_the_rename(tmp_path, monkeypatch):
    """The name is on the disk as well as the content: the last of the flushes is of a folder."""
    flushed, flush = [], os.fsync

    def fsync(descriptor):
        flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    scripted(tmp_path, [1.0])
    assert flushed[-4:] == [False, False, True, True]  # the weights, the record and its folder, the weights' folder


def test_bfloat16_on_a_cpu_is_refused_before_the_first_step(tmp_path):
    """MindSpore can save such a parameter there, but not write it back."""
    if not hasattr(ms, "bfloat16"):
        pytest.skip("this MindSpore has no bfloat16")
    script = Script()
    script.network = nn.Cell()
    try:
        script.network.weight = ms.Parameter(ms.Tensor([1.0], ms.float32).astype(ms.bfloat16), name="weight")
    except TypeError:
        pytest.skip("this MindSpore makes no bfloat16 parameter with this NumPy")
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="x", mode="min")
    with pytest.raises(ValueError, match="cannot write parameters of bfloat16 on a CPU, and 'weight' is one"):
        script.run([best], [{"x": 1.0}])


def test_says_what_was_saved(tmp_path, capsys):
    """One line for each best."""
    scripted(tmp_path, [2.0, 3.0, 1.0], "{epoch}.ckpt", verbose=1)
    folder = str(tmp_path)
    assert capsys.readouterr().out == (
        f"BestCheckpoint: x 2 in epoch 1 is the best so far: saved {folder}/1.ckpt\n"
        f"BestCheckpoint: x 1 in epoch 3 is the best so far: saved {folder}/3.ckpt instead of {folder}/1.ckpt\n"
    )


@pytest.mark.parametrize(
    ("top", "values", "endings"),
    [
        (1, [3.0, 2.0, 1.0], ["1.ckpt", "2.ckpt instead of {}1.ckpt", "3.ckpt instead of {}2.ckpt"]),
        (2, [3.0, 2.0, 1.0], ["1.ckpt", "2.ckpt", "3.ckpt instead of {}1.ckpt"]),
        (3, [3.0, 2.0, 1.0], ["1.ckpt", "2.ckpt", "3.ckpt"]),
        (3, [3.0, 4.0, 2.0, 1.0], ["1.ckpt", "3.ckpt", "4.ckpt instead of {}2.ckpt"]),
        (-1, [2.0, 1.0], ["1.ckpt", "2.ckpt"]),
    ],
)
def test_says_what_was_removed(tmp_path, capsys, top, values, endings):
    """The file that is outdone, and nothing where none is."""
    scripted(tmp_path, values, "{epoch}.ckpt", verbose=1, save_top_k=top, background=False)
    saved = [line.split("saved ")[1] for line in capsys.readouterr().out.splitlines()]
    assert saved == [f"{tmp_path}/{ending.format(f'{tmp_path}/')}" for ending in endings]


# Damage


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "emptied":
        content = bytearray()
    elif how == "flipped":
        content[len(content) // 2] ^= 1
    elif how == "pickled":
        content = bytearray(pickle.dumps({"weight": 1}))
    path.write_bytes(content)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped", "pickled"])
def test_a_damaged_file_is_refused_by_name_and_the_next_best_is_loaded(tmp_path, ending, how, capsys):
    """A flipped bit too, which MindSpore loads without a word."""
    best = scripted(tmp_path, [3.0, 1.0, 2.0], f"{{epoch}}.{ending}", save_top_k=2)
    damage(tmp_path / f"2.{ending}", how)
    assert loaded_epoch(best) == 3
    assert f"refused '{tmp_path}/2.{ending}': damaged or incomplete" in capsys.readouterr().out
    damage(tmp_path / f"3.{ending}", how)
    for loader in (best, BestCheckpoint(str(tmp_path / f"{{epoch}}.{ending}"))):
        network = nn.Dense(1, 1)
        before = weights(network)
        with pytest.raises(ValueError, match=r"no whole checkpoint is left; refused: .*2\.\w+.*3\.\w+"):
            loader.load_into(network)
        assert_same_weights(weights(network), before)


def test_a_file_cut_at_the_edge_of_a_record_is_refused(tmp_path):
    """MindSpore loads such a file with fewer parameters, without a word."""
    best = scripted(tmp_path, [1.0])
    path = tmp_path / "best.ckpt"
    whole = path.read_bytes()
    accepted = []
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        try:
            if ms.load_checkpoint(str(path)):
                accepted.append(length)
        except ValueError:
            pass
        with pytest.raises(ValueError, match="damaged or incomplete"):
            best.load_into(nn.Dense(1, 1))
    assert accepted, "the trap is no longer one: MindSpore refuses every cut"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"filepath": "best.ckpt"}'])
def test_a_record_that_is_broken_is_named(tmp_path, content):
    """By it alone a file can be verified."""
    scripted(tmp_path, [1.0])
    record = tmp_path / "best.ckpt.json"
    record.write_text(content)
    message = r"no whole checkpoint is left; refused: .*best.ckpt.*(record cannot be read|not the one in its record)"
    with pytest.raises(ValueError, match=message):
        loaded_epoch(BestCheckpoint(str(tmp_path / "best.ckpt")))


def test_the_weights_of_another_network_are_refused(tmp_path):
    """With what is missing and what has another shape; nothing is loaded."""
    best = scripted(tmp_path, [1.0])
    network = nn.Dense(2, 1)
    before = weights(network)
    with pytest.raises(
        ValueError, match=r"another network: weight is \(1, 1\) float32 in the file and \(1, 2\) float32 in"
    ):
        best.load_into(network)
    assert_same_weights(weights(network), before)
    with pytest.raises(ValueError, match="another network: the file lacks .*head.weight"):
        best.load_into(Network())
    with pytest.raises(TypeError, match="load_into takes a network"):
        best.load_into("best.ckpt")


@pytest.mark.parametrize("save_optimizer", [False, True])
def test_a_network_that_lacks_layers_of_the_saved_one_is_refused(tmp_path, save_optimizer):
    """All of its own weights are in the file, yet they are another's; what an optimizer holds may be left over."""

    class Deeper(Network):
        def __init__(self):
            super().__init__()
            self.more = nn.Dense(3, 3)

        def construct(self, x):
            return self.more(super().construct(x))

    path = str(tmp_path / "best.ckpt")
    saving = BestCheckpoint(path, monitor="loss", save_optimizer=save_optimizer, verbose=0)
    make_model(network=Deeper()).train(1, dataset(), callbacks=[saving])
    BestCheckpoint(path).load_into(Deeper())
    network = Network()
    before = weights(network)
    if save_optimizer:
        BestCheckpoint(path).load_into(network)  # which of the rest is the optimizer's, the file does not tell
    else:
        with pytest.raises(ValueError, match="another network: this one has no more.bias, more.weight. Nothing was"):
            BestCheckpoint(path).load_into(network)
        assert_same_weights(weights(network), before)


# Saves that fail


def test_between_the_two_renames_the_old_file_still_verifies(tmp_path, monkeypatch):
    """The record is renamed first; killed before the weights follow, the old best is loaded as what it is."""
    best = scripted(tmp_path, [2.0])
    replace = os.replace

    def only_the_record(source, target):
        if target.endswith(".ckpt"):
            raise OSError("killed here")
        replace(source, target)

    monkeypatch.setattr(os, "replace", only_the_record)
    with pytest.raises(OSError, match=r"could not save .* in epoch 2: killed here; an earlier file there is untouched"):
        scripted(tmp_path, [float("nan"), 1.0])
    monkeypatch.undo()
    network = nn.Dense(1, 1)
    record = BestCheckpoint(str(tmp_path / "best.ckpt")).load_into(network)
    assert (record["value"], best.best_) == (2.0, 2.0)


FULL_DISK = """
import resource, signal, sys
sys.path[:0] = [{tests!r}]
import conftest, mindspore as ms
from mindspore import nn
from training import Script
from ms_callbacks import BestCheckpoint

class Fill(ms.train.Callback):
    def on_train_epoch_begin(self, run_context):
        if run_context.original_args()["cur_epoch_num"] == 2:
            best.flush()
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

script = Script()
script.network = nn.Dense(100, 100)
best = BestCheckpoint({path!r}, monitor="x", mode="min", verbose=0)
try:
    script.run([Fill(), best], [{{"x": 2.0}}, {{"x": 1.0}}])
except OSError as error:
    print("OSError:", error)
print("best:", best.best_, best.best_epoch_)
"""


@pytest.mark.parametrize("ending", FORMATS)
def test_a_disk_that_fills_while_saving_leaves_the_old_best(tmp_path, ending):
    """The save raises, nothing half-written stays, and the old best loads."""
    (files := tmp_path / "files").mkdir()
    path = str(files / f"best.{ending}")
    done = forked.run(FULL_DISK.format(tests=os.path.dirname(os.path.dirname(__file__)), path=path), folder=tmp_path)
    assert "OSError: BestCheckpoint: could not save" in done.stdout, done.stdout + done.stderr
    assert "best: 2.0 1" in done.stdout
    assert sorted(os.listdir(files)) == [f"best.{ending}", f"best.{ending}.json"]
    assert BestCheckpoint(path).load_into(nn.Dense(100, 100))["value"] == 2.0
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000


class NoStep(ms.train.Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("missing/best.ckpt", FileNotFoundError, "the folder '.*missing' of .* does not exist"),
        ("{accuracy:.2f}.ckpt", ValueError, r"unknown field 'accuracy'; this run has .*; did you mean 'acc'\?"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_the_first_step(tmp_path, path, error, message):
    """A folder that is not there, a field that the run does not have."""
    model = make_model()
    best = BestCheckpoint(str(tmp_path / path), monitor="acc")
    with pytest.raises(error, match=message):
        model.train(1, dataset(), callbacks=[best, Validate(model, valid_dataset()), NoStep()])


def test_two_that_save_to_one_place_are_refused_before_the_first_step(tmp_path):
    """Each would overwrite the other's best."""
    for one, other in (("best.ckpt", "best.ckpt"), ("best.ckpt", "./best.ckpt"), ("best.ckpt", "last.ckpt")):
        two = [
            BestCheckpoint(str(tmp_path / one), monitor="loss", save_last=True),
            BestCheckpoint(f"{tmp_path}/{other}", monitor="acc"),
        ]
        with pytest.raises(ValueError, match=r"two callbacks save to '.*\.ckpt'; give each a filepath of its own"):
            make_model().fit(1, dataset(), valid_dataset(), callbacks=[*two, NoStep()])


@pytest.mark.parametrize(
    ("filepath", "arguments", "message"),
    [
        ("best.pth", {}, r"filepath must end in one of \('.ckpt', '.safetensors'\), but got 'best.pth'"),
        ("best", {}, "filepath must end in one of"),
        ("", {}, "filepath must not be empty"),
        ("{0}.ckpt", {}, "holds the field '0', which is not a plain name"),
        ("{}.ckpt", {}, "holds the field '', which is not a plain name"),
        ("{epoch.__class__}.ckpt", {}, "holds the field 'epoch.__class__', which is not a plain name"),
        ("{acc[0]}.ckpt", {}, "which is not a plain name"),
        ("{acc!r}.ckpt", {}, "which is not a plain name"),
        ("{acc:{epoch}}.ckpt", {}, "which is not a plain name"),
        ("{epoch.ckpt", {}, "is not a valid template"),
        ("{epoch:/>9}.ckpt", {}, "is not a valid template"),
        ("{acc:d}.ckpt", {}, "cannot be filled in"),
        ("{epoch}/best.ckpt", {}, "has fields in its folder"),
        ("best.ckpt", {"save_top_k": 3}, r"save_top_k=3 needs a filepath with {epoch} or {step}"),
        ("best.ckpt", {"save_top_k": -2}, "save_top_k must be at least -1"),
        ("best.ckpt", {"save_top_k": 1.0}, "save_top_k must be a whole number"),
        ("best.ckpt", {"save_last": 1}, "save_last must be True or False"),
        ("last.ckpt", {"save_last": True}, "last.ckpt' is for the last; name the best differently"),
        ("best.ckpt", {"save_optimizer": None}, "save_optimizer must be True or False"),
        ("best.ckpt", {"overwrite": 1}, "overwrite must be True or False"),
        ("best.ckpt", {"initial_value_threshold": float("nan")}, "initial_value_threshold must be finite"),
        (None, {}, "filepath must be a string, but got None"),
        ("best.ckpt", {"mode": "best"}, "mode must be one of"),
        ("best.ckpt", {"min_delta": -1}, "min_delta must be finite and at least 0"),
    ],
)
def test_wrong_arguments_are_refused_where_it_is_made(filepath, arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"BestCheckpoint: .*{message}"):
        BestCheckpoint(filepath, **arguments)


def test_making_one_touches_no_file(tmp_path):
    """Only a run does."""
    BestCheckpoint(str(tmp_path / "new" / "best.ckpt"))
    assert os.listdir(tmp_path) == []


@settings(deadline=None, max_examples=300)
@given(
    text=st.text(alphabet=string.printable + "é{}/\\.:0", max_size=20), epoch=st.integers(1, 10**6), acc=st.floats(0, 1)
)
def test_no_template_leaves_its_folder(text, epoch, acc):
    """Whatever the name, it is refused, or makes a file right in the folder."""
    try:
        path = PathTemplate("T", "folder/" + text.replace("/", "")).path({"epoch": epoch, "acc": acc})
    except ValueError:
        return
    assert os.path.dirname(path) == os.path.abspath("folder")


def test_state_goes_on_where_it_was(tmp_path):
    """A new object with the old one's state knows what is on disk."""
    one = scripted(tmp_path, [2.0, 1.0])
    other = BestCheckpoint(str(tmp_path / "best.ckpt"))
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert (other.best_, other.best_epoch_, other.best_path_) == (1.0, 2, one.best_path_)


# Behind the run


class Held:
    """Lets the files of a run be written only when a test says so."""

    def __init__(self, monkeypatch):
        self.go = threading.Event()
        self.saved = []
        save = checkpoint_io.save

        def held(file, arrays, ending):
            assert self.go.wait(60)
            self.saved.append(int(arrays["weight"].item()))
            save(file, arrays, ending)

        monkeypatch.setattr(checkpoint_io, "save", held)


class Do(ms.train.Callback):
    """Does something at the beginning of an epoch, or at its end."""

    def __init__(self, epoch, action, at_end=False):
        self.epoch = epoch
        self.action = action
        self.at_end = at_end

    def on_train_epoch_begin(self, run_context):
        if run_context.original_args()["cur_epoch_num"] == self.epoch and not self.at_end:
            self.action()

    def on_train_epoch_end(self, run_context):
        if run_context.original_args()["cur_epoch_num"] == self.epoch and self.at_end:
            self.action()


def numbered(best, epochs, *others, steps=2):
    """Each epoch is better than the one before, and its weights are its number."""
    script = Script()

    class Number(ms.train.Callback):
        def on_train_epoch_begin(self, run_context):
            epoch = run_context.original_args()["cur_epoch_num"]
            script.network.weight.set_data(ms.Tensor([[float(epoch)]], ms.float32))

    results = [{"x": float(epoch)} for epoch in range(1, epochs + 1)]
    script.run([Number(), best, *others], results, steps=steps)


def best_of(folder, name="best.ckpt", **arguments):
    return BestCheckpoint(str(folder / name), monitor="x", mode="max", verbose=0, **arguments)


def test_training_goes_on_while_a_file_is_written(tmp_path, monkeypatch):
    """The weights on disk are those of the epoch, though training has changed them since; it is best once it is there.

    Of two that come while one is being written, the newer alone is.
    """
    held, best, seen = Held(monkeypatch), best_of(tmp_path), []

    def look():
        seen.append((best.best_path_, best.best_epoch_, os.path.exists(best.filepath)))
        held.go.set()

    numbered(best, 3, Do(3, look, at_end=True))
    assert seen == [(None, 0, False)]
    assert held.saved == [1, 3]
    assert (best.best_epoch_, loaded_epoch(best)) == (3, 3)


def test_nothing_that_is_to_be_kept_is_let_go(tmp_path, monkeypatch):
    """Where several are kept, the run waits rather than leave one out."""
    held, best = Held(monkeypatch), best_of(tmp_path, "{epoch}.ckpt", save_top_k=3)
    numbered(best, 4, Do(3, lambda: threading.Timer(0.2, held.go.set).start()))
    assert held.saved == [1, 2, 3, 4]
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["2.ckpt", "3.ckpt", "4.ckpt"]
    assert loaded_epoch(best) == 4


@pytest.mark.parametrize("failing", [1, 3])
def test_a_save_that_fails_behind_the_run_is_raised(tmp_path, monkeypatch, failing):
    """At the next hook, in the middle of an epoch; that of the last epoch at the end."""
    best, steps, save, second_epoch = best_of(tmp_path), [], checkpoint_io.save, threading.Event()

    def fail(file, arrays, ending):
        if arrays["weight"].item() == failing:
            assert second_epoch.wait(10)
            raise OSError("disk")
        save(file, arrays, ending)

    class Step(ms.train.Callback):
        def on_train_step_end(self, run_context):
            args = run_context.original_args()
            steps.append(args["cur_epoch_num"])
            if args["cur_epoch_num"] == 2:
                second_epoch.set()
            futures.wait([best.run.background.submit(int)])  # all that was handed over before

    monkeypatch.setattr(checkpoint_io, "save", fail)
    with pytest.raises(OSError, match=f"BestCheckpoint: could not save .* in epoch {failing}: disk; an earlier file"):
        numbered(best, 3, Step(), steps=5)
    assert (steps.count(failing), steps.count(failing + 1)) == (5, 1 if failing == 1 else 0)
    monkeypatch.undo()
    assert best.best_epoch_ == failing - 1
    if failing > 1:
        assert loaded_epoch(best) == failing - 1


def test_after_a_failure_nothing_else_is_written(tmp_path, monkeypatch):
    """What is told is what went wrong first, and what waited behind it is let go."""
    go, tried = threading.Event(), []

    def fail(file, arrays, ending):
        tried.append(int(arrays["weight"].item()))
        assert go.wait(60)
        raise OSError("disk")

    monkeypatch.setattr(checkpoint_io, "save", fail)
    with pytest.raises(OSError, match="in epoch 1: disk"):
        numbered(best_of(tmp_path), 2, Do(2, go.set, at_end=True))
    assert tried in ([1], [1, 2])  # the thread may have been faster than the hook
    assert list(tmp_path.glob("best*")) == []


def test_an_exception_waits_for_what_is_being_written(tmp_path, monkeypatch):
    """The run's own error is what is seen, and the file is there."""
    path = str(tmp_path / "best.ckpt")
    slow, save = threading.Event(), checkpoint_io.save

    def slowly(file, arrays, ending):
        slow.set()
        time.sleep(0.3)
        save(file, arrays, ending)

    monkeypatch.setattr(checkpoint_io, "save", slowly)

    def fail():
        assert slow.wait(60)
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(2, dataset(), callbacks=[BestCheckpoint(path, monitor="loss", verbose=0), Do(2, fail)])
    assert BestCheckpoint(path).load_into(Network())["epoch"] == 1


def test_the_last_is_written_behind_too(tmp_path):
    """From the same copy as the best, where an epoch is both."""
    best = best_of(tmp_path, save_last=True)
    numbered(best, 3)
    last = BestCheckpoint(str(tmp_path / "last.ckpt"))
    assert (loaded_epoch(best), loaded_epoch(last)) == (3, 3)
    record = json.loads((tmp_path / "last.ckpt.json").read_text())
    assert (record["epoch"], best.best_path_) == (3, str(tmp_path / "best.ckpt"))


def test_at_most_two_copies_are_held_and_none_after(tmp_path, monkeypatch):
    """One while each file is written before the next is due."""
    held, copies = [], CopiesInMemory(monkeypatch)

    def count():
        held.append(copies.most)

    best = best_of(tmp_path, overwrite=True)
    counts = [Do(epoch, count, at_end=True) for epoch in range(1, 10)]
    numbered(best, 6, *counts, *(Do(epoch, best.flush) for epoch in range(2, 7)))
    assert held == [1] * 6
    held.clear()
    numbered(best, 9, *counts, Do(9, Held(monkeypatch).go.set, at_end=True))
    assert held == [1] + [2] * 8
    assert copies.most == 0
