"""How long training waits for callbacks that save its state or its weights: ours compared with Keras and Lightning.

These need an environment of their own, without MindSpore: `pip install keras lightning torch numpy`, and its Python for
`--peers-python`. In each round, ours, Keras and Lightning train one after another, each in a process of its own and
with a different one first in each round, the same network of 50 million parameters with Adam.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys

from benchmarks._measure import Row, ratios, run

PEER = str(pathlib.Path(__file__).with_name("_peer.py"))
SIDES = ("ours", "Keras", "Lightning")
KEPT = {  # what is saved, and by which callbacks
    "state": {"ours": "TrainingState", "Keras": "BackupAndRestore", "Lightning": "ModelCheckpoint"},
    "state at once": {"ours": "TrainingState(background=False)"},
    "weights": dict.fromkeys(("ours", "Keras"), "EarlyStopping(restore_best_weights=True)"),
    "file": {
        "ours": "BestCheckpoint",
        "Keras": "ModelCheckpoint(save_best_only=True)",
        "Lightning": "ModelCheckpoint(monitor='loss')",
    },
}
OVER_COPY, OVER_KERAS = {"state": 2.0}, {"state": 1 / 5}  # upper targets for ours


def measure(args: argparse.Namespace) -> list[Row]:
    """Run each side once per round, then return the rows."""
    if args.peers_python is None:
        print(
            "peers: skipped; pass --peers-python PATH, the Python of an environment with Keras and Lightning",
            file=sys.stderr,
        )
        return []
    taken: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for turn in range(args.rounds):
        for place in range(len(SIDES)):
            side = SIDES[(turn + place) % len(SIDES)]
            taken[side].append(seconds(side, args.peers_python))
    return [row for what in KEPT for row in rows_of(what, taken)]


def seconds(side: str, peers_python: str) -> dict[str, float]:
    """Return what a side prints on its last line."""
    ours = [sys.executable, "-m", "benchmarks._peer_ours"]
    os.sync()  # pending writes of another side must not slow this one down
    command = ours if side == "ours" else [peers_python, PEER, side]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    printed: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return printed


def rows_of(what: str, taken: dict[str, list[dict[str, float]]]) -> list[Row]:
    """Return the rows: the time, its ratio to a copy in the same process, and ours over each other side."""
    times = {side: [one[what] for one in taken[side]] for side in KEPT[what]}
    copies = {side: [one["copy"] for one in taken[side]] for side in KEPT[what]}
    rows = [Row(f"{what}: {side}, {callback}", times[side], "s") for side, callback in KEPT[what].items()]
    for side in times:
        most = OVER_COPY.get(what) if side == "ours" else None
        rows.append(Row(f"{what}: {side} over np.copyto of the state", ratios(times[side], copies[side]), at_most=most))
    for side in list(times)[1:]:
        most = OVER_KERAS.get(what) if side == "Keras" else None
        rows.append(Row(f"{what}: ours over {side}", ratios(times["ours"], times[side]), at_most=most))
    return rows


if __name__ == "__main__":
    run(measure)
