"""Train one epoch with six callbacks and read what they leave, with the package that pip has installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn

import ms_callbacks
from ms_callbacks import BestCheckpoint, EarlyStopping, History, LossMonitor, RunReport, TrainingState


class Samples:
    """48 random images of three classes."""

    def __init__(self) -> None:
        self.images = np.random.RandomState(0).randn(48, 1, 4, 4).astype(np.float32)
        self.labels = (np.arange(48) % 3).astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.images[index], self.labels[index : index + 1].reshape(())


def main() -> None:
    """Train, and check the results from outside."""
    installed = os.path.dirname(ms_callbacks.__file__)
    assert "site-packages" in installed, f"{installed} is not what pip has installed"
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(network, loss_fn, nn.Adam(network.trainable_params()), metrics={"acc"})
    train, valid = (ds.GeneratorDataset(Samples(), ["images", "labels"], shuffle=False).batch(12) for _ in range(2))
    history, best = History(), BestCheckpoint("best.ckpt", monitor="acc")
    callbacks = [LossMonitor(), history, best, EarlyStopping("acc"), TrainingState("state"), RunReport()]
    model.fit(1, train, valid, callbacks=callbacks)
    assert len(history.history["loss"]) == 1, history.history
    assert os.path.getsize("report.html") > 10_000  # with the templates that are in the wheel
    assert best.load_into(network)["epoch"] == 1
    for arguments in (["show", "best.ckpt"], ["show", "state"], ["runs"]):
        subprocess.run([sys.executable, "-m", "ms_callbacks", *arguments], check=True)
    print(f"ms_callbacks {ms_callbacks.__version__} works with MindSpore {ms.__version__}, NumPy {np.__version__}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
        os.chdir(os.sep)
