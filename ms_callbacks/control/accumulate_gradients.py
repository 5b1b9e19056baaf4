"""Accumulate the gradients of several batches for one update of the weights, equal to that of one large batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.common.initializer import initializer

from ..core.arguments import check_int
from ..core.mindspore_compat import callbacks_of_training
from ..core.parameters import Snapshot, views
from ..core.phases import Phases

__all__ = ["accumulate_gradients"]

_OWNER = "accumulate_gradients"

_add = ops.MultitypeFuncGraph("add")
_scale = ops.MultitypeFuncGraph("scale")
_clear = ops.MultitypeFuncGraph("clear")


@_add.register("Tensor", "Tensor")
def _add_one(total, gradient):  # type: ignore[no-untyped-def]  # MindSpore compiles these
    return ops.assign_add(total, ops.cast(gradient, total.dtype))


@_scale.register("Tensor", "Tensor")
def _scale_one(share, total):  # type: ignore[no-untyped-def]
    return total * ops.cast(share, total.dtype)


@_clear.register("Tensor")
def _clear_one(total):  # type: ignore[no-untyped-def]
    return ops.assign(total, ops.zeros_like(total))


def accumulate_gradients(optimizer: nn.Optimizer, n: int) -> nn.Optimizer:
    """Return an optimizer that updates the weights once in `n` steps, with the mean of their gradients.

    `n` batches then have the same effect as one batch of `n` times the size, if the loss is a mean over the batch. This
    includes the weights, the moments and Adam's step counter. BatchNorm still normalises by the small batches. Pass the
    returned optimizer to `Model`, in GRAPH or PYNATIVE mode, or to a training cell. Lightning calls this
    `accumulate_grad_batches`.

    If the last batches of an epoch are fewer than `n`, they make an update with the mean of their own gradients, and
    nothing is left for the next epoch. The callbacks of this package do this, so the list of callbacks must contain at
    least one of them, such as `LossMonitor`; otherwise the first step raises. A hand-written loop calls `flush()` at
    the end of each epoch instead.

    Learning rate schedules by step, `EMAWeightAveraging` and other callbacks count optimizer steps, that is, one for
    `n` steps. `optimizer` applies its weight decay, gradient centralization and so on at each update. A step that loss
    scaling drops is not accumulated; the next step takes its place. If the training cell changes gradients, for
    example by clipping, it changes those of each batch. `TrainingState` saves the accumulated gradients.

    The optimizer needs memory for one more gradient of each parameter.

    Args:
        optimizer: an optimizer of `mindspore.nn`.
        n: the number of steps for one update, at least 1; with 1, the optimizer itself is returned.

    Returns:
        The accumulating optimizer. Its attribute `opt` is the given optimizer.

    Raises:
        TypeError: `optimizer` is not one of `mindspore.nn`, or `n` is not a whole number.
        ValueError: `n` is below 1, or the optimizer already accumulates; before the first step: an epoch has fewer
            than `n` steps, sink mode, or another optimizer of the Model accumulates another number of steps; in the
            first step: the list contains no callback of this package.

    Example:
        >>> optimizer = accumulate_gradients(nn.Momentum(network.trainable_params(), 0.01, 0.9), 2)
        >>> model = ms.Model(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"), optimizer)
        >>> averaging = EMAWeightAveraging()
        >>> model.train(1, train_dataset, callbacks=[averaging])  # four steps
        >>> averaging.updates_
        2
    """
    if not isinstance(optimizer, nn.Optimizer):
        raise TypeError(f"{_OWNER}: optimizer must be one of mindspore.nn, but got {type(optimizer).__name__}")
    check_int(_OWNER, "n", n, 1)
    if isinstance(optimizer, _AccumulatingOptimizer):
        raise ValueError(f"{_OWNER}: the optimizer already accumulates {optimizer.steps_per_update} steps; give n once")
    return optimizer if n == 1 else _AccumulatingOptimizer(optimizer, n)


class _AccumulatingOptimizer(nn.Optimizer):
    """An optimizer that wraps another one, and calls it with the mean of the gradients of `n` steps."""

    def __init__(self, optimizer: nn.Optimizer, n: int) -> None:
        nn.Cell.__init__(self, auto_prefix=False)  # nn.Optimizer.__init__ would create another rate and step
        self.opt = optimizer
        self.parameters = optimizer.parameters
        self.totals = ParameterTuple([_zeros_for(one) for one in optimizer.parameters])
        self.count = Parameter(Tensor(0, mstype.int32), name="accumulated.count", requires_grad=False)
        self.steps_per_update = n
        # Tensors, because with NumPy 2 operators of MindSpore 2.10 may fail on Python numbers.
        self.full, self.one, self.none = (Tensor(value, mstype.int32) for value in (n, 1, 0))
        self.share = Tensor(1 / n, mstype.float32)
        self.map_all = ops.HyperMap()

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the wrapped optimizer."""
        return self.opt.learning_rate

    @property
    def global_step(self) -> Parameter:
        """The step counter of the wrapped optimizer."""
        return self.opt.global_step

    def construct(self, gradients):  # type: ignore[no-untyped-def]  # MindSpore compiles it
        self.map_all(_add, self.totals, gradients)
        ops.assign_add(self.count, self.one)
        if self.count >= self.full:
            self.opt(self.map_all(ops.partial(_scale, self.share), self.totals))
            self.map_all(_clear, self.totals)
            ops.assign(self.count, self.none)
        return True

    def add_flags_recursive(self, **flags: Any) -> nn.Cell:
        """Raise if a Model begins to train without a callback that makes the last update of an epoch."""
        callbacks = callbacks_of_training() if flags.get("training") else None
        if callbacks is not None and not any(isinstance(each, Phases) for each in callbacks):
            raise ValueError(
                f"{_OWNER}: no callback of ms_callbacks is in the list, so the gradients of the last batches of an "
                f"epoch would be added to the next epoch; add one, such as LossMonitor()"
            )
        return super().add_flags_recursive(**flags)

    def accumulated(self) -> int:
        """Return the number of steps accumulated since the last update; this waits for the device."""
        return int(self.count.asnumpy())

    def flush(self) -> None:
        """Update the weights with the mean of the accumulated gradients, if there are any."""
        count = self.accumulated()
        if count:
            totals = {one.name: one for one in (*self.totals, self.count)}
            self.opt(tuple(Tensor(one.asnumpy() / np.float32(count)).astype(one.dtype) for one in self.totals))
            zeros = {name: np.zeros_like(array) for name, array in views(totals).items()}
            Snapshot(totals, zeros).restore(together=False)


def _zeros_for(parameter: Parameter) -> Parameter:
    name = f"accumulated.{parameter.name}"
    return Parameter(initializer("zeros", parameter.shape, parameter.dtype).init_data(), name=name, requires_grad=False)
