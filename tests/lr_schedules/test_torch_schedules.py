"""The schedules of PyTorch: its numbers, without its faults, by epoch and by step."""

from __future__ import annotations

import json
import pathlib
import pickle

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.train import Callback
from sinking import sinking_model
from training import Network, Recorder, ScaledTrainCell, Script, dataset, grouped, loss_fn, make_model, seeded

import ms_callbacks
from ms_callbacks import (
    DynamicLR,
    LRCosineAnnealing,
    LRCosineWarmRestarts,
    LRCyclic,
    LRExponential,
    LRLambda,
    LRMultiStep,
    LROneCycle,
    LRPolynomial,
    LRSequence,
    LRStepDecay,
    LRWarmup,
    accumulate_gradients,
    check_callbacks,
)
from ms_callbacks.core.learning_rates import Rates
from ms_callbacks.core.lr_curve import Plan

TORCH = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "torch.json").read_text())
LAMBDAS = {
    "inverse": lambda index: 1 / (1 + index),
    "rise and root": lambda index: (index + 1) / 6 if index < 6 else (index - 4) ** -0.5,
}


def of_torch(name, arguments, **others):
    """Our schedule for one of PyTorch's."""
    given = dict(arguments)
    if name == "MultiStepLR":
        return LRMultiStep(given.pop("milestones"), **given, **others)
    if name == "StepLR":
        return LRStepDecay(**given, **others)
    if name == "ExponentialLR":
        return LRExponential(**given, **others)
    if name == "PolynomialLR":
        return LRPolynomial(given.pop("total_iters"), beyond="stay", **given, **others)
    if name == "CosineAnnealingLR":
        return LRCosineAnnealing(given.pop("T_max"), beyond="rise", **given, **others)
    if name == "CosineAnnealingWarmRestarts":
        return LRCosineWarmRestarts(**given, **others)
    if name == "LambdaLR":
        return LRLambda(LAMBDAS[given["lr_lambda"]], **others)
    if name == "OneCycleLR":
        given.pop("total_steps")
        return LROneCycle(**given)
    return LRCyclic(**given)


def cases(*names):
    return [pytest.param(name, case, id=f"{name}-{place}") for name in names for place, case in enumerate(TORCH[name])]


BY_EITHER = ["MultiStepLR", "ExponentialLR", "PolynomialLR", "CosineAnnealingWarmRestarts", "LambdaLR"]


@pytest.mark.parametrize("by", ["epoch", "step"])
@pytest.mark.parametrize(("name", "case"), cases(*BY_EITHER))
def test_rates_equal_pytorchs(name, case, by):
    """What PyTorch itself gave, by epoch or by step."""
    count = len(case["rates"])
    schedule = of_torch(name, case["arguments"], by=by)
    found = schedule.rates_for(case["base"], Plan(count, 1 if by == "step" else 7))
    np.testing.assert_allclose(found, case["rates"], rtol=1e-9, atol=case["base"] * 1e-15)
    if "closed" in case:  # with which there is no drift
        np.testing.assert_allclose(found, case["closed"], rtol=1e-13, atol=case["base"] * 1e-16)


@pytest.mark.parametrize("case", TORCH["CosineAnnealingLR"])
def test_cosine_annealing_by_step_equals_pytorchs(case):
    """Of a scheduler that is called in every step, beyond T_max too."""
    schedule = LRCosineAnnealing(case["T_max"], eta_min=case["eta_min"], beyond="rise", by="step")
    found = schedule.rates_for(case["base"], Plan(5, 5))
    np.testing.assert_allclose(found, case["rates"], rtol=1e-9, atol=case["base"] * 1e-15)


@pytest.mark.parametrize(("name", "case"), cases("OneCycleLR", "CyclicLR"))
def test_rates_and_momentum_of_cycles_equal_pytorchs(name, case):
    """Step by step; the rate that the optimizer was made with plays no part."""
    schedule, plan = of_torch(name, case["arguments"]), Plan(1, len(case["rates"]))
    np.testing.assert_allclose(schedule.rates_for(123.0, plan), case["rates"], rtol=1e-9)
    momenta = [schedule.momentum_at(index, plan) for index in range(plan.steps)]
    if "momenta" in case:
        np.testing.assert_allclose(momenta, case["momenta"], rtol=1e-9)
    else:
        assert momenta == [None] * plan.steps


