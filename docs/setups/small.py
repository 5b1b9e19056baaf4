"""The Model of the README's examples: one layer on 48 random samples of three classes."""

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn

from ms_callbacks.cpu import fast_cpu


class Samples:
    """Small images around three centres."""

    def __init__(self, seed):
        random = np.random.RandomState(seed)
        self.labels = (np.arange(48) % 3).astype(np.int32)
        centres = np.random.RandomState(9).randn(3, 1, 4, 4) * 0.5
        self.images = (centres[self.labels] + random.randn(48, 1, 4, 4)).astype(np.float32)

    def __len__(self):
        return 48

    def __getitem__(self, index):
        return self.images[index], self.labels[index : index + 1].reshape(())  # arrays, which NumPy 2 needs


def _dataset(seed):
    return ds.GeneratorDataset(Samples(seed), ["images", "labels"], shuffle=False).batch(12)


fast_cpu()
ms.set_seed(1)
train_dataset, valid_dataset = _dataset(0), _dataset(1)
network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
optimizer = nn.Momentum(network.trainable_params(), 0.01, 0.9)
model = ms.Model(network, loss_fn, optimizer, metrics={"acc"})
