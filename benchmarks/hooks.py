"""What callbacks cost per training step: five of ours compared with the five of MindSpore that do the same.

The time is measured between two marks in the list of callbacks while `Model.train` runs: everything between them at the
beginning and at the end of a step, including printing and the reads for it, without evaluation and saving. The dispatch
rows cover everything that MindSpore does there: its own callbacks, and the loop that calls the hooks.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import time
from typing import Any, Callable, Optional
from unittest import mock

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, train
from mindspore.train import Callback
from mindspore.train.callback import _CallbackManager
from mindspore.train.model import _StepSync

from benchmarks._lenet import Batches, lenet, model_of
from benchmarks._measure import Row, in_turns, ratios, run
from ms_callbacks import (
    BestCheckpoint,
    CallbackProfiler,
    EarlyStopping,
    LossMonitor,
    LRStepDecay,
    ShapeInspector,
    Validate,
)
from ms_callbacks.cpu import fast_cpu

STEPS = 300
MANY_STEPS = 100_000
WINDOW = MANY_STEPS // 10
MODES = {"GRAPH": ms.GRAPH_MODE, "PYNATIVE": ms.PYNATIVE_MODE}


def ours(folder: str, shape: tuple[int, ...]) -> list[Callback]:
    """Return the five, with the layer table printed before the first step."""
    return [
        ShapeInspector(inputs=Tensor(np.zeros(shape, np.float32))),
        LRStepDecay(5, gamma=0.5),
        LossMonitor(per_print_times=100),
        EarlyStopping("acc", restore_best_weights=True),
        BestCheckpoint(os.path.join(folder, "best.ckpt"), monitor="acc", overwrite=True),
    ]


def built_in(folder: str) -> list[Callback]:
    """Return MindSpore's closest equivalents; none shows layers, so the fifth is its timer."""
    return [
        train.TimeMonitor(),
        train.LearningRateScheduler(lambda rate, step: rate),
        train.LossMonitor(100),
        train.EarlyStopping("acc", mode="max"),
        train.ModelCheckpoint("built_in", folder, train.CheckpointConfig(save_checkpoint_steps=10**9)),
    ]


class Mark(Callback):
    """Measure the time between the preceding mark in the list and this one."""

    def __init__(self, previous: Optional[Mark] = None) -> None:
        self.previous = previous or self
        self.passed = self.seconds = 0.0

    def on_train_step_begin(self, run_context: Any) -> None:
        """Add the hooks at the beginning of a step."""
        self.seconds += time.perf_counter() - self.previous.passed
        self.passed = time.perf_counter()

    def on_train_step_end(self, run_context: Any) -> None:
        """Add those at its end."""
        self.seconds += time.perf_counter() - self.previous.passed
        self.passed = time.perf_counter()


def microseconds(model: ms.Model, dataset: Any, valid: Any, parts: list[list[Callback]]) -> list[float]:
    """Return the time per step of each part of a list of callbacks in one epoch, in microseconds.

    The time between two adjacent marks is the marks' own, and is subtracted.
    """
    marks = [Mark()]
    callbacks: list[Callback] = [*marks]
    for part in [[], *parts]:
        marks.append(Mark(marks[-1]))
        callbacks += [*part, marks[-1]]
    # The first callback of this package does in a step what is to be done for all: it has to stand between marks.
    callbacks.append(Validate(model, valid))
    model.train(1, dataset, callbacks=callbacks)
    own, *seconds = [mark.seconds for mark in marks[1:]]
    return [(one - own) / STEPS * 1e6 for one in seconds]


