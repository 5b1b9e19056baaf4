"""Which steps update the weights, with and without loss scaling and accumulation."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor

from ms_callbacks.core.progress import Progress
from ms_callbacks.core.step_outputs import OutputReader
from ms_callbacks.core.updates import Updates

LOSS = Tensor(0.5)


def scaled(dropped):
    """What a training cell with loss scaling returns."""
    return LOSS, Tensor(np.array(dropped)), Tensor(1024.0)


class Accumulates:
    """An optimizer for which `waiting` steps have been added up."""

    def __init__(self, n, waiting=0):
        self.steps_per_update, self.waiting, self.flushed, self.opt = n, waiting, 0, None

    def accumulated(self):
        return self.waiting

    def flush(self):
        self.flushed, self.waiting = self.flushed + 1, 0


class Dataset:
    def __init__(self, size):
        self.size = size

    def get_dataset_size(self):
        return self.size


def updates(*optimizers, steps=10, sinks=False, initial_epoch=0):
    args = {"cur_step_num": 0, "train_dataset": Dataset(steps), "batch_num": steps, "dataset_sink_mode": sinks}
    progress = Progress({**args, "cur_epoch_num": 1, "epoch_num": 1})
    progress.initial_epoch = initial_epoch
    return Updates(args, optimizers, progress, OutputReader())


def test_every_step_is_an_update_without_scaling_and_accumulation():
    """Nothing has to be read to know it."""
    one = updates(object())
    assert [one.observe(LOSS) for _ in range(3)] == [True] * 3
    assert (one.steps_per_update, one.per_epoch, one.finish_group()) == (1, 10, False)


def test_a_step_that_loss_scaling_drops_is_none():
    """It has left the weights as they were."""
    one = updates(object())
    assert [one.observe(scaled(dropped)) for dropped in (True, False, True, False)] == [False, True, False, True]


@pytest.mark.parametrize(("n", "steps", "per_epoch"), [(2, 10, 5), (3, 10, 4), (10, 10, 1), (7, 8, 2)])
def test_the_last_incomplete_group_of_an_epoch_is_an_update(n, steps, per_epoch):
    """As many as this are in an epoch, and before one that continues."""
    one = updates(Accumulates(n), steps=steps, initial_epoch=3)
    assert (one.per_epoch, one.before) == (per_epoch, 3 * per_epoch)


def test_accumulation_updates_after_n_steps_and_at_the_end_of_an_epoch():
    """What a run that is resumed within a group had added up counts."""
    optimizer = Accumulates(3, waiting=1)
    one = updates(optimizer)
    assert [one.observe(LOSS) for _ in range(5)] == [False, False, True, False, False]
    optimizer.waiting = 2
    assert one.finish_group()
    assert optimizer.flushed == 1
    assert not one.finish_group()
    assert [one.observe(LOSS) for _ in range(3)] == [False, False, True]


def test_a_dropped_step_is_not_added_up():
    """The group goes on until it has n steps."""
    one = updates(Accumulates(2, waiting=1))
    assert [one.observe(scaled(dropped)) for dropped in (False, True, False)] == [False, False, True]


@pytest.mark.parametrize(
    ("optimizers", "settings", "message"),
    [
        ((Accumulates(11),), {}, "n=11 steps make one update, but an epoch has only 10"),
        ((Accumulates(2), object()), {}, "must accumulate the same number"),
        ((Accumulates(2), Accumulates(3)), {}, "must accumulate the same number"),
        ((Accumulates(2),), {"sinks": True}, "sink mode"),
    ],
)
def test_what_cannot_work_is_refused(optimizers, settings, message):
    """Before the first step."""
    with pytest.raises(ValueError, match=f"accumulate_gradients: .*{message}"):
        updates(*optimizers, **settings).check()