@pytest.mark.parametrize("by", ["epoch", "step"])
@pytest.mark.parametrize("case", TORCH["SequentialLR"])
def test_sequences_equal_pytorchs(case, by):
    """Each schedule begins where its milestone is."""
    ends = [*case["arguments"]["milestones"], len(case["rates"])]
    lengths = np.diff([0, *ends]).tolist()
    schedules = [of_torch(name, given, by=by) for name, given in case["arguments"]["schedulers"]]
    sequence = LRSequence(list(zip(schedules, lengths)))
    found = sequence.rates_for(case["base"], Plan(len(case["rates"]), 1))
    np.testing.assert_allclose(found, case["rates"], rtol=1e-9, atol=case["base"] * 1e-15)


# A schedule of each kind, for runs of 6 epochs of 4 steps

KINDS = {
    "cosine": lambda: LRCosineAnnealing(30, by="step"),
    "restarts": lambda: LRCosineWarmRestarts(1, T_mult=2, eta_min=0.001),
    "restarts by step": lambda: LRCosineWarmRestarts(5, T_mult=2, by="step"),
    "cyclic": lambda: LRCyclic(0.01, 0.1, step_size_up=5, step_size_down=2, mode="exp_range", gamma=0.9),
    "exponential": lambda: LRExponential(0.7),
    "exponential by step": lambda: LRExponential(0.9, by="step"),
    "lambda": lambda: LRLambda(LAMBDAS["inverse"]),
    "lambda by step": lambda: LRLambda(LAMBDAS["inverse"], by="step"),
    "multi-step": lambda: LRMultiStep([2, 3, 3]),
    "multi-step by step": lambda: LRMultiStep([3, 4, 17], by="step"),
    "one cycle": lambda: LROneCycle(0.2),
    "polynomial": lambda: LRPolynomial(6, power=2.0),
    "polynomial by step": lambda: LRPolynomial(23, by="step"),
    "step decay by step": lambda: LRStepDecay(5, 0.5, by="step"),
    "warm-up in steps": lambda: LRWarmup(steps=6),
    "warm-up in steps, by epoch": lambda: LRWarmup(steps=6, after=LRMultiStep([2, 4])),
    "warm-up in steps, by step": lambda: LRWarmup(steps=6, after=LROneCycle(0.3)),
    "warm-up, one cycle": lambda: LRWarmup(1, after=LROneCycle(0.3)),
    "warm-up, sequence": lambda: LRWarmup(
        steps=5, after=LRSequence([(LRExponential(0.5), 2), (LROneCycle(0.1), None)])
    ),
    "sequence": lambda: LRSequence(
        [(LRWarmup(steps=3), 2), (LRCyclic(0.01, 0.1, step_size_up=3), 2), (LRExponential(0.5), 2)]
    ),
    "sequence by epoch": lambda: LRSequence([(LRStepDecay(1, 0.5), 4), (LRExponential(0.1), 2)]),
}
EPOCHS, STEPS = 6, 4


class StepRates(Callback):
    """The rates of every step, one for each parameter group."""

    def __init__(self):
        self.rates = []

    def on_train_step_end(self, run_context):
        self.rates.append(Rates(run_context.original_args()["optimizer"]).read())