class Dispatch:
    """Measure everything that MindSpore does at the beginning and at the end of a step, and the wait in it.

    In PYNATIVE mode, the first callback in the list is one of `Model`'s own that waits at the end of each step until
    MindSpore's threads have finished it (2.0 to 2.10). It spins, and if it keeps the thread that it waits for off a
    core, it spins until the system preempts it: the wait is microseconds in one step and milliseconds in another. It
    belongs to the step, and is reported separately from the cost of the hooks.
    """

    def __init__(self) -> None:
        self.whole = self.waited = 0.0

    @property
    def seconds(self) -> float:
        """Return the time without the wait."""
        return self.whole - self.waited

    def add_epoch(self, model: ms.Model, dataset: Any, callbacks: list[Callback]) -> None:
        """Add the steps of an epoch."""
        names = ("on_train_step_begin", "on_train_step_end")
        hooks = {name: self._clocked("whole", getattr(_CallbackManager, name)) for name in names}
        wait = staticmethod(self._clocked("waited", _StepSync.step_end))
        with mock.patch.multiple(_CallbackManager, **hooks), mock.patch.object(_StepSync, "step_end", wait):
            model.train(1, dataset, callbacks=callbacks)

    def _clocked(self, what: str, call: Callable[..., None]) -> Callable[..., None]:
        def wrap_handler(*args: Any) -> None:
            began = time.perf_counter()
            call(*args)
            setattr(self, what, getattr(self, what) + time.perf_counter() - began)

        return wrap_handler


def by_mode(mode: str, rounds: int, folder: str) -> list[Row]:
    """Measure the five together and each alone, in one mode."""
    ms.set_context(mode=MODES[mode])
    fast_cpu()
    model, batches = model_of(lenet()), Batches(STEPS)
    dataset, valid = batches.dataset(), Batches(1).dataset()
    alone: dict[str, list[float]] = {}
    waits: list[float] = []

    def together(callbacks: list[Callback]) -> float:
        return microseconds(model, dataset, valid, [callbacks])[0]

    def apart(callbacks: list[Callback]) -> None:
        times = microseconds(model, dataset, valid, [[callback] for callback in callbacks])
        for callback, one in zip(callbacks, times):
            alone.setdefault(type(callback).__name__, []).append(one)

    def dispatch(callbacks: list[Callback]) -> float:
        taken = Dispatch()
        taken.add_epoch(model, dataset, callbacks)
        waits.append(taken.waited / STEPS * 1e6)
        return taken.seconds / STEPS * 1e6

    shape = batches.images.shape
    sides = {
        "ours": lambda: together(ours(folder, shape)),
        "built-in": lambda: together(built_in(folder)),
        "apart": lambda: apart(ours(folder, shape)),
        "dispatch of none": lambda: dispatch([]),
        "dispatch of ours": lambda: dispatch([Validate(model, valid), *ours(folder, shape)]),
        "dispatch of built-in": lambda: dispatch([Validate(model, valid), *built_in(folder)]),
    }
    times = in_turns(rounds, sides)
    rows = [
        Row(f"hooks, {mode}: five callbacks, time per step", times["ours"], "µs", at_most=12),
        Row(f"hooks, {mode}: MindSpore's five / ours", ratios(times["built-in"], times["ours"]), at_least=25),
        Row(f"dispatch, {mode}: no callbacks, time per step", times["dispatch of none"], "µs"),
        Row(f"dispatch, {mode}: our five and Validate", times["dispatch of ours"], "µs"),
        Row(f"dispatch, {mode}: MindSpore's five and Validate", times["dispatch of built-in"], "µs"),
    ]
    if mode == "PYNATIVE":
        rows.append(Row(f"dispatch, {mode}: of which waiting for MindSpore's threads (not counted)", waits[3:], "µs"))
    return rows + [Row(f"hooks, {mode}: {name}", one[1:], "µs", at_most=4) for name, one in alone.items()]


class Idle(Callback):
    """Do nothing at the end of a step."""

    def on_train_step_end(self, run_context: Any) -> None:
        """Do nothing."""


def with_size(rounds: int, folder: str) -> list[Row]:
    """Compare a network with one of ten times as many layers, and both with callbacks that do nothing.

    The cost of calling those grows too, because a longer step leaves the processor's caches colder.
    """
    ms.set_context(mode=ms.GRAPH_MODE)
    shape = (32, 16)
    models = {layers: model_of(nn.SequentialCell(*[nn.Dense(16, 16) for _ in range(layers)])) for layers in (20, 200)}

    # MindSpore does not let two Models train on one dataset.
    data = {layers: (Batches(STEPS, shape).dataset(), Batches(1, shape).dataset()) for layers in models}

    def of(layers: int, side: str) -> float:
        callbacks = ours(folder, shape) if side == "ours" else [Idle() for _ in range(5)]
        return microseconds(models[layers], *data[layers], [callbacks])[0]

    sides = [(layers, side) for layers in models for side in ("ours", "idle")]
    times = in_turns(rounds, {f"{side} {layers}": lambda each=(layers, side): of(*each) for layers, side in sides})
    grown = {side: ratios(times[f"{side} 200"], times[f"{side} 20"]) for side in ("ours", "idle")}
    return [
        Row("hooks: 200 layers / 20, time per step", grown["ours"]),
        Row("hooks: 200 layers / 20, five that do nothing", grown["idle"]),
        Row("hooks: 200 layers / 20, ours / those that do nothing", ratios(grown["ours"], grown["idle"]), at_most=1.2),
    ]


