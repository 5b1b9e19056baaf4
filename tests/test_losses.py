"""The training losses of an epoch: every kind of output, and no read before one is wanted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mindspore import Tensor

from ms_callbacks.core._losses import Losses
from ms_callbacks.watch._device_reads import noticed


def tensor(value):
    return Tensor(np.array(value, np.float32))


def test_mean_and_last():
    """Of the steps so far; none before the first."""
    losses = Losses()
    assert (losses.mean, losses.last, losses.nonfinite_step) == (None, None, None)
    for step, value in enumerate([3.0, 2.0, 1.0], 1):
        losses.add(step, tensor(value))
    assert (losses.mean, losses.last) == (2.0, 1.0)
    losses.reset()
    assert losses.mean is None


@pytest.mark.parametrize(
    "output",
    [
        tensor(2.0),
        tensor([1.0, 3.0]),
        (tensor(2.0), tensor([9.0, 9.0])),
        [tensor(2.0), tensor(9.0)],
        (tensor(2.0), Tensor(False), tensor(1024.0)),
        (tensor(2.0), Tensor([True, True])),
        (tensor(2.0), Tensor([True, True]), tensor(1.0)),
        2.0,
    ],
    ids=["scalar", "vector", "tuple", "list", "loss scaling", "with hits", "with hits and more", "number"],
)
def test_every_kind_of_output(output):
    """The loss is the first of a tuple, and the mean of a vector."""
    losses = Losses()
    losses.add(1, output)
    assert losses.last == 2.0


def test_a_step_dropped_for_its_overflow_does_not_count():
    """Loss scaling skips such a step, and its loss may be anything."""
    losses = Losses()
    losses.add(1, (tensor(math.inf), Tensor(True), tensor(1024.0)))
    losses.add(2, (tensor(2.0), Tensor(False), tensor(512.0)))
    assert (losses.mean, losses.nonfinite_step) == (2.0, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_step_that_is_not_finite_is_remembered(value):
    """Also inside a tuple."""
    losses = Losses()
    for step, each in enumerate([1.0, value, 2.0, math.nan], 1):
        losses.add(step, (tensor(each), tensor(0.0)))
    assert losses.nonfinite_step == 2


def test_nothing_is_read_before_it_is_wanted():
    """Handing over a step does not wait for the device, and memory stays bounded in a long epoch."""
    reads: list[int] = []
    losses = Losses()
    with noticed(lambda: reads.append(1)):
        for step in range(1, 1000):
            losses.add(step, tensor(1.0))
        assert not reads
        assert losses.mean == 1.0
    assert len(reads) == 999
    for step in range(1000, 6000):
        losses.add(step, tensor(1.0))
        assert len(losses._unread) < 1024
