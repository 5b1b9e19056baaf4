"""Rates of every kind of optimizer, and the rate that a schedule begins with after a checkpoint."""

from __future__ import annotations

import itertools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train import Callback
from training import Network, Script, dataset, loss_fn, make_model

from ms_callbacks import (
    DynamicLR,
    History,
    LossMonitor,
    LRCosineAnnealing,
    LRStepDecay,
    LRWarmup,
    ReduceLROnPlateau,
    check_callbacks,
)
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


def grouped(head, rest, *, weight_decay=False, ordered=False, both=False, optimizer=nn.Momentum):
    """An optimizer of two parameter groups; the second has no `lr` of its own, unless `both`."""

    def make(network):
        groups = [
            {"params": list(network.head.trainable_params()), "lr": head},
            {"params": [one for one in network.trainable_params() if not one.name.startswith("head")]},
        ]
        if both:
            groups[1]["lr"] = rest
        if weight_decay:
            groups[1]["weight_decay"] = 0.01
        if ordered:
            groups.append({"order_params": network.trainable_params()})
        momentum = (0.9,) if optimizer is nn.Momentum else ()
        return optimizer(groups, LIST if both else rest, *momentum)

    return make


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


# After a checkpoint of MindSpore's own


class EpochRates(Callback):
    """The rates of the last step of every epoch; counts the steps where nothing is computed."""

    def __init__(self, counts=False):
        self.rates = []
        self.counts = counts and not ms.__version__.startswith("2.0.")

    def on_train_epoch_begin(self, run_context):
        self.rates.append(None)

    def on_train_step_end(self, run_context):
        optimizer = run_context.original_args()["optimizer"]
        self.rates[-1] = Rates(optimizer).read()
        if self.counts:
            ops.assign(optimizer.global_step, Tensor(optimizer.global_step.asnumpy() + 1))


def rates_of(optimizer, schedule, epochs, initial_epoch=0):
    """The rates of a run in which nothing is computed, but steps are counted as by this version of MindSpore."""
    script, recorder = Script(), EpochRates(counts=True)
    script.optimizer = optimizer
    script.run([recorder, schedule], [None] * (epochs - initial_epoch), steps=STEPS, initial_epoch=initial_epoch)
    return recorder.rates


def make(optimizer=nn.Adam, rate=0.1):
    return optimizer(Network().trainable_params(), learning_rate=rate)


def loaded(optimizer, other):
    """The optimizer, with what a checkpoint of the other holds, as `load_param_into_net` sets it."""
    for parameter, saved in zip(Rates(optimizer).parameters, Rates(other).parameters):
        parameter.set_data(Tensor(saved.asnumpy()))
    optimizer.global_step.set_data(Tensor(other.global_step.asnumpy()))
    return optimizer


SCHEDULES = {
    "step": lambda **arguments: LRStepDecay(2, gamma=0.1, **arguments),
    "cosine": lambda **arguments: LRCosineAnnealing(6, **arguments),
    "cosine-stays": lambda **arguments: LRCosineAnnealing(2, beyond="stay", **arguments),
    "warm-up": lambda **arguments: LRWarmup(4, **arguments),
    "warm-up-step": lambda **arguments: LRWarmup(1, after=LRStepDecay(2, gamma=0.1), **arguments),
}


def test_a_schedule_after_a_real_checkpoint_of_the_training_network(mode, tmp_path):
    """Three epochs of a decay every two: the fourth has the rate of the third, and a monitor may be told the first."""
    model = make_model(learning_rate=0.1)
    model.train(3, dataset(), callbacks=[LRStepDecay(2, gamma=0.1)])
    ms.save_checkpoint(model.train_network, str(tmp_path / "f.ckpt"))
    other, recorder = make_model(learning_rate=0.1), EpochRates()
    ms.load_param_into_net(other.train_network, ms.load_checkpoint(str(tmp_path / "f.ckpt")))
    callbacks = [LossMonitor(0.1), LRStepDecay(2, gamma=0.1), recorder]
    check_callbacks(other, dataset(), callbacks, epochs=6, initial_epoch=3)
    other.train(6, dataset(), callbacks=callbacks, initial_epoch=3)
    assert recorder.rates == [[0.01], [0.001], [0.001]]


@pytest.mark.parametrize("epoch", [1, 2, 3, 5])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", [nn.Adam, nn.SGD, nn.RMSProp, nn.Rprop])
def test_the_rate_that_a_checkpoint_brought_is_not_the_one_to_begin_with(optimizer, schedule, epoch):
    """Of every schedule, wherever it is resumed."""
    whole, interrupted = rates_of(make(optimizer), SCHEDULES[schedule](), 6), make(optimizer)
    Rates(interrupted).set(whole[epoch - 1])
    interrupted.global_step.set_data(Tensor([epoch * STEPS], ms.int32))
    resumed = rates_of(loaded(make(optimizer), interrupted), SCHEDULES[schedule](), 6, epoch)
    assert resumed == whole[epoch:]


