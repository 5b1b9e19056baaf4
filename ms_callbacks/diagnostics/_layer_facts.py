"""The geometry of a layer (kernel, stride, padding), which its class determines."""

from __future__ import annotations

from typing import Any

from mindspore import nn

__all__ = ["geometry"]

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


def _spread(value: Any, dimensions: int) -> tuple[int, ...]:
    """Return a size for each dimension, from `2`, `(2, 2)` or MindSpore's own `(1, 1, 2, 2)`."""
    values = value if isinstance(value, (tuple, list)) else (value,) * dimensions
    return tuple(int(each) for each in values[-dimensions:])
