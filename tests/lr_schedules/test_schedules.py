"""DynamicLR, LRStepDecay, LRCosineAnnealing, LRWarmup: the rate at every step, and the optimizer left whole."""

from __future__ import annotations

import functools
import json
import pathlib

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.train import Callback, LearningRateScheduler
from training import Recorder, Script, assert_same_weights, dataset, make_model, weights

from ms_callbacks import DynamicLR, LRCosineAnnealing, LRStepDecay, LRWarmup, ReduceLROnPlateau, check_callbacks
from ms_callbacks.core.lr_callback import Plan

TORCH = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "torch.json").read_text())
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


@functools.cache
def weights_without(mode):
    """What a run without a schedule ends with, in the mode that is set."""
    model = make_model(learning_rate=0.1)
    model.train(3, dataset())
    return weights(model.train_network)


@pytest.mark.parametrize(
    ("callback", "mode"),
    [
        pytest.param(
            callback,
            mode,
            id=f"{mode}-{type(callback).__name__}",
            marks=[] if isinstance(callback, LRStepDecay) else [pytest.mark.slow],
        )
        for mode in ("graph", "pynative")
        for callback in (LRStepDecay(100), DynamicLR([0.1] * 12), LRCosineAnnealing(10**9))
    ],
    indirect=["mode"],
)
def test_moments_are_those_of_a_run_without(callback, mode):
    """A schedule that keeps the rate where it is changes nothing: weights, moments and steps to the last bit."""
    model = make_model(learning_rate=0.1)
    model.train(3, dataset(), callbacks=[callback])
    assert_same_weights(weights(model.train_network), weights_without(mode))


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
    with pytest.raises(ValueError, match=r"gamma=1e\+300 makes the rate too large for a number within 3 epochs"):
        rates_of(LRStepDecay(1, 1e300))


MADE_BY_MINDSPORE = {
    "warmup_lr": lambda: nn.warmup_lr(0.1, 12, 4, 2),
    "cosine_decay_lr": lambda: nn.cosine_decay_lr(0.0, 0.1, 12, 4, 2),
    "polynomial_decay_lr": lambda: nn.polynomial_decay_lr(0.1, 0.01, 12, 4, 2, 0.5),
    "exponential_decay_lr": lambda: nn.exponential_decay_lr(0.1, 0.9, 12, 4, 1),
    "natural_exp_decay_lr": lambda: nn.natural_exp_decay_lr(0.1, 0.9, 12, 4, 1),
    "inverse_decay_lr": lambda: nn.inverse_decay_lr(0.1, 0.5, 12, 4, 1),
    "piecewise_constant_lr": lambda: nn.piecewise_constant_lr([4, 12], [0.1, 0.0]),
}


@pytest.mark.parametrize("name", MADE_BY_MINDSPORE)
def test_a_list_that_mindspore_makes(name):
    """Is followed as it is, also where it begins or ends with 0: the run is that of an optimizer made with the list."""
    listed = MADE_BY_MINDSPORE[name]()
    assert DynamicLR(listed).rates_for(0.1, Plan(3, STEPS)) == pytest.approx(listed)


def test_a_list_that_begins_with_0_trains_as_in_an_optimizer_made_with_it(mode):
    """To the last bit."""
    listed = nn.warmup_lr(0.1, 12, 4, 2)
    ours, theirs = make_model(learning_rate=0.1), make_model(learning_rate=listed)
    ours.train(3, dataset(), callbacks=[DynamicLR(listed)])
    theirs.train(3, dataset())
    assert_same_weights(weights(ours.predict_network), weights(theirs.predict_network))


@pytest.mark.parametrize("form", [list, tuple, np.array, ms.Tensor, lambda rates: [ms.Tensor(each) for each in rates]])
def test_a_list_in_every_form(form):
    """As arrays and tensors too."""
    assert DynamicLR(form([0.0, 0.1, 0.2])).rates_for(0.1, Plan(3, 1)) == pytest.approx([0.0, 0.1, 0.2])


# The length of a run


