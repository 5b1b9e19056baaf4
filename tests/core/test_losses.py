"""The training losses of an epoch: every kind of output, and no read before one is wanted."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
from mindspore import Tensor
from mindspore.train import Callback
from training import Script, dataset, make_model

from ms_callbacks import History
from ms_callbacks.core.losses import Losses
from ms_callbacks.core.mindspore_compat import holds_its_graph
from ms_callbacks.diagnostics._device_reads import noticed


def tensor(value):
    return Tensor(np.array(value, np.float32))


def test_mean_and_last():
    """Of the steps so far; none before the first."""
    losses = Losses()
    assert (losses.mean, losses.last, losses.nonfinite_step) == (None, None, None)
    for value in (3.0, 2.0, 1.0):
        losses.add(tensor(value))
    assert (losses.mean, losses.last) == (2.0, 1.0)


OUTPUTS = {
    "scalar": tensor(2.0),
    "vector": tensor([1.0, 3.0]),
    "tuple": (tensor(2.0), tensor([9.0, 9.0])),
    "list": [tensor(2.0), tensor(9.0)],
    "loss scaling": (tensor(2.0), Tensor(False), tensor(1024.0)),
    "with hits": (tensor(2.0), Tensor([True, True])),
    "with hits and more": (tensor(2.0), Tensor([True, True]), tensor(1.0)),
    "number": 2.0,
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_kind_of_output(mode, kind):
    """The loss is the first of a tuple, and the mean of a vector."""
    history = History()
    Script().run([history], [None], losses=[[OUTPUTS[kind]]])
    assert history.history["loss"] == [2.0]


def test_a_step_dropped_for_its_overflow_does_not_count():
    """Loss scaling skips such a step, and its loss may be anything."""
    losses = Losses()
    for loss, is_dropped, scale in ((math.inf, True, 1024.0), (2.0, False, 512.0)):
        losses.add(losses.reader.take((tensor(loss), Tensor(is_dropped), tensor(scale))))
    assert (losses.mean, losses.nonfinite_step) == (2.0, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_step_that_is_not_finite_is_remembered(value):
    """Also inside a tuple."""
    losses = Losses()
    for each in (1.0, value, 2.0, math.nan):
        losses.add(losses.reader.take((tensor(each), tensor(0.0))))
    assert losses.nonfinite_step == 2


def test_nothing_is_read_before_it_is_wanted():
    """Handing over a step does not wait for the device."""
    reads: list[int] = []
    losses = Losses()
    with noticed(lambda: reads.append(1)):
        for _ in range(1, 1000):
            losses.add(tensor(1.0))
        assert not reads
        assert losses.mean == 1.0
    assert len(reads) == 999


def test_who_asks_gets_each_loss_once_with_its_step():
    """In the order of the steps, together with others that are read then; nothing is read for it."""
    losses, got, other = Losses(), [], []
    losses.on_read("one", lambda first, values: got.append((first, values)))
    losses.on_read("other", lambda first, values: other.append((first, len(values))))
    losses.add(tensor(1.0))
    losses.add(tensor(2.0))
    assert not got
    assert losses.mean == 1.5
    losses.read()  # nothing is left to read
    losses.on_read("other", None)
    losses.add(tensor(math.nan))
    assert math.isnan(losses.state_dict()["last"])
    losses.begin_epoch()
    losses.add(tensor(4.0))
    losses.read()
    assert got[0] == (1, [1.0, 2.0])
    assert [first for first, _ in got] == [1, 3, 1]
    assert math.isnan(got[1][1][0])
    assert other == [(1, 2)]


def test_a_dropped_loss_is_passed_as_none():
    """Its place among the steps counts all the same."""
    losses, got = Losses(), []
    losses.on_read("one", lambda *arguments: got.append(arguments))
    for loss, is_dropped in ((math.inf, True), (2.0, False)):
        losses.add(losses.reader.take((tensor(loss), Tensor(is_dropped), tensor(8.0))))
    losses.read()
    assert got == [(1, [None, 2.0])]


@pytest.mark.parametrize(("has_losses", "first"), [(True, 4), (False, 4)])
def test_a_resumed_epoch_passes_its_own_losses_alone(has_losses, first):
    """From the step after those that the earlier run has done, also if that has kept no losses."""
    earlier, losses, got = Losses(), Losses(), []
    for _ in range(3 * has_losses):
        earlier.add(1.0)
    losses.load_state_dict(earlier.state_dict())
    losses.begin_epoch(done=3)
    losses.on_read("one", lambda *arguments: got.append(arguments))
    losses.add(5.0)
    assert losses.mean == (2.0 if has_losses else 5.0)
    assert got == [(first, [5.0])]


def test_who_asks_may_read_and_change_what_is_asked_for():
    """The losses are counted before they are passed on."""
    losses, got = Losses(), []

    def look(first, values):
        got.append((losses.mean, losses.last))
        losses.on_read("one", None)

    losses.on_read("one", look)
    for _ in range(2):
        losses.add(3.0)
        losses.read()
    assert got == [(3.0, 3.0)]


def test_what_waits_unread_is_bounded_in_a_long_epoch():
    """So that memory does not grow with it."""
    waiting, reads = [], []

    class Look(Callback):
        def on_train_step_begin(self, run_context):
            if not waiting:
                reads.clear()  # what was read to prepare the run

        def on_train_step_end(self, run_context):
            waiting.append(run_context.original_args()["cur_step_num"] - len(reads))

    with noticed(lambda: reads.append(1)):
        Script().run([History(), Look()], [None], steps=2500)
    assert max(waiting) == 1000
    assert waiting[-1] == 0


def test_in_pynative_mode_nothing_but_the_loss_is_held(mode):
    """Not the graph that its gradient would go back through, which grows with the network."""

    outputs, held = [], []

    class Look(Callback):
        def on_train_step_end(self, run_context):
            held.append([output() is not None for output in outputs])
            outputs.append(weakref.ref(run_context.original_args()["net_outputs"]))

    history = History()
    make_model().train(1, dataset(60), callbacks=[history, Look()])
    assert np.isfinite(history.history["loss"][0])
    # That of the second step, two steps later: the first is looked into, and MindSpore holds the latest.
    assert held[3][1] is not holds_its_graph()
