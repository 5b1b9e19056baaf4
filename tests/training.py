"""Tiny real training runs, and a scripted one where exactness matters."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Sequence
from typing import Any, Optional

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops
from mindspore.train import Callback, RunContext

from ms_callbacks import Run, TrainCallback, TrainingState
from ms_callbacks.core.shared_copies import Copies
from ms_callbacks.testing import ScriptedRun

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


def seeded(network: Optional[nn.Cell] = None) -> nn.Cell:
    """A network whose weights are always the same."""
    ms.set_seed(1)
    network = network or Network()
    for index, parameter in enumerate(network.get_parameters()):
        if parameter.requires_grad and parameter.ndim > 1:
            values = np.random.RandomState(index).randn(*parameter.shape) * 0.5
            parameter.set_data(Tensor(values.astype(np.float32)))
    return network


def make_model(
    optimizer: Any = None, metrics: Any = ("acc",), network: Optional[nn.Cell] = None, learning_rate: Any = 0.05
) -> ms.Model:
    """A seeded Model: two of them train alike."""
    network = seeded(network)
    optimizer = optimizer(network) if optimizer else nn.Adam(network.trainable_params(), learning_rate)
    return ms.Model(network, loss_fn(), optimizer, metrics=set(metrics) if isinstance(metrics, tuple) else metrics)


def grouped(head: Any, rest: Any, *, weight_decay: bool = False, ordered: bool = False, both: bool = False) -> Any:
    """Makes an optimizer of two parameter groups; the second has no `lr` of its own, unless `both`."""

    def make(network: nn.Cell) -> nn.Optimizer:
        groups = [
            {"params": list(network.head.trainable_params()), "lr": head},
            {"params": [one for one in network.trainable_params() if not one.name.startswith("head")]},
        ]
        if both:
            groups[1]["lr"] = rest
        if weight_decay:
            groups[1]["weight_decay"] = 0.01
        if ordered:
            groups.append({"order_params": network.trainable_params()})
        return nn.Momentum(groups, [0.1] * 40 if both else rest, 0.9)  # of which nothing is used where all have one

    return make


def in_parallel_mode(mode: str, model: ms.Model) -> ms.Model:
    """The Model as it is when it was made for several processes, in a context that a CPU can train in."""
    model._parallel_mode = mode
    return model


class CopiesInMemory:
    """Tells how many copies of one parameter are in memory at most, of those that callbacks of a run share."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._buffers: dict[str, list[Any]] = {}  # by parameter: weak references
        take = Copies.take

        def taking(copies: Copies, parameters: Any) -> Any:
            taken = take(copies, parameters)
            for name, array in taken.arrays.items():
                known = self._buffers.setdefault(name, [])
                if not any(each() is array.base for each in known):
                    known.append(weakref.ref(array.base))
            return taken

        monkeypatch.setattr(Copies, "take", taking)

    @property
    def most(self) -> int:
        """Of the parameter that has the most."""
        gc.collect()
        return max(sum(each() is not None for each in known) for known in self._buffers.values())


def wait_for_writes(callback: Any) -> None:
    """Waits until the callback's run has written all that it has handed over so far, if it is in one."""
    if callback.in_run:
        callback.run.background.submit(int).result(60)


@functools.cache
def compiled_model() -> ms.Model:
    """One Model for all that train it in GRAPH mode, whatever its weights are by then: it is compiled once."""
    return make_model()


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


class FailAt(Callback):
    """Raises after a step, like a process that dies there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_step_end(self, run_context: RunContext) -> None:
        if run_context.original_args()["cur_step_num"] == self.step:
            raise InterruptedError("died here")


class Interrupt(TrainCallback):
    """Interrupts the run after a step, as a signal does; a later run may continue it."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def before_train(self, run: Run) -> None:
        run.step_hooks.on_step_end(self, self.end_step)

    def end_step(self, run: Run) -> None:
        if run.step == self.step:
            run.request_stop("Interrupt", interrupt=True)


def train_interrupted(make: Any, folder: Any, at: int, *, epochs: int = 3, every_n_steps: int = 3) -> list[Any]:
    """The callbacks that `make` returns, after a run that dies in step `at` and is resumed by other ones like them."""
    with pytest.raises(InterruptedError):
        state = TrainingState(folder, every_n_steps=every_n_steps)
        make_model().train(epochs, dataset(), callbacks=[*make(), state, FailAt(at)])
    model, data, state, callbacks = make_model(), dataset(), TrainingState(folder), make()
    begun = state.resume(model, data, epochs=epochs)
    model.train(epochs, data, callbacks=[*callbacks, state], initial_epoch=begun)
    return callbacks


def samples_of(history: Any) -> list[float]:
    """The samples of each epoch, by what a `History` has recorded."""
    recorded = history.history
    return [rate * seconds for rate, seconds in zip(recorded["samples_per_second"], recorded["seconds"])]


class Script:
    """Plays scripted runs one after the other, with one network and optimizer."""

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
        run = ScriptedRun(
            results,
            losses or None,
            steps_per_epoch=steps,
            initial_epoch=initial_epoch,
            network=self.network,
            optimizer=self.optimizer,
        )
        run.optimizer = self.optimizer  # `None` where a test has taken it away
        run.play(callbacks)
        self.stopped_epoch = run.stopped_epoch
        return [] if getattr(self.optimizer, "is_group_lr", False) else run.learning_rates


_unscaled = ops.MultitypeFuncGraph("unscaled")


