"""ThroughputMonitor: what counts as training time, what as waiting for data, and what is counted."""

from __future__ import annotations

import time

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from sinking import sinking_model
from training import (
    FailAt,
    Recorder,
    dataset,
    make_idiom,
    make_model,
    seeded,
    train_interrupted,
    valid_dataset,
)

from ms_callbacks import History, ShapeInspector, ThroughputMonitor, TrainCallback, TrainingState, Validate
from ms_callbacks.core import distributed
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.diagnostics._device_reads import noticed
from ms_callbacks.testing import ScriptedRun


class Clock(Callback):
    """Stands first in the list and lets a scripted run take time: for the fetch of a batch, and for the network.

    The first step of a run takes a thousand seconds longer, as one that compiles does, and so does the end of an epoch.
    """

    def __init__(self, monkeypatch, sizes=(10,), fetch=0.25, network=0.75):
        self.now, self.sizes, self.fetch, self.network = 0.0, sizes, fetch, network
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def on_train_step_begin(self, run_context):
        args = run_context.original_args()
        size = self.sizes[(args["cur_step_num"] - 1) % len(self.sizes)]
        args["train_dataset_element"] = (Tensor(np.zeros((size, 3), np.float32)), Tensor(np.zeros(size, np.int32)))
        self.now += self.fetch

    def on_train_step_end(self, run_context):
        self.now += self.network + 1000 * (run_context.original_args()["cur_step_num"] == 1)

    def on_train_epoch_end(self, run_context):
        self.now += 1000


def played(monkeypatch, *arguments, epochs=2, steps=4, others=(), evaluations=None, clock=None, **named):
    """The monitor after a scripted run."""
    monitor = ThroughputMonitor(*arguments, **{"verbose": 0, **named})
    clock = clock or Clock(monkeypatch)
    ScriptedRun([None] * epochs, steps_per_epoch=steps, evaluations=evaluations).play([clock, *others, monitor])
    return monitor


def column(monitor, name):
    return [record[name] for record in monitor.records_]


# Time


def test_the_time_of_an_interval_is_that_of_its_steps(monkeypatch):
    """Without the first step, which compiles, and without what happens at the end of an epoch."""
    monitor = played(monkeypatch, 4, epochs=3)
    assert column(monitor, "step") == [4, 8, 12]
    assert column(monitor, "epoch") == [1, 2, 3]
    assert column(monitor, "steps") == [3, 4, 4]
    assert column(monitor, "seconds") == pytest.approx([3.0, 4.0, 4.0])
    assert column(monitor, "step_seconds") == pytest.approx([1.0] * 3)
    assert column(monitor, "data_share") == pytest.approx([0.25] * 3)
    assert column(monitor, "samples_per_second") == pytest.approx([10.0] * 3)
    assert column(monitor, "tokens_per_second") == column(monitor, "flops_utilization") == [None] * 3


@pytest.mark.parametrize("every", [1, 3, 5, 7])
def test_an_interval_may_span_epochs(monkeypatch, every):
    """What lies between two epochs is in none; every step but the first is in one."""
    monitor = played(monkeypatch, every, epochs=8)
    steps = column(monitor, "steps")
    assert sum(steps) == 32 // every * every - 1
    assert column(monitor, "seconds") == pytest.approx([float(count) for count in steps])
    assert column(monitor, "data_share") == pytest.approx([0.25] * len(steps))


class Slow(TrainCallback):
    """Takes a thousand seconds before and after each evaluation."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def before_evaluation(self, run):
        self.clock.now += 1000

    def after_evaluation(self, run, evaluation):
        self.clock.now += 1000


@pytest.mark.parametrize("every", [1, 2, 3, 8])
def test_an_evaluation_is_no_training_and_no_wait_for_data(monkeypatch, every):
    """Neither between two steps nor at the end of an epoch; MindSpore's TimeMonitor counts it."""
    clock = Clock(monkeypatch)
    evaluations = {step: {"acc": 0.5} for step in range(1, 17)}
    monitor = played(monkeypatch, every, epochs=4, clock=clock, others=[Slow(clock)], evaluations=evaluations)
    assert clock.now > 16_000
    assert column(monitor, "seconds") == pytest.approx([float(count) for count in column(monitor, "steps")])
    assert column(monitor, "data_share") == pytest.approx([0.25] * len(monitor.records_))


