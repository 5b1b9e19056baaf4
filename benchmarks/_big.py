"""A network of 50 million parameters, whose loss falls in every epoch."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn
from mindspore.train import Callback

from benchmarks._peer import EPOCHS, FIRST, LAYERS, RATE, WEIGHTS, WIDTH
from ms_callbacks import CallbackProfiler

__all__ = ["EPOCHS", "FIRST", "WEIGHTS", "Job"]


class OneSample:
    """Return an epoch of one step, because the end of an epoch is what is measured."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)


class Job:
    """Return a Model of 50 million parameters with Adam, whose loss falls in every epoch."""

    def __init__(self) -> None:
        self.network = nn.SequentialCell([nn.Dense(WIDTH, WIDTH) for _ in range(LAYERS)])
        optimizer = nn.Adam(self.network.trainable_params(), RATE)
        self.model = ms.Model(self.network, nn.MSELoss(), optimizer)
        self.dataset = ds.GeneratorDataset(OneSample(), ["data", "label"], shuffle=False).batch(1)

    def seconds(self, callback: Callback) -> float:
        """Return the time that a callback takes at the end of an epoch, averaged over all but the first two."""
        profiler, began = CallbackProfiler(verbose=0), []

        class Note(Callback):
            """Record the time of each epoch."""

            def on_train_epoch_begin(self, run_context: Any) -> None:
                """Start the time of the next epoch."""
                began.append(seconds())

        def seconds() -> float:
            return sum(row.seconds for row in profiler.rows_ if row.hook == "on_train_epoch_end")

        self.model.train(EPOCHS, self.dataset, callbacks=[profiler, Note(), callback])
        return (seconds() - began[FIRST]) / (EPOCHS - FIRST)
