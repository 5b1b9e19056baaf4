"""What all of `ms_callbacks` adds to the start of a program: it must be negligible next to `import mindspore`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial

from benchmarks._measure import Row, in_turns, ratios, run

MINDSPORE = "import mindspore"
BOTH = "import mindspore; from ms_callbacks import *"
OURS = """
import time
import mindspore
began = time.perf_counter()
from ms_callbacks import {names}
print(time.perf_counter() - began)
"""
EXAMPLE = "BestCheckpoint, EarlyStopping, LossMonitor, LRStepDecay, ShapeInspector, Validate"  # of train_lenet.py

# An installed package has compiled files; here the first round, which is not counted, creates them.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def measure(args: argparse.Namespace) -> list[Row]:
    """Measure the import alone, and whole processes with and without it."""
    seconds = in_turns(
        args.rounds,
        {
            "mindspore": lambda: child(MINDSPORE),
            "both": lambda: child(BOTH),
            **{names: partial(ours, names) for names in ("EarlyStopping", EXAMPLE, "*")},
        },
    )
    after = ", after import mindspore"
    return [
        Row(f"from ms_callbacks import EarlyStopping{after}", seconds["EarlyStopping"], "ms", at_most=30),
        Row(f"the six names of train_lenet.py{after}", seconds[EXAMPLE], "ms", at_most=30),
        Row(f"from ms_callbacks import *{after}", seconds["*"], "ms", at_most=30),
        Row("a process that imports both / mindspore alone", ratios(seconds["both"], seconds["mindspore"])),
    ]


def ours(names: str) -> float:
    """Return the milliseconds that importing some names takes in a process that has imported MindSpore."""
    return 1e3 * float(child(OURS.format(names=names)))


def child(program: str) -> str:
    """Run a program in a fresh process; return the last line that it prints, if any."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().rpartition("\n")[2]


if __name__ == "__main__":
    run(measure)
