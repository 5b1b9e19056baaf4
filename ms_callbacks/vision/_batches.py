"""Return MNIST's samples as whole batches, normalised and resized with a few NumPy operations each."""

from __future__ import annotations

import copy
import functools
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
from mindspore import dataset as ds

__all__ = ["BatchDataset", "Batches"]

_UNSET_SEED = 5489  # ds.config.get_seed() returns this until a seed is set: the default of C++'s mt19937
_SCALE = 1 / 255 / 0.3081  # bytes to 0 … 1, then MNIST's mean and standard deviation
_SHIFT = -0.1307 / 0.3081


class Batches:
    """Whole batches, each made with one gather and two small matrix products.

    Passing MindSpore one row per batch instead of one per sample makes this fast: on 2.10 a row costs 70 to 100 µs.
    """

    def __init__(
        self,
        images: np.ndarray[Any, Any],
        labels: np.ndarray[Any, Any],
        size: tuple[int, int],
        batch_size: int,
        repeat_num: int,
        shuffle: bool,
        num_shards: int | None,
        shard_id: int | None,
    ) -> None:
        self.images = images
        self.labels = labels
        self.size = size
        self.batch_size = batch_size
        self.repeat_num = repeat_num
        self.shuffle = shuffle
        self.num_shards = num_shards
        self.shard = np.arange(len(images))
        if num_shards is not None and shard_id is not None:
            rounds = -(-len(images) // num_shards)
            self.shard = (shard_id + num_shards * np.arange(rounds)) % len(images)
        if batch_size > len(self.shard):
            raise ValueError(
                f"Mnist: batch_size {batch_size} is larger than the {len(self.shard)} samples of this split or shard: "
                "expected enough for one whole batch"
            )
        height, width = images.shape[1:]
        self.down = (_SCALE * _interpolation(height, size[0])).astype(np.float32)
        self.across = _interpolation(width, size[1]).T.astype(np.float32)
        self.seed = _UNSET_SEED
        self.passes = 0

    def __len__(self) -> int:
        return len(self.shard) // self.batch_size * self.repeat_num

    def __iter__(self) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
        for _ in range(self.repeat_num):
            order = self._order()
            self.passes += 1
            for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
                yield self._batch(order[start : start + self.batch_size])

    def started(self, iterations: int) -> Batches:
        """Return a copy for one iterator, in the state after so many passes over the whole dataset."""
        fresh = copy.copy(self)
        fresh.passes = iterations * self.repeat_num
        fresh.seed = ds.config.get_seed()
        if fresh.seed == _UNSET_SEED and self.num_shards is None:  # shards keep it: they must agree on an order
            fresh.seed = secrets.randbits(64)
        return fresh

    def _order(self) -> np.ndarray[Any, Any]:
        if not self.shuffle:
            return self.shard
        return np.random.default_rng([self.seed, self.passes]).permutation(len(self.images))[self.shard]

    def _batch(self, ids: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        pixels = np.matmul(np.matmul(self.down, self.images[ids].astype(np.float32)), self.across)
        pixels += np.float32(_SHIFT)
        # Not pixels[:, np.newaxis]: its new axis has a stride of 0, and MindSpore then copies value by value.
        return pixels.reshape(-1, 1, *self.size), self.labels[ids]


class BatchDataset(ds.GeneratorDataset):
    """A GeneratorDataset that knows its batch size and gives each iterator a shuffle sequence of its own."""

    def __init__(self, batches: Batches, column_names: tuple[str, ...]) -> None:
        super().__init__(batches, column_names=list(column_names))
        self.source: Batches

    def get_batch_size(self) -> int:
        return self.source.batch_size

    def parse(self, children: Any = None) -> Any:
        """Start an iterator: MindSpore calls this on the copy of the dataset that the iterator uses."""
        self.source = self.source.started(self._passes_before())
        self.prepared_source = functools.partial(iter, self.source)  # for 2.0; newer versions make it from self.source
        return super().parse(children)

    def _passes_before(self) -> int:
        """Return how many passes over this dataset an uninterrupted run would have made before its first step here."""
        last: Any = self
        repeats, jumps = 1, hasattr(last, "get_init_step") and ds.config.get_fast_recovery()
        while last.parent:
            last = last.parent[0]()  # a weak reference
            repeats *= last.count if isinstance(last, ds.RepeatDataset) else 1
            jumps = jumps and not isinstance(last, ds.ShuffleDataset)
        # MindSpore skips the epochs before that step, or runs through them, as it must if it shuffles itself;
        # 2.0 cannot start in the middle.
        step = last.get_init_step() if jumps else 0
        if not step:
            return 0
        last.set_init_step(0)  # because querying its size starts an iterator too
        try:
            return step // last.get_dataset_size() * repeats
        finally:
            last.set_init_step(step)


def _interpolation(length: int, new_length: int) -> np.ndarray[Any, Any]:
    """Return the bilinear resize of one axis as a matrix of shape (new_length, length).

    Half-pixel centres, edges clamped, no smoothing: the same numbers as OpenCV's INTER_LINEAR, which MindSpore uses,
    whether the axis grows or shrinks.
    """
    centres = (np.arange(new_length) + 0.5) * (length / new_length) - 0.5
    low = np.floor(centres).astype(int)
    weight = centres - low
    matrix = np.zeros((new_length, length))
    rows = np.arange(new_length)
    np.add.at(matrix, (rows, low.clip(0, length - 1)), 1 - weight)
    np.add.at(matrix, (rows, (low + 1).clip(0, length - 1)), weight)
    return matrix
