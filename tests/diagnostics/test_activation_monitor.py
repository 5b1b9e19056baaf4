"""ActivationMonitor: which layer died, and when."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from training import Recorder, assert_same_weights, dataset, loss_fn, make_model, valid_dataset, weights

from ms_callbacks import Validate
from ms_callbacks.diagnostics._layer_values import values_of
from ms_callbacks.diagnostics.activation_monitor import ActivationMonitor


class Mortal(nn.Cell):
    """A ReLU whose biases can be pushed so far down that it never fires again, and a sigmoid that can be driven up."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.first = nn.Dense(16, 6)
        self.second = nn.Dense(6, 6)
        self.relu = nn.ReLU()
        self.sigmoid = nn.Sigmoid()
        self.head = nn.Dense(6, 3)

    def construct(self, x):
        x = self.relu(self.first(self.flatten(x)))
        return self.head(self.sigmoid(self.second(self.relu(x))))


def mortal_model(learning_rate=1e-3):
    network = Mortal()
    return ms.Model(network, loss_fn(), nn.SGD(network.trainable_params(), learning_rate))


class Push(Callback):
    """Sets a bias at the start of an epoch."""

    def __init__(self, values):
        self.values = values

    def on_train_epoch_begin(self, run_context):
        args = run_context.original_args()
        for name, value in self.values.get(args["cur_epoch_num"], {}).items():
            bias = getattr(args["network"], name).bias
            ops.assign(bias, Tensor(np.full(bias.shape, value, np.float32)))


def test_a_dead_layer_is_named_with_its_epoch(mode, capsys):
    """Each of its calls is named."""
    monitor = ActivationMonitor()
    mortal_model().train(4, dataset(), callbacks=[Push({2: {"first": -1000.0}}), monitor])
    assert monitor.dead_ == {"relu": 2, "relu (call 2)": 2}
    assert capsys.readouterr().out.splitlines() == [
        "ActivationMonitor: layer 'relu' is dead since epoch 2",
        "ActivationMonitor: layer 'relu (call 2)' is dead since epoch 2",
    ]


def test_a_layer_that_really_dies_in_training_is_named():
    """Its weights are driven so far that it fires for no sample any more."""
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 4), nn.ReLU(), nn.Dense(4, 1, weight_init="ones"))

    class Sum(nn.Cell):
        def construct(self, outputs, labels):
            return outputs.sum()  # pushes every unit down for ever

    model = ms.Model(network, Sum(), nn.SGD(network.trainable_params(), 0.05))
    monitor = ActivationMonitor(verbose=0)
    model.train(3, dataset(), callbacks=[monitor])
    assert list(monitor.dead_) == ["2"]
    assert 1 <= monitor.dead_["2"] <= 3


def test_a_layer_that_recovers_is_no_longer_named(mode, capsys):
    """Saturated in epoch 1, not in epoch 2."""
    monitor = ActivationMonitor()
    model = mortal_model()
    model.train(3, dataset(), callbacks=[Push({1: {"second": 50.0}, 2: {"second": 0.0}}), monitor])
    assert monitor.saturated_ == {}
    assert capsys.readouterr().out.splitlines() == [
        "ActivationMonitor: layer 'sigmoid' is saturated since epoch 1",
        "ActivationMonitor: layer 'sigmoid' is no longer saturated in epoch 2",
    ]


def test_every_n_epochs(capsys):
    """Between the looks nothing is known."""
    monitor = ActivationMonitor(every_n_epochs=3)
    mortal_model().train(4, dataset(), callbacks=[Push({1: {"first": -1000.0}}), monitor])
    assert monitor.dead_ == {"relu": 3, "relu (call 2)": 3}


def test_looking_changes_nothing(mode):
    """Losses and weights are those of a run without it."""
    outcomes = []
    for callbacks in ([], [ActivationMonitor()]):
        model, recorder = make_model(), Recorder()
        model.train(3, dataset(), callbacks=[*callbacks, recorder])
        outcomes.append((recorder.losses, weights(model.train_network)))
    assert outcomes[0][0] == outcomes[1][0]
    assert_same_weights(outcomes[0][1], outcomes[1][1])


