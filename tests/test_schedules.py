"""DynamicLR, LRStepDecay, LRCosineAnnealing, LRWarmup: the rate at every step, and the optimizer left whole."""

from __future__ import annotations

import json
import pathlib

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.train import Callback, LearningRateScheduler
from training import Recorder, Script, assert_same_weights, dataset, make_model, weights

from ms_callbacks import DynamicLR, LRCosineAnnealing, LRStepDecay, LRWarmup, ReduceLROnPlateau
from ms_callbacks.core._schedule import Plan

TORCH = json.loads((pathlib.Path(__file__).parent / "golden" / "torch.json").read_text())
STEPS = 4  # of `dataset()`


def rates_of(callback, epochs=3, learning_rate=0.1, **arguments):
    """The rate at each step of a real run."""
    recorder = Recorder()
    make_model(learning_rate=learning_rate).train(epochs, dataset(), callbacks=[callback, recorder], **arguments)
    return recorder.rates


@pytest.mark.parametrize("case", TORCH["StepLR"])
def test_step_decay_equals_pytorchs_step_lr(case):
    """Epoch by epoch, with the numbers that PyTorch itself gave."""
    schedule = LRStepDecay(case["step_size"], case["gamma"])
    np.testing.assert_allclose(schedule.rates_for(case["base"], Plan(25, 1)), case["rates"], rtol=1e-12)


@pytest.mark.parametrize("case", TORCH["CosineAnnealingLR"])
def test_cosine_annealing_equals_pytorchs(case):
    """Epoch by epoch, beyond T_max too, with the numbers that PyTorch itself gave."""
    schedule = LRCosineAnnealing(case["T_max"], eta_min=case["eta_min"])
    np.testing.assert_allclose(
        schedule.rates_for(case["base"], Plan(25, 1)), case["rates"], rtol=1e-9, atol=case["base"] * 1e-15
    )


def test_the_rate_at_every_step_of_a_run(mode):
    """What the optimizer uses is what the schedule says, in both modes."""
    assert rates_of(LRStepDecay(1, 0.5)) == pytest.approx([0.1] * STEPS + [0.05] * STEPS + [0.025] * STEPS)
    listed = [0.1 / (1 + step) for step in range(3 * STEPS)]
    assert rates_of(DynamicLR(listed)) == pytest.approx(listed)
    assert rates_of(DynamicLR([0.3, 0.2, 0.1], by="epoch")) == pytest.approx([0.3] * 4 + [0.2] * 4 + [0.1] * 4)
    assert rates_of(LRCosineAnnealing(2), 2) == pytest.approx([0.1] * 4 + [0.05] * 4)
    assert rates_of(LRWarmup(1), 2) == pytest.approx([0.025, 0.05, 0.075, 0.1] + [0.1] * 4)


def test_warmup_comes_before_any_other():
    """The schedule that follows counts its epochs from the end of the warm-up."""
    ramp = [0.025, 0.05, 0.075, 0.1]
    assert rates_of(LRWarmup(1, after=LRStepDecay(1, 0.5))) == pytest.approx(ramp + [0.1] * 4 + [0.05] * 4)
    assert rates_of(LRWarmup(1, after=LRCosineAnnealing(2))) == pytest.approx(ramp + [0.1] * 4 + [0.05] * 4)
    assert rates_of(LRWarmup(1, after=DynamicLR([0.3] * 4 + [0.2] * 4))) == pytest.approx(ramp + [0.3] * 4 + [0.2] * 4)
    assert rates_of(LRWarmup(1, start_factor=0.5), 1) == pytest.approx([0.0625, 0.075, 0.0875, 0.1])


def test_warmup_comes_before_a_plateau():
    """The plateau observes only once the warm-up is over, and its rate stays until it lowers it again."""
    plateau = ReduceLROnPlateau("x", mode="min", patience=1, factor=0.5, verbose=0)
    rates = Script(0.1).run([LRWarmup(2, after=plateau)], [{"x": 1.0}] * 6)
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.05, 0.025, 0.0125])


@pytest.mark.parametrize(
    "callback",
    [LRStepDecay(100), DynamicLR([0.1] * 12), LRCosineAnnealing(10**9)],
    ids=lambda each: type(each).__name__,
)
def test_moments_are_those_of_a_run_without(callback, mode):
    """A schedule that keeps the rate where it is changes nothing: weights, moments and steps to the last bit."""
    with_, without = make_model(learning_rate=0.1), make_model(learning_rate=0.1)
    with_.train(3, dataset(), callbacks=[callback])
    without.train(3, dataset())
    assert_same_weights(weights(with_.train_network), weights(without.train_network))


def test_moments_survive_a_change_of_rate(mode):
    """The weights are those of an optimizer made with the list; rebuilding it would have lost the moments."""
    listed = LRStepDecay.lr_list(0.1, 1, 0.5, 3, STEPS)
    ours, theirs = make_model(learning_rate=0.1), make_model(learning_rate=listed)
    ours.train(3, dataset(), callbacks=[LRStepDecay(1, 0.5)])
    theirs.train(3, dataset())
    for name, array in weights(theirs.predict_network).items():
        np.testing.assert_allclose(weights(ours.predict_network)[name], array, rtol=1e-6, atol=1e-8, err_msg=name)


