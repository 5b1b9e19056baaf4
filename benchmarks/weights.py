"""Keeping and saving the weights of 50 million parameters, beside MindSpore's own ways to do it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from typing import Any

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn, train
from mindspore.train import Callback

from benchmarks._measure import Row, in_turns, ratios, run
from ms_callbacks import BestCheckpoint, CallbackProfiler, EarlyStopping
from ms_callbacks.core._weights import Snapshot, named_parameters
from ms_callbacks.cpu import fast_cpu

WIDTH, LAYERS = 2048, 12  # 50.4 million parameters
EPOCHS, FIRST = 6, 2  # the first two make the memory for two copies


class OneSample:
    """An epoch of one step, for the end of an epoch is what is measured."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)


class Job:
    """A Model of 50 million parameters with Adam, whose loss falls from epoch to epoch."""

    def __init__(self) -> None:
        self.network = nn.SequentialCell([nn.Dense(WIDTH, WIDTH) for _ in range(LAYERS)])
        optimizer = nn.Adam(self.network.trainable_params(), 1e-7)
        self.model = ms.Model(self.network, nn.MSELoss(), optimizer)
        self.dataset = ds.GeneratorDataset(OneSample(), ["data", "label"], shuffle=False).batch(1)

    def seconds(self, callback: Callback) -> float:
        """What the callback takes of the end of an epoch, on the average of those after the first two."""
        profiler, began = CallbackProfiler(verbose=0), []

        class Note(Callback):
            """Notes what each epoch took."""

            def on_train_epoch_begin(self, run_context: Any) -> None:
                """Before the next."""
                began.append(sum(row.seconds for row in ends()))

        def ends() -> list[Any]:
            return [row for row in profiler.rows_ if row.hook == "on_train_epoch_end"]

        self.model.train(EPOCHS, self.dataset, callbacks=[profiler, Note(), callback])
        return (sum(row.seconds for row in ends()) - began[FIRST]) / (EPOCHS - FIRST)


def snapshots(job: Job, rounds: int) -> list[Row]:
    """The best weights in memory: taken, held, and given back."""
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
            "50 million parameters: EarlyStopping over MindSpore's",
            ratios(times["ours"], times["built-in"]),
            at_most=1 / 50,
        ),
        Row("50 million parameters: memory held over trainable parameters", [held / trainable], at_most=1),
        Row("50 million parameters: taken over a copy", ratios(again["take"], again["copy"])),
        Row("50 million parameters: given back over a copy", ratios(again["restore"], again["copy"]), at_most=1.5),
    ]


def saves(job: Job, rounds: int, folder: str) -> list[Row]:
    """The best weights on disk: how long training waits for them."""
    path = os.path.join(folder, "best.ckpt")

    def ours(background: bool) -> float:
        return job.seconds(BestCheckpoint(path, monitor="loss", overwrite=True, background=background, verbose=0))

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
            "50 million parameters: BestCheckpoint's stall over save_checkpoint's",
            ratios(times["behind"], stall),
            at_most=1 / 5,
        ),
        Row("the same with background=False", ratios(times["at once"], stall)),
        Row(f"a run of {EPOCHS} steps and best epochs: longer by, over background=False", ratios(extra, waiting)),
    ]


def measure(args: argparse.Namespace) -> list[Row]:
    """In memory, then on disk."""
    ms.set_context(mode=ms.GRAPH_MODE)
    fast_cpu()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        job = Job()
        return [*snapshots(job, args.rounds), *saves(job, args.rounds, folder)]


if __name__ == "__main__":
    run(measure)
