"""What callbacks take of a training step: five of ours beside the five of MindSpore that do the same.

Measured by `CallbackProfiler` while `Model.train` runs: the time within `on_train_step_begin` and
`on_train_step_end`, printing and the reads for it included, evaluation and saving not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, train
from mindspore.train import Callback

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
STEP_HOOKS = ("on_train_step_begin", "on_train_step_end")
MODES = {"GRAPH": ms.GRAPH_MODE, "PYNATIVE": ms.PYNATIVE_MODE}


def ours(folder: str, shape: tuple[int, ...]) -> list[Callback]:
    """The five, with the table of layers printed before the first step."""
    return [
        ShapeInspector(inputs=Tensor(np.zeros(shape, np.float32))),
        LRStepDecay(5, gamma=0.5),
        LossMonitor(per_print_times=100),
        EarlyStopping("acc", restore_best_weights=True),
        BestCheckpoint(os.path.join(folder, "best.ckpt"), monitor="acc"),
    ]


def built_in(folder: str) -> list[Callback]:
    """Those of MindSpore that come nearest; none shows layers, so the fifth is the one that tells the time."""
    return [
        train.TimeMonitor(),
        train.LearningRateScheduler(lambda rate, step: rate),
        train.LossMonitor(100),
        train.EarlyStopping("acc", mode="max"),
        train.ModelCheckpoint("built_in", folder, train.CheckpointConfig(save_checkpoint_steps=10**9)),
    ]


def microseconds(model: ms.Model, dataset: Any, valid: Any, callbacks: list[Callback]) -> dict[str, float]:
    """What each callback takes of a step of one epoch, in microseconds."""
    profiler = CallbackProfiler(verbose=0)
    validate = Validate(model, valid)
    model.train(1, dataset, callbacks=[profiler, validate, *callbacks])
    seconds: dict[str, float] = {}
    for cost in profiler.rows_:
        if cost.hook in STEP_HOOKS and cost.callback in {type(callback).__name__ for callback in callbacks}:
            seconds[cost.callback] = seconds.get(cost.callback, 0.0) + cost.seconds
    return {name: one / profiler.steps_ * 1e6 for name, one in seconds.items()}


def by_mode(mode: str, rounds: int, folder: str) -> list[Row]:
    """The five together and each alone, in one mode."""
    ms.set_context(mode=MODES[mode])
    fast_cpu()
    model, batches = model_of(lenet()), Batches(STEPS)
    dataset, valid = batches.dataset(), Batches(1).dataset()
    found: dict[str, list[dict[str, float]]] = {"ours": [], "built-in": []}

    def of(side: str) -> float:
        callbacks = ours(folder, batches.images.shape) if side == "ours" else built_in(folder)
        found[side].append(microseconds(model, dataset, valid, callbacks))
        return sum(found[side][-1].values())

    together = in_turns(rounds, {side: lambda side=side: of(side) for side in found})
    rows = [
        Row(f"hooks, {mode}: five callbacks, time a step", together["ours"], "µs", at_most=12),
        Row(f"hooks, {mode}: MindSpore's five over ours", ratios(together["built-in"], together["ours"]), at_least=25),
    ]
    for name in found["ours"][0]:
        rows.append(Row(f"hooks, {mode}: {name}", [each[name] for each in found["ours"][1:]], "µs", at_most=4))
    return rows


def with_size(rounds: int, folder: str) -> list[Row]:
    """A network beside one of ten times as many layers; both leave the processor's caches cold."""
    ms.set_context(mode=ms.GRAPH_MODE)
    shape = (32, 16)
    models = {layers: model_of(nn.SequentialCell(*[nn.Dense(16, 16) for _ in range(layers)])) for layers in (20, 200)}

    # MindSpore lets no two Models train on one dataset.
    data = {layers: (Batches(STEPS, shape).dataset(), Batches(1, shape).dataset()) for layers in models}

    def of(layers: int) -> float:
        return sum(microseconds(models[layers], *data[layers], ours(folder, shape)).values())

    times = in_turns(rounds, {str(layers): lambda layers=layers: of(layers) for layers in models})
    return [Row("hooks: 200 layers over 20, time a step", ratios(times["200"], times["20"]), at_most=1.2)]


class Windows(Callback):
    """Notes, at the end of each tenth of a run, what the step hooks have taken so far and the process's memory."""

    def __init__(self, profiler: CallbackProfiler) -> None:
        self.profiler = profiler
        self.seconds = [0.0]
        self.megabytes: list[float] = []

    def on_train_step_end(self, run_context: Any) -> None:
        """Notes at the end of a window."""
        if run_context.original_args()["cur_step_num"] % WINDOW == 0:
            own = [one for one in self.profiler.rows_ if one.hook in STEP_HOOKS and one.callback != "Windows"]
            self.seconds.append(sum(one.seconds for one in own))
            self.megabytes.append(resident_megabytes())


def resident_megabytes() -> float:
    """The memory of this process."""
    fields = pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def over_many_steps(folder: str) -> list[Row]:
    """A tiny network for many steps: the last tenth of them beside the second, for the first still fills caches."""
    ms.set_context(mode=ms.GRAPH_MODE)
    shape = (32, 16)
    grown = {}
    for side in ("none", "ours"):
        model, profiler = model_of(nn.SequentialCell(nn.Dense(16, 10))), CallbackProfiler(verbose=0)
        windows = Windows(profiler)
        callbacks = [profiler, windows]
        if side == "ours":
            callbacks += [Validate(model, Batches(1, shape).dataset()), *ours(folder, shape)]
            callbacks[-2] = EarlyStopping("loss", patience=10**6, restore_best_weights=True)
        model.train(MANY_STEPS // WINDOW, Batches(WINDOW, shape).dataset(), callbacks=callbacks)
        grown[side] = windows.megabytes[-1] - windows.megabytes[1]
    taken = np.diff(windows.seconds)
    return [
        Row(f"hooks: the last tenth of {MANY_STEPS:,} steps over the second", [taken[-1] / taken[1]], at_most=1.1),
        Row("memory grown meanwhile, with the five callbacks", [grown["ours"]], "MB", at_most=1),
        Row("memory grown meanwhile, without any", [grown["none"]], "MB"),
    ]


class Idle(Callback):
    """Does nothing at the end of a step."""

    def on_train_step_end(self, run_context: Any) -> None:
        """Nothing."""


def clock(rounds: int) -> list[Row]:
    """What it costs a hook to be measured."""
    ms.set_context(mode=ms.GRAPH_MODE)
    model, dataset = model_of(nn.SequentialCell(nn.Dense(16, 10))), Batches(1, (32, 16)).dataset()
    calls = 10_000
    times: dict[str, list[float]] = {"alone": [], "measured": []}

    class Call(Callback):
        """Calls the hook of another, again and again."""

        def __init__(self, idle: Idle, side: str) -> None:
            self.idle = idle
            self.side = side

        def on_train_step_end(self, run_context: Any) -> None:
            """Calls."""
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
    return [Row("CallbackProfiler: a hook takes longer by", longer, "µs", at_most=5)]


def measure(args: argparse.Namespace) -> list[Row]:
    """Both modes, a large network, a long run, and the clock itself."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        rows = [row for mode in MODES for row in by_mode(mode, args.rounds, folder)]
        return [*rows, *with_size(args.rounds, folder), *over_many_steps(folder), *clock(args.rounds)]


if __name__ == "__main__":
    run(measure)
