"""CallbackProfiler: whose time it was, and who made the device wait."""

from __future__ import annotations

import io
import threading

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, train
from mindspore.train import Callback
from training import Recorder, Script, assert_same_weights, dataset, make_model, valid_dataset, weights

from ms_callbacks import (
    BestCheckpoint,
    CallbackProfiler,
    EarlyStopping,
    History,
    LossMonitor,
    LRStepDecay,
    ReduceLROnPlateau,
    ShapeInspector,
    Validate,
)
from ms_callbacks.diagnostics import callback_profiler
from ms_callbacks.diagnostics._device_reads import noticed


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(callback_profiler, "time", clock)
    return clock


def seconds(profiler):
    return {(row.callback, row.hook): (row.calls, round(row.seconds, 6)) for row in profiler.rows_}


def test_each_hook_has_its_own_time(clock):
    """By callback and hook, two of a kind apart; what lies between the hooks is the run's."""

    class Slow(Callback):
        def __init__(self, step):
            self.step = step

        def on_train_step_begin(self, run_context):
            clock.now += self.step

        def on_train_epoch_end(self, run_context):
            clock.now += 1.0

    class Old(Callback):
        def step_end(self, run_context):
            clock.now += 0.5

    profiler = CallbackProfiler(verbose=0)
    Script().run([profiler, Slow(0.1), Slow(0.2), Old()], [None, None], steps=3)
    assert seconds(profiler) == {
        ("Slow", "on_train_step_begin"): (6, 0.6),
        ("Slow", "on_train_epoch_end"): (2, 2.0),
        ("Slow 2", "on_train_step_begin"): (6, 1.2),
        ("Slow 2", "on_train_epoch_end"): (2, 2.0),
        ("Old", "on_train_step_end"): (6, 3.0),
    }
    assert (profiler.steps_, round(profiler.seconds_, 6)) == (6, 8.8)
    table = str(profiler).splitlines()
    assert table[0].split() == "Callback step_begin step_end epoch_end Total ms Share Device reads".split()
    assert table[2].split() == ["Slow", "100.000", "-", "1000.000", "2,600.0", "29.55%", "0"]
    assert table[-1] == "6 steps, 1466.667 ms each including the time between them; callbacks took 1466.667 ms of it"


def test_the_table_can_be_shown_during_the_run(clock):
    """Of the time so far, for a tracker."""
    shown = []

    class Look(Callback):
        def on_train_epoch_end(self, run_context):
            clock.now += 0.5
            shown.extend(str(artifact) for artifact in profiler.artifacts())

    profiler = CallbackProfiler(verbose=0)
    Script().run([profiler, Look()], [None, None])
    assert "Look" in shown[-1]
    assert "2 steps, 500.000 ms each" in shown[-1]


def test_mindspores_go_by_their_package():
    """So that two of one name can be told apart, and two of the same class too; ours and a user's have no package."""

    class TimeMonitor(Callback):
        def on_train_epoch_end(self, run_context):
            pass

    profiler = CallbackProfiler(verbose=0)
    others = [
        train.LossMonitor(),
        LossMonitor(),
        train.TimeMonitor(),
        TimeMonitor(),
        LossMonitor(),
        train.TimeMonitor(),
    ]
    make_model().train(1, dataset(), callbacks=[profiler, *others])
    found = [name for name in dict.fromkeys(row.callback for row in profiler.rows_) if "Monitor" in name]
    assert sorted(found) == [
        "LossMonitor",
        "LossMonitor 2",
        "TimeMonitor",
        "mindspore LossMonitor",
        "mindspore TimeMonitor",
        "mindspore TimeMonitor 2",
    ]


def test_two_for_one_task_are_told_apart():
    """In the error that refuses them."""
    both = [ReduceLROnPlateau("loss"), train.ReduceLROnPlateau("loss")]
    with pytest.raises(
        ValueError, match="ReduceLROnPlateau and mindspore ReduceLROnPlateau both set the learning rate"
    ):
        make_model().train(1, dataset(), callbacks=both)


def test_an_evaluation_is_its_owners_whoever_asks_for_it(clock, monkeypatch):
    """The hook that happened to be the first to ask has its own time alone."""
    model = make_model()
    evaluate = Validate.run_evaluation

    def slow(self, run):
        clock.now += 5.0
        evaluate(self, run)

    monkeypatch.setattr(Validate, "run_evaluation", slow)
    profiler = CallbackProfiler(verbose=0)
    model.train(2, dataset(), callbacks=[profiler, EarlyStopping("acc"), Validate(model, valid_dataset())])
    measured = seconds(profiler)
    assert measured["EarlyStopping", "on_train_epoch_end"] == (2, 0.0)
    assert measured["Validate", "evaluate"][1] == 10.0


