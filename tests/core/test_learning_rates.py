"""Rates of every kind of optimizer, and the rate that a schedule begins with after a checkpoint."""

from __future__ import annotations

import itertools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from training import Network, dataset, grouped, loss_fn, make_model

from ms_callbacks import History, LossMonitor, LRStepDecay, check_callbacks
from ms_callbacks.core.learning_rates import Rates

STEPS = 4  # of `dataset()`
LIST = [0.1 / (1 + step) for step in range(40)]


class OwnSchedule(nn.learning_rate_schedule.LearningRateSchedule):
    """A user's, with a parameter of the name under which MindSpore's own cells keep a number or a list."""

    def __init__(self):
        super().__init__()
        self.learning_rate = Parameter(Tensor(0.2, ms.float32), name="peak")
        self.cast = ops.Cast()

    def construct(self, step):
        return self.learning_rate / (1.0 + self.cast(step, ms.float32))


# How a rate is given, and what it is in the fourth step.
KINDS = {
    "number": (lambda: 0.3, 0.3),
    "tensor": (lambda: Tensor(0.3, ms.float32), 0.3),
    "list": (lambda: LIST, LIST[3]),
    "list-tensor": (lambda: Tensor(LIST, ms.float32), LIST[3]),
    "schedule": (lambda: nn.ExponentialDecayLR(0.1, 0.5, 4), 0.1 * 0.5 ** (3 / 4)),
    "own": (OwnSchedule, 0.05),
}


@pytest.mark.parametrize("arguments", [{}, {"weight_decay": True, "ordered": True}, {"both": True}], ids=str)
@pytest.mark.parametrize(("one", "other"), list(itertools.product(KINDS, KINDS)))
def test_groups_with_every_combination_of_rates(one, other, arguments):
    """Each group has its own rate, in the order in which the groups were given."""
    (head, in_head), (rest, in_rest) = KINDS[one], KINDS[other]
    optimizer = grouped(head(), rest(), **arguments)(Network())
    ops.assign(optimizer.global_step, Tensor([4], ms.int32))
    rates = Rates(optimizer)
    assert rates.read() == pytest.approx([in_head, in_rest])
    plain = [name.startswith(("number", "tensor")) for name in (one, other)]
    assert rates.is_dynamic is not all(plain)
    assert rates.made == [0.3 if is_plain else None for is_plain in plain]


@pytest.mark.parametrize(("one", "other"), [("number", "list"), ("schedule", "number"), ("list", "own")])
def test_a_run_with_groups_of_which_one_has_a_list(one, other, mode):
    """Every callback takes it, and what is told is what the optimizer has used."""
    (head, in_head), (rest, in_rest) = KINDS[one], KINDS[other]
    model, history = make_model(grouped(head(), rest())), History()
    model.train(1, dataset(), callbacks=[LossMonitor(), history])
    assert history.history["learning_rate"] == pytest.approx([in_head])
    assert Rates(model.train_network.optimizer).read() == pytest.approx([in_head, in_rest])


def test_a_list_in_a_group_that_is_too_short_for_the_run_is_refused():
    """The plain number beside it is no list of one."""
    model = make_model(grouped(0.1, [0.1] * 11))
    with pytest.raises(ValueError, match="a list of 11 learning rates, but the run takes it to step 12"):
        check_callbacks(model, dataset(), [LossMonitor()], epochs=3)
    check_callbacks(make_model(grouped(0.1, [0.1] * 12)), dataset(), [LossMonitor()], epochs=3)


def test_numbers_beside_a_list_that_nothing_uses_are_set_as_others(mode):
    """MindSpore wraps them in cells, for the optimizer itself was given a list."""
    model = make_model(grouped(0.4, 0.2, both=True))
    model.train(2, dataset(), callbacks=[LRStepDecay(1, 0.5)])
    assert Rates(model.train_network.optimizer).read() == pytest.approx([0.2, 0.1])