class Works(TrainCallback):
    """Takes a second at both ends of a step, as a callback that computes something does."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def before_train(self, run):
        run.step_hooks.on_step_begin(self, self.work)
        run.step_hooks.on_step_end(self, self.work)
        run.step_hooks.every(1, self, self.work)

    def work(self, run):
        self.clock.now += 1


@pytest.mark.parametrize("is_first", [True, False])
def test_what_callbacks_do_in_a_step_is_no_wait_for_data(monkeypatch, is_first):
    """It is time that the steps take; wherever they stand in the list."""
    clock = Clock(monkeypatch)
    monitor, works = ThroughputMonitor(4, verbose=0), Works(clock)
    order = [works, monitor] if is_first else [monitor, works]
    ScriptedRun([None] * 2, steps_per_epoch=4).play([clock, *order])
    assert monitor.step_seconds_ == pytest.approx(4.0, abs=0.5)
    assert monitor.data_share_ * monitor.records_[-1]["seconds"] == pytest.approx(4 * 0.25)


@pytest.mark.parametrize("kind", ["train", "fit"])
def test_the_evaluation_of_a_real_run_is_left_out(monkeypatch, tmp_path, kind):
    """Of `Validate` and of `Model.fit`; nor does a state that is saved count."""
    shift, clock, model = [0.0], time.perf_counter, make_model()
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + shift[0])
    evaluate, keep = type(model)._eval_process, TrainingState._keep

    def slowly(function):
        def run(*arguments, **named):
            shift[0] += 1000.0
            return function(*arguments, **named)

        return run

    monkeypatch.setattr(type(model), "_eval_process", slowly(evaluate))
    monkeypatch.setattr(TrainingState, "_keep", slowly(keep))
    monitor, history, state = ThroughputMonitor(3, verbose=0), History(), TrainingState(tmp_path / "state")
    if kind == "fit":
        model.fit(2, dataset(), valid_dataset(), callbacks=[monitor, history, state])
    else:
        validate = Validate(model, valid_dataset(), every_n_steps=3)
        model.train(2, dataset(), callbacks=[monitor, validate, history, state])
    assert shift[0] >= 4000
    assert max(column(monitor, "seconds")) < 100
    assert max(history.history["seconds"]) < 100


# Samples, tokens, operations


def test_short_batches_count_as_what_they_are(monkeypatch):
    """The last of an epoch has fewer samples."""
    clock = Clock(monkeypatch, sizes=(10, 10, 10, 2))
    monitor = played(monkeypatch, 2, epochs=2, clock=clock, tokens=7)
    assert column(monitor, "samples_per_second") == pytest.approx([10.0, 6.0, 10.0, 6.0])
    assert column(monitor, "tokens_per_second") == pytest.approx([70.0, 42.0, 70.0, 42.0])


def test_tokens_may_be_counted_by_a_function(monkeypatch):
    """Of the columns of each batch, as where sequences have different lengths."""
    clock = Clock(monkeypatch, sizes=(10, 5))
    monitor = played(monkeypatch, 4, clock=clock, tokens=lambda columns: columns[0].size + columns[1].size)
    assert column(monitor, "tokens_per_second") == pytest.approx([(20 + 40 + 20) / 3, 30.0])


def test_samples_that_are_not_known_give_no_rate(monkeypatch):
    """Time and data share are known all the same."""
    monitor = ThroughputMonitor(2, tokens=3, peak_flops=1e9, flops_per_sample=1.0, verbose=0)
    ScriptedRun([None], steps_per_epoch=4).play([monitor])
    assert (monitor.samples_per_second_, monitor.tokens_per_second_, monitor.flops_utilization_) == (None,) * 3
    assert monitor.step_seconds_ > 0


def test_the_utilization_is_that_of_the_layer_table(mode):
    """Six operations for each multiply-add of ShapeInspector's table, by the peak."""
    model, inspector = make_model(), ShapeInspector()
    monitor = ThroughputMonitor(4, peak_flops=1e7, verbose=0)
    model.train(2, dataset(), callbacks=[monitor])
    inspector.inspect(model.predict_network, Tensor(np.zeros((3, 1, 4, 4), np.float32)))
    count = sum(row.multiply_adds for row in inspector.rows_)
    assert monitor.flops_utilization_ == pytest.approx(monitor.samples_per_second_ * 6 * count / 1e7)
    given = ThroughputMonitor(4, peak_flops=1e7, flops_per_sample=6.0 * count, verbose=0)
    model.train(2, dataset(), callbacks=[given])
    assert given.flops_utilization_ == pytest.approx(given.samples_per_second_ * 6 * count / 1e7)


