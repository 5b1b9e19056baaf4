"""One of several processes that train one network on different data, and validate it on parts of different sizes."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from typing import Any

import mindspore as ms
import numpy as np
from mindspore.communication import get_group_size, get_rank, init
from mindspore.train import Callback
from training import Network, dataset, make_model, weights

from ms_callbacks import (
    BestCheckpoint,
    ConfusionMatrix,
    CSVLogger,
    EarlyStopping,
    GracefulStop,
    History,
    LossMonitor,
    ReduceLROnPlateau,
    TrainingState,
    Validate,
)
from ms_callbacks.cpu import fast_cpu


class Own(Callback):
    """The loss and accuracy of this rank's own shard, as it would have seen them alone; the rate of each epoch.

    Kills the process in a step, sends it a signal, or waits there until one comes or its file `held` is removed; tells
    where the run has ended.
    """

    def __init__(self, model: ms.Model, valid: Any, folder: str, stop: GracefulStop, at: dict[str, int]) -> None:
        self.model, self.valid, self.folder, self.stop, self.at = model, valid, folder, stop, at
        self.rates: list[float] = []
        self.values: list[dict[str, float]] = []

    def on_train_step_end(self, run_context: Any) -> None:
        step = run_context.original_args()["cur_step_num"]
        if "signal" in self.at:
            time.sleep(0.4)  # as a step of a large network takes, two of which pass until all have heard of a signal
        if step == self.at.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == self.at.get("signal"):
            os.kill(os.getpid(), signal.SIGINT)
        if step == self.at.get("hold"):
            with open(os.path.join(self.folder, "held"), "w") as file:
                until = time.monotonic() + 60
            while not self.stop.signal_ and os.path.exists(file.name) and time.monotonic() < until:
                time.sleep(0.01)

    def on_train_epoch_end(self, run_context: Any) -> None:
        self.rates.append(float(self.model.train_network.optimizer.learning_rate.asnumpy()))
        self.values.append(self.model.eval(self.valid))

    def on_train_end(self, run_context: Any) -> None:
        args = run_context.original_args()
        if "signal" in self.at and get_rank() == 0:
            time.sleep(2.5)  # twice as long as msrun takes to see that another process has exited
        ended = {"epoch": args["cur_epoch_num"], "step": args["cur_step_num"], "signal": self.stop.signal_}
        with open(os.path.join(self.folder, f"ended-{get_rank()}.json"), "w", encoding="utf-8") as file:
            json.dump(ended, file)


def make_network() -> Network:
    """One that has parameters of other kinds too than those that can be summed over ranks."""
    ms.set_seed(1)  # every process begins with the same weights
    network = Network()
    network.table = ms.Parameter(ms.Tensor(np.array([1, -2], np.int8)), name="table", requires_grad=False)
    return network


def main(
    folder: str, mode: str = "graph", rank: int = 1, exit_with: Any = None, apart: bool = False, **at: int
) -> None:
    """Trains in several processes; in the one of the given rank, something happens at a step.

    Where they are apart, as on machines that share no folder, the files of all but the first would be in another.
    """
    ms.set_context(mode=getattr(ms, f"{mode.upper()}_MODE"), device_target="CPU")
    fast_cpu()
    gc.freeze()  # else MindSpore looks for garbage among all that was imported, before each compilation
    init()
    own_rank, ranks = get_rank(), get_group_size()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    model = make_model(network=make_network(), learning_rate=0.05)
    train = dataset(240 // ranks, 12, seed=own_rank)
    valid = dataset(10 + 14 * own_rank, 12, seed=10 + own_rank)
    stop = GracefulStop(exit_with=exit_with)
    own = Own(model, valid, folder, stop, at if own_rank == rank else dict.fromkeys(at, 0))
    stopping = EarlyStopping("eval_loss", patience=4, restore_best_weights=True)
    files = os.path.join(folder, "apart") if apart and own_rank else folder
    os.makedirs(files, exist_ok=True)
    best = BestCheckpoint(os.path.join(files, "best.ckpt"), monitor="acc")
    history, matrix, state = History(), ConfusionMatrix(), TrainingState(os.path.join(files, "state"))
    model.train(
        20,
        train,
        callbacks=[
            stop,
            stopping,
            ReduceLROnPlateau("eval_loss", patience=1, factor=0.5),
            best,
            CSVLogger(os.path.join(files, "log.csv")),
            history,
            matrix,
            state,
            LossMonitor(per_print_times=0),
            Validate(model, valid),
            own,
        ],
        initial_epoch=state.resume(model, train),
    )
    try:
        make_model().fit(1, dataset(), valid, callbacks=[EarlyStopping("acc")])
    except ValueError as error:
        refused = str(error)
    final = {name: array.tolist() for name, array in weights(model.predict_network).items()}
    if os.path.exists(best.filepath):  # on the first machine
        assert best.load_into(model.predict_network)["epoch"] == best.best_epoch_
    outcome = {
        "rank": own_rank,
        "stopped": [stopping.stopped_epoch_, stopping.best_epoch_, stopping.best_],
        "best": [best.best_epoch_, best.best_],
        "rates": own.rates,
        "acc": history.history["acc"],
        "eval_loss": history.history["eval_loss"],
        "loss": history.history["loss"],
        "trained": [a * b for a, b in zip(history.history["samples_per_second"], history.history["seconds"])],
        "own": own.values,
        "samples": 10 + 14 * own_rank,
        "matrix": int(matrix.matrix_.sum()),
        "refused": refused,
        "weights": final,
        "best_weights": {name: array.tolist() for name, array in weights(model.predict_network).items()},
    }
    with open(os.path.join(folder, f"outcome-{own_rank}.json"), "w", encoding="utf-8") as file:
        json.dump(outcome, file)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
