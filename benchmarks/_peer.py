"""Print how long training waits for Keras's or Lightning's callbacks that save weights, in a process of its own.

It is run by its path, in an environment that has those and not MindSpore. The network, optimizer and epochs are those
of `benchmarks._big`, which takes their sizes from here.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
import warnings
from typing import Any, Callable

import numpy as np

WIDTH, LAYERS = 2048, 12  # 50.4 million parameters
WEIGHTS = 4 * LAYERS * (WIDTH + 1) * WIDTH  # bytes
RATE = 1e-7
EPOCHS, FIRST = 6, 2  # the first two allocate the memory for two copies


def copy_seconds() -> float:
    """Return the time of `np.copyto` for as much memory as the weights and Adam's two moments."""
    arrays = [np.ones((WIDTH + 1, WIDTH), np.float32) for _ in range(3 * LAYERS)]
    buffers = [array.copy() for array in arrays]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        for array, buffer in zip(arrays, buffers):
            np.copyto(buffer, array)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def timed(callback: Any, hook: str, train: Callable[[Any], Any]) -> float:
    """Return the time of a hook that is called once per epoch while a network trains."""
    seconds, call = [], getattr(callback, hook)

    def measured(*args: Any, **kwargs: Any) -> None:
        began = time.perf_counter()
        call(*args, **kwargs)
        seconds.append(time.perf_counter() - began)

    setattr(callback, hook, measured)
    train(callback)
    if len(seconds) != EPOCHS:
        raise RuntimeError(f"{type(callback).__name__}.{hook} was called {len(seconds)} times in {EPOCHS} epochs")
    return statistics.mean(seconds[FIRST:])


def check_falling(losses: list[float]) -> None:
    """Raise unless every epoch was better than the one before, so that each was saved."""
    if len(losses) != EPOCHS or any(now >= before for before, now in zip(losses, losses[1:])):
        raise RuntimeError(f"the loss does not fall in each of {EPOCHS} epochs: {losses}")


def check_saved(folder: pathlib.Path, copies: int) -> None:
    """Raise unless a folder holds this many copies of the weights."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size < copies * WEIGHTS:
        raise RuntimeError(f"{folder.name} holds {size} bytes, not {copies} times the {WEIGHTS} of the weights")


def of_keras(folder: pathlib.Path) -> dict[str, float]:
    """Run Keras on PyTorch, like Lightning. Its best file always includes the optimizer's moments."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    from keras.callbacks import BackupAndRestore, EarlyStopping, ModelCheckpoint

    model = keras.Sequential([keras.Input((WIDTH,)), *(keras.layers.Dense(WIDTH) for _ in range(LAYERS))])
    model.compile(keras.optimizers.Adam(RATE), "mse")
    data, label = np.ones((1, WIDTH), np.float32), np.zeros((1, WIDTH), np.float32)

    def train(callback: Any) -> None:
        check_falling(model.fit(data, label, epochs=EPOCHS, verbose=0, callbacks=[callback]).history["loss"])

    backup = BackupAndRestore(folder / "state", delete_checkpoint=False)
    best = ModelCheckpoint(folder / "file" / "best.weights.h5", "loss", save_best_only=True, save_weights_only=True)
    return {
        "state": timed(backup, "on_epoch_end", train),
        "weights": timed(EarlyStopping("loss", patience=99, restore_best_weights=True), "on_epoch_end", train),
        "file": timed(best, "on_epoch_end", train),
    }


def of_lightning(folder: pathlib.Path) -> dict[str, float]:
    """Run Lightning, which has nothing that keeps the best weights in memory."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint

    losses: list[float] = []

    class Network(lightning.LightningModule):
        """The twelve layers."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(*[torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            """Return Adam, as for the others."""
            return torch.optim.Adam(self.parameters(), RATE)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            """Return the loss by which the best is chosen."""
            data, label = batch
            loss = torch.nn.functional.mse_loss(self.layers(data), label)
            self.log("loss", loss)
            losses.append(loss.item())
            return loss

    network = Network()
    dataset = torch.utils.data.TensorDataset(torch.ones(1, WIDTH), torch.zeros(1, WIDTH))

    def train(callback: Any) -> None:
        losses.clear()
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=EPOCHS,
            callbacks=[callback],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(network, torch.utils.data.DataLoader(dataset))
        check_falling(losses)

    last = ModelCheckpoint(folder / "state", save_on_train_epoch_end=True)  # save_last would save each twice
    best = ModelCheckpoint(folder / "file", monitor="loss", save_weights_only=True, save_on_train_epoch_end=True)
    return {
        "state": timed(last, "on_train_epoch_end", train),
        "file": timed(best, "on_train_epoch_end", train),
    }


def main(peer: str) -> None:
    """Measure one of the two, and the copy, in the same process."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        seconds = {"Keras": of_keras, "Lightning": of_lightning}[peer](folder)
        check_saved(folder / "state", 3)
        check_saved(folder / "file", 1)
    print(json.dumps({"copy": copy_seconds(), **seconds}))


if __name__ == "__main__":
    main(sys.argv[1])
