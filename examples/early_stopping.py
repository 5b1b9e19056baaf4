"""Early stopping and a stepped learning rate: a network of 3.2 million parameters that keeps its best weights.

A loop that counts epochs without improvement, rebuilds Adam to lower the rate and saves the best weights becomes four
callbacks. Look at the line for each epoch: losses, accuracy, the rate as a number, the best so far and the misses; and
at the last line: the network has its best weights, and Adam still has its moments.
"""

from __future__ import annotations

import os

import digits
import mindspore as ms
from mindspore import Tensor, nn

from ms_callbacks import BestCheckpoint, EarlyStopping, LossMonitor, LRStepDecay, Validate


class Network(nn.Cell):
    """Two convolutions and two dense layers; 3,241,258 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.SequentialCell(
            nn.Conv2d(1, 32, 3, pad_mode="same"),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(32, 64, 3, pad_mode="same"),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Flatten(),
            nn.Dense(3136, 1024),
            nn.ReLU(),
            nn.Dropout(p=0.5),
            nn.Dense(1024, 10),
        )

    def construct(self, x: Tensor) -> Tensor:
        """Return logits of shape (n, 10) for images of shape (n, 1, 28, 28)."""
        return self.layers(x)


def main() -> None:
    """Train until the accuracy has not improved for three epochs."""
    options = digits.parser(__doc__, epochs=15, batch_size=64, learning_rate=1e-3)
    options.add_argument("--patience", type=int, default=3)
    args = options.parse_args()
    digits.start(args)
    train, valid = digits.load(args)

    network = Network()
    optimizer = nn.Adam(network.trainable_params(), args.learning_rate, weight_decay=1e-4)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(network, loss_fn, optimizer, metrics={"acc"})
    model.train(
        args.epochs,
        train,
        callbacks=[
            LRStepDecay(5, gamma=0.5),
            LossMonitor(per_print_times=max(train.get_dataset_size() // 4, 50)),
            Validate(model, valid),
            EarlyStopping("acc", patience=args.patience, restore_best_weights=True, verbose=2),
            BestCheckpoint(
                os.path.join(args.output_dir, "early_stopping.ckpt"), monitor="acc", overwrite=True, verbose=0
            ),
        ],
    )
    print(f"The network as it is now: accuracy {model.eval(valid)['acc']:.4f}")


if __name__ == "__main__":
    main()
