"""Faults of evaluations within training that users of other libraries reported: none of them is here."""

from __future__ import annotations

import random

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.train import Callback
from training import (
    Network,
    Recorder,
    Samples,
    assert_same_weights,
    dataset,
    make_model,
    seeded,
    valid_dataset,
    weights,
)

from ms_callbacks import EarlyStopping, LRStepDecay, LRWarmup, TrainCallback, TrainingState, Validate
from ms_callbacks.core.forward_hooks import settle_numpy

STEPS = 4  # of an epoch


class Observed(TrainCallback):
    """The place and the kind of each evaluation."""

    def __init__(self):
        super().__init__()
        self.places = []

    def after_evaluation(self, run, evaluation):
        self.places.append((evaluation.epoch, evaluation.step, evaluation.at_epoch_end))


def stopped_at(step, how="train", by_ours=False, **arguments):
    """The places of evaluations in a run that is told to stop in that step."""

    class Stop(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == step:
                run_context.request_stop()

    class OurStop(TrainCallback):
        def before_train(self, run):
            run.step_hooks.on_step_end(self, self.maybe)

        def maybe(self, run):
            if run.step == step:
                run.request_stop("OurStop")

    model, observed = make_model(), Observed()
    callbacks = [OurStop() if by_ours else Stop(), Validate(model, valid_dataset(), **arguments), observed]
    valid = [valid_dataset()] if how == "fit" else []
    getattr(model, how)(3, dataset(), *valid, callbacks=callbacks)
    return observed.places


@pytest.mark.parametrize("how", ["train", "fit"])
@pytest.mark.parametrize(
    ("step", "n", "by_ours"), [(2, 2, True), (2, 2, False), (3, 2, True), (4, 3, True), (6, 3, False)]
)
def test_a_run_that_is_stopped_in_a_step_is_evaluated_once_after_it(step, n, by_ours, how):
    """Neither missing nor doubled, as in huggingface/transformers#44146: also where that step is due or the last."""
    found = stopped_at(step, how, by_ours, every_n_steps=n)
    ends = {*range(STEPS, step + 1, STEPS), step}
    assert found == [((each - 1) // STEPS + 1, each, each in ends) for each in sorted({*range(n, step, n), *ends})]


def test_an_interrupted_epoch_keeps_the_evaluation_of_its_last_step(tmp_path):
    """A run that resumes there has no end of an epoch to leave it to."""

    class Interrupt(TrainCallback):
        def before_train(self, run):
            run.step_hooks.on_step_end(self, self.maybe)

        def maybe(self, run):
            if run.step == 2:
                run.request_stop("Interrupt", interrupt=True)

    model, observed = make_model(), Observed()
    state, validate = TrainingState(str(tmp_path / "state")), Validate(model, valid_dataset(), every_n_steps=2)
    model.train(2, dataset(), callbacks=[Interrupt(), state, validate, observed])
    assert observed.places == [(1, 2, False)]


def test_without_on_last_a_stop_adds_no_evaluation():
    """That of the step stands, where one was due."""
    only = {"every_n_steps": 2, "every_n_epochs": None, "on_last": False}
    assert stopped_at(2, **only) == [(1, 2, False)]
    assert stopped_at(3, **only) == [(1, 2, False)]


@pytest.mark.parametrize("how", ["train", "fit"])
def test_several_reasons_to_evaluate_in_one_step_make_one_evaluation(how):
    """Two callbacks that ask, and the interval: patience counts one observation."""

    class Ask(TrainCallback):
        def before_train(self, run):
            run.step_hooks.on_step_end(self, self.maybe)

        def maybe(self, run):
            if run.step in (2, 4):
                run.evaluate()

    model, observed = make_model(), Observed()
    callbacks = [Ask(), Validate(model, valid_dataset(), every_n_steps=2), Ask(), observed]
    valid = [valid_dataset()] if how == "fit" else []
    getattr(model, how)(1, dataset(), *valid, callbacks=callbacks)
    assert observed.places == [(1, 2, False), (1, 4, True)]


class Varying:
    """Epochs of 4, 7 and 5 batches, of which nobody is told beforehand: four are declared."""

    def __init__(self):
        self.epoch = 0

    def __iter__(self):
        self.epoch += 1
        for _ in range(12 * (4, 7, 5)[min(self.epoch, 3) - 1]):
            yield np.zeros((1, 4, 4), np.float32), np.zeros((), np.int32)

    def __len__(self):
        return 48


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [(1, 4, True), (2, 11, True), (3, 16, True)]),
        (
            {"every_n_steps": 5},
            [(1, 4, True), (2, 5, False), (2, 10, False), (2, 11, True), (3, 15, False), (3, 16, True)],
        ),
        ({"every_n_steps": 11}, [(1, 4, True), (2, 11, False), (3, 16, True)]),
        ({"every_n_steps": 8, "every_n_epochs": None}, [(2, 8, False), (3, 16, False)]),
        ({"every_n_steps": 9, "every_n_epochs": None, "on_last": False}, [(2, 9, False)]),
    ],
)
def test_epochs_that_vary_in_length_are_evaluated_once_at_each_end(arguments, expected):
    """Whatever length is declared: bghira/SimpleTuner#2720 missed ends that drift from the schedule."""
    model, observed = make_model(), Observed()
    data = ds.GeneratorDataset(Varying(), ["images", "labels"], shuffle=False).batch(12)
    model.train(3, data, callbacks=[Validate(model, valid_dataset(), **arguments), observed])
    assert observed.places == expected


