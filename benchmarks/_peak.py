"""Print how much a process's memory grows during training with given callbacks; runs in a process of its own."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import tempfile
from typing import Any

from mindspore.train import Callback

from benchmarks._big import Job
from ms_callbacks import BestCheckpoint, EarlyStopping
from ms_callbacks.cpu import fast_cpu


class Wait(Callback):
    """Wait until each file is written before the next is due."""

    def on_train_epoch_begin(self, run_context: Any) -> None:
        """Wait before the next."""
        for each in run_context.original_args()["list_callback"]:
            if isinstance(each, BestCheckpoint):
                each.flush()


def kilobytes(name: str) -> int:
    """Return a value that Linux reports about this process."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


def main(names: list[str]) -> None:
    """Train once without callbacks, and then with the named ones."""
    fast_cpu()
    job = Job()
    job.model.train(1, job.dataset)
    before = kilobytes("VmRSS")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        made: dict[str, Callback] = {
            "EarlyStopping": EarlyStopping("loss", restore_best_weights=True, verbose=0),
            "BestCheckpoint": BestCheckpoint(f"{folder}/best.ckpt", monitor="loss", overwrite=True, verbose=0),
        }
        job.model.train(6, job.dataset, callbacks=[*(made[name] for name in names), Wait()])
    print((kilobytes("VmHWM") - before) * 1024)


if __name__ == "__main__":
    main(sys.argv[1:])
