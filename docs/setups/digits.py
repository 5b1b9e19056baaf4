"""The Model that the pages' examples train: a small network on the 3,000 handwritten digits of the repository."""

import mindspore as ms
from mindspore import nn

from ms_callbacks.cpu import fast_cpu
from ms_callbacks.vision import Mnist

fast_cpu()
ms.set_seed(1)
digits = {"path": "examples/data/mnist", "batch_size": 100, "resize": 28}
half = {"num_shards": 2, "shard_id": 0}
train_dataset = Mnist(split="train", shuffle=True, **half, **digits).run()  # 2,000 digits, in 20 steps
valid_dataset = Mnist(split="test", shuffle=False, **digits).run()  # 1,000 digits

network = nn.SequentialCell(
    nn.Conv2d(1, 8, 3, stride=2, pad_mode="same", has_bias=True),
    nn.ReLU(),
    nn.Conv2d(8, 16, 3, stride=2, pad_mode="same", has_bias=True),
    nn.ReLU(),
    nn.Flatten(),
    nn.Dense(16 * 7 * 7, 10),
)
loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
optimizer = nn.Momentum(network.trainable_params(), 0.05, momentum=0.9)
model = ms.Model(network, loss_fn, optimizer, metrics={"acc"})
