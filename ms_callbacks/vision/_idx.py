"""Read MNIST's IDX files at NumPy's speed, and refuse a damaged one by name.

An IDX file is a magic number, one big-endian 32-bit size per dimension, and the bytes themselves. Everything that the
header states is checked against the content, because otherwise a truncated or wrong file would silently be trained on.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FILES", "find", "read_images", "read_labels", "read_split"]

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The names of the image file and the label file of each split, without `.gz`."""

_IMAGES, _LABELS = 0x00000803, 0x00000801
_KINDS = {_IMAGES: "images", _LABELS: "labels"}
_SHAPE = (28, 28)
_CLASSES = 10
_MEND = "replace it, or delete it and pass download=True"


def read_split(folder: Path, split: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Read the images and the labels of one split.

    Args:
        folder: The folder with the split's two files, raw or `.gz`; a raw file is preferred.
        split: `"train"` or `"test"`.

    Returns:
        Images, `uint8` of shape (n, 28, 28), and labels, `int32` of shape (n,).

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the two do not belong together.
    """
    images_path, labels_path = (find(folder, name) for name in FILES[split])
    images, labels = read_images(images_path), read_labels(labels_path)
    if len(images) != len(labels):
        raise ValueError(
            f"Mnist: {images_path} holds {len(images)} images but {labels_path} holds {len(labels)} labels: "
            "expected the same number of each; delete both and pass download=True, or put a matching pair there"
        )
    return images, labels


def find(folder: Path, name: str) -> Path:
    """Return the path of the file `name` if it exists, otherwise of its `.gz`.

    Raises:
        FileNotFoundError: If neither exists.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"Mnist: neither '{name}' nor '{name}.gz' is in '{folder}': put one there, or pass download=True to fetch it"
    )


def read_images(path: Path) -> np.ndarray[Any, Any]:
    """Return the images of one file, `uint8` of shape (n, 28, 28), n >= 1.

    Raises:
        ValueError: If the file is not a complete IDX file of such images.
    """
    images = _read(path, _IMAGES, ndim=3)
    if images.shape[1:] != _SHAPE:
        raise ValueError(f"Mnist: {path} holds images of {images.shape[1:]} pixels, expected {_SHAPE}; {_MEND}")
    return images


def read_labels(path: Path) -> np.ndarray[Any, Any]:
    """Return the labels of one file, `int32` of shape (n,), n >= 1, each from 0 to 9.

    Raises:
        ValueError: If the file is not a complete IDX file of such labels.
    """
    labels = _read(path, _LABELS, ndim=1)
    if labels.max() >= _CLASSES:
        first = int(np.argmax(labels >= _CLASSES))
        raise ValueError(f"Mnist: {path} holds the label {labels[first]} at index {first}, expected 0 to 9; {_MEND}")
    return labels.astype(np.int32)


def _read(path: Path, magic: int, ndim: int) -> np.ndarray[Any, Any]:
    data = _bytes(path)
    _check_magic(path, data, magic)
    header = 4 + 4 * ndim
    if len(data) < header:
        raise ValueError(f"Mnist: {path} ends after {len(data)} bytes, inside its header of {header}; {_MEND}")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=ndim, offset=4))
    if len(data) - header != math.prod(shape):
        raise ValueError(
            f"Mnist: {path} holds {len(data) - header} bytes of {_KINDS[magic]}, expected {math.prod(shape)} "
            f"for the shape {shape} in its header; {_MEND}"
        )
    if not shape[0]:
        raise ValueError(f"Mnist: {path} holds 0 {_KINDS[magic]}, expected at least one; {_MEND}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _bytes(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path, "rb") as file:
            return file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"Mnist: {path} is not a complete gzip file ({error}); {_MEND}") from error


def _check_magic(path: Path, data: bytes, magic: int) -> None:
    found = int.from_bytes(data[:4], "big")
    if len(data) >= 4 and found == magic:
        return
    if not data:
        raise ValueError(f"Mnist: {path} is empty, expected an IDX file of {_KINDS[magic]}; {_MEND}")
    if found in _KINDS:
        why = f"holds {_KINDS[found]}, but its name says {_KINDS[magic]}: it is mislabelled"
    elif data[:2] == b"\x1f\x8b":
        why = "is compressed: add the ending '.gz' to its name"
    else:
        why = f"is not an IDX file of {_KINDS[magic]}"
    raise ValueError(f"Mnist: {path} {why} (it starts with 0x{data[:4].hex()}, expected 0x{magic:08x}); {_MEND}")
