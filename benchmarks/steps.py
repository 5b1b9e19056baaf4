"""What callbacks cost that act in steps because that is what they are for, each alone, on LeNet."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Callable

import mindspore as ms
from mindspore.train import Callback

from benchmarks._lenet import Batches, lenet, model_of
from benchmarks._measure import Row, in_turns, run
from benchmarks.hooks import MODES, STEPS, microseconds
from ms_callbacks import (
    EMAWeightAveraging,
    GradientMonitor,
    History,
    LossSpike,
    LRCosineAnnealing,
    LROneCycle,
    ThroughputMonitor,
    TimeLimit,
)
from ms_callbacks.cpu import fast_cpu

# Each as it is by default, but silent; intervals are a third of the epoch, so that what is done there counts.
MAKE: dict[str, Callable[[], Callback]] = {
    "EMAWeightAveraging": EMAWeightAveraging,
    "GradientMonitor, every 100 steps": lambda: GradientMonitor(100, verbose=0),
    "History(per_step=True)": lambda: History(per_step=True),
    "LRCosineAnnealing by step": lambda: LRCosineAnnealing(STEPS, by="step", beyond="stay"),
    "LROneCycle": lambda: LROneCycle(0.01),
    "LossSpike": LossSpike,
    "ThroughputMonitor, every 100 steps": lambda: ThroughputMonitor(100, verbose=0),
    "TimeLimit": lambda: TimeLimit(hours=10),
}


def by_mode(mode: str, rounds: int) -> list[Row]:
    """Measure each in one mode."""
    ms.set_context(mode=MODES[mode])
    fast_cpu()
    model, dataset, valid = model_of(lenet()), Batches(STEPS).dataset(), Batches(1).dataset()

    def alone(make: Callable[[], Callback]) -> float:
        return microseconds(model, dataset, valid, [[make()]])[0]

    times = in_turns(rounds, {name: lambda make=make: alone(make) for name, make in MAKE.items()})  # type: ignore[misc]
    return [Row(f"steps, {mode}: {name}", times[name], "µs") for name in MAKE]


def measure(args: argparse.Namespace) -> list[Row]:
    """Measure in both modes."""
    with contextlib.redirect_stdout(sys.stderr):
        return [row for mode in MODES for row in by_mode(mode, args.rounds)]


if __name__ == "__main__":
    run(measure)