class Windows(Callback):
    """Record, at the end of each tenth of a run, a mark's time so far and the process's memory."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.seconds = [0.0]
        self.megabytes: list[float] = []

    def on_train_step_end(self, run_context: Any) -> None:
        """Record at the end of a window."""
        if run_context.original_args()["cur_step_num"] % WINDOW == 0:
            self.seconds.append(self.mark.seconds)
            self.megabytes.append(resident_megabytes())


def resident_megabytes() -> float:
    """Return the memory of this process."""
    fields = pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def over_many_steps(folder: str) -> list[Row]:
    """Train a tiny network for many steps and compare the last tenth with the second; the first fills caches."""
    ms.set_context(mode=ms.GRAPH_MODE)
    shape = (32, 16)
    grown = {}
    for side in ("none", "ours"):
        model, start = model_of(nn.SequentialCell(nn.Dense(16, 10))), Mark()
        callbacks = [Validate(model, Batches(1, shape).dataset()), *ours(folder, shape)] if side == "ours" else []
        if callbacks:
            callbacks[-2] = EarlyStopping("loss", patience=10**6, restore_best_weights=True)
        stop = Mark(start)
        windows = Windows(stop)
        callbacks = [start, *callbacks, stop, windows]
        model.train(MANY_STEPS // WINDOW, Batches(WINDOW, shape).dataset(), callbacks=callbacks)
        grown[side] = windows.megabytes[-1] - windows.megabytes[1]
    taken = np.diff(windows.seconds)
    return [
        Row(f"hooks: last tenth of {MANY_STEPS:,} steps / second tenth", [taken[-1] / taken[1]], at_most=1.1),
        Row("memory growth in between, with the five callbacks", [grown["ours"]], "MB", at_most=1),
        Row("memory growth in between, without callbacks", [grown["none"]], "MB"),
    ]


def clock(rounds: int) -> list[Row]:
    """Return the row for the cost of measuring a hook."""
    ms.set_context(mode=ms.GRAPH_MODE)
    model, dataset = model_of(nn.SequentialCell(nn.Dense(16, 10))), Batches(1, (32, 16)).dataset()
    calls = 10_000
    times: dict[str, list[float]] = {"alone": [], "measured": []}

    class Call(Callback):
        """Call another callback's hook repeatedly."""

        def __init__(self, idle: Idle, side: str) -> None:
            self.idle = idle
            self.side = side

        def on_train_step_end(self, run_context: Any) -> None:
            """Call the hook."""
            hook = self.idle.on_train_step_end
            began = time.perf_counter()
            for _ in range(calls):
                hook(run_context)
            times[self.side].append((time.perf_counter() - began) / calls * 1e6)

    for _ in range(rounds):
        for side in times:
            idle = Idle()
            profiler = [CallbackProfiler(verbose=0)] if side == "measured" else []
            model.train(1, dataset, callbacks=[*profiler, idle, Call(idle, side)])
    longer = [measured - alone for measured, alone in zip(times["measured"], times["alone"])]
    return [Row("CallbackProfiler: added time per hook", longer, "µs", at_most=5)]


def measure(args: argparse.Namespace) -> list[Row]:
    """Measure both modes, a large network, a long run, and the profiler itself."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        rows = [row for mode in MODES for row in by_mode(mode, args.rounds, folder)]
        return [*rows, *with_size(args.rounds, folder), *over_many_steps(folder), *clock(args.rounds)]


if __name__ == "__main__":
    run(measure)
