"""What every look into a network rests on: whatever its forward pass writes, the look leaves no trace."""

from __future__ import annotations

import random
from collections import OrderedDict

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from training import Network, Recorder, assert_same_weights, dataset, loss_fn, make_model, valid_dataset, weights

from ms_callbacks import (
    ActivationMonitor,
    ConfusionMatrix,
    HardExamples,
    Robustness,
    ShapeInspector,
    Validate,
    grad_cam,
)
from ms_callbacks.core.forward_hooks import first_tensor, kept, layers_of, observe, statistics_of, untouched


def zeros(*shape):
    return Tensor(np.zeros(shape, np.float32))


class Counting(nn.Cell):
    """Counts its passes in a parameter that no gradient changes, and computes with the count."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.dense = nn.Dense(16, 3)
        self.passes = Parameter(Tensor(np.zeros(1, np.float32)), name="passes", requires_grad=False)

    def construct(self, x):
        return self.dense(self.flatten(x)) * (1 + 0.1 * ops.assign_add(self.passes, ops.ones((1,), ms.float32)))


class Normed(nn.Cell):
    """A spectral norm by hand: one step of its power iteration in each pass, and the weight itself is written."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.weight = Parameter(Tensor(np.random.RandomState(2).randn(3, 16).astype(np.float32)), name="weight")
        self.direction = Parameter(Tensor(np.ones((3, 1), np.float32)), name="direction", requires_grad=False)

    def construct(self, x):
        other = ops.matmul(ops.transpose(self.weight, (1, 0)), self.direction)
        direction = ops.matmul(self.weight, other / ops.sqrt(ops.reduce_sum(other * other)))
        direction = direction / ops.sqrt(ops.reduce_sum(direction * direction))
        ops.assign(self.direction, direction)
        ops.assign(self.weight, self.weight * 0.999)
        return ops.matmul(self.flatten(x), ops.transpose(self.weight, (1, 0))) + 0 * ops.reduce_sum(direction)


class BatchStatistics(nn.Cell):
    """A BatchNorm that moves its statistics in evaluation too, and a queue of the last outputs."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.dense = nn.Dense(16, 3)
        self.norm = nn.BatchNorm1d(3, use_batch_statistics=True)
        self.queue = Parameter(Tensor(np.zeros((2, 3), np.float32)), name="queue", requires_grad=False)

    def construct(self, x):
        outputs = self.norm(self.dense(self.flatten(x)))
        ops.assign(self.queue, outputs[:2])
        return outputs


LOOKS = {
    "watch": lambda model: [ShapeInspector(show_values_at=(1, 2, 5)), ActivationMonitor()],
    "explain": lambda model: [
        ConfusionMatrix(verbose=0),
        HardExamples(verbose=0),
        Robustness(valid_dataset(24), (0.1,), verbose=0),
    ],
}


@pytest.mark.parametrize(
    ("mode", "look", "network"),
    [
        pytest.param(mode, look, network, marks=[] if (look == "watch") == (mode == "graph") else [pytest.mark.slow])
        for mode in ("graph", "pynative")
        for look in LOOKS
        for network in (Counting, Normed, BatchStatistics)
    ],
    indirect=["mode"],
)
def test_a_network_that_writes_parameters_trains_as_if_nobody_looked(mode, network, look, capsys):
    """Losses, weights, statistics and counts, bit for bit; an evaluation is the same in both runs."""
    outcomes = []
    for make in (lambda model: [], LOOKS[look]):
        ms.set_seed(3)
        model, recorder = make_model(network=network()), Recorder()
        evaluation = [Validate(model, valid_dataset(24))] if look == "explain" else []
        model.train(2, dataset(), callbacks=[*evaluation, *make(model), recorder])
        outcomes.append((recorder.losses, weights(model.train_network)))
    assert outcomes[0][0] == outcomes[1][0]
    assert_same_weights(outcomes[0][1], outcomes[1][1])


def test_looks_without_training_leave_parameters_as_they_were(mode):
    """`inspect` and `grad_cam`, of which the latter runs the network with gradients."""

    class Images(nn.Cell):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(1, 1, 3)
            self.counting = Counting()

        def construct(self, x):
            return self.counting(self.convolution(x))

    network = Images()
    before = weights(network)
    ShapeInspector().inspect(network, zeros(2, 1, 4, 4))
    grad_cam(network, "convolution", zeros(2, 1, 4, 4), targets=0)
    assert_same_weights(before, weights(network))


class Python(nn.Cell):
    """Keeps its state in Python: a counter, a list, a tensor, a flag for its first pass, and what it makes then."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 4)
        self.calls = 0
        self.history = [0]
        self.named = {"first": 1}
        self.kinds = {1}
        self.mean = zeros(4)
        self.is_ready = False
        self.scale = Parameter(Tensor(np.ones(4, np.float32)), name="scale")

    def construct(self, x):
        self.calls += 1
        self.history[0] = 7
        self.history.append(self.calls)
        self.named["second"] = self.named.pop("first")
        self.kinds.add(2)
        self.mean = self.mean + ops.reduce_sum(x)
        if not self.is_ready:  # as an ActNorm does: with its weights given back, its flag has to be, too
            self.is_ready = True
            self.made = np.random.rand() + random.random()
            ops.assign(self.scale, self.scale * 5)
        x += 1  # the batch itself, where MindSpore writes in place
        return self.dense(x) * self.scale + self.mean