def test_parameter_groups_are_scaled_alike(mode):
    """Each group follows the schedule from its own rate."""

    def grouped(network):
        head = network.head.trainable_params()
        rest = [one for one in network.trainable_params() if not one.name.startswith("head")]
        return nn.Momentum([{"params": head, "lr": 0.4}, {"params": rest}], 0.1, 0.9)

    def final(callback):
        model = make_model(grouped)
        model.train(2, dataset(), callbacks=[callback])
        rates = {one.name: float(one.asnumpy()) for one in model.train_network.optimizer.learning_rate}
        return sorted(rates.values())

    assert final(LRStepDecay(1, 0.5)) == pytest.approx([0.05, 0.2])
    assert final(DynamicLR([0.2, 0.1], by="epoch")) == pytest.approx([0.05, 0.2])
    assert final(LRCosineAnnealing(2, eta_min=0.02)) == pytest.approx([0.06, 0.21])
    with pytest.raises(ValueError, match="learning_rate=0.1 cannot be shared by parameter groups"):
        final(LRStepDecay(1, 0.5, learning_rate=0.1))


def test_a_second_run_begins_where_the_first_began():
    """With the same optimizer, unless somebody has set the rate in between."""
    model, decay = make_model(learning_rate=0.1), LRStepDecay(1, 0.5)
    for _ in range(2):
        recorder = Recorder()
        model.train(2, dataset(), callbacks=[decay, recorder])
        assert recorder.rates == pytest.approx([0.1] * 4 + [0.05] * 4)
    ops.assign(model.train_network.optimizer.learning_rate, ms.Tensor(0.8, ms.float32))
    recorder = Recorder()
    model.train(2, dataset(), callbacks=[decay, recorder])
    assert recorder.rates == pytest.approx([0.8] * 4 + [0.4] * 4)


def test_a_resumed_run_enters_the_list_at_its_place():
    """With initial_epoch the first rate is that of the next epoch or step."""
    assert rates_of(LRStepDecay(1, 0.5), 3, initial_epoch=2) == pytest.approx([0.025] * STEPS)
    listed = [0.1 / (1 + step) for step in range(3 * STEPS)]
    assert rates_of(DynamicLR(listed), 3, initial_epoch=2) == pytest.approx(listed[8:])


def test_sink_mode_on_a_cpu_runs_step_by_step():
    """MindSpore falls back to no sink there; the steps are counted right whatever sink_size says."""
    listed = [0.1 / (1 + step) for step in range(3 * STEPS)]
    rates = rates_of(DynamicLR(listed), 3, dataset_sink_mode=True, sink_size=2)
    assert rates == pytest.approx(listed)


def test_a_new_schedule_on_a_resumed_run_begins_where_the_first_began():
    """In the same process the optimizer's rate has decayed already; it does not decay twice."""
    model = make_model(learning_rate=0.1)
    model.train(2, dataset(), callbacks=[LRStepDecay(1, 0.5)])
    recorder = Recorder()
    model.train(3, dataset(), callbacks=[LRStepDecay(1, 0.5), recorder], initial_epoch=2)
    assert recorder.rates == pytest.approx([0.025] * STEPS)


def test_one_schedule_on_two_models():
    """Each begins at its own optimizer's rate."""
    decay = LRStepDecay(1, 0.5)
    assert rates_of(decay, 2, learning_rate=0.1) == pytest.approx([0.1] * 4 + [0.05] * 4)
    assert rates_of(decay, 2, learning_rate=0.05) == pytest.approx([0.05] * 4 + [0.025] * 4)


def test_groups_follow_a_list_by_its_largest_entry():
    """A group's own rate stands for the peak, also of a list that rises first."""
    plan = Plan(3, 1, is_grouped=True)
    assert DynamicLR([0.05, 0.1, 0.05], by="epoch").rates_for(0.4, plan) == pytest.approx([0.2, 0.4, 0.2])


def test_min_lr_and_learning_rate():
    """The lowest rate holds, and a rate of one's own begins the schedule."""
    assert LRStepDecay(1, 0.1, min_lr=0.02).rates_for(0.1, Plan(3, 1)) == pytest.approx([0.1, 0.02, 0.02])
    assert rates_of(LRStepDecay(1, 0.5, learning_rate=0.8), 2) == pytest.approx([0.8] * 4 + [0.4] * 4)


def test_the_list_for_the_optimizer():
    """lr_list has an entry for every step, and MindSpore's optimizer takes it."""
    listed = LRStepDecay.lr_list(0.1, step_size=1, gamma=0.5, epochs=3, steps_per_epoch=STEPS)
    assert listed == pytest.approx([0.1] * 4 + [0.05] * 4 + [0.025] * 4)


