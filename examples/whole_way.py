"""A complete workflow: augment, train, look at the errors, explain, attack, export, shrink, fine-tune.

Look for the confusion matrix and the hardest digits (with pictures), where the network looks (Grad-CAM), how it
withstands small attacks (FGSM) because it was trained on attacked samples (`--epsilon 0` trains on plain ones), the
exported MindIR whose outputs were compared, and the file of 8-bit weights with its effect on accuracy.
`--fine-tune-from output/whole_way.ckpt` starts from the weights of an earlier run, with the convolutions frozen.
"""

from __future__ import annotations

import os

import digits
import mindspore as ms
from mindspore import Tensor, nn
from mindspore.dataset import vision

from ms_callbacks import (
    AdversarialTraining,
    BestCheckpoint,
    ConfusionMatrix,
    EarlyStopping,
    ExportBest,
    HardExamples,
    LossMonitor,
    LRCosineAnnealing,
    Robustness,
    Validate,
    freeze,
    grad_cam,
    load_int8_weights,
    save_int8_weights,
)

MEAN, STD = 0.1307, 0.3081  # of MNIST's pixels in [0, 1], to normalise them


class LeNet5(nn.Cell):
    """LeNet-5 for 28 × 28 pixels; 44,404 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid")
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid")
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2, 2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Dense(256, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, 10)

    def construct(self, x: Tensor) -> Tensor:
        """Return logits of shape (n, 10) for images of shape (n, 1, 28, 28)."""
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.fc1(self.flatten(x)))
        return self.fc3(self.relu(self.fc2(x)))


def augmentation() -> list:
    """Return transforms for MindSpore's C++ pipeline: rotate up to 15 degrees, shift up to 2 pixels, scale as usual."""
    shift = 2 / 28
    return [
        vision.RandomAffine(degrees=15, translate=(-shift, shift, -shift, shift), resample=vision.Inter.BILINEAR),
        vision.Rescale(1 / 255 / STD, -MEAN / STD),
        vision.HWC2CHW(),
    ]


def main() -> None:
    """Train, then use the best weights in every way the library offers."""
    options = digits.parser(__doc__, epochs=15, batch_size=64, learning_rate=1e-3)
    options.add_argument(
        "--epsilon", type=float, default=0.3, help="train on samples attacked by this much; 0 trains on plain ones"
    )
    options.add_argument("--fine-tune-from", metavar="CHECKPOINT", help="start from the weights of this checkpoint")
    args = options.parse_args()
    digits.start(args)
    train, valid = digits.load(args, augmentation())

    network = LeNet5()
    if args.fine_tune_from:
        BestCheckpoint(args.fine_tune_from).load_into(network)
        print("Frozen:", ", ".join(freeze(network, "conv1", "conv2")))
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(network, loss_fn, nn.Adam(network.trainable_params(), args.learning_rate), metrics={"acc"})

    bounds = (-MEAN / STD, (1 - MEAN) / STD)
    robust = [AdversarialTraining(args.epsilon, bounds=bounds)] if args.epsilon else []

    def output(name: str) -> str:
        return os.path.join(args.output_dir, name)

    model.train(
        args.epochs,
        train,
        callbacks=[
            *robust,
            LRCosineAnnealing(args.epochs, eta_min=args.learning_rate / 10),
            LossMonitor(per_print_times=0),
            Validate(model, valid),
            EarlyStopping("acc", patience=args.epochs, restore_best_weights=True),
            BestCheckpoint(output("whole_way.ckpt"), monitor="acc", overwrite=True, verbose=0),
            ConfusionMatrix(picture=output("confusion.png")),
            HardExamples(16, picture=output("hard.png")),
            Robustness(valid, (0.0, 0.05, 0.1, 0.2), max_batches=5),
            ExportBest(output("lenet.mindir"), monitor="acc"),
        ],
    )
    images, labels = next(valid.create_tuple_iterator(num_epochs=1))
    grad_cam(network, "conv2", images[:8], targets=labels[:8].asnumpy().tolist(), picture=output("grad_cam.png"))
    accuracy = model.eval(valid)["acc"]
    record = save_int8_weights(network, output("lenet.int8"))
    load_int8_weights(output("lenet.int8"), network)
    print(
        f"Accuracy {accuracy:.4f}; with 8-bit weights, at {record['ratio']:.3f} of the size, "
        f"{model.eval(valid)['acc']:.4f}"
    )


if __name__ == "__main__":
    main()
