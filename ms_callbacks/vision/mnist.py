"""mindvision's `Mnist`, with the same arguments and samples, read and transformed one batch at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import numpy as np
from mindspore import dataset as ds

from ..core.arguments import check_path
from ..vision._batches import BatchDataset, Batches
from . import _download, _idx, _mindvision

__all__ = ["Mnist"]

_MindvisionMnist: Any = _mindvision.mnist.Mnist


class Mnist(_MindvisionMnist):
    """MNIST as mindvision provides it, read and transformed one batch at a time.

    The folder has mindvision's layout, and each file may be compressed instead (`.gz`; the raw one is preferred)::

        path/train/train-images-idx3-ubyte    path/test/t10k-images-idx3-ubyte
        path/train/train-labels-idx1-ubyte    path/test/t10k-labels-idx1-ubyte

    `run()` returns a MindSpore dataset with the columns `image`, float32 of shape (batch_size, 1, height, width),
    normalised, and `label`, int32 of shape (batch_size,). Samples at the end that do not fill a batch are dropped.

    Without a custom transform, a whole batch is made at once, with the values of mindvision's default transform (to
    1e-5): a bilinear resize, then `(x / 255 - 0.1307) / 0.3081`. To MindSpore each batch is then one row: a dataset
    derived from this one with `map` or similar reports a batch size of 1, and `map` receives whole batches.

    With a custom transform, samples pass through MindSpore one by one, as in mindvision: `transform` receives images as
    float32 of shape (28, 28, 1) from 0 to 255, `target_transform` labels as int32 of shape ().

    Args:
        path: The folder that contains `train` and `test`; with `split="infer"` an image, or a folder of images.
        split: `"train"`, `"test"`, or `"infer"` for image files without labels: then `label` is the image's number, and
            `image` has no channel axis, as in mindvision. Default: `"train"`.
        transform: The transform for an image instead of the default: a MindSpore operation, a callable, or a list of
            these. Default: None.
        target_transform: The transform for a label. Default: None.
        batch_size: Samples per batch. Default: 32.
        repeat_num: Passes over the samples per epoch, at least 1. Default: 1.
        shuffle: Whether to use a new order of the samples in each pass. `None` shuffles too, on every version of
            MindSpore. The order follows from the seed (`mindspore.set_seed`, `mindspore.dataset.config.set_seed`) at
            the time an iterator is created, and each iterator restarts the sequence; without a seed it differs each
            time. The sequence is not the same as mindvision's. On MindSpore 2.8 and later, `set_init_step` resumes it
            in the middle. Default: None.
        num_parallel_workers: Threads for a custom transform; the default pipeline needs one. Default: 1.
        num_shards: Number of equal parts to divide the samples into, for several processes; if the samples do not
            divide evenly, the last parts repeat the first samples. All processes must have the same seed, or none, to
            agree on the order. Default: None.
        shard_id: The index of this part, from 0. Default: None.
        resize: Height and width in pixels: an int for both, or a pair (height, width). Default: 32.
        download: Whether to download files that are missing or damaged; if all are present, nothing is downloaded.
            With several processes, download before starting them. Default: False.

    Attributes:
        image: uint8 of shape (n, 28, 28, 1), read-only.
        label: int32 of shape (n,).

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If an argument is out of range, a file is damaged, or there are too few samples for one batch.
        TypeError: If `shuffle` is neither a bool nor None.
        OSError: If the download fails at every address.

    Example:
        >>> train = Mnist("mnist", split="train", batch_size=32, shuffle=True, download=True).run()
        >>> train.get_dataset_size()
        1875
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str = "train",
        transform: Callable[..., Any] | list[Any] | None = None,
        target_transform: Callable[..., Any] | list[Any] | None = None,
        batch_size: int = 32,
        repeat_num: int = 1,
        shuffle: bool | None = None,
        num_parallel_workers: int = 1,
        num_shards: int | None = None,
        shard_id: int | None = None,
        resize: int | tuple[int, int] = 32,
        download: bool = False,
    ) -> None:
        # mindvision's own constructor is not called: it reads slowly, into four times the memory, and turns off shared
        # memory for the whole process. The attributes that it sets are set here.
        if split not in ("train", "test", "infer"):
            raise ValueError(f"Mnist: split must be 'train', 'test' or 'infer', got {split!r}")
        if shuffle is not None and not isinstance(shuffle, bool):
            raise TypeError(f"Mnist: shuffle must be True, False or None, got {shuffle!r}")
        _check_positive("batch_size", batch_size)
        _check_positive("repeat_num", repeat_num)
        for size in _pair(resize):
            _check_positive("resize", size)
        self.path = check_path("Mnist", "path", path)
        self.split = split
        self.transform = transform
        self.target_transform = target_transform
        self.batch_size = batch_size
        self.repeat_num = repeat_num
        self.shuffle = shuffle
        self.num_parallel_workers = num_parallel_workers
        self.num_shards = num_shards
        self.shard_id = shard_id
        self.resize = resize
        self.download = download
        self.mode = "L"
        self.mr_file = None
        self.columns_list = ("image", "label")
        self.image_id = None
        if download:
            self.download_dataset()
        if split == "infer":
            self.image, self.label = _mindvision.download.read_dataset(self.path)
        else:
            images, self.label = _idx.read_split(Path(self.get_path), split)
            self.image = images[..., np.newaxis]
        self.dataset = self._samples()

    def download_dataset(self) -> None:
        """Download the files of the split that are missing or damaged.

        Raises:
            ValueError: If the split is `"infer"`.
            OSError: If no address provided a file; the message gives a reason for each.
        """
        if self.split == "infer":
            raise ValueError("Mnist: there is nothing to download for split 'infer'; pass download=False")
        folder = Path(self.get_path)
        for name, read in zip(_idx.FILES[self.split], (_idx.read_images, _idx.read_labels)):
            try:
                read(_idx.find(folder, name))
            except (FileNotFoundError, ValueError):
                _download.download(folder, name)

    def run(self) -> Any:
        """Return the dataset to train or evaluate on; each call creates a new one."""
        if self.split == "infer" or self.transform or self.target_transform:
            self.dataset = self._samples()
            return super().run()
        batches = Batches(
            self.image[..., 0],
            self.label,
            size=_pair(self.resize),
            batch_size=self.batch_size,
            repeat_num=self.repeat_num,
            shuffle=self.shuffle is not False,
            num_shards=self.num_shards,
            shard_id=self.shard_id,
        )
        self.dataset = BatchDataset(batches, self.columns_list)
        return self.dataset

    def _samples(self) -> Any:
        """Yield the samples one by one, as mindvision passes them to its transforms."""
        samples = _mindvision.generator.DatasetGenerator(self.image, self.label, mode=self.mode)
        return ds.GeneratorDataset(
            _Arrays(samples, None if self.split == "infer" else np.float32),
            column_names=list(self.columns_list),
            num_parallel_workers=self.num_parallel_workers,
            python_multiprocessing=False,
            shuffle=self.shuffle,
            num_shards=self.num_shards,
            shard_id=self.shard_id,
        )


class _Arrays:
    """Return mindvision's samples as arrays, because MindSpore up to 2.10 fails on NumPy scalars with NumPy 2."""

    def __init__(self, samples: Any, dtype: type | None) -> None:
        self.samples = samples
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        image, label = self.samples[index]
        return np.asarray(image, self.dtype), np.asarray(label)


def _pair(resize: Any) -> tuple[int, int]:
    if not isinstance(resize, (tuple, list)):
        return resize, resize
    if len(resize) != 2:
        raise ValueError(f"Mnist: resize must be an int or a pair (height, width), got {resize!r}")
    return resize[0], resize[1]


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"Mnist: {name} must be an int of at least 1, got {value!r}")
