"""A run that can be killed at any moment and started again with the same command, to the same end."""

from __future__ import annotations

import csv
import gc
import glob
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor
from mindspore.train import Callback
from training import Network, dataset, make_model, valid_dataset, weights

from ms_callbacks import (
    BestCheckpoint,
    CSVLogger,
    EarlyStopping,
    GracefulStop,
    History,
    LossMonitor,
    LRWarmup,
    ReduceLROnPlateau,
    TrainingState,
    Validate,
)
from ms_callbacks.cpu import fast_cpu


class Say(Callback):
    """Tells whoever waits outside how far it is; waits for a line from there in some steps, and for long in one.

    What it then waits for lets Python's handlers of signals no more run than a compilation does.
    """

    def __init__(self, seconds_at_end: float, waits_in: Sequence[int], busy_in: int) -> None:
        self.seconds_at_end, self.waits_in, self.busy_in = seconds_at_end, waits_in, busy_in

    def on_train_step_begin(self, run_context: Any) -> None:
        print("step", flush=True)
        if run_context.original_args()["cur_step_num"] in self.waits_in:
            sys.stdin.readline()
        if run_context.original_args()["cur_step_num"] == self.busy_in:
            print("busy", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)  # minutes

    def on_train_end(self, run_context: Any) -> None:
        print("end", flush=True)
        time.sleep(self.seconds_at_end)


def noisy(images: np.ndarray) -> np.ndarray:
    """Images with noise, from random numbers that only the dataset draws."""
    return images + np.random.rand(*images.shape).astype(np.float32) / 4


def told(array: np.ndarray) -> Any:
    """An array as JSON holds it, a large one by its digest."""
    return array.tolist() if array.size < 1000 else hashlib.sha256(array.tobytes()).hexdigest()


def run(
    folder: str,
    mode: str,
    *,
    shuffle: bool,
    every_n_steps: int | None,
    exit_with: Any = None,
    seconds_at_end: float = 0,
    waits_in: Sequence[int] = (),
    busy_in: int = 0,
    background: bool = True,
    ballast: int = 0,
) -> dict[str, Any]:
    """Begins, or continues; returns what the run has come to. `ballast` parameters make its files larger."""
    ms.set_context(mode=getattr(ms, f"{mode.upper()}_MODE"))
    fast_cpu()
    gc.freeze()  # else MindSpore looks for garbage among all that was imported, before each compilation
    ms.set_seed(1)  # for what the network is made with, too
    network = Network()
    if ballast:
        network.ballast = Parameter(Tensor(np.arange(ballast, dtype=np.float32)), requires_grad=False)
    model = make_model(network=network, learning_rate=0.05)
    train = dataset(96, 12, shuffle=shuffle)
    if shuffle:
        train = train.map(noisy, "images", num_parallel_workers=1)
    state = TrainingState(os.path.join(folder, "state"), every_n_steps=every_n_steps, background=background)
    path = os.path.join(folder, "{epoch:02d}.ckpt")
    stopping = EarlyStopping("eval_loss", patience=4, restore_best_weights=True, verbose=0)
    history = History()
    callbacks = [
        stopping,
        LRWarmup(2, after=ReduceLROnPlateau("eval_loss", patience=1, factor=0.5, verbose=0)),
        BestCheckpoint(path, monitor="acc", save_top_k=2, background=background, verbose=0),
        CSVLogger(os.path.join(folder, "log.csv")),
        history,
        state,
        GracefulStop(exit_with=exit_with),
        LossMonitor(per_print_times=5, mean_of="interval"),
        Validate(model, valid_dataset()),
        Say(seconds_at_end, waits_in, busy_in),
    ]
    initial_epoch = state.resume(model, train, epochs=14)
    if not state.finished_:
        model.train(14, train, callbacks=callbacks, initial_epoch=initial_epoch)
    with open(os.path.join(folder, "log.csv"), encoding="utf-8") as file:
        rows = [[row[name] for name in ("epoch", "loss", "acc", "learning_rate")] for row in csv.DictReader(file)]
    kept = {os.path.basename(path): ms.load_checkpoint(path) for path in glob.glob(os.path.join(folder, "*.ckpt"))}
    timed = ("seconds", "samples_per_second")
    return {
        "parameters": {name: told(array) for name, array in weights(model.train_network).items()},
        "history": {name: values for name, values in history.history.items() if name not in timed},
        "rows": rows,
        "stopped": [stopping.stopped_epoch_, stopping.best_epoch_, stopping.best_, stopping.wait_],
        "kept": {
            name: {key: told(parameter.asnumpy()) for key, parameter in content.items()}
            for name, content in sorted(kept.items())
        },
    }


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    outcome = run(**arguments)
    with open(os.path.join(arguments["folder"], "outcome.json"), "w", encoding="utf-8") as file:
        json.dump(outcome, file)
