"""LossSpike: what is a spike, what is not, and what becomes of the baseline."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from mindspore import Tensor
from mindspore.train import Callback
from sinking import sinking_model
from training import Script, dataset, make_model, train_interrupted

from ms_callbacks import LossMonitor, LossSpike
from ms_callbacks.core import distributed
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.diagnostics._device_reads import noticed
from ms_callbacks.monitoring._baseline import Baseline

NOISE = np.random.RandomState(0).randn(400)


def played(losses, *, per_epoch=None, **arguments):
    """The callback after a scripted run of these losses, and the number of epochs until it was stopped."""
    per_epoch = per_epoch or len(losses)
    spike = LossSpike(**{"window": 10, "verbose": 0, **arguments})
    script = Script()
    epochs = [losses[at : at + per_epoch] for at in range(0, len(losses), per_epoch)]
    script.run([spike], [None] * len(epochs), losses=epochs, steps=per_epoch)
    return spike, script.stopped_epoch


class StepsSeen(Callback, list):
    """The steps that were run."""

    def on_train_step_end(self, run_context):
        self.append(run_context.original_args()["cur_step_num"])


def steps_of(spike):
    return [each["step"] for each in spike.spikes_]


# The baseline


@pytest.mark.parametrize("window", [2, 3, 10, 51])
@pytest.mark.parametrize("spread", ["normal", "skewed", "few values", "constant", "negative"])
def test_the_fast_decision_is_that_of_the_formula(window, spread):
    """For every loss of a sequence, with the excess that the formula gives."""
    values = {
        "normal": 2 + NOISE,
        "skewed": np.exp(2 * NOISE),
        "few values": np.round(NOISE),
        "constant": np.where(NOISE > 1.5, 1.1, 1.0),
        "negative": -5 + NOISE,
    }[spread]
    baseline, accepted, spikes = Baseline(window), [], 0
    for value in values.tolist():
        expected = None
        if len(accepted) >= window:
            latest = accepted[-window:]
            median = statistics.median(latest)
            mad = statistics.median(abs(each - median) for each in latest)
            deviation = max(1.4826 * mad, 0.01 * abs(median))
            if value - median > 2 * deviation:
                expected = (value - median) / deviation if deviation else math.inf
        found = baseline.excess(value, 2.0)
        assert found == (None if expected is None else pytest.approx(expected))
        if expected is None:
            accepted.append(value)
            baseline.accept(value)
        spikes += expected is not None
        assert baseline.losses == accepted[-window:]
    assert spikes > 0


# Spikes


def test_a_spike_is_named_by_epoch_step_and_batch(capsys):
    """In a line and in `spikes_`."""
    losses = [1.0, 1.2] * 10
    losses[16] = 9.0
    spike, stopped = played(losses, per_epoch=5, verbose=1)
    (found,) = spike.spikes_
    assert (found["epoch"], found["step"], found["batch"], found["loss"]) == (4, 17, 2, 9.0)
    assert found["median"] == pytest.approx(1.1)
    assert found["excess"] == pytest.approx(7.9 / (1.4826 * 0.1))
    assert stopped == 0
    assert capsys.readouterr().out == (
        "LossSpike: loss 9 in epoch 4, step 17 (batch 2 of the epoch): 53.3 deviations above the median 1.1\n"
    )


def test_a_spike_does_not_enter_the_baseline():
    """As it does in a moving mean, where a first spike hides a second."""
    losses = [1.0, 1.2] * 6 + [500.0, 1.0, 1.2, 8.0]
    mean, deviation = np.mean(losses[5:15]), np.std(losses[5:15])
    assert losses[15] < mean + 3 * deviation
    assert steps_of(played(losses)[0]) == [13, 16]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_a_spike_at_once(value):
    """Also before there is a baseline, which it leaves as it is."""
    spike, _ = played([value, 1.0, 1.2, value, 1.0, 1.2] + [1.0] * 20, threshold=1000.0)
    assert steps_of(spike) == [1, 4]
    first, second = spike.spikes_
    assert (first["median"], first["excess"], second["median"]) == (None, None, 1.1)
    assert all(math.isfinite(each) for each in spike.state_dict()["baseline"])


@pytest.mark.parametrize(
    "losses",
    [
        [2.0 - 0.01 * step for step in range(100)],  # falls
        [2.0 + 0.001 * step for step in range(100)],  # rises slowly
        (5 + NOISE).tolist(),
        [1.0] * 50,
        [0.0] * 50,
        [1.0, 100.0] * 4,  # no baseline yet
        [1.0] * 30 + [1.0 + 1e-6] * 30,  # equal but for rounding: their MAD is 0
        [5.0] * 20 + [0.1] * 20,  # falls at once, as after a decay of the rate
    ],
)
def test_ordinary_losses_are_no_spikes(losses):
    """Nothing is reported."""
    assert played(losses)[0].spikes_ == []


def test_a_new_level_is_accepted():
    """After so many spikes in a row, in a line; then a spike above it is one, and the old level is none."""
    low, high = [1.0, 1.2] * 10, [5.0, 5.2] * 10
    spike, _ = played([*low, *high, 50.0, *low], accept_after=4)
    assert steps_of(spike) == [21, 22, 23, 24, 41]


def test_a_row_ends_with_an_ordinary_loss():
    """Spikes now and then are never a level; a dropped step does not end a row."""
    calm = [1.0, 1.2] * 10
    spike, _ = played([*calm, *([9.0, 1.0] * 10)], accept_after=3)
    assert len(spike.spikes_) == 10
    outputs = [(Tensor(np.float32(loss)), Tensor(False)) for loss in [*calm, 9.0, 9.0, 9.0, 9.0]]
    outputs.insert(21, (Tensor(np.float32(1.0)), Tensor(True)))
    spike, _ = played(outputs, accept_after=3)
    assert steps_of(spike) == [21, 23, 24]


def test_a_run_that_is_nan_from_a_step_on_is_not_reported_for_ever():
    """So many in a row as make a level; and anew after a finite loss."""
    nan = [math.nan] * 30
    spike, _ = played([*([1.0, 1.2] * 10), *nan, 1.0, *nan], accept_after=4)
    assert steps_of(spike) == [21, 22, 23, 24, 52, 53, 54, 55]
    assert len(spike.state_dict()["baseline"]) == 10


def test_the_run_stops_where_it_is_asked_to():
    """At the end of the epoch by itself; sooner with an interval. The default goes on."""
    losses = [1.0, 1.2] * 20
    losses[12] = 9.0
    assert played(losses, per_epoch=10)[1] == 0
    spike, stopped = played(losses, per_epoch=10, action="stop")
    assert (stopped, steps_of(spike)) == (2, [13])
    stop, steps = LossSpike(window=10, action="stop", every_n_steps=7, verbose=0), StepsSeen()
    Script().run([stop, steps], [None] * 2, losses=[losses[:20], losses[20:]], steps=20)
    assert (steps[-1], steps_of(stop)) == (14, [13])


@pytest.mark.parametrize("every", [None, 4])
def test_nothing_waits_in_a_step(every):
    """Losses are read at the end of the epoch, and by the interval that was asked for; a first step is looked into."""
    reads, seen = [], {}

    class Look(Callback):
        def on_train_step_begin(self, run_context):
            seen[run_context.original_args()["cur_step_num"]] = len(reads)

    losses = [Tensor(np.float32(1.0)) for _ in range(10)]
    with noticed(lambda: reads.append(1)):
        Script().run([LossSpike(every_n_steps=every), Look()], [None], steps=10, losses=[losses])
    new = {step: seen[step + 1] - seen[step] for step in range(2, 10) if seen[step + 1] > seen[step]}
    assert new == ({} if every is None else {4: 4, 8: 4})
    assert len(reads) - seen[10] >= 2


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin within an epoch")
@pytest.mark.parametrize("at", [5, 8, 10])
def test_a_resume_within_an_epoch_knows_what_the_run_knew(tmp_path, at):
    """Baseline, row and spikes are those of a run that was never interrupted, and so is what follows."""
    made = lambda: [LossSpike(window=3, threshold=0.5, accept_after=2, verbose=0)]  # noqa: E731
    whole = made()
    make_model().train(3, dataset(), callbacks=whole)
    (resumed,) = train_interrupted(made, tmp_path, at)
    assert whole[0].spikes_
    assert resumed.state_dict() == whole[0].state_dict()


def test_it_begins_anew_in_a_second_run():
    """With the same object."""
    losses = [*([1.0, 1.2] * 6), 9.0]
    spike = LossSpike(window=10, verbose=0)
    for _ in range(2):
        Script().run([spike], [None], losses=[losses], steps=len(losses))
        assert steps_of(spike) == [13]


def test_several_processes_compare_the_mean_loss_at_the_same_steps(monkeypatch):
    """Whenever each of them reads its own; a spike of another process counts too."""
    others = np.ones(30, np.float32)
    others[20] = 99.0
    shapes = []

    def sums(array):
        shapes.append(array.shape)
        done = sum(shape[0] for shape in shapes[:-1])
        return array + np.stack([others[done : done + len(array)], np.ones(len(array))], 1).astype(np.float32)

    monkeypatch.setattr(distributed, "count", lambda: 2)
    monkeypatch.setattr(distributed, "is_first", lambda: True)
    monkeypatch.setattr(distributed, "has_loss", lambda: True)
    monkeypatch.setattr(distributed, "sums", sums)
    monkeypatch.setattr(distributed, "gathered", lambda array: np.stack([array, array]))
    monkeypatch.setattr(distributed, "total", lambda values: [float(value) for value in values])
    monkeypatch.setattr("ms_callbacks.core.lifecycle.check_agreement", lambda *arguments: None)
    for reader in ([], [LossMonitor()]):
        shapes.clear()
        spike, script = LossSpike(window=10, every_n_steps=12, action="stop", verbose=0), Script()
        script.run([*reader, spike], [None], losses=[[1.0] * 30], steps=30)
        assert shapes == [(12, 2), (12, 2)]
        assert steps_of(spike) == [21]
        assert spike.spikes_[0]["loss"] == 50.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 1}, "window must be at least 2, but got 1"),
        ({"window": 2.5}, "window must be a whole number"),
        ({"threshold": 0}, "threshold must be finite and above 0, but got 0"),
        ({"threshold": "high"}, "threshold must be a number"),
        ({"accept_after": 0}, "accept_after must be at least 1"),
        ({"every_n_steps": 0}, "every_n_steps must be at least 1"),
        ({"action": "raise"}, "action must be"),
        ({"verbose": 2}, "verbose must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    """Where it is made."""
    with pytest.raises((TypeError, ValueError), match=f"LossSpike: {message}"):
        LossSpike(**arguments)


def test_sink_mode_is_refused_by_name(graph):
    """Where the device returns one loss a sink."""
    with pytest.raises(ValueError, match=r"LossSpike: in sink mode .*dataset_sink_mode=False"):
        sinking_model().train(1, dataset(), callbacks=[LossSpike()], dataset_sink_mode=True, sink_size=2)