@pytest.mark.parametrize(
    ("schedule", "epochs", "message"),
    [
        (lambda: LRWarmup(10), 2, "LRWarmup: the warm-up takes 10 epochs, but the run has 2 and would end before"),
        (lambda: LRWarmup(3), 2, "LRWarmup: the warm-up takes 3 epochs, but the run has 2"),
        (lambda: LRWarmup(2), 2, None),
        (lambda: LRWarmup(2, after=LRStepDecay(1)), 2, None),
        (lambda: LRWarmup(2, after=ReduceLROnPlateau("loss")), 1, "LRWarmup: the warm-up takes 2 epochs"),
        (lambda: LRCosineAnnealing(2), 2, None),
        (lambda: LRCosineAnnealing(2), 3, None),
        (
            lambda: LRCosineAnnealing(2),
            4,
            r"with T_max=2 the rate reaches eta_min in epoch 3 and rises again .* of its 4; give T_max=3 or T_max=4, "
            r"or beyond='stay' to keep eta_min, or beyond='rise'",
        ),
        (lambda: LRCosineAnnealing(2, beyond="stay"), 4, None),
        (lambda: LRCosineAnnealing(2, beyond="rise"), 4, None),
        (lambda: LRWarmup(1, after=LRCosineAnnealing(2)), 4, None),
        (lambda: LRWarmup(1, after=LRCosineAnnealing(2)), 5, "LRCosineAnnealing: with T_max=2"),
        (
            lambda: LRWarmup(1, after=DynamicLR([0.1] * 11)),
            4,
            "DynamicLR: lr_list holds 11 rates, but 3 epochs of 4 steps after the warm-up need 12, one per step; make "
            "the list 12 long",
        ),
        # A list that was made for the whole run, with the warm-up's part in it, and one for a longer run.
        (lambda: LRWarmup(1, after=DynamicLR([0.1] * 12)), 4, None),
        (lambda: LRWarmup(1, after=DynamicLR([0.1] * 13)), 4, "holds 13 rates, but 3 epochs .* its last 1 would never"),
        (
            lambda: LRWarmup(1, after=DynamicLR([0.1] * 16)),
            4,
            "DynamicLR: lr_list holds 16 rates, but 3 epochs of 4 steps after the warm-up need 12, one per step; the "
            "list starts after the warm-up, so its last 4 would never be used: leave out the part for the warm-up",
        ),
        (lambda: LRWarmup(1, after=DynamicLR([0.1] * 17)), 4, None),
        (lambda: LRWarmup(2, after=DynamicLR([0.1], by="epoch")), 4, "holds 1 rate, but 2 epochs of 4 steps after"),
        (lambda: LRWarmup(2, after=DynamicLR([0.1] * 2, by="epoch")), 4, None),
        (lambda: LRWarmup(2, after=DynamicLR([0.1] * 3, by="epoch")), 4, "need 2, one per epoch; .* its last 1 would"),
        (lambda: LRWarmup(2, after=DynamicLR([0.1] * 4, by="epoch")), 4, "need 2, one per epoch; .* its last 2 would"),
        (lambda: LRWarmup(2, after=DynamicLR([0.1] * 5, by="epoch")), 4, None),
        (lambda: LRWarmup(2, after=DynamicLR([0.1] * 8)), 2, "0 epochs of 4 steps after the warm-up need 0"),
        (lambda: DynamicLR([0.1] * 4), 4, "need 16, one per step; make the list 16 long, or pass by='epoch'$"),
        (lambda: DynamicLR([0.1] * 5), 4, "need 16, one per step; make the list 16 long$"),
        (lambda: DynamicLR([0.1] * 3, by="epoch"), 4, "need 4, one per epoch; make the list 4 long$"),
        (lambda: DynamicLR([0.1] * 20), 4, None),
        (lambda: DynamicLR([0.1] * 5, by="epoch"), 4, None),
    ],
)
def test_a_schedule_that_does_not_fit_the_run_is_refused(schedule, epochs, message):
    """By `check_callbacks` and by the run itself before its first step; what just fits is not."""
    if message is None:
        check_callbacks(make_model(), dataset(), [schedule()], epochs=epochs)
        return
    with pytest.raises(ValueError, match=message):
        check_callbacks(make_model(), dataset(), [schedule()], epochs=epochs)
    with pytest.raises(ValueError, match=message):
        make_model().train(epochs, dataset(), callbacks=[schedule(), NoStep()])


def test_what_comes_beyond_a_cosine():
    """Where it is said: the lowest rate stays, or rises along the same curve."""
    down = [0.1, 0.055, 0.01]
    stay, rise = (LRCosineAnnealing(2, eta_min=0.01, beyond=beyond) for beyond in ("stay", "rise"))
    assert stay.rates_for(0.1, Plan(6, 1)) == pytest.approx([*down, 0.01, 0.01, 0.01])
    assert rise.rates_for(0.1, Plan(6, 1)) == pytest.approx([*down, 0.055, 0.1, 0.055])


# The number of steps


class Varying:
    """A source whose first pass, which tells the size, and whose epochs have these numbers of samples."""

    def __init__(self, counts):
        self.counts = iter(counts)

    def __iter__(self):
        for _ in range(next(self.counts)):
            yield np.ones((1, 4, 4), np.float32), np.zeros((), np.int32)


def rates_of_varying(callback, counts, epochs):
    """The rates of each epoch of a real run on a dataset that is told to have `counts[0]` batches."""
    recorder, ends = Recorder(), []

    class Ends(Callback):
        def on_train_epoch_end(self, run_context):
            ends.append(len(recorder.rates))

    source = ds.GeneratorDataset(Varying(counts), ["images", "labels"]).batch(1)
    assert source.get_dataset_size() == counts[0]
    try:
        make_model(learning_rate=0.1).train(epochs, source, callbacks=[callback, recorder, Ends()])
    finally:
        assert [len(each) for each in np.split(recorder.rates, ends)[: len(ends)]] == counts[1 : 1 + len(ends)]
    return [list(each) for each in np.split(recorder.rates, ends)[:-1]]