@pytest.mark.parametrize("fails", [False, True])
def test_state_in_python_is_given_back(mode, fails):
    """What a cell keeps in attributes, the random state, and the batch; also where the network raises."""
    network, batch = Python(), Tensor(np.full((2, 4), 3.0, np.float32))
    mean, states = network.mean, (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2])
    attributes = {name: set(vars(cell)) for name, cell in network.cells_and_names()}

    def see(name, layer, inputs, output):
        if fails:
            raise ArithmeticError("seen")

    if fails:
        with pytest.raises(ArithmeticError, match="seen"):
            observe(network, (batch,), layers_of(network), see)
    else:
        observe(network, (batch,), layers_of(network), see)
    assert (network.calls, network.history, network.named, network.kinds) == (0, [0], {"first": 1}, {1})
    assert network.mean is mean
    assert (mean.asnumpy() == 0).all()
    assert not network.is_ready
    assert (network.scale.asnumpy() == 1).all()
    assert (batch.asnumpy() == 3).all()
    assert {name: set(vars(cell)) for name, cell in network.cells_and_names()} == attributes
    assert (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]) == states


def test_tensors_written_in_place_are_given_back():
    """Those that are attributes, and buffers where MindSpore has them."""

    class InPlace(nn.Cell):
        def __init__(self):
            super().__init__()
            self.table = zeros(3)
            self.has_buffer = hasattr(self, "register_buffer")
            if self.has_buffer:
                self.register_buffer("buffer", zeros(3))

        def construct(self, x):
            self.table[1] = 5
            if self.has_buffer:
                self.buffer.copy_(x)
            return x

    network = InPlace()
    table = network.table
    with untouched(network):
        network(Tensor(np.ones(3, np.float32)))
        assert table.asnumpy().any()
        assert not network.has_buffer or network.buffer.asnumpy().all()
    assert not table.asnumpy().any()
    assert not network.has_buffer or not network.buffer.asnumpy().any()


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "bool", "complex64", "bfloat16"])
def test_parameters_of_every_type(dtype):
    """NaN, the sign of zero and all: what is not a number is not the same as itself, and still not written."""
    if dtype == "bfloat16" and not hasattr(ms, dtype):
        pytest.skip("MindSpore 2.0 has no bfloat16")
    kind = "float32" if dtype == "bfloat16" else dtype
    values = np.array([0.0, -0.0, 1.0, np.nan], np.float32)
    if kind in ("int8", "bool"):
        values = np.nan_to_num(values)
    cell = nn.Cell()
    cell.one = Parameter(Tensor(values.astype(kind)), name="one")
    cell.one.set_dtype(getattr(ms, dtype if dtype != "bool" else "bool_"))
    with kept(cell):
        if dtype not in ("bfloat16", "complex64"):  # a CPU writes none of the first, MindSpore 2.0 none of the other
            ops.assign(cell.one, Tensor(np.ones(4, kind)))
            assert cell.one.asnumpy()[:2].all()
    if dtype != "bfloat16":
        assert cell.one.asnumpy().tobytes() == values.astype(kind).tobytes()


