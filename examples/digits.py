"""Shared by the examples: command-line options, and MNIST at 28 × 28 pixels."""

from __future__ import annotations

import argparse
import os
import pathlib
from typing import Any, Optional

import mindspore as ms

from ms_callbacks.cpu import fast_cpu
from ms_callbacks.vision import Mnist

CARRIED_DIGITS = pathlib.Path(__file__).parent / "data" / "mnist"
MODES = {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}


def parser(
    description: str, *, epochs: int, batch_size: Optional[int] = None, learning_rate: Optional[float] = None
) -> argparse.ArgumentParser:
    """Return a parser with the options common to all examples and these defaults; `None` leaves an option out."""
    options = argparse.ArgumentParser(description=description.splitlines()[0])
    options.add_argument("--data-dir", default=str(CARRIED_DIGITS), help="folder with train/ and test/ in IDX format")
    options.add_argument("--epochs", type=int, default=epochs)
    if batch_size is not None:
        options.add_argument("--batch-size", type=int, default=batch_size)
    if learning_rate is not None:
        options.add_argument("--learning-rate", type=float, default=learning_rate)
    options.add_argument("--mode", choices=list(MODES), default="graph")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--output-dir", default="output")
    return options


def start(args: argparse.Namespace) -> None:
    """Set the mode, CPU settings and seed, and create the output folder."""
    ms.set_context(mode=MODES[args.mode])
    fast_cpu()
    ms.set_seed(args.seed)
    os.makedirs(args.output_dir, exist_ok=True)


def load(args: argparse.Namespace, transform: Any = None, **shard: int) -> tuple[Any, Any]:
    """Return the training digits, shuffled, and the validation digits, in order; or one shard of each."""
    train = Mnist(
        args.data_dir,
        "train",
        transform,
        batch_size=args.batch_size,
        shuffle=True,
        resize=28,
        num_parallel_workers=2,
        **shard,
    )
    valid = Mnist(args.data_dir, "test", batch_size=100, shuffle=False, resize=28, **shard)
    return train.run(), valid.run()
