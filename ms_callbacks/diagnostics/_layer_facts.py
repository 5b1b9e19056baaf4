"""What a layer's class determines: its geometry, and the multiply-adds of a call."""

from __future__ import annotations

import math
from typing import Any, Optional

from mindspore import nn

from ..core.mindspore_compat import own_parameters

__all__ = ["geometry", "multiply_adds"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.Conv1dTranspose, nn.Conv2dTranspose, nn.Conv3dTranspose)
# The number of kernel dimensions of a class, by its name.
_DIMENSIONS = {"1d": 1, "2d": 2, "3d": 3}


def geometry(layer: nn.Cell) -> tuple[str, str, str]:
    """Return kernel, stride and padding as written in a paper: `("5x5", "1", "valid")`; `"-"` for none."""
    dimensions = next((count for text, count in _DIMENSIONS.items() if text in type(layer).__name__), 0)
    if not dimensions or not hasattr(layer, "kernel_size"):
        return "-", "-", "-"
    kernel = _spread(layer.kernel_size, dimensions)
    stride = _spread(getattr(layer, "stride", 1), dimensions)
    padding = str(getattr(layer, "pad_mode", "-")).lower()
    if padding == "pad":
        padding = str(layer.padding)
    return (
        "x".join(str(size) for size in kernel),
        str(stride[0]) if len(set(stride)) == 1 else "x".join(str(size) for size in stride),
        padding,
    )


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
    # Elementwise layers and normalisations need no matrix products; for others no guess is made.
    return None if has_matrix else 0


def _spread(value: Any, dimensions: int) -> tuple[int, ...]:
    """Return a size for each dimension, from `2`, `(2, 2)` or MindSpore's own `(1, 1, 2, 2)`."""
    values = value if isinstance(value, (tuple, list)) else (value,) * dimensions
    return tuple(int(each) for each in values[-dimensions:])