@pytest.mark.parametrize("idiom", ["training cell with loss scale", "own training cell", "two optimizers"])
def test_the_network_is_found_in_whatever_the_model_was_given(idiom):
    """As ShapeInspector finds it."""
    model, _ = make_idiom(idiom)
    monitor = ThroughputMonitor(2, peak_flops=1e9, verbose=0)
    model.train(1, dataset(), callbacks=[monitor])
    assert monitor.flops_utilization_ > 0


def test_counting_operations_changes_nothing(mode):
    """Losses and weights are bit for bit those of a run without it."""
    recorders = []
    for callbacks in ([], [ThroughputMonitor(2, peak_flops=1e9, tokens=lambda columns: 1, verbose=0)]):
        recorders.append(Recorder())
        make_model().train(2, dataset(), callbacks=[*callbacks, recorders[-1]])
    assert recorders[0].losses == recorders[1].losses
    for one, other in zip(recorders[0].weights, recorders[1].weights):
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])


# Runs


def test_it_reads_once_in_an_interval(mode):
    """The last loss, so that the device is done; and after the first step, with which the clock starts."""
    reads, seen = [], {}

    class Look(Callback):
        def on_train_step_begin(self, run_context):
            seen[run_context.original_args()["cur_step_num"]] = len(reads)

    with noticed(lambda: reads.append(1)):
        make_model().train(1, dataset(120), callbacks=[ThroughputMonitor(4, verbose=0), Look()])
    assert [step for step in range(2, 10) if seen[step + 1] > seen[step]] == [4, 8]


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin within an epoch")
@pytest.mark.parametrize("at", [5, 8, 11])
def test_a_resumed_run_has_each_interval_once(tmp_path, monkeypatch, at):
    """And the time before it, and its first step, are in none."""
    shift, clock = [0.0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + shift[0])

    class Between(TrainCallback):
        def before_train(self, run):
            run.step_hooks.on_step_begin(self, self.first)

        def first(self, run):
            shift[0] += 1000.0  # of the first step of each of the two runs
            run.step_hooks.on_step_begin(self, None)

    made = lambda: [ThroughputMonitor(2, verbose=0), Between()]  # noqa: E731
    monitor, _ = train_interrupted(made, tmp_path, at)
    assert shift[0] == 2000
    steps = column(monitor, "step")
    assert steps == sorted(set(steps))
    assert set(range(2, 13, 2)) - set(steps) <= {at - at % 3 + 1, at - at % 3 + 2}
    assert max(column(monitor, "seconds")) < 100
    assert min(column(monitor, "samples_per_second")) > 0


def test_a_second_run_begins_anew(monkeypatch):
    """Also after one that an exception has ended in the middle of an interval."""
    monitor = ThroughputMonitor(4, verbose=0)
    for fail in ([], [FailAt(6)], []):
        clock = Clock(monkeypatch)
        run = ScriptedRun([None] * 2, steps_per_epoch=4)
        if fail:
            with pytest.raises(InterruptedError):
                run.play([clock, monitor, *fail])
            assert column(monitor, "seconds") == pytest.approx([3.0])
        else:
            run.play([clock, monitor])
            assert column(monitor, "seconds") == pytest.approx([3.0, 4.0])


def test_a_line_an_interval(monkeypatch, capsys):
    """With what is known."""
    played(monkeypatch, 4, epochs=1, tokens=100, peak_flops=1e6, flops_per_sample=5e4, verbose=1)
    assert capsys.readouterr().out == (
        "ThroughputMonitor: epoch 1, step 4: 10 samples/s, 1,000 tokens/s, 1000.000 ms per step, 25.0% of it waiting "
        "for data, 50.00% of peak FLOPS\n"
    )


class Own(nn.Cell):
    """A product with a matrix of its own, which no class tells."""

    def __init__(self):
        super().__init__()
        self.matrix = ms.Parameter(Tensor(np.ones((16, 3), np.float32)), name="matrix")

    def construct(self, x):
        return ops.matmul(x, self.matrix)