@pytest.mark.parametrize(
    "schedule",
    [lambda: LRStepDecay(1, 0.5), lambda: DynamicLR([0.4, 0.2, 0.1, 0.05], by="epoch")],
    ids=["step", "list"],
)
def test_parameter_groups_after_a_checkpoint(schedule):
    """Each has its own rate to begin with; also of a list, which they follow in proportion."""
    first = grouped(0.4, 0.1, ordered=True)(Network())
    rates_of(first, schedule(), 2)
    other = loaded(grouped(0.4, 0.1, ordered=True)(Network()), first)
    np.testing.assert_allclose(rates_of(other, schedule(), 4, 2), [[0.1, 0.025], [0.05, 0.0125]], rtol=1e-6)


def test_a_checkpoint_that_is_loaded_later_in_the_process():
    """A run that goes back to it begins where its first one did."""
    optimizer, earlier = make(), make()
    rates_of(earlier, LRStepDecay(2, gamma=0.1), 3)
    rates_of(optimizer, LRStepDecay(2, gamma=0.1), 6)
    again = rates_of(loaded(optimizer, earlier), LRStepDecay(2, gamma=0.1), 6, 3)
    assert again == [[0.01], [0.001], [0.001]]


def test_a_rate_that_cannot_be_told_is_an_error_that_says_how_to_give_it():
    """Here the checkpoint is of another schedule; each way out that the error names works."""
    model, first = make_model(learning_rate=0.1), make()
    rates_of(first, DynamicLR([0.1, 0.03], by="epoch"), 2)
    optimizer = loaded(model.train_network.optimizer, first)
    message = (
        r"LRStepDecay: the optimizer began with 0.1 and holds 0.03, .* as in LRStepDecay\(..., learning_rate=0.1\)"
    )
    for _ in range(2):  # a refused run leaves nothing behind
        with pytest.raises(ValueError, match=message):
            rates_of(optimizer, LRStepDecay(2, gamma=0.1), 3, 2)
        with pytest.raises(ValueError, match=message):
            check_callbacks(model, dataset(), [LRStepDecay(2, gamma=0.1)], epochs=3, initial_epoch=2)
    assert rates_of(optimizer, LRStepDecay(2, gamma=0.1, learning_rate=0.1), 3, 2) == [[0.01]]
    without = make()
    without.global_step.set_data(Tensor(first.global_step.asnumpy()))
    assert rates_of(without, LRStepDecay(2, gamma=0.1), 3, 2) == [[0.01]]
    with pytest.raises(
        ValueError, match=r"DynamicLR: .* began with \[0.4, 0.1\] .* this run; leave the entries that begin"
    ):
        groups = grouped(0.4, 0.1)(Network())
        Rates(groups).set([0.3, 0.2])
        groups.global_step.set_data(Tensor([8], ms.int32))
        rates_of(groups, DynamicLR([0.1] * 3, by="epoch"), 3, 2)


