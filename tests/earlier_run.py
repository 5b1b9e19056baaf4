"""A small run whose files a later version of the package has to read: made with what version 0.1 had."""

from __future__ import annotations

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn
from mindspore.train import Callback, Model
from training import CLASSES, SIZE, dataset, loss_fn, valid_dataset

from ms_callbacks import (
    BestCheckpoint,
    CSVLogger,
    EarlyStopping,
    History,
    LossMonitor,
    LRStepDecay,
    TrainingState,
    Validate,
)

CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")  # not MindSpore 2.0


class Interrupted(Exception):
    """What ends the run in its middle."""


class Interrupt(Callback):
    def __init__(self, step):
        self._step = step

    def on_train_step_end(self, run_context):
        if run_context.original_args()["cur_step_num"] == self._step:
            raise Interrupted


def make():
    """The Model, its dataset, and the callbacks."""
    ms.set_seed(1)
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(SIZE * SIZE, CLASSES))
    weight = np.random.RandomState(0).randn(CLASSES, SIZE * SIZE).astype(np.float32)
    network[1].weight.set_data(Tensor(weight))
    network[1].bias.set_data(Tensor(np.zeros(CLASSES, np.float32)))
    model = Model(network, loss_fn(), nn.Momentum(network.trainable_params(), 0.1, 0.9), metrics={"acc"})
    callbacks = {
        "state": TrainingState("state", every_n_steps=2 if CAN_BEGIN_WITHIN else None, keep=2),
        "stopping": EarlyStopping("eval_loss", patience=9, restore_best_weights=True, verbose=0),
        "best": BestCheckpoint("best.ckpt", monitor="acc", verbose=0),
        "schedule": LRStepDecay(1, 0.5),
        "history": History(),
        "log": CSVLogger("log.csv"),
        "monitor": LossMonitor(per_print_times=3),
        "validate": Validate(model, valid_dataset()),
    }
    return model, dataset(), callbacks


def run(epochs=4, interrupt_at=None, resume=False):
    """Trains in the working directory; returns the Model and the callbacks."""
    model, data, callbacks = make()
    begun = callbacks["state"].resume(model, data, epochs=epochs) if resume else 0
    others = [] if interrupt_at is None else [Interrupt(interrupt_at)]
    model.train(epochs, data, callbacks=[*callbacks.values(), *others], initial_epoch=begun)
    return model, callbacks