def test_layers_that_cannot_be_counted_are_named(capsys):
    """Once, with what to do."""
    model = make_model(network=nn.SequentialCell(nn.Flatten(), Own()))
    model.train(2, dataset(), callbacks=[ThroughputMonitor(4, peak_flops=1e9)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "counted" in line]
    assert lines == ["ThroughputMonitor: operations of Own are not counted; pass flops_per_sample=... to include them"]


def test_a_network_that_cannot_be_found_needs_its_operations_given():
    """Before the first step; given, it trains."""
    network = seeded()

    class Two(nn.Cell):
        def __init__(self):
            super().__init__()
            self.one, self.other = network, nn.Dense(16, 3)
            self.optimizer = nn.SGD([*network.trainable_params(), *self.other.trainable_params()], 0.1)

        def construct(self, x, label):
            return ops.reduce_mean(self.one(x)) + ops.reduce_mean(self.other(x.reshape(-1, 16)))

    with pytest.raises(ValueError, match=r"ThroughputMonitor: the operations .* pass flops_per_sample=\.\.\."):
        ms.Model(Two()).train(1, dataset(), callbacks=[ThroughputMonitor(2, peak_flops=1e9)])
    monitor = ThroughputMonitor(2, peak_flops=1e9, flops_per_sample=1e3, verbose=0)
    ms.Model(Two()).train(1, dataset(), callbacks=[monitor])
    assert monitor.flops_utilization_ > 0


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_several_processes_add_up_their_samples(monkeypatch, share):
    """Seconds and data share are means; the peak is that of all devices."""

    def total(values):
        return [float(value) * (1 + share) for value in values]

    for name, value in (
        ("count", lambda: 2),
        ("is_first", lambda: True),
        ("has_loss", lambda: True),
        ("total", total),
        ("gathered", lambda array: np.stack([array, array])),
    ):
        monkeypatch.setattr(distributed, name, value)
    monkeypatch.setattr("ms_callbacks.core.lifecycle.check_agreement", lambda *arguments: None)
    monitor = played(monkeypatch, 4, epochs=1, peak_flops=1e3, flops_per_sample=10.0, tokens=2)
    (record,) = monitor.records_
    assert record["seconds"] == pytest.approx(3 * (1 + share) / 2)
    assert record["samples_per_second"] == pytest.approx(20.0)
    assert record["tokens_per_second"] == pytest.approx(40.0)
    assert record["flops_utilization"] == pytest.approx(20 * 10 / 2e3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be at least 1"),
        ({"tokens": 0}, "tokens must be at least 1"),
        ({"tokens": 1.5}, "tokens must be a whole number"),
        ({"peak_flops": 0}, "peak_flops must be finite and above 0"),
        ({"peak_flops": 1.0, "flops_per_sample": -1}, "flops_per_sample must be finite and above 0"),
        ({"flops_per_sample": 1.0}, "flops_per_sample has an effect only with peak_flops"),
        ({"verbose": 2}, "verbose must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    """Where it is made."""
    with pytest.raises((TypeError, ValueError), match=f"ThroughputMonitor: {message}"):
        ThroughputMonitor(**arguments)


def test_sink_mode_is_refused_by_name(graph):
    """Where single steps cannot be seen."""
    with pytest.raises(ValueError, match=r"ThroughputMonitor: in sink mode .*dataset_sink_mode=False"):
        sinking_model().train(1, dataset(), callbacks=[ThroughputMonitor()], dataset_sink_mode=True, sink_size=2)


def test_each_epoch_has_the_means_of_its_intervals():
    """For `History` and other logs, which know the names before the first step; `None` if no interval ends in it."""
    monitor, history = ThroughputMonitor(2, tokens=7, peak_flops=1e12, verbose=0), History()
    make_model().train(2, dataset(), callbacks=[history, monitor])
    names = ["step_seconds", "data_share", "tokens_per_second", "flops_utilization"]
    for name in names:
        first, second = history.history[name]
        assert first == pytest.approx(np.mean([record[name] for record in monitor.records_ if record["epoch"] == 1]))
        assert second == pytest.approx(np.mean([record[name] for record in monitor.records_ if record["epoch"] == 2]))
    assert monitor.summary_names(None) == tuple(names)
    rare, history = ThroughputMonitor(5, verbose=0), History()
    make_model().train(2, dataset(), callbacks=[history, rare])
    assert [value is None for value in history.history["data_share"]] == [True, False]
