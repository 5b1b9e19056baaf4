"""The rate that a schedule begins with: after a checkpoint, after another schedule, and where a group has 0."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from training import Network, Script, dataset, grouped, make_model

from ms_callbacks import (
    DynamicLR,
    LossMonitor,
    LRCosineAnnealing,
    LRStepDecay,
    LRWarmup,
    ReduceLROnPlateau,
    check_callbacks,
)
from ms_callbacks.core.learning_rates import Rates

STEPS = 4  # of `dataset()`


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