def test_a_rate_beyond_any_number_is_refused():
    """Before the first step."""
    with pytest.raises(ValueError, match=r"gamma=1e\+300 makes a rate beyond any number within 3 epochs"):
        rates_of(LRStepDecay(1, 1e300))


class NoStep(Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


@pytest.mark.parametrize(
    ("rate", "callbacks", "message"),
    [
        (
            0.1,
            [DynamicLR([0.1] * 5)],
            "lr_list holds 5 rates, but 3 epochs of 4 steps need 12, one a step; make .* 12 long",
        ),
        (
            0.1,
            [DynamicLR([0.1] * 2, by="epoch")],
            "lr_list holds 2 rates, but 3 epochs of 4 steps need 3, one an epoch",
        ),
        (
            [0.1] * 12,
            [LRStepDecay(1)],
            "LRStepDecay: the optimizer holds a list or a schedule.*make the optimizer with",
        ),
        (nn.ExponentialDecayLR(0.1, 0.9, 2), [DynamicLR([0.1] * 12)], "the optimizer holds a list or a schedule"),
        ([0.1] * 12, [ReduceLROnPlateau("loss")], "ReduceLROnPlateau: the optimizer holds a list or a schedule"),
        (0.1, [LRStepDecay(1), LRCosineAnnealing(2)], "LRStepDecay and LRCosineAnnealing both set the learning rate"),
        (0.1, [LRStepDecay(1), ReduceLROnPlateau("loss")], "both set the learning rate"),
        (
            0.1,
            [LearningRateScheduler(lambda lr, step: lr), LRStepDecay(1)],
            "LearningRateScheduler and LRStepDecay both",
        ),
    ],
)
def test_wrong_configuration_is_refused_before_the_first_step(rate, callbacks, message):
    """Each with what to do about it."""
    with pytest.raises(ValueError, match=message):
        make_model(learning_rate=rate).train(3, dataset(), callbacks=[*callbacks, NoStep()])


def test_an_optimizer_that_is_not_mindspores_is_refused():
    """There is no rate to set."""
    script = Script()
    script.optimizer = None
    with pytest.raises(TypeError, match="LRStepDecay: expected a Model with an optimizer"):
        script.run([LRStepDecay(1)], [None])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DynamicLR([]), "DynamicLR: lr_list must hold at least one learning rate, but it is empty"),
        (lambda: DynamicLR([0.1, float("nan")]), r"lr_list\[1\] must be finite and above 0, but got nan"),
        (lambda: DynamicLR([0.1, 0.0]), r"lr_list\[1\] must be finite and above 0, but got 0.0"),
        (lambda: DynamicLR([-0.1]), r"lr_list\[0\] must be finite and above 0, but got -0.1"),
        (lambda: DynamicLR(0.1), "lr_list must be a list of numbers, but got 0.1"),
        (lambda: DynamicLR(["0.1"]), r"lr_list\[0\] must be a number, but got '0.1'"),
        (lambda: DynamicLR([True]), r"lr_list\[0\] must be a number, but got True"),
        (lambda: DynamicLR("0.1"), "lr_list must be a list of numbers"),
        (lambda: DynamicLR([0.1], by="batch"), "by must be one of 'step', 'epoch', but got 'batch'"),
        (lambda: LRStepDecay(0), "step_size must be at least 1, but got 0"),
        (lambda: LRStepDecay(1.5), "step_size must be a whole number, but got 1.5"),
        (lambda: LRStepDecay(1, 0), "gamma must be finite and above 0, but got 0"),
        (lambda: LRStepDecay(1, -0.5), "gamma must be finite and above 0"),
        (lambda: LRStepDecay(1, float("nan")), "gamma must be finite"),
        (lambda: LRStepDecay(1, learning_rate=0), "learning_rate must be finite and above 0"),
        (lambda: LRStepDecay(1, min_lr=-1), "min_lr must be finite and at least 0"),
        (lambda: LRStepDecay.lr_list(0.1, 1, 0.5, 0, 4), "epochs must be at least 1"),
        (lambda: LRCosineAnnealing(0), "T_max must be at least 1"),
        (lambda: LRCosineAnnealing(5, eta_min=-1), "eta_min must be finite and at least 0"),
        (lambda: LRWarmup(0), "epochs must be at least 1"),
        (lambda: LRWarmup(1, start_factor=1.0), "start_factor must be finite and at least 0 and below 1, but got 1.0"),
        (lambda: LRWarmup(1, after=LRWarmup(1)), "after must be DynamicLR.*but got LRWarmup"),
        (lambda: LRWarmup(1, after=0.5), "after must be DynamicLR.*but got float"),
    ],
)
def test_wrong_arguments_are_refused_where_it_is_made(make, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_state_takes_the_first_rate_along():
    """A new process goes on from the rate that the run began at, not from the one that it had reached."""
    decay = LRStepDecay(1, 0.5)
    rates_of(decay, 2)
    other = LRStepDecay(1, 0.5)
    other.load_state_dict(decay.state_dict())
    assert rates_of(other, 3, learning_rate=0.05, initial_epoch=2) == pytest.approx([0.025] * STEPS)