def test_only_what_has_changed_is_written(monkeypatch):
    """An ordinary network's parameters are read twice and never written."""
    written = []
    for name in ("copy_", "assign_value", "set_data"):
        if hasattr(Parameter, name):
            monkeypatch.setattr(Parameter, name, lambda self, *args, **kwargs: written.append(self.name))
    monkeypatch.setattr(ops, "assign", lambda parameter, value: written.append(parameter.name))
    network = Network()
    observe(network, (zeros(2, 1, 4, 4),), layers_of(network), lambda *seen: None)
    assert written == []
    observe(network, (zeros(2, 1, 4, 4),), layers_of(network), lambda *seen: None, batch_statistics=True)
    assert set(written) <= {"norm.moving_mean", "norm.moving_variance"}
    assert written


def test_hooks_of_the_user_run_and_stay():
    """They may be part of the network; a look adds none of its own."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network, calls = nn.SequentialCell(nn.Dense(4, 3), nn.ReLU()), []

    def hook(cell, inputs, output):
        calls.append(1)

    network[0].register_forward_hook(hook)
    observe(network, (zeros(2, 4),), layers_of(network), lambda *seen: None)
    assert calls == [1]
    network(zeros(2, 4))
    assert calls == [1, 1]
    assert "construct" not in vars(network[0])


def test_layers_that_are_called_by_keyword_show_what_they_take():
    """On every MindSpore."""

    class Outer(nn.Cell):
        def __init__(self):
            super().__init__()
            self.dense = nn.Dense(4, 2)

        def construct(self, x):
            return self.dense(x=x)

    seen = []
    network = Outer()
    observe(network, (zeros(3, 4),), layers_of(network), lambda name, cell, inputs, output: seen.append(inputs))
    assert [first_tensor(inputs).shape for inputs in seen] == [(3, 4)]


@pytest.mark.parametrize("frozen", [False, True])
def test_batch_statistics_as_in_a_step(mode, frozen):
    """BatchNorm alone has its flag of training, unless it is frozen; without training at all it has none to follow."""
    network, seen = nn.SequentialCell(nn.Dense(4, 4), nn.BatchNorm1d(4), nn.Dropout(p=0.5)), {}
    network.set_train(True)
    network[1].set_train(not frozen)
    before = weights(network)
    batch = Tensor(np.random.RandomState(0).randn(6, 4).astype(np.float32) + 5)
    observe(
        network,
        (batch,),
        layers_of(network),
        lambda name, cell, inputs, output: seen.update({name: (cell.training, output.asnumpy())}),
        batch_statistics=True,
    )
    assert {name: training for name, (training, _) in seen.items()} == {"0": False, "1": not frozen, "2": False}
    assert (abs(seen["1"][1].mean()) < 1e-5) == (not frozen)
    np.testing.assert_array_equal(seen["1"][1], seen["2"][1])
    assert_same_weights(before, weights(network))
    assert [cell.training for cell in network] == [True, not frozen, True]


def test_statistics_of():
    """Those of BatchNorm; LayerNorm has none."""
    assert [one.shape for one in statistics_of(nn.BatchNorm2d(3))] == [(3,), (3,)]
    assert statistics_of(nn.LayerNorm((3,))) == []


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (None, None),
        ("text", None),
        ((1, [None, {"x": 3}]), None),
        ((1, [None, OrderedDict(x=Tensor([1.0, 2.0]))], Tensor([1.0])), (2,)),
    ],
)
def test_first_tensor(values, found):
    """In tuples, lists and dictionaries, however deep."""
    tensor = first_tensor(values)
    assert (None if tensor is None else tensor.shape) == found


def test_a_loss_that_keeps_state_is_given_back():
    """Robustness runs the loss as well as the network."""

    class Loss(nn.Cell):
        def __init__(self):
            super().__init__()
            self.loss = loss_fn()
            self.calls = Parameter(Tensor(np.zeros(1, np.float32)), name="calls", requires_grad=False)

        def construct(self, logits, labels):
            return self.loss(logits, labels) + 0 * ops.assign_add(self.calls, ops.ones((1,), ms.float32))

    loss = Loss()
    Robustness(valid_dataset(24), (0.1,), verbose=0).evaluate(Counting(), loss)
    assert loss.calls.asnumpy() == 0
