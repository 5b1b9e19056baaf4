"""Compute the gradients of a training step's loss beside the step, which returns only the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from .forward_hooks import first_tensor, untouched
from .model_parts import positional_count
from .tensors import as_array

__all__ = ["loss_and_gradients", "loss_of_batch", "norm_of"]


def loss_of_batch(network: nn.Cell, loss_fn: Any, batch: tuple[Any, ...]) -> Any:
    """Return the loss of a batch as a training step computes it; `None` if the network returns no tensor.

    Without `loss_fn`, the loss is the first tensor that the network returns.
    """
    if loss_fn is None:
        return first_tensor(network(*batch[: positional_count(network)]))
    return loss_fn(network(*batch[:-1]), batch[-1])


def loss_and_gradients(
    network: nn.Cell, loss_fn: Any, batch: tuple[Any, ...], parameters: Sequence[Parameter]
) -> tuple[Any, list[Tensor]]:
    """Return the loss of a batch, and its gradient by each parameter, as in a training step.

    The batch runs in PYNATIVE mode with the network's own flags, so that BatchNorm normalises by the batch in a network
    that is set to training; everything is restored afterwards, as `untouched` does. There is no loss scale, no clipping
    and no weight decay; several losses are added up, as MindSpore's training cells do.
    """
    with untouched(network, loss_fn, batch, training=True):
        loss, gradients = ms.value_and_grad(
            lambda *columns: loss_of_batch(network, loss_fn, columns), None, ms.ParameterTuple(parameters)
        )(*batch)
        for each in (loss, *gradients):
            each.asnumpy()  # computed before the network is restored
        return loss, list(gradients)


def norm_of(values: Any) -> float:
    """Return the Euclidean norm of a tensor or an array, in double precision."""
    array: np.ndarray[Any, Any] = as_array(values)
    # Not `np.linalg.norm`, whose BLAS threads keep the processors busy after it: the next steps took twice as long.
    return math.sqrt(float(np.square(array, dtype=np.float64).sum()))
