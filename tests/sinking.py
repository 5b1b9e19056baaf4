"""MindSpore's own sink loop on a CPU, where `Model.train` would not sink: a stand-in gives it the device's queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mindspore as ms
from mindspore import nn
from training import loss_fn, seeded


class Queue:
    """What MindSpore sends a dataset to the device with: in GRAPH mode a sink at a time, in PYNATIVE mode a step."""

    def __init__(self, dataset: Any, sink_size: int, epochs: int) -> None:
        self._dataset, self._size, self._epochs = dataset, sink_size, epochs
        self._batches = self._all()
        self.taken = 0

    def _all(self) -> Iterator[Any]:
        iterator = self._dataset.create_tuple_iterator(num_epochs=self._epochs)
        for _ in range(self._epochs):
            yield from iterator

    def next(self) -> Any:
        self.taken += 1
        return next(self._batches)

    def __iter__(self) -> Iterator[Any]:
        if ms.get_context("mode") == ms.GRAPH_MODE:
            yield ()
        else:
            for _ in range(self._size):
                yield self.next()

    def sink_size(self) -> int:
        return self._size

    def continue_send(self) -> None:
        """Nothing: all epochs are in the queue."""

    stop_send = release = continue_send


class Sunk(nn.Cell):
    """As MindSpore wraps a training cell for GRAPH mode: takes no inputs, and has the loss of the last step alone."""

    def __init__(self, network: nn.Cell, queue: Queue) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self._queue = queue

    def __call__(self) -> Any:
        for _ in range(self._queue.sink_size()):
            output = self.network(*self._queue.next())
        return output


class SinkingModel(ms.Model):
    """Sinks where it is asked to, on a CPU too."""

    def _train(self, epoch: int, train_dataset: Any, *args: Any, **kwargs: Any) -> None:
        self._asked = kwargs.get("sink_size", -1) if kwargs.get("dataset_sink_mode") else 0
        super()._train(epoch, train_dataset, *args, **kwargs)

    def _train_process(
        self, epoch: int, dataset: Any, callbacks: Any, cb_params: Any, initial_epoch: int = 0, valid_infos: Any = None
    ) -> None:
        if self._asked:
            size = dataset.get_dataset_size() if self._asked == -1 else self._asked
            self._train_dataset_sink_process(epoch, dataset, callbacks, cb_params, size, initial_epoch, valid_infos)
        else:
            super()._train_process(epoch, dataset, callbacks, cb_params, initial_epoch, valid_infos)

    def _exec_preprocess(
        self,
        is_train: bool,
        dataset: Any,
        dataset_sink_mode: bool,
        sink_size: int = -1,
        epoch_num: int = 1,
        dataset_helper: Any = None,
    ) -> Any:
        if not (is_train and dataset_sink_mode):
            return super()._exec_preprocess(is_train, dataset, dataset_sink_mode, sink_size, epoch_num, dataset_helper)
        if dataset_helper is None:
            dataset_helper = Queue(dataset, sink_size, epoch_num)
            self.queue = dataset.__transfer_dataset__ = dataset_helper  # as MindSpore marks a dataset that has a queue
        network = self._train_network
        if ms.get_context("mode") == ms.GRAPH_MODE:
            network = Sunk(network, dataset_helper)
        network.set_train(True)
        network.phase = "train"
        self._backbone_is_train = True
        return dataset_helper, network


def sinking_model(optimizer: Any = None, metrics: Any = ("acc",), cell: Any = None) -> SinkingModel:
    """As `make_model` makes one; `cell` makes a training cell of the network, which the Model is given alone."""
    network = seeded()
    if cell is not None:
        return SinkingModel(cell(network))
    optimizer = optimizer(network) if optimizer else nn.Adam(network.trainable_params(), 0.05)
    return SinkingModel(network, loss_fn(), optimizer, metrics=set(metrics))
