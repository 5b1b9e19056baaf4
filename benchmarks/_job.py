"""One job in three ways, each a process that works in turns: `python -m benchmarks._job WAY FOLDER`.

The job is that of examples/early_stopping.py, with its network and settings, on all of MNIST.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
from typing import Any

import mindspore as ms
from mindspore import nn

from benchmarks import _tutorial_loop
from benchmarks._turns import Turns
from ms_callbacks import BestCheckpoint, EarlyStopping, LossMonitor, LRStepDecay, Validate
from ms_callbacks.cpu import fast_cpu
from ms_callbacks.vision import Mnist

sys.path.append(str(pathlib.Path(__file__).parent.parent / "examples"))
from early_stopping import Network  # importable from here on

SEED = 1


def with_callbacks(folder: str, checkpoint: str, turns: Turns) -> None:
    """Run the job as the example does."""
    ms.set_context(mode=ms.GRAPH_MODE)
    fast_cpu()
    ms.set_seed(SEED)
    train = Mnist(folder, "train", batch_size=64, shuffle=True, resize=28).run()
    network = Network()
    optimizer = nn.Adam(network.trainable_params(), 1e-3, weight_decay=1e-4)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(network, loss_fn, optimizer, metrics={"acc"})
    turns.can_evaluate(lambda batches: model.eval(test_digits(folder, batches)))
    validate = Validate(model, test_digits(folder, 100))
    model.train(
        15,
        train,
        callbacks=[
            LRStepDecay(5, gamma=0.5),
            LossMonitor(per_print_times=50),
            validate,
            EarlyStopping("acc", patience=3, restore_best_weights=True, verbose=2),
            BestCheckpoint(checkpoint, monitor="acc", overwrite=True, verbose=0),
            TakeTurns(turns, validate),
        ],
    )


def test_digits(folder: str, batches: int) -> Any:
    """Return the first batches of 100."""
    digits = Mnist(folder, "test", batch_size=100, shuffle=False, resize=28)
    digits.image, digits.label = digits.image[: 100 * batches], digits.label[: 100 * batches]
    return digits.run()


class TakeTurns(ms.Callback):
    """Have `Model.train` work in turns; last in the list, so that the other callbacks' work is included."""

    def __init__(self, turns: Turns, validate: Validate) -> None:
        super().__init__()
        self.turns = turns
        self.validate = validate

    def on_train_step_end(self, run_context: Any) -> None:
        """End a turn of steps."""
        self.turns.after_step(run_context.original_args().net_outputs)

    def on_train_epoch_end(self, run_context: Any) -> None:
        """End a turn of an epoch."""
        self.turns.after_epoch(self.validate.results_["acc"])


def loop_as_printed(folder: str, checkpoint: str, turns: Turns) -> None:
    """Run the tutorial's loop in MindSpore's default mode, without any setting."""
    ms.set_seed(SEED)
    _tutorial_loop.train(Network(), folder, checkpoint, turns)


def loop_tuned(folder: str, checkpoint: str, turns: Turns) -> None:
    """Run the same loop with everything that makes MindSpore fast in its default mode on a CPU."""
    fast_cpu()
    loop_as_printed(folder, checkpoint, turns)


WAYS = {"ours": with_callbacks, "as-printed": loop_as_printed, "tuned": loop_tuned}

if __name__ == "__main__":
    way, digits_folder = sys.argv[1:]
    with tempfile.TemporaryDirectory() as output:
        WAYS[way](digits_folder, os.path.join(output, "best.ckpt"), Turns())
