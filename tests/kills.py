"""Kills training runs at random moments and starts them again, until each has come to its end: `kills.py COUNT`.

After each SIGKILL every best file that stands on the disk is whole, and the next process continues from a whole state.
The end of each run is that of one that nothing has killed, to the last bit: parameters, moments, rates, decisions, best
files, history and the rows of a CSV file. The kinds of runs differ in their mode, in whether the data are shuffled, in
how often a state is saved, in whether files are written behind the run, and in their size.

Printed is how many kills fell into which phase of a save, as the disk shows it. Processes are forked from one that has
imported MindSpore and run nothing, so that a kill takes about a second.
"""

from __future__ import annotations

import collections
import glob
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

import interrupted_run
import mindspore.dataset as ds

from ms_callbacks.checkpointing import _checkpoint_index
from ms_callbacks.core import atomic_files

atomic_files._PAUSE = (
    0.0  # seconds: what a kill leaves goes at the next start, so that each phase is that of the last kill
)
CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")
WITHIN = {"shuffle": CAN_BEGIN_WITHIN, "every_n_steps": 3 if CAN_BEGIN_WITHIN else None}
KINDS: list[dict[str, Any]] = [
    {"mode": "graph", "shuffle": False, "every_n_steps": None},
    {"mode": "graph", **WITHIN},
    {"mode": "pynative", **WITHIN},
    {"mode": "graph", **WITHIN, "background": False},
    {"mode": "pynative", **WITHIN, "ballast": 500_000},
    {"mode": "graph", **WITHIN, "ballast": 500_000, "background": False},
]
SECONDS = 300  # for a run that hangs


def start(folder: str, kind: dict[str, Any]) -> tuple[int, int]:
    """A run in a process of its own: its number, and a pipe with a line for each step."""
    steps, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(told, 1)
            os.close(steps)
            outcome = interrupted_run.run(folder, **kind)
            with open(os.path.join(folder, "outcome.json"), "w", encoding="utf-8") as file:
                json.dump(outcome, file)
            status = 0
        finally:
            os._exit(status)
    os.close(told)
    return child, steps


def end(child: int) -> int:
    """Waits for a process; returns its status, negative for the signal that it died of."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    raise AssertionError(f"a run has not ended in {SECONDS} seconds")


def follow(steps: int, count: int) -> None:
    """Reads what a run prints until it has begun so many steps, or ended."""
    seen = b""
    while seen.count(b"step\n") < count and (block := os.read(steps, 1 << 16)):
        seen += block


def phase(folder: str) -> str:
    """What was being saved, as the disk shows it."""
    for workshop in glob.glob(os.path.join(folder, "state", ".partial-*")):
        names = {os.path.basename(path) for path in glob.glob(os.path.join(workshop, "folder", "*"))}
        if "state.json" in names:
            return "state: before its name"
        return "state: its weights" if names else "state: its folder"
    if len(glob.glob(os.path.join(folder, "state", "state-*"))) > 2:
        return "state: before an older one goes"
    for workshop in glob.glob(os.path.join(folder, ".partial-*")):
        path = os.path.join(workshop, "file")
        with open(path if os.path.exists(path) else os.devnull, "rb") as file:
            start_of_file = file.read(1)
        return "best file: its record" if start_of_file == b"{" else "best file: its weights"
    names = {path[: -len(".json")] for path in glob.glob(os.path.join(folder, "*.ckpt.json"))}
    files = glob.glob(os.path.join(folder, "*.ckpt"))
    if names != set(files):
        return "best file: between its names"
    return "best file: before an older one goes" if len(files) > 2 else "training"


def check_files(folder: str) -> None:
    """Raises unless each best file that has a name is whole."""
    for path in glob.glob(os.path.join(folder, "*.ckpt")):
        _checkpoint_index.verified(_checkpoint_index.at(path))


def killed(kind: dict[str, Any], left: int, chance: random.Random) -> tuple[list[str], dict[str, Any]]:
    """A run that is killed again and again, `left` times at most: the phases of the kills, and what it came to."""
    folder, phases = tempfile.mkdtemp(), []
    try:
        while True:
            child, steps = start(folder, kind)
            try:
                if len(phases) < left:
                    follow(steps, chance.randint(1, 25))
                    time.sleep(chance.uniform(0, 0.03))
                    os.kill(child, signal.SIGKILL)
                else:
                    follow(steps, 1 << 30)
                status = end(child)
            finally:
                os.close(steps)
            if status == -signal.SIGKILL:
                phases.append(phase(folder))
                check_files(folder)
                if not glob.glob(os.path.join(folder, "state", "state-*")):  # the next is another run, and begins alike
                    shutil.rmtree(folder)
                    os.mkdir(folder)
                continue
            assert status == 0, f"a run ended with status {status}"
            with open(os.path.join(folder, "outcome.json"), encoding="utf-8") as file:
                return phases, json.load(file)
    finally:
        shutil.rmtree(folder)


def main(count: int) -> None:
    """Kills `count` times, over all kinds in turn."""
    chance, runs = random.Random(count), 0
    phases: collections.Counter[str] = collections.Counter()
    expected = [killed(kind, 0, chance)[1] for kind in KINDS[: min(len(KINDS), count)]]
    assert any(0 < each["stopped"][0] < 14 for each in expected), "some run was meant to be stopped early"
    began = time.monotonic()
    while sum(phases.values()) < count:
        kind = runs % len(expected)
        most = -(-count // len(expected))  # so that a small count has all kinds
        found, outcome = killed(KINDS[kind], min(most, count - sum(phases.values())), chance)
        differing = [name for name in expected[kind] if outcome[name] != expected[kind][name]]
        assert not differing, f"a run of {KINDS[kind]} ended otherwise after kills in {found}: {differing}"
        phases.update(found)
        runs += 1
        print(f"{sum(phases.values())} kills, {runs} runs, {time.monotonic() - began:.0f} s", file=sys.stderr)
    for name, number in phases.most_common():
        print(f"{number:6} {name}")
    print(f"{sum(phases.values()):6} kills in {runs} runs; every file was whole, and all runs ended alike")


if __name__ == "__main__":
    main(int(sys.argv[1]))
