"""A complete job, written with callbacks and as a tutorial's hand-written loop: an epoch, and the time to 99.1 %.

The loop is measured twice: as printed, and after `fast_cpu()`, which has nothing to do with callbacks. Each way is a
process of its own, because settings apply to a process; they work in turns. An epoch's time is estimated from that of
some steps and of some batches of its evaluation.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile

import mindspore as ms

from benchmarks._digits import real_digits, write
from benchmarks._measure import Row, in_turns, ratios, run
from benchmarks._turns import Worker

ACCURACY, EPOCHS = 0.991, 15

# The steps of an epoch and of a turn: the loop as printed can be hundreds of times slower.
STEPS = {"ours": (937, 50), "tuned": (938, 50), "as-printed": (938, 12)}
EVALUATION_BATCHES = {"ours": (100, 50), "tuned": (157, 50), "as-printed": (157, 12)}

# What the loop as printed lacks on a CPU depends on MindSpore: 2.9 and newer also have slow convolutions.
GAIN_OVER_AS_PRINTED = {"2.8": 4, "2.10": 20}
GAIN_OVER_TUNED = 1.2


def measure(args: argparse.Namespace) -> list[Row]:
    """Measure an epoch of all three, and then run two of them until they reach the accuracy."""
    if not args.data_dir:
        print("end_to_end: needs all of MNIST, in a folder with train/ and test/: --data-dir FOLDER", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as folder:
        for split in ("train", "test"):
            write(folder, split, *real_digits(args.data_dir, split))
        epochs = epoch_seconds(folder, args.rounds)
        return [*epoch_rows(epochs), *accuracy_rows(folder, statistics.median(epochs["as-printed"]))]


def epoch_seconds(folder: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of an epoch in each way, one per round."""
    with contextlib.ExitStack() as stack:
        workers = {way: stack.enter_context(Worker("benchmarks._job", way, folder)) for way in STEPS}
        # All turns together fit into the first epoch.
        turn = {way: min(count, 900 // (rounds + 1)) for way, (_, count) in STEPS.items()}
        steps = in_turns(rounds, {way: lambda way=way: workers[way].steps(turn[way]) for way in workers})
        batches = {way: count for way, (_, count) in EVALUATION_BATCHES.items()}
        evaluations = in_turns(rounds, {way: lambda way=way: workers[way].evaluation(batches[way]) for way in workers})
    return {
        way: [
            step * STEPS[way][0] / turn[way] + evaluation * EVALUATION_BATCHES[way][0] / batches[way]
            for step, evaluation in zip(steps[way], evaluations[way])
        ]
        for way in STEPS
    }


def epoch_rows(seconds: dict[str, list[float]]) -> list[Row]:
    """Return the rows for the time of an epoch."""
    version = ".".join(ms.__version__.split(".")[:2])
    printed, tuned = (ratios(seconds[way], seconds["ours"]) for way in ("as-printed", "tuned"))
    return [
        Row("an epoch: the loop as printed / ours", printed, at_least=GAIN_OVER_AS_PRINTED.get(version)),
        Row("an epoch: the loop after fast_cpu() / ours", tuned, at_least=GAIN_OVER_TUNED),
        Row("an epoch, ours", seconds["ours"], "s"),
        Row("an epoch, the loop after fast_cpu()", seconds["tuned"], "s"),
        Row("an epoch, the loop as printed", seconds["as-printed"], "s"),
    ]


def accuracy_rows(folder: str, printed_epoch: float) -> list[Row]:
    """Return the rows for the time to reach the accuracy, including everything after the imports.

    These are not compared as ratios: both ways learn the same, and the number of epochs needed is random.
    """
    with Worker("benchmarks._job", "ours", folder) as ours, Worker("benchmarks._job", "tuned", folder) as tuned:
        seconds = until_accurate({"ours": ours, "tuned": tuned})
    goal = f"to {ACCURACY:.1%}"
    rows = []
    if "ours" in seconds:
        rows.append(Row(f"{goal}, ours ({len(seconds['ours'])} epochs)", [sum(seconds["ours"])], "s"))
    if "tuned" in seconds:
        epochs = len(seconds["tuned"])
        rows.append(Row(f"{goal}, the loop after fast_cpu() ({epochs} epochs)", [sum(seconds["tuned"])], "s"))
        # It computes the same, so it needs as many epochs.
        rows.append(
            Row(f"{goal}, the loop as printed, estimated ({epochs} of its epochs)", [epochs * printed_epoch], "s")
        )
    return rows


def until_accurate(workers: dict[str, Worker]) -> dict[str, list[float]]:
    """Run in turns, epoch by epoch; return the seconds of each epoch of those that reach the accuracy."""
    seconds: dict[str, list[float]] = {way: [] for way in workers}
    reached = set()
    for epoch in range(1, EPOCHS + 1):
        for way in [way for way in seconds if way not in reached]:
            try:
                passed, accuracy = workers[way].epoch()
            except EOFError:
                print(f"end_to_end: {way} stopped early, below {ACCURACY:.1%}", file=sys.stderr)
                del seconds[way]
                continue
            seconds[way].append(passed)
            print(f"end_to_end: {way}, epoch {epoch}: {accuracy:.2%} after {passed:.1f} s", file=sys.stderr)
            if accuracy >= ACCURACY:
                reached.add(way)
    return {way: seconds[way] for way in reached}


if __name__ == "__main__":
    run(measure)
