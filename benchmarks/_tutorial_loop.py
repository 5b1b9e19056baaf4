"""The loop that tutorials write by hand, where `ms_callbacks` has a callback for each part.

It lowers the rate by rebuilding Adam in every epoch, reads the loss at every step, switches dropout off and on again
around the evaluation, saves the best weights and counts the epochs without improvement. It is written in the usual way:
nothing in it is tuned, and nothing is slowed down.
"""

from __future__ import annotations

import os
from typing import Any

import mindspore as ms
from mindspore import dataset as ds
from mindspore import nn
from mindspore.dataset import transforms, vision

from benchmarks._turns import Turns

__all__ = ["train"]

EPOCHS, PATIENCE = 15, 3


def train(network: nn.Cell, folder: str, checkpoint: str, turns: Turns) -> None:
    """Train until the accuracy has not improved for three epochs; only the benchmark uses `turns`."""
    train_set, test_set = pipeline(folder, "train"), pipeline(folder, "test")
    steps, test_batches = train_set.get_dataset_size(), test_set.get_dataset_size()
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    turns.can_evaluate(lambda batches: evaluate(network, loss_fn, test_set, batches))

    def forward(images: ms.Tensor, labels: ms.Tensor) -> ms.Tensor:
        return loss_fn(network(images), labels)

    best, misses = 0.0, 0
    for epoch in range(EPOCHS):
        optimizer = nn.Adam(network.trainable_params(), learning_rate=1e-3 * 0.5 ** (epoch // 5), weight_decay=1e-4)
        gradients = ms.value_and_grad(forward, None, optimizer.parameters)
        network.set_train(True)
        total = 0.0
        for step, (images, labels) in enumerate(train_set.create_tuple_iterator()):
            loss, grads = gradients(images, labels)
            optimizer(grads)
            value = float(loss.asnumpy())
            total += value
            if step % 50 == 0:
                print(f"Epoch {epoch + 1}, step {step}/{steps}, loss {value:.4f}, lr {optimizer.learning_rate}")
            turns.after_step(loss)

        test_loss, accuracy = evaluate(network, loss_fn, test_set, test_batches)
        if accuracy > best:
            best, misses = accuracy, 0
            ms.save_checkpoint(network, checkpoint)
        else:
            misses += 1
        print(f"Train Loss {total / steps:.4f}, Test Loss {test_loss:.4f}, Test Accuracy {accuracy:.4f}")
        print(f"Best {best:.4f}, misses {misses}/{PATIENCE}")
        turns.after_epoch(accuracy)
        if misses == PATIENCE:
            break


def evaluate(network: nn.Cell, loss_fn: nn.Cell, dataset: Any, batches: int) -> tuple[float, float]:
    """Return the mean loss and the accuracy over this many batches, with dropout off."""
    network.set_train(False)
    loss, right, samples = 0.0, 0, 0
    for _, (images, labels) in zip(range(batches), dataset.create_tuple_iterator()):
        logits = network(images)
        loss += float(loss_fn(logits, labels).asnumpy())
        # In NumPy, because MindSpore 2.10 itself fails at logits.argmax(1) == labels with NumPy 2.
        right += int((logits.asnumpy().argmax(1) == labels.asnumpy()).sum())
        samples += len(labels)
    network.set_train(True)
    return loss / batches, right / samples


def pipeline(folder: str, split: str) -> Any:
    """Return MNIST through MindSpore's own operations, in batches of 64."""
    dataset = ds.MnistDataset(os.path.join(folder, split), shuffle=split == "train")
    dataset = dataset.map([vision.Rescale(1 / 255, 0), vision.Normalize((0.1307,), (0.3081,)), vision.HWC2CHW()])
    dataset = dataset.map(transforms.TypeCast(ms.int32), "label")
    return dataset.batch(64)
