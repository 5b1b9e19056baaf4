"""Print how long training waits for our callbacks, as `_peer` does for Keras and Lightning; in a process of its own."""

from __future__ import annotations

import contextlib
import json
import pathlib
import statistics
import sys
import tempfile

import mindspore as ms

from benchmarks._big import FIRST, Job
from benchmarks._peer import copy_seconds
from benchmarks.weights import Timed
from ms_callbacks import BestCheckpoint, EarlyStopping
from ms_callbacks.cpu import fast_cpu


def main() -> None:
    """Measure each callback in a run of its own, and the copy."""
    ms.set_context(mode=ms.GRAPH_MODE)
    fast_cpu()
    job = Job()

    def state(background: bool) -> float:
        with tempfile.TemporaryDirectory() as folder:
            timed = Timed(folder, background=background)
            job.seconds(timed)
        return statistics.mean(timed.seconds[FIRST:])

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        seconds = {
            "state": state(background=True),
            "state at once": state(background=False),
            "weights": job.seconds(EarlyStopping("loss", restore_best_weights=True, verbose=0)),
            "file": job.seconds(BestCheckpoint(pathlib.Path(folder, "best.ckpt"), monitor="loss", verbose=0)),
        }
    print(json.dumps({"copy": copy_seconds(), **seconds}))


if __name__ == "__main__":
    main()
