"""LRSequence: where each schedule begins, also where epochs have other numbers of steps than declared."""

from __future__ import annotations

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.train import Callback
from training import Recorder, dataset, make_model

from ms_callbacks import (
    DynamicLR,
    LRCyclic,
    LRExponential,
    LRMultiStep,
    LROneCycle,
    LRPolynomial,
    LRSequence,
    LRStepDecay,
    LRWarmup,
)
from ms_callbacks.core.lr_curve import Plan


def test_each_schedule_counts_from_its_own_beginning():
    """And has the same initial rate."""
    sequence = LRSequence([(LRStepDecay(2, 0.5), 3), (LRExponential(0.5), 2), (LRMultiStep([1]), 2)])
    assert not sequence.by_step
    assert sequence.rates_for(0.8, Plan(7, 5)) == pytest.approx([0.8, 0.8, 0.4, 0.8, 0.4, 0.8, 0.08])


def test_schedules_by_step_and_by_epoch_follow_each_other():
    """A list by step for all, in which those by epoch repeat their rates."""
    sequence = LRSequence([(LRWarmup(steps=2), 1), (LRExponential(0.5), 2), (LRPolynomial(4, by="step"), None)])
    assert sequence.by_step
    rates = sequence.rates_for(0.8, Plan(5, 2))
    assert rates == pytest.approx([0.4, 0.8, 0.8, 0.8, 0.4, 0.4, 0.8, 0.6, 0.4, 0.2])


def test_a_sequence_in_a_sequence_and_after_a_warm_up_that_ends_within_an_epoch():
    """The epoch in which the warm-up ends is the first of the sequence."""
    inner = LRSequence([(LRExponential(0.5), 1), (LRExponential(0.1), 1)])
    outer = LRSequence([(inner, 2), (LRMultiStep([1]), 2)])
    assert outer.rates_for(1.0, Plan(4, 1)) == pytest.approx([1.0, 1.0, 1.0, 0.1])
    steps = LRWarmup(steps=4, after=LRSequence([(LRExponential(0.5), 2), (LRPolynomial(3, by="step"), 1)]))
    rates = steps.rates_for(1.0, Plan(4, 3))
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 1.0, 2 / 3, 1 / 3])


def test_one_cycle_takes_the_epochs_that_it_is_given():
    """Not the whole run, and one after the other is like the first."""
    alone = LROneCycle(0.2).rates_for(0.1, Plan(3, 4))
    sequence = LRSequence([(LROneCycle(0.2), 3), (LROneCycle(0.2), None)])
    assert sequence.rates_for(0.1, Plan(6, 4)) == pytest.approx([*alone, *alone])
    warmed = LRWarmup(steps=5, after=LROneCycle(0.2)).rates_for(0.1, Plan(4, 4))
    assert warmed[5:] == pytest.approx(LROneCycle(0.2).rates_for(0.1, Plan(1, 11)))


def test_the_first_step_has_the_rate_of_the_first_schedule():
    """Where PyTorch has that of the last one, which acts when it is made."""
    recorder = Recorder()
    sequence = LRSequence([(LRPolynomial(1), 1), (LROneCycle(9.0), 1), (LRExponential(0.1), 1)])
    make_model(learning_rate=0.1).train(3, dataset(), callbacks=[sequence, recorder])
    assert recorder.rates[0] == pytest.approx(0.1)
    assert recorder.rates[4] == pytest.approx(9.0 / 25)


class Varying:
    """A source whose passes have these numbers of samples; the first pass tells the size."""

    def __init__(self, counts):
        self.counts = iter(counts)

    def __iter__(self):
        for _ in range(next(self.counts)):
            yield np.ones((1, 4, 4), np.float32), np.zeros((), np.int32)


def rates_of_varying(schedule, counts):
    """The rates of each epoch of a real run on a dataset that declares `counts[0]` batches."""
    recorder, ends = Recorder(), []

    class Ends(Callback):
        def on_train_epoch_end(self, run_context):
            ends.append(len(recorder.rates))

    source = ds.GeneratorDataset(Varying(counts), ["images", "labels"]).batch(1)
    assert source.get_dataset_size() == counts[0]
    make_model(learning_rate=0.1).train(len(counts) - 1, source, callbacks=[schedule, recorder, Ends()])
    return [list(each) for each in np.split(recorder.rates, ends)[:-1]]


@pytest.mark.parametrize(
    ("schedule", "counts", "rates"),
    [
        # By step, the steps that come count, and there is a rate for each of them.
        (lambda: LRExponential(0.5, by="step"), [2, 1, 4], [[0.1], [0.05, 0.025, 0.0125, 0.00625]]),
        (
            lambda: LRCyclic(0.1, 0.3, step_size_up=2),
            [2, 3, 1, 4],
            [[0.1, 0.2, 0.3], [0.2], [0.1, 0.2, 0.3, 0.2]],
        ),
        (lambda: LRPolynomial(4, by="step"), [2, 3, 3], [[0.1, 0.075, 0.05], [0.025, 0.0, 0.0]]),
        # A part of a sequence begins with its epoch.
        (
            lambda: LRSequence([(LRExponential(0.5, by="step"), 2), (LRExponential(0.1, by="step"), 1)]),
            [2, 4, 1, 3],
            [[0.1, 0.05, 0.025, 0.0125], [0.0125], [0.1, 0.01, 0.001]],
        ),
        (
            lambda: LRSequence([(LRExponential(0.5, by="step"), 1), (LRExponential(0.1), 2)]),
            [3, 1, 4, 2],
            [[0.1], [0.1] * 4, [0.01] * 2],
        ),
        # So do the epochs of a schedule that follows a warm-up; what the ramp lacks is left out.
        (
            lambda: LRWarmup(steps=4, after=LRExponential(0.5)),
            [4, 2, 3],
            [[0.025, 0.05], [0.1] * 3],
        ),
        (
            lambda: LRWarmup(steps=2, after=LRExponential(0.5)),
            [4, 5, 1, 2],
            [[0.05, 0.1, 0.1, 0.1, 0.1], [0.05], [0.025] * 2],
        ),
        (lambda: LRWarmup(steps=4), [2, 1, 1, 3], [[0.025], [0.05], [0.075, 0.1, 0.1]]),
        (
            lambda: LRWarmup(steps=3, after=DynamicLR([0.3, 0.2, 0.1])),
            [2, 1, 1, 3],
            [[1 / 30], [2 / 30], [0.1, 0.3, 0.2]],
        ),
    ],
)
def test_epochs_with_other_numbers_of_steps_than_declared(schedule, counts, rates):
    """The first number is the one that the dataset declares."""
    found = rates_of_varying(schedule(), counts)
    assert [len(each) for each in found] == counts[1:]
    for one, expected in zip(found, rates):
        np.testing.assert_allclose(one, expected, rtol=1e-6, atol=1e-9)
