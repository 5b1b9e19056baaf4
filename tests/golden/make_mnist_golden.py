"""Makes mnist.npz: what mindvision 0.1.0, as published, makes of the carried digits.

Run it with MindSpore 2.0.0 (Python 3.9, numpy<1.25), the only version on which mindvision 0.1.0 works unchanged:

    python tests/golden/make_mnist_golden.py
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import mindspore
import numpy as np
from mindvision.classification.dataset import Mnist

DIGITS = Path(__file__).parents[2] / "examples" / "data" / "mnist" / "test"
SIZES = (32, 28, 20, (40, 24))
KEPT = 8  # images of which every pixel is kept


def run(root: Path, resize: int | tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all test images and labels in the order of the files."""
    dataset = Mnist(str(root), split="test", batch_size=100, shuffle=False, resize=resize).run()
    batches = list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    return np.concatenate([batch[0] for batch in batches]), np.concatenate([batch[1] for batch in batches])


def main() -> None:
    """Writes the file beside this one."""
    assert mindspore.__version__ == "2.0.0", mindspore.__version__
    golden = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test").mkdir()
        for archive in DIGITS.glob("*.gz"):  # mindvision reads raw files only
            (Path(folder) / "test" / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
        for size in SIZES:
            images, labels = run(Path(folder), size)
            name = f"{size}" if isinstance(size, int) else f"{size[0]}x{size[1]}"
            golden[f"images_{name}"] = images[:KEPT]
            golden[f"mean_{name}"] = images.mean(axis=(1, 2, 3), dtype=np.float64)
            golden[f"mean_square_{name}"] = np.square(images, dtype=np.float64).mean(axis=(1, 2, 3))
    golden["labels"] = labels
    np.savez_compressed(Path(__file__).with_name("mnist.npz"), **golden)


if __name__ == "__main__":
    main()