def rates_of(schedule, epochs=EPOCHS, initial_epoch=0, script=None, learning_rate=0.1):
    recorder = StepRates()
    (script or Script(learning_rate)).run(
        [recorder, schedule], [None] * (epochs - initial_epoch), steps=STEPS, initial_epoch=initial_epoch
    )
    return [rates[0] for rates in recorder.rates]


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimizer_has_the_rate_of_the_list_in_every_step(kind):
    """Each step its own, or that of its epoch."""
    schedule = KINDS[kind]()
    rates = rates_of(schedule)
    listed = schedule.lr_list_ if schedule.by_step else np.repeat(schedule.lr_list_, STEPS)
    np.testing.assert_allclose(rates, listed[: EPOCHS * STEPS], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cold_start_has_the_rates_of_an_uninterrupted_run(kind):
    """At any epoch: nothing adds up from one to the next, so nothing is missing and no drop happens twice."""
    whole = rates_of(KINDS[kind]())
    for epoch in (1, 2, 5):
        assert rates_of(KINDS[kind](), initial_epoch=epoch) == whole[epoch * STEPS :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_continues_exactly(kind):
    """As numbers alone; the object is another, and its optimizer was left at the last rate."""
    whole, schedule, script = rates_of(KINDS[kind]()), KINDS[kind](), Script(0.1)
    states = []

    class Keep(Callback):
        def on_train_epoch_end(self, run_context):
            states.append(json.loads(json.dumps(schedule.state_dict())))

    script.run([schedule, Keep()], [None] * EPOCHS, steps=STEPS)
    for epoch in (3, 4):
        other = KINDS[kind]()
        other.load_state_dict(states[epoch - 1])
        assert rates_of(other, initial_epoch=epoch, script=script) == whole[epoch * STEPS :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_group_stays_frozen_and_the_others_follow(kind):
    """A rate of 0 is none, whatever the lowest rate."""
    script, recorder = Script(), StepRates()
    script.optimizer = grouped(0.0, 0.1)(Network())
    script.run([recorder, KINDS[kind]()], [None] * EPOCHS, steps=STEPS)
    assert {frozen for frozen, _ in recorder.rates} == {0.0}
    assert [other for _, other in recorder.rates] == rates_of(KINDS[kind]())


@pytest.mark.parametrize("kind", ["multi-step", "exponential by step", "lambda", "polynomial", "restarts"])
def test_groups_follow_in_proportion(kind):
    """From the rate of each."""
    script, recorder = Script(), StepRates()
    script.optimizer = grouped(0.4, 0.1)(Network())
    schedule = KINDS[kind]() if kind != "restarts" else LRCosineWarmRestarts(2)
    script.run([recorder, schedule], [None] * EPOCHS, steps=STEPS)
    np.testing.assert_allclose(
        [one for one, _ in recorder.rates], [4 * other for _, other in recorder.rates], rtol=1e-6
    )


def test_groups_with_a_maximum_of_their_own():
    """In the order of the groups; a list of another length is refused."""
    for schedule, first in ((LROneCycle([0.5, 0.1]), [0.02, 0.004]), (LRCyclic([0.1, 0.2], [0.5, 0.6]), [0.1, 0.2])):
        script, recorder = Script(), StepRates()
        script.optimizer = grouped(0.4, 0.1)(Network())
        script.run([recorder, schedule], [None], steps=STEPS)
        assert recorder.rates[0] == first
    for wrong in (LROneCycle([0.1] * 3), LRCyclic([0.1] * 3, 1.0), LRWarmup(1, after=LROneCycle([0.1] * 3))):
        with pytest.raises(ValueError, match=r"(max|base)_lr has 3 values, but the optimizer has 2 rates"):
            script.run([wrong], [None], steps=STEPS)
    with pytest.raises(ValueError, match="LRLambda: lr_lambda has 1 value, but the optimizer has 2 rates"):
        script.run([LRLambda([LAMBDAS["inverse"]])], [None], steps=STEPS)
    both = LRLambda([lambda epoch: 1.0, lambda epoch: 0.5])
    script.run([recorder, both], [None], steps=STEPS)
    assert recorder.rates[-1] == [0.4, 0.05]


# Faults of the originals


def test_a_milestone_counts_once_however_often_its_epoch_is_begun():
    """Chained, each call in the epoch of a milestone lowers the rate again: after a resume there, or for each step."""
    model, recorder = make_model(learning_rate=0.1), Recorder()
    for _ in range(3):
        model.train(2, dataset(), callbacks=[LRMultiStep([1]), recorder], initial_epoch=1)
    assert recorder.rates == pytest.approx([0.01] * 12)


def test_one_cycle_begins_at_its_own_rate():
    """Whatever the optimizer was made with, also in the first step, and under a schedule that comes before it."""
    assert rates_of(LROneCycle(0.25), learning_rate=7.0)[0] == pytest.approx(0.01)
    sequence = LRSequence([(LRExponential(0.5), 2), (LROneCycle(0.25), None)])
    rates = rates_of(sequence, learning_rate=0.8)
    np.testing.assert_allclose(rates[:9], [0.8] * 4 + [0.4] * 4 + [0.01], rtol=1e-6)


def test_a_warm_up_leads_to_the_first_rate_of_a_cycle():
    """Without a jump between the two."""
    rates = rates_of(LRWarmup(1, after=LRCyclic(0.02, 0.1, step_size_up=4)), learning_rate=7.0)
    np.testing.assert_allclose(rates[:8], [0.005, 0.01, 0.015, 0.02, 0.02, 0.04, 0.06, 0.08], rtol=1e-6)


def test_the_last_step_of_one_cycle_is_the_end_and_a_surplus_one_no_error():
    """PyTorch raises when it is stepped after the last step, as training loops do."""
    schedule, plan = LROneCycle(0.25), Plan(6, 4)
    assert schedule.rate_at(0.1, 23, plan) == schedule.rate_at(0.1, 40, plan) == pytest.approx(0.25 / 25 / 1e4)


def test_one_cycle_with_phases_of_no_length():
    """Where PyTorch divides by zero."""
    assert LROneCycle(0.25, pct_start=0.5).rates_for(0.1, Plan(1, 2)) == pytest.approx([0.25, 1e-6])
    assert LROneCycle(0.25, pct_start=0.5, three_phase=True).rates_for(0.1, Plan(1, 2))[-1] == pytest.approx(1e-6)
    for steps in range(1, 30):
        for pct_start in (0.0, 0.1, 0.3, 0.5):
            for three_phase in (False, True):
                cycle = LROneCycle(0.25, pct_start=pct_start, three_phase=three_phase)
                rates = cycle.rates_for(0.1, Plan(1, steps))
                assert all(0 < rate <= 0.25 for rate in rates)


def test_cosine_after_a_resume_with_another_rate():
    """The chained form multiplies the changed rate; this one has the rate that it was told to begin with."""
    whole = LRCosineAnnealing(6).rates_for(0.1, Plan(6, 1))
    resumed = rates_of(LRCosineAnnealing(6, learning_rate=0.1), initial_epoch=3, learning_rate=0.7)
    np.testing.assert_allclose(resumed, np.repeat(whole[3:], STEPS), rtol=1e-6)


def test_restarts_come_when_they_are_due():
    """Also where a logarithm says one too early or late: after 3 + 3 * 5 + ... + 3 * 5 ** n epochs."""
    for first, times in ((3, 5), (7, 10), (1, 2), (10, 3), (6, 7)):
        schedule, start, length = LRCosineWarmRestarts(first, T_mult=times), 0, first
        while start < 10**12:
            assert schedule.rate_at(0.1, start, Plan(1, 1)) == 0.1
            assert schedule.rate_at(0.1, start + length - 1, Plan(1, 1)) < (0.1 if length > 1 else 0.2)
            start, length = start + length, length * times


def test_an_exponential_does_not_drift():
    """After 10,000 steps it is its formula, to the last digit."""
    schedule = LRExponential(0.9997, by="step")
    assert schedule.rate_at(0.1, 10_000, Plan(1, 10_001)) == 0.1 * 0.9997**10_000


def test_the_state_of_a_function_is_numbers_only():
    """A lambda cannot be pickled."""
    schedule = LRLambda(lambda epoch: 0.5)
    rates_of(schedule)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(schedule)
    assert pickle.loads(pickle.dumps(schedule.state_dict())) == json.loads(json.dumps(schedule.state_dict()))


# Optimizer steps


class Dropping(ScaledTrainCell):
    """Drops the steps whose numbers are given, as loss scaling does with an overflow."""

    def __init__(self, network, optimizer, dropped):
        super().__init__(nn.WithLossCell(network, loss_fn()), optimizer, Tensor(np.ones(1, np.float32)))
        self.dropped, self.step = dropped, 0

    def construct(self, x, label):
        loss = self.network(x, label)
        self.step += 1
        return loss, Tensor(np.array(self.step in self.dropped)), self.scale_sense


def rates_with_drops(schedule, dropped, epochs=2):
    """The rate at each step of a run on 4 steps an epoch."""
    ms.set_context(mode=ms.PYNATIVE_MODE)  # the cell counts its steps in Python
    network, rates = seeded(), []
    optimizer = nn.SGD(network.trainable_params(), 0.1)

    class Records(Callback):
        def on_train_step_end(self, run_context):
            rates.extend(Rates(optimizer).read())

    ms.Model(Dropping(network, optimizer, dropped)).train(epochs, dataset(), callbacks=[schedule, Records()])
    return rates


def test_a_dropped_step_does_not_advance_a_schedule_by_step():
    """The next one has the same rate; by epoch, nothing changes."""
    halves = [0.1 * 0.5**index for index in range(9)]
    found = rates_with_drops(LRExponential(0.5, by="step"), {2, 3, 5})
    np.testing.assert_allclose(found, [halves[at] for at in (0, 1, 1, 1, 2, 2, 3, 4)], rtol=1e-6)
    found = rates_with_drops(LRExponential(0.5), {2, 3, 5})
    np.testing.assert_allclose(found, [0.1] * 4 + [0.05] * 4, rtol=1e-6)
    found = rates_with_drops(LRWarmup(steps=4), {1})
    np.testing.assert_allclose(found, [0.025, 0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1], rtol=1e-6)


def test_steps_that_only_accumulate_gradients_do_not_advance_a_schedule_by_step():
    """The last ones of an epoch make an update of their own; a cycle is as long as there are updates."""

    def rates_of_accumulating(schedule, initial_epoch=0):
        recorder = StepRates()
        model = make_model(lambda network: accumulate_gradients(nn.SGD(network.trainable_params(), 0.1), 3))
        model.train(3, dataset(), callbacks=[schedule, recorder], initial_epoch=initial_epoch)
        return [rates[0] for rates in recorder.rates]

    halves = [0.1 * 0.5**index for index in (0, 0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5)]
    np.testing.assert_allclose(rates_of_accumulating(LRExponential(0.5, by="step")), halves, rtol=1e-6)
    np.testing.assert_allclose(rates_of_accumulating(LRExponential(0.5, by="step"), 2), halves[8:], rtol=1e-6)
    cycle = LROneCycle(0.1)
    np.testing.assert_allclose(rates_of_accumulating(cycle)[-1], 0.1 / 25 / 1e4, rtol=1e-6)
    assert len(cycle.lr_list_) == 6


def test_nothing_runs_in_a_step_where_the_rate_does_not_change():
    """After a warm-up, what follows by epoch costs nothing, and no flag of a step is read."""
    schedule, asked = LRWarmup(1, after=LRSequence([(LRExponential(0.5), 1), (LROneCycle(0.1), 1)])), []

    class Look(Callback):
        def on_train_step_begin(self, run_context):
            asked.append("on_train_step_begin" in vars(schedule))

    Script().run([schedule, Look()], [None] * 3, steps=STEPS)
    assert asked == [True] * STEPS + [False] * STEPS + [True] * STEPS


# The length of a run


class NoStep(Callback):
    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


@pytest.mark.parametrize(
    ("schedule", "epochs", "message"),
    [
        (lambda: LRCosineAnnealing(7, by="step"), 2, None),
        (
            lambda: LRCosineAnnealing(7, by="step"),
            3,
            r"eta_min in step 8 and rises again in the 4 steps left of its 12",
        ),
        (lambda: LRPolynomial(2), 3, None),
        (lambda: LRPolynomial(2), 4, "reaches eta_min in epoch 3 and stays there in the 1 epoch left of its 4; give"),
        (lambda: LRPolynomial(2, beyond="stay"), 9, None),
        (lambda: LRPolynomial(8, by="step"), 3, "give total=11 or total=12, or beyond='stay' to accept that"),
        (lambda: LRWarmup(steps=9), 2, "the warm-up takes 9 steps, but the run has 8"),
        (lambda: LRWarmup(steps=8), 2, None),
        (lambda: LRWarmup(steps=6, after=LRPolynomial(2)), 4, None),
        (lambda: LRWarmup(steps=6, after=LRPolynomial(1)), 4, "LRPolynomial: with total=1"),
        (lambda: LRWarmup(steps=6, after=DynamicLR([0.1] * 9)), 4, "DynamicLR: lr_list holds 9 rates, .* need 10"),
        (lambda: LRWarmup(steps=6, after=DynamicLR([0.1] * 10)), 4, None),
        (lambda: LRSequence([(LRStepDecay(1), 2), (LRExponential(0.9), 3)]), 5, None),
        (lambda: LRSequence([(LRStepDecay(1), 2), (LRExponential(0.9), 3)]), 6, "take 5 epochs, but there are 6; make"),
        (lambda: LRSequence([(LRStepDecay(1), 2), (LRExponential(0.9), 3)]), 4, "take 5 epochs, but there are 4; make"),
        (lambda: LRSequence([(LRStepDecay(1), 2), (LRExponential(0.9), None)]), 9, None),
        (lambda: LRSequence([(LRStepDecay(1), 2), (LRExponential(0.9), None)]), 2, "take at least 3 epochs, but"),
        (
            lambda: LRSequence([(LRCosineAnnealing(2), 4), (LRExponential(0.9), None)]),
            9,
            r"LRSequence: schedules\[0\], 4 epochs long: LRCosineAnnealing: with T_max=2",
        ),
        (lambda: LRWarmup(1, after=LRSequence([(LRExponential(0.9), 2)])), 4, "take 2 .* 3 after the warm-up"),
        (
            lambda: LRLambda(lambda epoch: 1.0 if epoch < 3 else float("nan")),
            4,
            r"LRLambda: lr_lambda\(3\), for epoch 4, must return a finite number of at least 0, but returned nan",
        ),
        (lambda: LRLambda(lambda step: 5 - step, by="step"), 2, r"lr_lambda\(6\), for step 7, .* but returned -1"),
        (
            lambda: LRLambda(lambda epoch: "0.1"),
            4,
            r"\(0\), for epoch 1, must return a number, .* '0.1' \(str",
        ),
        (lambda: LRExponential(1e300), 4, r"gamma=1e\+300 makes the rate too large for a number within 4 epochs"),
        (lambda: LRMultiStep([1, 1], gamma=1e300, by="step"), 4, "too large for a number within 16 steps; lower it"),
        (lambda: LRMultiStep([100]), 4, None),
    ],
)
def test_a_schedule_that_does_not_fit_the_run_is_refused(schedule, epochs, message):
    """By `check_callbacks` and by the run itself before its first step; what just fits is not."""
    if message is None:
        check_callbacks(make_model(), dataset(), [schedule()], epochs=epochs)
        return
    with pytest.raises((TypeError, ValueError), match=message):
        check_callbacks(make_model(), dataset(), [schedule()], epochs=epochs)
    with pytest.raises((TypeError, ValueError), match=message):
        make_model().train(epochs, dataset(), callbacks=[schedule(), NoStep()])


WRONG = [
    (lambda: LRMultiStep([]), "LRMultiStep: milestones must hold at least one number, but it is empty"),
    (lambda: LRMultiStep([5, 3]), r"LRMultiStep: milestones must be in ascending order, but got \[5, 3\]; sort them"),
    (lambda: LRMultiStep([-1]), r"milestones\[0\] must be at least 1, but got -1"),
    (lambda: LRMultiStep([0, 3]), r"milestones\[0\] must be at least 1, but got 0"),
    (lambda: LRMultiStep([1, 2.5]), r"milestones\[1\] must be a whole number, but got 2.5"),
    (lambda: LRMultiStep(3), "milestones must be a list of whole numbers, but got 3"),
    (lambda: LRMultiStep("35"), "milestones must be a list of whole numbers, but got '35'"),
    (lambda: LRMultiStep([3], gamma=0), "gamma must be finite and above 0, but got 0"),
    (lambda: LRMultiStep([3], by="batch"), "LRMultiStep: by must be one of 'epoch', 'step', but got 'batch'"),
    (lambda: LRExponential(0), "LRExponential: gamma must be finite and above 0, but got 0"),
    (lambda: LRExponential(float("inf")), "gamma must be finite and above 0, but got inf"),
    (lambda: LRExponential("0.9"), "gamma must be a number, but got '0.9'"),
    (lambda: LRExponential(0.9, learning_rate=-1), "learning_rate must be finite and above 0"),
    (lambda: LRPolynomial(0), "LRPolynomial: total must be at least 1, but got 0"),
    (lambda: LRPolynomial(5, power=-1), "power must be finite and above 0, but got -1"),
    (lambda: LRPolynomial(5, eta_min=-1), "eta_min must be finite and at least 0"),
    (lambda: LRPolynomial(5, beyond="rise"), "beyond must be one of None, 'stay', but got 'rise'"),
    (lambda: LRCosineWarmRestarts(0), "LRCosineWarmRestarts: T_0 must be at least 1, but got 0"),
    (lambda: LRCosineWarmRestarts(1.5), "T_0 must be a whole number, but got 1.5"),
    (lambda: LRCosineWarmRestarts(1, T_mult=0.5), "T_mult must be a whole number"),
    (lambda: LRCosineAnnealing(5, by="steps"), "by must be one of 'epoch', 'step'.*did you mean 'step'"),
    (lambda: LRLambda(0.5), "LRLambda: lr_lambda must be a function of the epoch, .* but got 0.5"),
    (lambda: LRLambda([]), r"lr_lambda must be a function of the epoch, .* but got \[\]"),
    (lambda: LROneCycle(0), "LROneCycle: max_lr must be finite and above 0, but got 0"),
    (lambda: LROneCycle([0.1, -1]), r"max_lr\[1\] must be finite and at least 0, but got -1"),
    (lambda: LROneCycle(0.1, pct_start=1.5), "pct_start must be finite and at least 0 and below 1, but got 1.5"),
    (lambda: LROneCycle(0.1, pct_start=30), "pct_start must be finite and at least 0 and below 1, but got 30"),
    (lambda: LROneCycle(0.1, pct_start=0.6, three_phase=True), "pct_start must be at most 0.5, but got 0.6"),
    (lambda: LROneCycle(0.1, anneal_strategy="cosine"), "anneal_strategy must be one of 'cos', 'linear'"),
    (lambda: LROneCycle(0.1, div_factor=0), "div_factor must be finite and at least 1, but got 0"),
    (lambda: LROneCycle(0.1, final_div_factor=0.5), "final_div_factor must be finite and at least 1"),
    (lambda: LROneCycle(0.1, max_momentum=1.0), "max_momentum must be finite and at least 0 and below 1"),
    (lambda: LROneCycle(0.1, base_momentum=0.99), "max_momentum=0.95 must not be below base_momentum=0.99"),
    (lambda: LROneCycle(0.1, cycle_momentum=1), "cycle_momentum must be True or False, but got 1"),
    (lambda: LRCyclic(0.2, 0.1), "LRCyclic: max_lr=0.1 must not be below base_lr=0.2; exchange the two"),
    (lambda: LRCyclic([0.1, 0.2], [0.3, 0.1]), "max_lr=0.1 must not be below base_lr=0.2"),
    (lambda: LRCyclic([0.1, 0.2], [0.3]), "but got 2 and 1"),
    (lambda: LRCyclic(-0.1, 0.1), "base_lr must be finite and at least 0, but got -0.1"),
    (lambda: LRCyclic(0.1, 0.2, step_size_up=0), "step_size_up must be at least 1, but got 0"),
    (lambda: LRCyclic(0.1, 0.2, mode="square"), "mode must be one of 'triangular', 'triangular2', 'exp_range'"),
    (lambda: LRCyclic(0.1, 0.2, gamma=1.1), "gamma must be at most 1, but got 1.1"),
    (lambda: LRWarmup(), "give the length of the warm-up as epochs or as steps, but got epochs=None and steps=None"),
    (lambda: LRWarmup(1, steps=5), "but got epochs=1 and steps=5"),
    (lambda: LRWarmup(steps=0), "LRWarmup: steps must be at least 1, but got 0"),
    (lambda: LRSequence([]), r"LRSequence: schedules must be a list of pairs, .* but got \[\]"),
    (lambda: LRSequence(LRStepDecay(1)), "schedules must be a list of pairs"),
    (lambda: LRSequence([LRStepDecay(1)]), r"schedules\[0\] must be a pair, a schedule and its epochs"),
    (lambda: LRSequence([(0.1, 2)]), r"schedules\[0\] must be a schedule that is known before the run"),
    (lambda: LRSequence([(LRStepDecay(1), 0)]), r"the epochs of schedules\[0\] must be at least 1, but got 0"),
    (
        lambda: LRSequence([(LRStepDecay(1), None), (LRStepDecay(1), 1)]),
        r"the epochs of schedules\[0\] must be a whole number, but got None",
    ),
    (
        lambda: LRSequence([(ms_callbacks.ReduceLROnPlateau("loss"), 2)]),
        r"ReduceLROnPlateau can follow a warm-up, as LRWarmup\(epochs, after=ReduceLROnPlateau",
    ),
    (
        lambda: LRSequence([(LRWarmup(1, after=ms_callbacks.ReduceLROnPlateau("loss")), 2)]),
        "must be a schedule that is known before the run",
    ),
    (lambda: LRSequence([(LRStepDecay(1, learning_rate=0.1), 2)]), "give learning_rate to LRSequence instead"),
    (lambda: LRSequence([(one := LRStepDecay(1), 2), (one, 2)]), "the same schedule occurs twice"),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_arguments_are_refused_where_it_is_made(make, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("kind", ["cosine", "cyclic", "lambda by step", "one cycle", "sequence", "warm-up in steps"])
def test_sink_mode_is_refused_by_step(kind):
    """Where the device runs steps unseen; by epoch it works."""
    with pytest.raises(ValueError, match="in sink mode steps run on the device unseen, and none"):
        sinking_model().train(EPOCHS, dataset(), callbacks=[KINDS[kind](), NoStep()], dataset_sink_mode=True)
