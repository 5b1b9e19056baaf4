"""Debug a run without touching the network: shapes, values, batch accuracy, dying layers, L2 for one layer.

Look at the layer table before the first step, the batch accuracy next to the loss, the layers' values and contents at
step 401 (also drawn as a picture), and the last lines: the saved parameters give the same figures in a fresh network.
"""

from __future__ import annotations

import os

import digits
import mindspore as ms
from mindspore import nn

from ms_callbacks import ActivationMonitor, BatchAccuracy, BestCheckpoint, ShapeInspector, Validate

OPTIMIZERS = {
    "sgd": nn.SGD,
    "momentum": lambda groups, rate: nn.Momentum(groups, rate, momentum=0.9),
    "adagrad": nn.Adagrad,
    "adam": nn.Adam,
}


def make_network() -> nn.SequentialCell:
    """Return two convolutions with 20 channels each and a dense layer."""
    return nn.SequentialCell(
        nn.Conv2d(1, 20, 5, pad_mode="pad", padding=2, has_bias=True),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(20, 20, 5, pad_mode="pad", padding=2, has_bias=True),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Dense(980, 10),
    )


def main() -> None:
    """Train with everything that shows what happens inside the network."""
    options = digits.parser(__doc__, epochs=8, batch_size=64, learning_rate=0.01)
    options.add_argument("--optimizer", choices=list(OPTIMIZERS), default="momentum")
    options.add_argument("--l2", type=float, default=1e-4, help="weight decay, for the last layer only")
    args = options.parse_args()
    digits.start(args)
    train, valid = digits.load(args)

    network = make_network()
    last = network[len(network) - 1].trainable_params()
    others = [one for one in network.trainable_params() if all(one is not other for other in last)]
    groups = [{"params": last, "weight_decay": args.l2}, {"params": others, "weight_decay": 0.0}]
    accuracy = BatchAccuracy(200)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    optimizer = OPTIMIZERS[args.optimizer](groups, args.learning_rate)
    model = ms.Model(network, accuracy.watch(loss_fn), optimizer, metrics={"acc"})
    best = BestCheckpoint(os.path.join(args.output_dir, "debugging.ckpt"), monitor="acc", overwrite=True, verbose=0)
    validate = Validate(model, valid)
    model.train(
        args.epochs,
        train,
        callbacks=[
            ShapeInspector(
                show_values_at=(401,), contents=True, picture=os.path.join(args.output_dir, "step-{step}.png")
            ),
            accuracy,
            ActivationMonitor(),
            validate,
            best,
        ],
    )
    fresh = ms.Model(make_network(), loss_fn, metrics={"acc", "loss"})
    saved = best.load_into(fresh.predict_network)
    figures = fresh.eval(valid)
    print(f"Saved in epoch {saved['epoch']}: accuracy {saved['value']:.4f}")
    print(f"Loaded into a fresh network: loss {figures['loss']:.4f}, accuracy {figures['acc']:.4f}")


if __name__ == "__main__":
    main()