class FreezeNorm(Callback):
    """Keeps BatchNorm in evaluation, from after MindSpore has set all to training."""

    def on_train_begin(self, run_context):
        run_context.original_args()["network"].norm.set_train(False)


class Raise(Callback):
    """Raises in the n-th batch of an evaluation."""

    def __init__(self, n):
        self.left = n

    def on_eval_step_end(self, run_context):
        self.left -= 1
        if not self.left:
            raise RuntimeError("mine")


@pytest.mark.parametrize("at_step", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_evaluation_that_raises_leaves_the_flags_of_training(mode, at_step):
    """Of each cell its own; pfnet/pytorch-pfn-extras#688 left evaluation flags. A second run trains as it should."""
    network = Network()
    model, recorder = make_model(network=network), Recorder()
    when = {"every_n_steps": 2} if at_step else {}
    with pytest.raises(RuntimeError, match="mine"):
        model.train(1, dataset(), callbacks=[FreezeNorm(), Validate(model, valid_dataset(), **when), Raise(2)])
    assert (network.training, network.norm.training, network.head.training) == (True, False, True)
    model.train(1, dataset(), callbacks=[recorder])
    plain, expected = make_model(), Recorder()
    plain.train(1, dataset(24 if at_step else 48), callbacks=[FreezeNorm()])
    plain.train(1, dataset(), callbacks=[expected])
    assert recorder.losses == expected.losses


@pytest.mark.parametrize("first", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("how", ["train", "fit"])
def test_a_part_in_evaluation_stays_so_whoever_evaluates_first(mode, how, first):
    """Lightning-AI/pytorch-lightning#2551 and #18930: validation set a frozen backbone's BatchNorm to training."""
    network = Network()
    model = make_model(network=network)
    if not first:
        model.eval(valid_dataset())
    before, flags = network.norm.moving_mean.asnumpy().copy(), []

    class Look(Callback):
        def on_train_step_end(self, run_context):
            flags.append((network.training, network.norm.training, network.head.training))

    valid = [valid_dataset()] if how == "fit" else []
    validate = Validate(model, valid_dataset(), every_n_steps=3)
    getattr(model, how)(2, dataset(), *valid, callbacks=[FreezeNorm(), Look(), validate])
    assert set(flags) == {(True, False, True)}
    np.testing.assert_array_equal(network.norm.moving_mean.asnumpy(), before)


class Noisy(Samples):
    """Draws from the random numbers that Python and NumPy share with everybody."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (image + np.random.randn(*image.shape) + random.random()).astype(np.float32), label


def noisy(seed, count):
    source = ds.GeneratorDataset(Noisy(count, seed), ["images", "labels"], shuffle=True, num_parallel_workers=1)
    return source.batch(12, num_parallel_workers=1)


@pytest.mark.parametrize("how", ["train", "fit"])
def test_the_look_at_the_validation_data_before_training_draws_nothing_from_pythons_generators(how):
    """Training data that draw from them too get the same numbers, and so the same batches."""
    ends = []
    for validates in (False, True):
        ms.set_seed(7)
        model, recorder = make_model(), Recorder()
        train, valid = noisy(0, 48), noisy(1, 24)
        np.random.seed(3)
        random.seed(3)
        validate = [Validate(model, valid), EarlyStopping("acc", verbose=0)] if validates else []
        getattr(model, how)(1, train, *([valid] if how == "fit" else []), callbacks=[recorder, *validate])
        ends.append(recorder.losses)
    assert ends[0] == ends[1]


class Draws(Network):
    """Draws in its forward pass, in evaluation too, as Monte Carlo dropout does."""

    def construct(self, x):
        return super().construct(x + 0.5 * ops.standard_normal(x.shape))


def test_a_network_that_draws_in_an_evaluation_draws_the_same_in_training(mode):
    """Its random stream is that of the steps alone."""
    settle_numpy()
    ends = []
    for every in (None, 1):
        ms.set_seed(7)
        model, recorder = make_model(network=seeded(Draws())), Recorder()
        validate = [] if every is None else [Validate(model, valid_dataset(), every_n_steps=every)]
        model.train(2, dataset(), callbacks=[recorder, *validate])
        ends.append(recorder.losses)
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    "rate",
    [
        lambda: [0.05 / (1 + step) for step in range(8)],
        pytest.param(lambda: nn.ExponentialDecayLR(0.05, 0.5, 1, is_stair=True), marks=pytest.mark.slow),
    ],
)
def test_schedules_and_step_counts_do_not_move(mode, rate):
    """Evaluations are no steps (Lightning-AI/pytorch-lightning#6075): moments, counts and rates are the same."""
    ends = []
    for every in (None, 1):
        model, recorder = make_model(learning_rate=rate()), Recorder()
        validate = [] if every is None else [Validate(model, valid_dataset(), every_n_steps=every)]
        model.train(2, dataset(), callbacks=[recorder, *validate])
        ends.append((recorder.losses, weights(model.train_network)))
    assert ends[0][0] == ends[1][0]
    assert_same_weights(ends[0][1], ends[1][1])


def test_schedules_of_ours_by_the_step_do_not_move():
    """As those of the optimizer."""
    rates = []
    for every in (None, 1):
        model, recorder = make_model(learning_rate=0.1), Recorder()
        validate = [] if every is None else [Validate(model, valid_dataset(), every_n_steps=every)]
        model.train(2, dataset(), callbacks=[LRWarmup(1, after=LRStepDecay(1)), recorder, *validate])
        rates.append(recorder.rates)
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 3
