"""Count the multiply-adds of a network, in the layers of MindSpore that a batch runs through."""

from __future__ import annotations

import math
from typing import Any, Optional

from mindspore import nn

from .forward_hooks import first_tensor, layers_of, observe
from .mindspore_compat import own_parameters

__all__ = ["multiply_adds", "per_sample"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.Conv1dTranspose, nn.Conv2dTranspose, nn.Conv3dTranspose)

Shape = Optional[tuple[int, ...]]


def multiply_adds(layer: nn.Cell, input_shape: Shape, output_shape: Shape) -> Optional[int]:
    """Return the multiply-adds of one call, for the whole batch and without biases; `None` if unknown."""
    has_matrix = any(len(one.shape) > 1 for one in own_parameters(layer).values())
    if input_shape is None or output_shape is None:
        return None if has_matrix else 0
    if isinstance(layer, _CONVOLUTIONS):
        # Each output element is a product over the kernel and the input channels of its group.
        return math.prod(output_shape) * math.prod(layer.weight.shape[1:])
    if isinstance(layer, _TRANSPOSED):
        return math.prod(input_shape) * math.prod(layer.weight.shape[1:])
    if isinstance(layer, nn.Dense):
        return math.prod(input_shape) * int(layer.weight.shape[0])
    if isinstance(layer, (nn.Embedding, nn.EmbeddingLookup)):
        return 0
    # Elementwise layers and normalisations need no matrix products; other layers with a matrix are unknown.
    return None if has_matrix else 0


def per_sample(network: nn.Cell, inputs: tuple[Any, ...]) -> tuple[int, tuple[str, ...]]:
    """Return the multiply-adds of one sample in the forward pass, and the layer classes that could not be counted.

    The network runs once on the inputs and is not changed. The first dimension of the first tensor is the number of
    samples.
    """
    first = first_tensor(inputs)
    samples = max(first.shape[0], 1) if first is not None and first.shape else 1
    layers = layers_of(network)
    idle = set(layers)
    total, uncounted = 0, set()

    def see(name: str, layer: nn.Cell, taken: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        shapes = (None if one is None else tuple(one.shape) for one in map(first_tensor, (taken, output)))
        cost = multiply_adds(layer, *shapes)
        idle.discard(name)
        if cost is None:
            uncounted.add(type(layer).__name__)
        else:
            total += cost // samples

    observe(network, inputs, layers, see)
    uncounted.update(type(layers[name]).__name__ for name in idle if multiply_adds(layers[name], None, None) is None)
    return total, tuple(sorted(uncounted))