@pytest.mark.parametrize(
    ("counts", "rates"),
    [
        ([4, 6, 2, 5], [[0.0125, 0.025, 0.0375, 0.05, 0.05, 0.05], [0.0625, 0.075], [0.1] * 5]),
        ([2, 2, 3, 1], [[0.025, 0.05], [0.075, 0.1, 0.1], [0.1]]),
    ],
)
def test_a_warm_up_follows_the_epochs_whatever_their_steps(counts, rates):
    """What is too many keeps the rate of the last, and the next epoch begins at its own."""
    assert rates_of_varying(LRWarmup(2), counts, 3) == [pytest.approx(each) for each in rates]


def test_what_follows_a_warm_up_begins_with_its_epoch():
    """By epoch, where the steps vary; a list by step goes on by the steps that come."""
    counts = [2, 1, 3, 1, 4]
    decay = rates_of_varying(LRWarmup(1, after=LRStepDecay(1, 0.5)), counts, 4)
    assert decay == [pytest.approx(each) for each in ([0.05], [0.1] * 3, [0.05], [0.025] * 4)]
    listed = rates_of_varying(LRWarmup(1, after=DynamicLR([0.1 * step for step in range(1, 10)])), counts, 4)
    assert listed == [pytest.approx(each) for each in ([0.05], [0.1, 0.2, 0.3], [0.4], [0.5, 0.6, 0.7, 0.8])]


def test_a_list_by_step_follows_the_steps_that_come():
    """As in an optimizer that is made with it; where they are more than it has rates, both numbers are told."""
    listed = [0.1 / (1 + step) for step in range(6)]
    assert np.concatenate(rates_of_varying(DynamicLR(listed), [2, 1, 3, 2], 3)) == pytest.approx(listed)
    assert np.concatenate(rates_of_varying(DynamicLR(listed), [2, 1, 1, 2], 3)) == pytest.approx(listed[:4])
    message = (
        r"DynamicLR: has 6 rates, one per step, for 3 epochs of 2 steps, as get_dataset_size\(\) of the training "
        r"dataset reported, but there is none for step 7, in epoch 3"
    )
    with pytest.raises(ValueError, match=message):
        rates_of_varying(DynamicLR(listed), [2, 2, 3, 2], 3)


def test_a_state_knows_how_many_steps_have_come():
    """A list by step is entered where it was left, though its epochs had other numbers of steps than was told."""
    first = DynamicLR([0.1 / (1 + step) for step in range(12)])
    Script().run([first], [None] * 2, steps=3)
    state = json.loads(json.dumps(first.state_dict()))
    assert state["steps"] == 6
    other, script = DynamicLR(first.lr_list), Script()
    other.load_state_dict(state)
    assert script.run([other], [None], steps=4, initial_epoch=2) == pytest.approx([0.1 / 10])


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
            "lr_list holds 5 rates, but 3 epochs of 4 steps need 12, one per step; make .* 12 long",
        ),
        (
            0.1,
            [DynamicLR([0.1] * 2, by="epoch")],
            "lr_list holds 2 rates, but 3 epochs of 4 steps need 3, one per epoch",
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
        (lambda: DynamicLR([0.1, float("nan")]), r"lr_list\[1\] must be finite and at least 0, but got nan"),
        (lambda: DynamicLR([0.0, -0.1]), r"lr_list\[1\] must be finite and at least 0, but got -0.1"),
        (lambda: DynamicLR([[0.1, 0.2]]), r"lr_list\[0\] must be a number, but got \[0.1, 0.2\]"),
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
        (lambda: LRStepDecay(1, min_lr=[0.1, -1]), r"min_lr\[1\] must be finite and at least 0, but got -1"),
        (lambda: LRStepDecay(1, min_lr=[]), "min_lr must be a number, or a list with one for each parameter group"),
        (lambda: LRStepDecay(1, learning_rate=[0.1, "1"]), r"learning_rate\[1\] must be a number, but got '1'"),
        (lambda: LRCosineAnnealing(5, learning_rate=0), "learning_rate must be finite and above 0"),
        (
            lambda: LRCosineAnnealing(5, beyond="restart"),
            "beyond must be one of None, 'stay', 'rise', but got 'restart'",
        ),
        (lambda: LRWarmup(1, learning_rate=0), "learning_rate must be finite and above 0"),
        (
            lambda: LRWarmup(1, learning_rate=0.1, after=LRStepDecay(1, learning_rate=0.1)),
            "learning_rate is given twice, here and to LRStepDecay",
        ),
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
