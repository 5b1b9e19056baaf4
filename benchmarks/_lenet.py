"""LeNet-5 on fixed random images: the network and data of everything that is measured per step."""

from __future__ import annotations

from collections.abc import Iterator

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn

__all__ = ["Batches", "lenet", "model_of"]


class Batches:
    """The same batch of 32 images and labels, repeated."""

    def __init__(self, count: int, shape: tuple[int, ...] = (32, 1, 32, 32)) -> None:
        random = np.random.default_rng(1)
        self.count = count
        self.images = random.standard_normal(shape, np.float32)
        self.labels = random.integers(0, 10, shape[0]).astype(np.int32)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _ in range(self.count):
            yield self.images, self.labels

    def dataset(self) -> ds.Dataset:
        """Return a dataset whose rows are whole batches."""
        return ds.GeneratorDataset(self, ["image", "label"])


def lenet() -> nn.Cell:
    """Return a network of 61,684 parameters, like mindvision's."""
    return nn.SequentialCell(
        nn.Conv2d(1, 6, 5, pad_mode="valid"),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(6, 16, 5, pad_mode="valid"),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Flatten(),
        nn.Dense(400, 120),
        nn.ReLU(),
        nn.Dense(120, 84),
        nn.ReLU(),
        nn.Dense(84, 10),
    )


def model_of(network: nn.Cell) -> ms.Model:
    """Return a Model that trains it with Momentum."""
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    return ms.Model(network, loss_fn, nn.Momentum(network.trainable_params(), 1e-4, 0.9), metrics={"acc"})
