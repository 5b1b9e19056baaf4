"""What a Model was made of is found, however it was put together; without any training."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, amp, nn, ops
from training import Network, NetworkWithLoss, OwnTrainCell, loss_fn

from ms_callbacks.core.model_parts import named_parameters, optimizers_of, positional_count, take_apart


def adam(network):
    return nn.Adam(network.trainable_params(), 0.1)


def ids(parameters):
    return {id(one) for one in parameters}


class SinkWrapper(nn.Cell):
    """As MindSpore wraps a training cell in sink mode: it takes no inputs, and has no optimizer of its own."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.get_next = ops.Identity()
        self.network = network

    def construct(self):
        return self.network(*self.get_next(()))


class Distillation(nn.Cell):
    """A teacher that nothing trains stands beside the student."""

    def __init__(self, student, teacher):
        super().__init__()
        self.teacher = teacher
        self.student_with_loss = NetworkWithLoss(student, loss_fn())
        self.optimizer = adam(student)

    def construct(self, x, label):
        return self.student_with_loss(x, label) + ops.reduce_mean(self.teacher(x))


class InContainers(nn.Cell):
    """Its optimizers are in a list and a dictionary, of which MindSpore does not know."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        trained = network.trainable_params()
        self.optimizers = [nn.SGD(trained[:1], 0.1)]
        self.more = {"rest": nn.SGD(trained[1:], 0.1)}

    def construct(self, x):
        return self.network(x)


class ScaledState(nn.Cell):
    """A loss scale with parameters of its own, which no optimizer trains."""

    def __init__(self, network):
        super().__init__()
        self.scaler = Scaler()
        self.body = network
        self.optimizer = adam(network)

    def construct(self, x):
        return self.body(x)


class Scaler(nn.Cell):
    def __init__(self):
        super().__init__()
        self.scale = Parameter(Tensor(np.ones(1, np.float32)), name="scale")

    def construct(self, x):
        return x * self.scale


class OwnLossCell(nn.WithLossCell):
    """A subclass that calls its backbone in its own way."""

    def construct(self, first, second, label):
        return self._loss_fn(self._backbone(first + second), label)


def in_list(network):
    return InContainers(network)


CELLS = {
    "the network alone": (lambda net: net, 0),
    "MindSpore's training cell": (lambda net: nn.TrainOneStepCell(nn.WithLossCell(net, loss_fn()), adam(net)), 1),
    "in sink mode": (
        lambda net: SinkWrapper(nn.TrainOneStepCell(nn.WithLossCell(net, loss_fn()), adam(net))),
        1,
    ),
    "built with amp": (lambda net: amp.build_train_network(net, adam(net), loss_fn()), 1),
    "built with amp, level O2": (
        lambda net: amp.build_train_network(net, adam(net), loss_fn(), level="O2", loss_scale_manager=None),
        1,
    ),
    "optimizers in a list and a dictionary": (InContainers, 2),
    "the state of a loss scale beside it": (ScaledState, 1),
    "a training cell in another": (
        lambda net: SinkWrapper(SinkWrapper(nn.TrainOneStepCell(nn.WithLossCell(net, loss_fn()), adam(net)))),
        1,
    ),
    "without a loss": (lambda net: nn.TrainOneStepCell(net, adam(net)), 1),
}


@pytest.mark.parametrize("case", CELLS)
def test_the_network_is_found(case):
    """And all that it learns, and nothing else."""
    make, optimizers = CELLS[case]
    network = Network()
    parts = take_apart(make(network))
    assert parts.network is network
    assert len(parts.optimizers) == optimizers
    assert ids(parts.weights.values()) == ids(network.get_parameters())
    assert list(parts.weights) == list(named_parameters(Network()))
    assert not parts.beside


def test_a_frozen_teacher_is_none_of_it():
    """Nobody trains it, and its weights are in no checkpoint."""
    student, teacher = Network(), Network()
    cell = Distillation(student, teacher)
    parts = take_apart(cell)
    assert parts.network is cell.student_with_loss
    assert ids(parts.weights.values()) == ids(student.get_parameters())


def test_a_loss_cell_that_calls_its_network_in_its_own_way_is_taken_as_a_whole():
    """What it hands to its backbone cannot be known."""
    network = Network()
    cell = OwnLossCell(network, loss_fn())
    parts = take_apart(nn.TrainOneStepCell(cell, adam(network)))
    assert parts.network is cell
    assert parts.loss_fn is None
    assert positional_count(cell) == 3


def test_a_training_cell_without_an_attribute_for_its_network():
    """What the optimizer trains is known all the same."""
    network = Network()

    class Closure(nn.Cell):
        def __init__(self):
            super().__init__()
            self.optimizer = adam(network)
            self.weights = self.optimizer.parameters

        def construct(self, x, label):
            return x

    parts = take_apart(Closure())
    assert parts.network is None
    assert ids(parts.weights.values()) == ids(network.trainable_params())


def test_the_models_own_optimizer_comes_first_and_once():
    """Beside those that its network holds."""
    network = Network()
    own = adam(network)
    assert take_apart(network, loss_fn(), own).optimizers == (own,)
    cell = OwnTrainCell(NetworkWithLoss(network, loss_fn()), own)
    assert take_apart(cell, None, own).optimizers == (own,)


def test_an_optimizer_in_another_counts_once():
    """LARS wraps one, and is the one that is called."""
    network = Network()
    lars = nn.LARS(nn.Momentum(network.trainable_params(), 0.1, 0.9))
    cell = nn.TrainOneStepCell(nn.WithLossCell(network, loss_fn()), lars)
    assert optimizers_of(cell) == (lars,)
    assert ids(take_apart(cell).weights.values()) == ids(network.get_parameters())


@pytest.mark.skipif(not hasattr(ms, "experimental") or ms.__version__.startswith("2.0"), reason="newer than 2.0")
def test_optimizers_of_another_kind_are_known():
    """Those of mindspore.experimental, which are no `nn.Optimizer`."""
    from mindspore.experimental import optim

    network = Network()
    parts = take_apart(OwnTrainCell(NetworkWithLoss(network, loss_fn()), optim.SGD(network.trainable_params(), 0.1)))
    assert isinstance(parts.network, NetworkWithLoss)
    assert ids(parts.weights.values()) == ids(network.get_parameters())


def test_a_loss_that_shares_a_name_with_the_network():
    """Both are kept, under names of their own."""

    class Margin(nn.Cell):
        def __init__(self):
            super().__init__()
            self.weight = Parameter(Tensor(np.ones((3, 3), np.float32)), name="weight")

        def construct(self, logits, label):
            return ops.reduce_mean(ops.matmul(logits, self.weight))

    network, margin = nn.Dense(4, 3), Margin()
    parts = take_apart(network, margin, nn.SGD(network.trainable_params(), 0.1))
    assert ids(parts.weights.values()) == ids([*network.get_parameters(), margin.weight])
    assert sorted(parts.weights) == ["bias", "loss_fn.weight", "weight"]
    assert parts.beside == {"loss_fn.weight"}
