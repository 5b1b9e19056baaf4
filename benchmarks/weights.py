"""Keeping and saving the weights of 50 million parameters, compared with MindSpore's own ways."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import train
from mindspore.train import Callback

from benchmarks._big import EPOCHS, WEIGHTS, Job
from benchmarks._measure import Row, in_turns, ratios, run
from ms_callbacks import BestCheckpoint, EarlyStopping, TrainingState
from ms_callbacks.core import checkpoint_io
from ms_callbacks.core.model_parts import named_parameters
from ms_callbacks.core.parameters import Snapshot, views
from ms_callbacks.cpu import fast_cpu


def snapshots(job: Job, rounds: int) -> list[Row]:
    """Measure the best weights in memory: copying, holding and restoring them."""
    times = in_turns(
        rounds,
        {
            "ours": lambda: job.seconds(EarlyStopping("loss", restore_best_weights=True, verbose=0)),
            "built-in": lambda: job.seconds(train.EarlyStopping("loss", restore_best_weights=True, patience=99)),
        },
    )
    snapshot = Snapshot(named_parameters(job.network))
    snapshot.take()
    held = sum(array.nbytes for array in snapshot.arrays.values())
    trainable = sum(parameter.nbytes for parameter in job.network.trainable_params())
    parameters = job.network.trainable_params()
    buffers = [np.array(parameter.asnumpy()) for parameter in parameters]

    def copy() -> None:
        for parameter, buffer in zip(parameters, buffers):
            np.copyto(buffer, parameter.asnumpy())

    def restore() -> None:
        snapshot.restore()
        parameters[-1].asnumpy()  # waits until it is done

    again = in_turns(rounds, {"copy": copy, "restore": restore, "take": snapshot.take})
    return [
        Row(
            "50 million parameters: EarlyStopping / MindSpore's",
            ratios(times["ours"], times["built-in"]),
            at_most=1 / 50,
        ),
        Row("50 million parameters: memory held / trainable parameters", [held / trainable], at_most=1),
        Row("50 million parameters: keeping / one copy", ratios(again["take"], again["copy"])),
        Row("50 million parameters: restoring / one copy", ratios(again["restore"], again["copy"]), at_most=1.5),
    ]


def saves(job: Job, rounds: int, folder: str) -> list[Row]:
    """Measure the best weights on disk: how long training waits for them."""
    path = os.path.join(folder, "best.ckpt")

    def ours(background: bool) -> float:
        return job.seconds(BestCheckpoint(path, monitor="loss", overwrite=True, background=background, verbose=0))

    def write() -> None:
        with open(os.path.join(folder, "written.ckpt"), "wb") as file:
            checkpoint_io.save(file, views(named_parameters(job.network)))
            file.flush()
            os.fsync(file.fileno())

    def of_a_run(*callbacks: Callback) -> float:
        began = time.perf_counter()
        job.model.train(EPOCHS, job.dataset, callbacks=list(callbacks))
        return time.perf_counter() - began

    times = in_turns(
        rounds,
        {
            "save_checkpoint": lambda: ms.save_checkpoint(job.network, os.path.join(folder, "built_in.ckpt")),
            "behind": lambda: ours(True),
            "at once": lambda: ours(False),
            "write": write,
            "a run": of_a_run,
            "a run that saves": lambda: of_a_run(BestCheckpoint(path, monitor="loss", overwrite=True, verbose=0)),
            "a run that waits": lambda: of_a_run(
                BestCheckpoint(path, monitor="loss", overwrite=True, background=False, verbose=0)
            ),
        },
    )
    stall = times["save_checkpoint"]
    extra = [with_saves - alone for with_saves, alone in zip(times["a run that saves"], times["a run"])]
    waiting = [with_saves - alone for with_saves, alone in zip(times["a run that waits"], times["a run"])]
    return [
        Row(
            "50 million parameters: BestCheckpoint's stall / save_checkpoint's",
            ratios(times["behind"], stall),
            at_most=1 / 5,
        ),
        Row("the same with background=False", ratios(times["at once"], stall)),
        Row(
            "the same / a flushed write without a digest",
            ratios(times["at once"], times["write"]),
            at_most=1.3,
        ),
        Row(f"a run of {EPOCHS} steps and best epochs: added time / with background=False", ratios(extra, waiting)),
    ]


def states(job: Job, rounds: int, folder: str) -> list[Row]:
    """Measure the complete state on disk: how long training waits for it."""
    parameters = list(job.model.train_network.get_parameters())
    buffers = [np.array(parameter.asnumpy()) for parameter in parameters]

    def copy() -> None:
        for parameter, buffer in zip(parameters, buffers):
            np.copyto(buffer, parameter.asnumpy())

    def ours(background: bool) -> float:
        state = Timed(os.path.join(folder, "state"), overwrite=True, background=background)
        job.model.train(EPOCHS, job.dataset, callbacks=[state])
        return float(np.median(state.seconds[1:-1]))

    path = os.path.join(folder, "built_in.ckpt")
    times = in_turns(
        rounds,
        {
            "copy": copy,
            "save_checkpoint": lambda: ms.save_checkpoint(job.model.train_network, path),
            "behind": lambda: ours(True),
            "at once": lambda: ours(False),
        },
    )
    name = "50 million parameters and Adam's moments: TrainingState's stall"
    return [
        Row(f"{name} / np.copyto", ratios(times["behind"], times["copy"]), at_most=2),
        Row(f"{name} / save_checkpoint of the train network", ratios(times["behind"], times["save_checkpoint"])),
        Row("the same with background=False", ratios(times["at once"], times["save_checkpoint"])),
    ]


class Timed(TrainingState):
    """Measure how long each state delays the run when the previous one is already written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seconds: list[float] = []

    def _keep(self, *args: Any) -> None:
        self._finish_write()
        began = time.perf_counter()
        super()._keep(*args)
        self.seconds.append(time.perf_counter() - began)


def memory() -> list[Row]:
    """Return the peak memory of a run beyond that without callbacks, divided by the size of the weights."""

    def peak(*names: str) -> int:
        command = [sys.executable, "-m", "benchmarks._peak", *names]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])

    alone = peak()
    return [
        Row(
            f"50 million parameters: peak memory / weights, {' and '.join(names)}",
            [(peak(*names) - alone) / WEIGHTS],
            at_most=1.2,
        )
        for names in (["EarlyStopping"], ["BestCheckpoint"], ["EarlyStopping", "BestCheckpoint"])
    ]


def measure(args: argparse.Namespace) -> list[Row]:
    """Measure in memory, then on disk."""
    ms.set_context(mode=ms.GRAPH_MODE)
    fast_cpu()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        job = Job()
        return [
            *snapshots(job, args.rounds),
            *saves(job, args.rounds, folder),
            *states(job, args.rounds, folder),
            *memory(),
        ]


if __name__ == "__main__":
    run(measure)
