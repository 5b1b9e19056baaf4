"""IDX files: what is read, and what is refused by name."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from ms_callbacks.vision import _idx

IMAGES, LABELS = 0x803, 0x801


def idx(magic: int, array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.astype(np.uint8).tobytes()


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 28, 28))
DIGITS = np.arange(12) % 10
GOOD_IMAGES, GOOD_LABELS = idx(IMAGES, PIXELS), idx(LABELS, DIGITS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a whole, raw training set of twelve digits."""
    (tmp_path / "train-images-idx3-ubyte").write_bytes(GOOD_IMAGES)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(GOOD_LABELS)
    return tmp_path


def test_raw(folder: Path) -> None:
    """Raw files come as bytes and 32-bit labels, value by value what was written."""
    images, labels = _idx.read_split(folder, "train")
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(images, PIXELS)
    np.testing.assert_array_equal(labels, DIGITS)


def test_gz(folder: Path) -> None:
    """Compressed files give the same as raw ones."""
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    images, labels = _idx.read_split(folder, "train")
    np.testing.assert_array_equal(images, PIXELS)
    np.testing.assert_array_equal(labels, DIGITS)


def test_raw_is_preferred(folder: Path) -> None:
    """Where a raw and a compressed file lie side by side, the raw one is read."""
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"rubbish")
    images, _ = _idx.read_split(folder, "train")
    assert len(images) == 12


def test_missing(folder: Path) -> None:
    """A missing file's error names both names looked for, the folder, and download=True."""
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError) as error:
        _idx.read_split(folder, "train")
    for part in ("'train-labels-idx1-ubyte'", "'train-labels-idx1-ubyte.gz'", str(folder), "download=True"):
        assert part in str(error.value)


def test_counts_differ(folder: Path) -> None:
    """Images and labels of different number are refused, with both files and both numbers."""
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS, DIGITS[:11]))
    with pytest.raises(ValueError, match=r"images-idx3-ubyte holds 12 images but .*labels-idx1-ubyte holds 11 labels"):
        _idx.read_split(folder, "train")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD_LABELS, "holds labels, but its name says images: it is mislabelled"),
        (gzip.compress(GOOD_IMAGES, mtime=0), "is compressed: add the ending '.gz' to its name"),
        (b"<html>404</html>", "is not an IDX file of images .it starts with 0x3c68746d, expected 0x00000803"),
        (b"", "is empty, expected an IDX file of images"),
        (GOOD_IMAGES[:3], "is not an IDX file of images"),
        (GOOD_IMAGES[:10], "ends after 10 bytes, inside its header of 16"),
        (GOOD_IMAGES[:-1], r"holds 9407 bytes of images, expected 9408 for the shape \(12, 28, 28\)"),
        (GOOD_IMAGES + b"\0", "holds 9409 bytes of images, expected 9408"),
        (idx(IMAGES, np.zeros((3, 32, 32))), r"holds images of \(32, 32\) pixels, expected \(28, 28\)"),
        (idx(IMAGES, np.zeros((0, 28, 28))), "holds 0 images, expected at least one"),
    ],
)
def test_bad_images(tmp_path: Path, data: bytes, message: str) -> None:
    """Each kind of damage to an images file is named, with the file and how to mend it."""
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path} {message}.*delete it and pass download=True"):
        _idx.read_images(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD_IMAGES, "holds images, but its name says labels: it is mislabelled"),
        (GOOD_LABELS[:-2], "holds 10 bytes of labels, expected 12"),
        (idx(LABELS, np.array([3, 10, 17])), "holds the label 10 at index 1, expected 0 to 9"),
        (idx(LABELS, np.array([])), "holds 0 labels, expected at least one"),
    ],
)
def test_bad_labels(tmp_path: Path, data: bytes, message: str) -> None:
    """Each kind of damage to a labels file is named, with the file and how to mend it."""
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path} {message}.*delete it and pass download=True"):
        _idx.read_labels(path)


PACKED = gzip.compress(GOOD_IMAGES, mtime=0)


@pytest.mark.parametrize(
    "data",
    [PACKED[:-500], PACKED[:-4], PACKED[:20] + b"\xff" * 20 + PACKED[40:], PACKED[:-8] + bytes(8), GOOD_IMAGES],
    ids=["cut", "cut-at-the-end", "garbled", "checksum", "not-gzip"],
)
def test_bad_gz(tmp_path: Path, data: bytes) -> None:
    """A damaged archive gives the same kind of error as any damaged file, not one of zlib's."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path} is not a complete gzip file .*delete it and pass download=True"):
        _idx.read_images(path)
