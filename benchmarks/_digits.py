"""MNIST's files as the benchmarks need them: raw, in a folder of their own, with real or random pixels."""

from __future__ import annotations

import pathlib
import struct
from typing import Any

import numpy as np

from ms_callbacks.vision import Mnist
from ms_callbacks.vision._idx import FILES

__all__ = ["random_digits", "real_digits", "write"]


def random_digits(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return random images and labels; the content of an image does not affect the time."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)


def real_digits(data_dir: str, split: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a split's images and labels from files that may be compressed, which the compared code cannot read."""
    mnist = Mnist(data_dir, split)
    return mnist.image[..., 0], mnist.label


def write(folder: str, split: str, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    """Write the two files of a split into its folder."""
    path = pathlib.Path(folder, split)
    path.mkdir()
    for name, array in zip(FILES[split], (images, labels)):
        header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
        (path / name).write_bytes(header + array.astype(np.uint8).tobytes())
