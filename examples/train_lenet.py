"""LeNet on MNIST through `Model.train`: what callbacks add to a run, from the first step to the best weights.

Train mindvision's LeNet on the 4,000 digits in `data/mnist` and validate on another 1,000, or use all of MNIST with
`--data-dir` or `--download`. Look in the output for the layer table, the loss lines with the optimizer's actual
learning rate, the drop of that rate every `--step-size` epochs, the validation after each epoch, the reason why the run
stopped, and the last line: a fresh network with the best checkpoint has the same accuracy as the best epoch.
"""

from __future__ import annotations

import argparse
import os
import pathlib

import mindspore as ms
from mindspore import nn

from ms_callbacks import BestCheckpoint, EarlyStopping, LossMonitor, LRStepDecay, ShapeInspector, Validate
from ms_callbacks.cpu import fast_cpu
from ms_callbacks.vision import Mnist, lenet

CARRIED_DIGITS = pathlib.Path(__file__).parent / "data" / "mnist"
MODES = {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}


def main(args: argparse.Namespace) -> float:
    """Train, and return the accuracy of the best checkpoint in a fresh network."""
    ms.set_context(mode=MODES[args.mode])
    fast_cpu()  # before anything runs; on some processors MindSpore is many times slower without it
    ms.set_seed(args.seed)
    os.makedirs(args.output_dir, exist_ok=True)

    data = {"path": args.data_dir, "download": args.download}
    train = Mnist(split="train", batch_size=args.batch_size, shuffle=True, **data).run()
    valid = Mnist(split="test", batch_size=200, shuffle=False, **data).run()

    def make_model() -> tuple[ms.Model, nn.Cell]:
        network = lenet(num_classes=10)
        loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
        optimizer = nn.Momentum(network.trainable_params(), args.learning_rate, momentum=0.9)
        return ms.Model(network, loss_fn, optimizer, metrics={"acc"}), network

    model, _ = make_model()
    best = BestCheckpoint(os.path.join(args.output_dir, "best.ckpt"), monitor="acc", overwrite=True)
    model.train(
        args.epochs,
        train,
        callbacks=[
            ShapeInspector(),
            LRStepDecay(args.step_size, gamma=0.5),
            LossMonitor(per_print_times=train.get_dataset_size()),
            Validate(model, valid),
            EarlyStopping("acc", patience=args.patience),
            best,
        ],
        dataset_sink_mode=False,
    )

    fresh, network = make_model()
    record = best.load_into(network)
    accuracy = fresh.eval(valid, dataset_sink_mode=False)["acc"]
    print(f"Best epoch {record['epoch']}: accuracy {record['value']:.4f}; in a fresh network: {accuracy:.4f}")
    return accuracy


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the options, whose defaults suit the digits in `data/mnist`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default=str(CARRIED_DIGITS), help="folder with train/ and test/ in IDX format")
    parser.add_argument("--download", action="store_true", help="fetch all of MNIST into --data-dir (default: mnist)")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.03)
    parser.add_argument(
        "--step-size", type=int, default=5, help="number of epochs after which the learning rate is halved"
    )
    parser.add_argument("--patience", type=int, default=3, help="epochs without improvement before the run stops")
    parser.add_argument("--mode", choices=list(MODES), default="graph")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output-dir", default="output")
    args = parser.parse_args(argv)
    if args.download and args.data_dir == str(CARRIED_DIGITS):
        args.data_dir = "mnist"
    return args


if __name__ == "__main__":
    main(parse_args())
