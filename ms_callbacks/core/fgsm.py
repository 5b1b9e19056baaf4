"""The gradient of the loss with respect to a network's input, for FGSM attacks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mindspore import Tensor, nn, ops

from .forward_hooks import settle_numpy
from .mindspore_compat import flags_kept, random_state, recording_cells, set_recording_cells

__all__ = ["InputGradient", "between_steps"]


class InputGradient(nn.Cell):
    """Compute the gradient of the summed loss with respect to the inputs.

    The cell shares the parameters of the network and does not rename them.

    Args:
        network: a network with one input.
        loss_fn: a Cell or a function of the network's output and the labels, with any reduction.
    """

    def __init__(self, network: nn.Cell, loss_fn: Any) -> None:
        super().__init__(auto_prefix=False)
        self.loss = _SummedLoss(network, loss_fn)
        self.gradient = ops.GradOperation()

    def is_of(self, network: nn.Cell, loss_fn: Any) -> bool:
        """Return whether this is the gradient of the given loss of the given network."""
        return self.loss.network is network and self.loss.loss_fn is loss_fn

    def construct(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the gradient, in the shape of the inputs."""
        return self.gradient(self.loss)(inputs, labels)


class _SummedLoss(nn.Cell):
    """The loss summed to one number, for any reduction."""

    def __init__(self, network: nn.Cell, loss_fn: Any) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss_fn = loss_fn

    def construct(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return ops.reduce_sum(self.loss_fn(self.network(inputs), labels))


@contextlib.contextmanager
def between_steps(cell: nn.Cell) -> Iterator[None]:
    """Set a cell and its inner cells to evaluation; afterwards restore their flags and MindSpore's random state.

    This is fast enough for every step. Unlike `forward_hooks.untouched`, it does not change the mode, and it does not
    restore what a network writes in its forward pass.
    """
    settle_numpy()
    give_back_random_state = random_state()
    recording = recording_cells(cell)
    try:
        with flags_kept(cell):
            cell.set_train(False)
            yield
    finally:
        set_recording_cells(cell, recording)
        give_back_random_state()