class Normed(nn.Cell):
    """A BatchNorm before a ReLU and a sigmoid."""

    def __init__(self):
        super().__init__()
        self.flatten, self.dense, self.norm = nn.Flatten(), nn.Dense(16, 6), nn.BatchNorm1d(6)
        self.relu, self.middle, self.middle_norm = nn.ReLU(), nn.Dense(6, 6), nn.BatchNorm1d(6)
        self.sigmoid, self.head = nn.Sigmoid(), nn.Dense(6, 3)

    def construct(self, x):
        x = self.relu(self.norm(self.dense(self.flatten(x))))
        return self.head(self.sigmoid(self.middle_norm(self.middle(x))))


def normed_model(scale=1.0):
    ms.set_seed(2)
    network = Normed()
    for dense in (network.dense, network.middle):
        dense.weight.set_data(Tensor(np.random.RandomState(3).randn(*dense.weight.shape).astype(np.float32) * scale))
    return ms.Model(network, loss_fn(), nn.SGD(network.trainable_params(), 1e-3), metrics={"acc"})


def test_running_statistics_of_the_first_steps_make_no_alarm(mode):
    """Evaluation would drive the sigmoid to its bounds; in a step, BatchNorm does not."""
    monitor = ActivationMonitor(verbose=0)
    model = normed_model(scale=1000.0)
    model.train(1, dataset(), callbacks=[Validate(model, valid_dataset()), monitor])
    assert (monitor.dead_, monitor.saturated_) == ({}, {})


def test_a_last_batch_of_one_sample_makes_no_alarm():
    """BatchNorm makes zeros of it, and a ReLU behind looks dead."""
    monitor = ActivationMonitor(verbose=0)
    normed_model().train(2, dataset(13), callbacks=[monitor])
    assert monitor.dead_ == {}


def test_a_layer_behind_batch_norm_that_is_dead_is_named(mode):
    """By the batch and by the running statistics."""
    monitor, model = ActivationMonitor(verbose=0), normed_model()
    model.predict_network.norm.beta.set_data(Tensor(np.full(6, -1000.0, np.float32)))
    model.train(1, dataset(), callbacks=[monitor])
    assert "relu" in monitor.dead_


def test_a_second_run_begins_anew():
    """And a state goes on."""
    monitor, model = ActivationMonitor(verbose=0), mortal_model()
    model.train(1, dataset(), callbacks=[Push({1: {"first": -1000.0}}), monitor])
    other = ActivationMonitor()
    other.load_state_dict(monitor.state_dict())
    assert other.dead_ == {"relu": 1, "relu (call 2)": 1}
    mortal_model().train(1, dataset(), callbacks=[monitor])
    assert monitor.dead_ == {}


def test_wrong_arguments_are_refused():
    """With what was received and what was expected."""
    with pytest.raises(ValueError, match="ActivationMonitor: every_n_epochs must be at least 1"):
        ActivationMonitor(every_n_epochs=0)
    with pytest.raises(ValueError, match="ActivationMonitor: verbose must be one of"):
        ActivationMonitor(verbose=2)


@pytest.mark.parametrize(
    ("kind", "output", "finding"),
    [
        ("ReLU", [0.0, 0.0], "dead"),
        ("ReLU", [0.0, 1.0], ""),
        ("Tanh", [-1.0, 0.99], "saturated"),
        ("Tanh", [-1.0, 0.5], ""),
        ("Sigmoid", [0.001, 0.999], "saturated"),
        ("ReLU6", [6.0, 5.99], "saturated"),
        ("ReLU6", [0.0] * 99 + [3.0], ""),  # its lower bound is where it rests
        ("Dense", [float("nan"), 0.0], "not finite"),
    ],
)
def test_findings(kind, output, finding):
    """By the kind of layer."""
    assert values_of("layer", kind, np.array(output, np.float32)).finding == finding
