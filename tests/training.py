"""Tiny real training runs, and a scripted one where exactness matters."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Optional

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn
from mindspore.train import Callback, RunContext

CLASSES = 3
SIZE = 4


class Samples:
    """Small images around three centres: learnable, never quite separable."""

    def __init__(self, count: int, seed: int) -> None:
        random = np.random.RandomState(seed)
        self.labels = (np.arange(count) % CLASSES).astype(np.int32)
        centres = np.random.RandomState(9).randn(CLASSES, 1, SIZE, SIZE) * 0.5
        self.images = (centres[self.labels] + random.randn(count, 1, SIZE, SIZE)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        # 0-d arrays, not NumPy scalars: MindSpore 2.10 fails on those with NumPy 2.
        return self.images[index], self.labels[index : index + 1].reshape(())


def dataset(count: int = 48, batch_size: int = 12, seed: int = 0, shuffle: bool = False) -> ds.Dataset:
    source = ds.GeneratorDataset(Samples(count, seed), ["images", "labels"], shuffle=shuffle)
    return source.batch(batch_size)


def valid_dataset(count: int = 30, batch_size: int = 12) -> ds.Dataset:
    """Its last batch is smaller than the others, and so weighs less."""
    return dataset(count, batch_size, seed=1)


class Network(nn.Cell):
    """A convolution and a dense layer with a BatchNorm between, so that statistics are at stake too."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(1, 3, 3, pad_mode="valid")
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.head = nn.Dense(12, CLASSES)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.flatten(self.relu(self.norm(self.hidden(x)))))


def loss_fn(reduction: str = "mean") -> nn.Cell:
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction=reduction)


def make_model(
    optimizer: Any = None, metrics: Any = ("acc",), network: Optional[nn.Cell] = None, learning_rate: Any = 0.05
) -> ms.Model:
    """A seeded Model: two of them train alike."""
    ms.set_seed(1)
    network = network or Network()
    for index, parameter in enumerate(network.get_parameters()):
        if parameter.requires_grad and parameter.ndim > 1:
            values = np.random.RandomState(index).randn(*parameter.shape) * 0.5
            parameter.set_data(Tensor(values.astype(np.float32)))
    optimizer = optimizer(network) if optimizer else nn.Adam(network.trainable_params(), learning_rate)
    return ms.Model(network, loss_fn(), optimizer, metrics=set(metrics) if isinstance(metrics, tuple) else metrics)


def weights(cell: nn.Cell) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in cell.get_parameters()}


def assert_same_weights(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


class Recorder(Callback):
    """Keeps each step's loss and rate, and each epoch's weights, from outside."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.weights: list[dict[str, np.ndarray]] = []

    def on_train_step_end(self, run_context: RunContext) -> None:
        args = run_context.original_args()
        self.losses.append(float(args["net_outputs"].asnumpy()))
        rate = args["optimizer"].learning_rate
        if isinstance(rate, ms.Parameter):
            self.rates.append(float(rate.asnumpy()))

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        self.weights.append(weights(run_context.original_args()["network"]))


class Script:
    """Drives callbacks through a run whose values are written down beforehand."""

    def __init__(self, learning_rate: float = 0.1) -> None:
        self.network = nn.Dense(1, 1)
        self.optimizer = nn.SGD(self.network.trainable_params(), learning_rate)
        self.stopped_epoch = 0

    @property
    def rate(self) -> float:
        return float(str(self.optimizer.learning_rate.asnumpy()))

    def run(
        self,
        callbacks: Sequence[Callback],
        results: Sequence[Optional[dict[str, Any]]],
        losses: Sequence[Sequence[Any]] = (),
        steps: int = 1,
        initial_epoch: int = 0,
    ) -> list[float]:
        """Runs one epoch for each entry of `results`; returns the rate after each, where there are no groups."""

        class Args(dict):
            __getattr__ = dict.__getitem__
            __setattr__ = dict.__setitem__

        args = Args(
            cur_step_num=0,
            epoch_num=len(results),
            batch_num=steps,
            dataset_sink_mode=False,
            list_callback=list(callbacks),
            network=self.network,
            train_network=self.network,
            optimizer=self.optimizer,
            loss_fn=None,
            train_dataset=dataset(steps, 1),
        )
        context = RunContext(args)
        rates = []
        self.stopped_epoch = 0

        def call(hook: str) -> None:
            for callback in callbacks:
                getattr(callback, hook)(context)

        with contextlib.ExitStack() as stack:
            for callback in callbacks:
                stack.enter_context(callback)
            call("on_train_begin")
            for epoch, result in enumerate(results, 1):
                args["cur_epoch_num"] = initial_epoch + epoch
                call("on_train_epoch_begin")
                for step in range(steps):
                    args["cur_step_num"] += 1
                    args["net_outputs"] = losses[epoch - 1][step] if losses else Tensor(1.0)
                    call("on_train_step_begin")
                    call("on_train_step_end")
                if result is not None:
                    args["eval_results"] = dict(result)
                call("on_train_epoch_end")
                args.pop("eval_results", None)
                if not getattr(self.optimizer, "is_group_lr", False):
                    rates.append(self.rate)
                if context.get_stop_requested():
                    self.stopped_epoch = epoch
                    break
            call("on_train_end")
        return rates