@pytest.mark.parametrize("how", ["train", "fit"])
def test_it_counts_who_reads_from_the_device(mode, how):
    """In both modes: MindSpore's LossMonitor at every step, ours when it prints; and it changes no result."""
    outcomes = []
    for profiler in ([], [CallbackProfiler(verbose=0)]):
        model = make_model()
        callbacks = [*profiler, LossMonitor(per_print_times=4), train.LossMonitor(4), Recorder()]
        if how == "fit":
            model.fit(2, dataset(), valid_dataset(), callbacks=callbacks)
        else:
            model.train(2, dataset(), callbacks=callbacks)
        outcomes.append((callbacks[-1].losses, weights(model.predict_network)))
    assert outcomes[0][0] == outcomes[1][0]
    assert_same_weights(outcomes[0][1], outcomes[1][1])
    reads = {(row.callback, row.hook): row.device_reads for row in profiler[0].rows_}
    assert reads["LossMonitor", "on_train_step_end"] == 8  # the losses, at the end of each epoch
    assert reads["LossMonitor", "report"] == 2  # the rate in each line, which MindSpore 2.0 reads as an array
    assert reads["mindspore LossMonitor", "on_train_step_end"] >= 8
    assert reads["Recorder", "on_train_step_end"] == 8 * 2


def test_a_line_is_its_owners_whoever_hands_the_losses_over():
    """History stands first and hands each step's loss over; the two lines of each epoch are LossMonitor's."""
    profiler = CallbackProfiler(verbose=0)
    make_model().train(2, dataset(), callbacks=[profiler, History(), LossMonitor(per_print_times=2)])
    calls = {(row.callback, row.hook): row.calls for row in profiler.rows_}
    assert calls["LossMonitor", "report"] == 4
    assert calls["History", "on_train_step_end"] == 8
    assert ("LossMonitor", "on_train_step_end") not in calls


@pytest.mark.parametrize("profiler_first", [True, False])
def test_hooks_that_come_and_go_are_measured_while_they_are_there(profiler_first):
    """ShapeInspector looks before the first step alone, wherever the profiler stands."""
    profiler, inspector = CallbackProfiler(verbose=0), ShapeInspector(file=io.StringIO())
    callbacks = [profiler, inspector] if profiler_first else [inspector, profiler]
    for _ in range(2):
        make_model().train(1, dataset(), callbacks=callbacks)
        assert {row.hook: row.calls for row in profiler.rows_}["on_train_step_begin"] == 1
        assert "on_train_step_begin" not in vars(inspector)


def test_the_five_together_read_nothing_that_is_not_printed_or_decided_upon(mode, tmp_path):
    """No step but those with a line and the epoch's last makes Python wait for the device."""
    model, step, reads = make_model(), [0], []

    class Step(Callback):
        def on_train_step_begin(self, run_context):
            step[0] = run_context.original_args()["cur_step_num"]

    callbacks = [
        Step(),
        ShapeInspector(inputs=Tensor(np.zeros((1, 1, 4, 4), np.float32))),
        LRStepDecay(1),
        LossMonitor(per_print_times=5),
        EarlyStopping("loss", restore_best_weights=True),
        BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss"),
    ]
    with noticed(lambda: reads.append(step[0])):
        model.train(1, dataset(144), callbacks=callbacks)
    assert set(reads) <= {0, 1, 5, 10, 12}  # MindSpore 2.0 reads by itself when it compiles
    assert reads.count(5) == 5 + 1  # the losses since the last line, and the rate
    assert reads.count(10) == 5 + 1


def test_a_read_within_another_and_one_of_another_thread_do_not_count_twice():
    """A read is what a callback asked for, once; what else goes on meanwhile is not its own."""

    class Reader(Callback):
        def on_train_step_end(self, run_context):
            tensor = Tensor(np.ones(3, np.float32))
            tensor.asnumpy()
            float(Tensor(1.0))
            np.asarray(tensor.asnumpy())
            thread = threading.Thread(target=tensor.asnumpy)
            thread.start()
            thread.join()

    profiler = CallbackProfiler(verbose=0)
    Script().run([profiler, Reader()], [None])
    assert [row.device_reads for row in profiler.rows_] == [3]


def test_everything_is_as_it_was_afterwards(capsys):
    """Hooks, also those of a LambdaCallback, and tensors; after an exception too, with the table printed."""
    before = {name: vars(Tensor)[name] for name in ("asnumpy", "item", "__float__")}

    def fail(run_context):
        raise RuntimeError("mine")

    callback = train.LambdaCallback(on_train_step_end=fail)
    recorder, profiler = Recorder(), CallbackProfiler()
    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(1, dataset(), callbacks=[profiler, recorder, callback])
    assert {name: vars(Tensor)[name] for name in before} == before
    assert callback.on_train_step_end is fail
    assert not [name for name in vars(recorder) if name.startswith("on_")]
    assert "LambdaCallback" in capsys.readouterr().out
    assert seconds(profiler)["mindspore LambdaCallback", "on_train_step_end"][0] == 1


def test_two_in_one_list_are_refused():
    """Each would measure the other's clocks."""
    with pytest.raises(ValueError, match="CallbackProfiler and CallbackProfiler both measure the callbacks"):
        make_model().train(1, dataset(), callbacks=[CallbackProfiler(), CallbackProfiler()])


def test_before_a_run_there_is_nothing_to_tell():
    """And it says so."""
    assert str(CallbackProfiler()) == "CallbackProfiler: no callback has been measured yet"
    assert ms.Tensor.asnumpy.__name__ == "asnumpy"