class TwoOptimizers(nn.Cell):
    """A training cell with an optimizer for the head and another for the rest."""

    def __init__(self, network, one, other):
        super().__init__()  # with prefixes: MindSpore 2.0 refuses two parameters called `global_step`
        self.network = nn.WithLossCell(network, loss_fn())
        self.network.set_grad()
        self.one, self.other = one, other
        self.of_one, self.of_other = one.parameters, other.parameters
        self.grad = ops.GradOperation(get_by_list=True)

    def construct(self, images, labels):
        loss = self.network(images, labels)
        loss = ops.depend(loss, self.one(self.grad(self.network, self.of_one)(images, labels)))
        return ops.depend(loss, self.other(self.grad(self.network, self.of_other)(images, labels)))


def two_optimizers(one=0.4, other=0.1):
    network = Network()
    rest = [each for each in network.trainable_params() if not each.name.startswith("head")]
    optimizers = nn.Adam(list(network.head.trainable_params()), one), nn.SGD(rest, other)
    return ms.Model(TwoOptimizers(network, *optimizers)), optimizers


def test_two_optimizers_in_one_training_cell_are_scaled_alike(mode):
    """As parameter groups are, also in a second run, and with a value for each."""
    model, optimizers = two_optimizers()
    for _ in range(2):
        model.train(2, dataset(), callbacks=[LRStepDecay(1, 0.5)])
        assert Rates(optimizers).read() == pytest.approx([0.2, 0.05])
    model.train(1, dataset(), callbacks=[LRStepDecay(1, 0.5, learning_rate=[0.8, 0.6])])
    assert [float(one.learning_rate.asnumpy()) for one in optimizers] == pytest.approx([0.8, 0.6])


def test_one_of_two_optimizers_with_a_list():
    """Each reads its list by its own steps; a schedule is refused."""
    model, optimizers = two_optimizers(LIST)
    model.train(1, dataset(), callbacks=[LossMonitor()])
    assert Rates(optimizers).read() == pytest.approx([LIST[3], 0.1])
    with pytest.raises(ValueError, match="LRStepDecay: the optimizer holds a list or a schedule"):
        model.train(1, dataset(), callbacks=[LRStepDecay(1)])


def test_the_rate_of_a_wrapped_optimizer_is_that_of_the_one_inside():
    """`nn.LARS` has a rate of 0 that nothing uses."""
    rates = Rates(nn.LARS(nn.Momentum(Network().trainable_params(), 0.1, 0.9)))
    assert rates.read() == [0.1]
    rates.set([0.05])
    assert rates.optimizers[0].learning_rate.asnumpy() == np.float32(0.05)


def test_what_holds_no_rates_is_refused():
    """Also as one of several, or none at all."""
    for wrong in (None, (), (nn.Adam(Network().trainable_params()), Network())):
        with pytest.raises(TypeError, match="expected a Model with an optimizer of mindspore.nn"):
            Rates(wrong)


def test_a_rate_that_is_held_is_0_until_it_is_released(mode):
    """All `Rates` of the optimizer know it; what is set meanwhile takes effect then."""
    network = Network()
    optimizer = grouped(0.4, 0.2, both=False)(network)
    rates, others = Rates(optimizer), Rates(optimizer)
    assert [[one.name for one in trained] for trained in rates.trained] == [
        ["head.weight", "head.bias"],
        [one.name for one in network.trainable_params() if not one.name.startswith("head")],
    ]
    rates.hold(1)
    rates.hold(1)
    assert (others.read(), others.planned()) == ([0.4, 0.0], [0.4, 0.2])
    others.set([0.3, 0.1])
    assert (rates.read(), rates.planned()) == ([0.3, 0.0], [0.3, 0.1])
    assert Rates(optimizer).of_each[0].planned() == [0.3, 0.1]
    others.release(1)
    others.release(1)
    assert rates.read() == rates.planned() == [0.3, 0.1]
    assert others.as_given() == [0.3, 0.1]