@_unscaled.register("Tensor", "Tensor")
def _unscaled_tensor(scale: Tensor, gradient: Tensor) -> Tensor:
    return gradient * ops.reciprocal(scale)


class NetworkWithLoss(nn.Cell):
    """A network that computes its own loss, as model zoos write it; it puts `backbone.` before the names."""

    def __init__(self, backbone: nn.Cell, loss: nn.Cell) -> None:
        super().__init__()
        self.backbone = backbone
        self.loss = loss

    def construct(self, x: Tensor, label: Tensor) -> Tensor:
        return self.loss(self.backbone(x), label)


class OwnTrainCell(nn.Cell):
    """A training cell that is no subclass of MindSpore's; it puts `network.` before the names."""

    def __init__(self, network: nn.Cell, *optimizers: nn.Optimizer) -> None:
        super().__init__()
        self.network = network
        self.network.set_grad()
        self.optimizer, self.second = optimizers if len(optimizers) == 2 else (optimizers[0], None)
        self.grad = ops.GradOperation(get_by_list=True)
        self.weights = self.optimizer.parameters

    def construct(self, x: Tensor, label: Tensor) -> Tensor:
        loss = self.network(x, label)
        gradients = self.grad(self.network, self.weights)(x, label)
        return ops.depend(loss, self.optimizer(gradients))


class ScaledTrainCell(nn.TrainOneStepWithLossScaleCell):
    """A training cell with loss scale that runs on a CPU too, where MindSpore's looks for overflow in vain."""

    def construct(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loss = self.network(x, label)
        sens = ops.ones_like(loss) * ops.cast(self.scale_sense, ops.dtype(loss))
        gradients = self.grad(self.network, self.weights)(x, label, sens)
        scaled = self.hyper_map(ops.partial(_unscaled, self.scale_sense), gradients)
        loss = ops.depend(loss, self.optimizer(scaled))
        return loss, ops.isnan(loss), self.scale_sense


class TwoOptimizers(nn.Cell):
    """A training cell with an optimizer for each half of the network, as Wide & Deep has it."""

    def __init__(self, network: nn.Cell, first: nn.Optimizer, second: nn.Optimizer) -> None:
        super().__init__()
        self.network = network
        self.network.set_grad()
        self.optimizer_w, self.optimizer_d = first, second
        self.weights_w, self.weights_d = first.parameters, second.parameters
        self.grad = ops.GradOperation(get_by_list=True)

    def construct(self, x: Tensor, label: Tensor) -> Tensor:
        loss = self.network(x, label)
        one = self.grad(self.network, self.weights_w)(x, label)
        other = self.grad(self.network, self.weights_d)(x, label)
        loss = ops.depend(loss, self.optimizer_w(one))
        return ops.depend(loss, self.optimizer_d(other))


class OwnModel(ms.Model):
    """A subclass of Model, as a project of its own has it."""

    def train(self, epoch: int, train_dataset: Any, callbacks: Any = None, **others: Any) -> None:
        super().train(epoch, train_dataset, callbacks=callbacks, **others)


def _two_optimizers(network: nn.Cell, rate: float) -> nn.Cell:
    trained = network.trainable_params()
    return TwoOptimizers(
        nn.WithLossCell(network, loss_fn()), nn.Adam(trained[:2], rate), nn.Momentum(trained[2:], rate, 0.9)
    )


def _adam(network: nn.Cell, rate: float) -> nn.Optimizer:
    return nn.Adam(network.trainable_params(), rate)


def _with_own_loss(network: nn.Cell) -> nn.Cell:
    return NetworkWithLoss(network, loss_fn())


# The ways in which real projects put network, loss and optimizer into a Model: what to make the Model with.
IDIOMS = {
    "network, loss, optimizer": lambda net, rate: (net, loss_fn(), _adam(net, rate)),
    "training cell": lambda net, rate: (nn.TrainOneStepCell(nn.WithLossCell(net, loss_fn()), _adam(net, rate)),),
    "training cell with loss scale": lambda net, rate: (
        ScaledTrainCell(nn.WithLossCell(net, loss_fn()), _adam(net, rate), Tensor(np.full((1,), 8, np.float32))),
    ),
    "build_train_network": lambda net, rate: (amp.build_train_network(net, _adam(net, rate), loss_fn()),),
    "with-loss cell": lambda net, rate: (nn.WithLossCell(net, loss_fn()), None, _adam(net, rate)),
    "own with-loss cell": lambda net, rate: (_with_own_loss(net), None, _adam(net, rate)),
    "own training cell": lambda net, rate: (OwnTrainCell(cell := _with_own_loss(net), _adam(cell, rate)),),
    "two optimizers": lambda net, rate: (_two_optimizers(net, rate),),
    "subclass of Model": lambda net, rate: (net, loss_fn(), _adam(net, rate)),
}


def make_idiom(idiom: str, network: Optional[nn.Cell] = None, learning_rate: float = 0.05) -> tuple[ms.Model, nn.Cell]:
    """A seeded Model of one of `IDIOMS`, which can evaluate, and the plain network inside."""
    network = seeded(network)
    parts = IDIOMS[idiom](network, learning_rate)
    evaluation: dict[str, Any] = {"metrics": {"acc"}}
    if len(parts) < 2 or parts[1] is None:
        evaluation.update(eval_network=nn.WithEvalCell(network, loss_fn()), eval_indexes=[0, 1, 2])
    kind = OwnModel if idiom == "subclass of Model" else ms.Model
    return kind(*parts, **evaluation), network
