"""Step, cosine and plateau schedules on a better CNN, with and without batch norm, and the curves of the run.

Try `--schedule step`, `cosine` and `plateau`, and `--batch-norm`. Look at the learning rate in the lines, the mean loss
of each interval of 100 batches, and the picture saved at the end: loss, accuracy and learning rate by epoch.
"""

from __future__ import annotations

import os

import digits
import mindspore as ms
from mindspore import nn

from ms_callbacks import (
    CSVLogger,
    History,
    LossMonitor,
    LRCosineAnnealing,
    LRStepDecay,
    ReduceLROnPlateau,
    Validate,
    plot_history,
)

SCHEDULES = {
    "step": lambda: LRStepDecay(5, gamma=0.5),
    "cosine": lambda: LRCosineAnnealing(20),
    "plateau": lambda: ReduceLROnPlateau("eval_loss", factor=0.5, patience=1),
}


def make_network(batch_norm: bool) -> nn.Cell:
    """Return two convolutions with dropout between the dense layers; 206,922 parameters without batch norm."""

    def block(inputs: int, outputs: int) -> list[nn.Cell]:
        convolution = nn.Conv2d(inputs, outputs, 3, pad_mode="pad", padding=1, has_bias=True)
        return [convolution, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU(), nn.MaxPool2d(2, 2)]

    return nn.SequentialCell(
        *block(1, 16),
        *block(16, 32),
        nn.Dropout(p=0.3),
        nn.Flatten(),
        nn.Dense(1568, 128),
        nn.ReLU(),
        nn.Dropout(p=0.3),
        nn.Dense(128, 10),
    )


def main() -> None:
    """Train with one schedule and draw the curves."""
    options = digits.parser(__doc__, epochs=10, batch_size=64, learning_rate=1e-3)
    options.add_argument("--schedule", choices=list(SCHEDULES), default="step")
    options.add_argument("--batch-norm", action="store_true")
    args = options.parse_args()
    digits.start(args)
    train, valid = digits.load(args)

    network = make_network(args.batch_norm)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(network, loss_fn, nn.Adam(network.trainable_params(), args.learning_rate), metrics={"acc"})
    history = History()
    model.train(
        args.epochs,
        train,
        callbacks=[
            SCHEDULES[args.schedule](),
            LossMonitor(per_print_times=100, mean_of="interval"),
            Validate(model, valid),
            history,
            CSVLogger(os.path.join(args.output_dir, "schedules.csv")),
        ],
    )
    picture = os.path.join(args.output_dir, f"schedules-{args.schedule}.png")
    plot_history(history, picture)
    best = max(history.history["acc"])
    print(f"Best accuracy {best:.2%}, last {history.history['acc'][-1]:.2%}; curves in {picture}")


if __name__ == "__main__":
    main()
