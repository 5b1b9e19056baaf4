"""`ms_callbacks.vision.Mnist` compared with mindvision's, and a whole epoch compared with its compiled steps."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
import time
from typing import Any, Callable

import mindspore as ms
import numpy as np
import psutil
from mindspore import nn

from benchmarks._digits import random_digits, real_digits, write
from benchmarks._measure import Row, in_turns, ratios, run
from ms_callbacks import BestCheckpoint, EarlyStopping, LossMonitor, LRStepDecay
from ms_callbacks.cpu import fast_cpu
from ms_callbacks.vision import Mnist, _mindvision, lenet

BATCH_SIZE = 32
COMPARED_BATCHES = 200
EPOCH_STEPS = 600


def measure(args: argparse.Namespace) -> list[Row]:
    """Measure both datasets on the same files, then the epoch."""
    ms.set_context(mode=ms.GRAPH_MODE)
    fast_cpu()
    with tempfile.TemporaryDirectory() as folder:
        write(folder, "train", *(real_digits(args.data_dir, "train") if args.data_dir else random_digits(60_000)))
        rows = [*loading(folder, args.rounds), *reading(folder, args.rounds)]
    with tempfile.TemporaryDirectory() as folder:
        write(folder, "train", *random_digits(EPOCH_STEPS * BATCH_SIZE))
        return [*rows, epoch(folder, args.rounds)]


def mindvision_mnist(path: str, **options: Any) -> Any:
    """Return mindvision's Mnist with its published pipeline; only for NumPy 2, labels are converted."""
    mnist = _mindvision.mnist.Mnist(path, **options)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        # With NumPy 2, MindSpore up to 2.10 refuses NumPy scalars, but accepts arrays without an axis.
        mnist.dataset.source.label = [np.asarray(label) for label in mnist.label]
    return mnist


def loading(folder: str, rounds: int) -> list[Row]:
    """Measure the constructors: their time, and the memory that the process has more of afterwards."""
    makers = {"ours": Mnist, "mindvision": _mindvision.mnist.Mnist}
    seconds = in_turns(rounds, {name: lambda make=make: make(folder) for name, make in makers.items()})
    held = in_turns(rounds, {name: lambda make=make: memory_of(lambda: make(folder)) for name, make in makers.items()})
    return [
        Row("loading MNIST: mindvision's Mnist / ours", ratios(seconds["mindvision"], seconds["ours"]), at_least=20),
        Row(
            "resident memory of the loaded data: ours / mindvision's",
            ratios(held["ours"], held["mindvision"]),
            at_most=1 / 3,
        ),
    ]


def memory_of(make: Callable[[], Any]) -> float:
    """Return the additional bytes of the process while the created object exists."""
    process = psutil.Process()
    before = process.memory_info().rss
    made = make()
    after = process.memory_info().rss
    del made
    return float(after - before)


def reading(folder: str, rounds: int) -> list[Row]:
    """Measure whole epochs as arrays and as the tensors that `Model.train` requests; compare the samples."""
    theirs, ours = (make(folder, shuffle=True).run() for make in (mindvision_mnist, Mnist))
    rows = []
    for what, as_arrays in (("arrays", True), ("tensors", False)):
        seconds = in_turns(
            rounds,
            {
                "mindvision": lambda as_arrays=as_arrays: read(theirs, as_arrays),
                "ours": lambda as_arrays=as_arrays: read(ours, as_arrays),
            },
        )
        gains = ratios(seconds["mindvision"], seconds["ours"])
        rows.append(Row(f"an epoch of batches of {BATCH_SIZE} as {what}: mindvision's Mnist / ours", gains, at_least=3))
    samples = ours.get_dataset_size() * BATCH_SIZE
    rows.append(Row("samples per second as tensors, ours", [samples / each for each in seconds["ours"]], ""))
    return [*rows, Row("largest pixel difference, both unshuffled", [difference(folder)], "", at_most=1e-5)]


def read(dataset: Any, as_arrays: bool) -> None:
    """Iterate over a dataset once."""
    for _ in dataset.create_tuple_iterator(num_epochs=1, output_numpy=as_arrays):
        pass


def difference(folder: str) -> float:
    """Return the largest difference in the first batches; infinite if a label differs."""
    largest = 0.0
    pairs = zip(
        *(
            make(folder, shuffle=False).run().create_tuple_iterator(num_epochs=1, output_numpy=True)
            for make in (mindvision_mnist, Mnist)
        )
    )
    for _, ((their_images, their_labels), (images, labels)) in zip(range(COMPARED_BATCHES), pairs):
        if images.shape != their_images.shape or not np.array_equal(labels, their_labels):
            return float("inf")
        largest = max(largest, float(np.abs(images - their_images).max()))
    return largest


def epoch(folder: str, rounds: int) -> Row:
    """Compare `Model.train` on LeNet with callbacks to as many calls of its train network on one batch."""
    network = lenet(num_classes=10)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    # A rate at which this many steps on one batch of noise do no harm.
    model = ms.Model(network, loss_fn, nn.Momentum(network.trainable_params(), 1e-6, momentum=0.9), metrics={"acc"})
    dataset = Mnist(folder, shuffle=True).run()
    batch = next(dataset.create_tuple_iterator())
    clock = Clock()

    def through_train() -> float:
        # Those of examples/train_lenet.py, without evaluation: callbacks that used the accuracy use the loss, and
        # ShapeInspector only works before the first epoch.
        callbacks = [
            LRStepDecay(5, gamma=0.5),
            LossMonitor(per_print_times=EPOCH_STEPS),
            EarlyStopping("loss", patience=3),
            BestCheckpoint(os.path.join(folder, "best.ckpt"), monitor="loss", overwrite=True),
            clock,
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            model.train(1, dataset, callbacks=callbacks, dataset_sink_mode=False)
        return clock.seconds

    def steps_alone() -> None:
        for _ in range(EPOCH_STEPS):
            loss = model.train_network(*batch)
        loss.asnumpy()  # waits for the device

    seconds = in_turns(rounds, {"steps": steps_alone, "train": through_train})
    what = "LeNet: an epoch through Model.train with callbacks / its compiled steps alone"
    return Row(what, ratios(seconds["train"], seconds["steps"]), at_most=1.25)


class Clock(ms.Callback):
    """Measure the time of an epoch; last in the list, so that the other callbacks' work is included."""

    seconds = 0.0

    def on_train_epoch_begin(self, run_context: Any) -> None:
        """Start with the epoch."""
        self.began = time.perf_counter()

    def on_train_epoch_end(self, run_context: Any) -> None:
        """Stop at its end."""
        self.seconds = time.perf_counter() - self.began


if __name__ == "__main__":
    run(measure)