def test_a_first_run_after_a_checkpoint():
    """It begins at epoch 1, and the rate may be meant; MindSpore 2.0 cannot see that Adam has done steps."""
    first = make()
    rates_of(first, LRStepDecay(2, gamma=0.1), 3)
    if ms.__version__.startswith("2.0."):
        assert rates_of(loaded(make(), first), LRStepDecay(2, gamma=0.1), 1) == [[0.01]]
    else:
        with pytest.raises(ValueError, match=r"began with 0.1 and holds 0.01"):
            rates_of(loaded(make(), first), LRStepDecay(2, gamma=0.1), 1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_optimizer_that_does_not_keep_its_rate(schedule):
    """Of AdamWeightDecay nobody can tell in a run that goes on; it is given, to a schedule or to what follows it."""
    first, whole = make(nn.AdamWeightDecay), rates_of(make(nn.AdamWeightDecay), SCHEDULES[schedule](), 6)
    rates_of(first, SCHEDULES[schedule](), 4)
    other = loaded(make(nn.AdamWeightDecay), first)
    with pytest.raises(ValueError, match="the optimizer began with a rate that is not known and holds"):
        rates_of(other, SCHEDULES[schedule](), 6, 4)
    assert rates_of(other, SCHEDULES[schedule](learning_rate=0.1), 6, 4) == whole[4:]
    if not ms.__version__.startswith("2.0."):  # it has done no step, and so nothing was loaded into it
        assert rates_of(make(nn.AdamWeightDecay), SCHEDULES[schedule](), 6, 4) == whole[4:]


@pytest.mark.parametrize("optimizer", [nn.Adam, nn.AdamWeightDecay])
def test_a_rate_that_is_set_by_hand_is_the_one_to_begin_with(optimizer):
    """Before the first run and between two, also of one that goes on."""
    optimizer = make(optimizer)
    for rate in (0.8, 0.3):
        Rates(optimizer).set([rate])
        assert rates_of(optimizer, LRStepDecay(1, 0.5), 2) == pytest.approx(np.array([[rate], [rate / 2]]))
    Rates(optimizer).set([0.4])
    assert rates_of(optimizer, LRStepDecay(1, 0.5), 3, 2) == [[0.1]]


def test_a_schedule_after_a_plateau_begins_where_that_ended():
    """In one process it is known who has changed the rate."""
    optimizer = make()
    plateau = ReduceLROnPlateau("loss", patience=0, factor=0.5, verbose=0)
    assert rates_of(optimizer, plateau, 3) == [[0.1], [0.1], [0.05]]
    assert Rates(optimizer).read() == [0.025]
    assert rates_of(optimizer, LRStepDecay(1, 0.5), 2) == [[0.025], [0.0125]]


# A rate of 0 is a frozen group

LOWEST = {
    "step": lambda: LRStepDecay(1, 0.5, min_lr=0.06),
    "cosine": lambda: LRCosineAnnealing(2, eta_min=0.02),
    "warm-up-cosine": lambda: LRWarmup(1, start_factor=0.5, after=LRCosineAnnealing(1, eta_min=0.02)),
    "warm-up-plateau": lambda: LRWarmup(1, after=ReduceLROnPlateau("loss", patience=0, min_lr=0.05, verbose=0)),
    "plateau": lambda: ReduceLROnPlateau("loss", patience=0, min_lr=0.05, verbose=0),
    "list": lambda: DynamicLR([0.2, 0.1, 0.05], by="epoch"),
}


@pytest.mark.parametrize("schedule", LOWEST)
@pytest.mark.parametrize("frozen", [0, 1])
def test_a_group_with_a_rate_of_0_stays_frozen(schedule, frozen):
    """Under each lowest rate that there is; the other group goes its way."""
    optimizer = grouped(*(0.0 if group == frozen else 0.1 for group in (0, 1)))(Network())
    rates = rates_of(optimizer, LOWEST[schedule](), 3)
    assert [epoch[frozen] for epoch in rates] == [0, 0, 0]
    assert all(epoch[1 - frozen] > 0 for epoch in rates)


def test_a_frozen_group_stays_as_it_is_in_a_real_run(mode):
    """To the last bit, while the other learns."""
    model = make_model(grouped(0.0, 0.1))
    before = {one.name: one.asnumpy().copy() for one in model.predict_network.trainable_params()}
    model.train(2, dataset(), callbacks=[LRWarmup(1, after=LRCosineAnnealing(1, eta_min=0.02))])
    after = {one.name: one.asnumpy() for one in model.predict_network.trainable_params()}
    assert [name for name in before if np.array_equal(before[name], after[name])] == ["head.weight", "head.bias"]


@pytest.mark.parametrize("schedule", [lambda: LRStepDecay(1), lambda: LRCosineAnnealing(2), lambda: LRWarmup(1)])
def test_an_optimizer_with_a_rate_of_0_alone_is_refused(schedule):
    """Nothing would learn; a list has rates of its own."""
    with pytest.raises(ValueError, match="the optimizer's learning rate is 0, and so would be all rates"):
        rates_of(make(rate=0.0), schedule(), 1)
    assert rates_of(make(rate=0.0), DynamicLR([0.1], by="epoch"), 1) == [[0.1]]


def test_min_lr_for_each_group():
    """In the order of the groups, also where the parameters stand in another."""
    optimizer = grouped(0.4, 0.1, ordered=True)(Network())
    rates_of(optimizer, ReduceLROnPlateau("loss", patience=0, factor=0.1, min_lr=[0.2, 0.05], verbose=0), 2)
    assert Rates(optimizer).read() == [0.2, 0.05]
    decay = LRWarmup(1, after=LRStepDecay(1, 0.1, min_lr=[0.2, 0.05]))
    rates = rates_of(grouped(0.4, 0.1, ordered=True)(Network()), decay, 3)
    np.testing.assert_allclose(rates, [[0.4, 0.1], [0.4, 0.1], [0.2, 0.05]], rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda: ReduceLROnPlateau("loss", min_lr=[0.1] * 3), "ReduceLROnPlateau: min_lr"),
        (lambda: LRStepDecay(1, min_lr=[0.1] * 3), "LRStepDecay: min_lr"),
        (lambda: LRStepDecay(1, learning_rate=[0.1] * 3), "LRStepDecay: learning_rate"),
        (lambda: LRWarmup(1, after=LRStepDecay(1, min_lr=[0.1] * 3)), "LRStepDecay: min_lr"),
        (lambda: LRWarmup(1, after=ReduceLROnPlateau("loss", min_lr=[0.1] * 3)), "ReduceLROnPlateau: min_lr"),
        (lambda: LRCosineAnnealing(9, learning_rate=[0.1] * 3), "LRCosineAnnealing: learning_rate"),
    ],
)
def test_a_list_of_another_length_than_there_are_groups_is_refused(wrong, name):
    """Before the first step, with the rates that there are."""
    message = rf"{name} has 3 values, but the optimizer has 2 rates \(\[0.4, 0.1\]\)"
    with pytest.raises(ValueError, match=message):
        rates_of(grouped(0.4, 0.1)(Network()), wrong(), 2)
