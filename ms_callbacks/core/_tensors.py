"""Single numbers out of tensors, and tensors that hold on to nothing but their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Tensor
from mindspore import dtype as mstype

__all__ = ["detached", "is_plain", "number"]


def is_plain(value: Any) -> bool:
    """Whether `float` reads the value, in an eighth of the time that MindSpore takes to make an array of it.

    Of a bfloat16, MindSpore 2.10 crashes at it with NumPy 2.
    """
    return isinstance(value, Tensor) and value.shape == () and value.dtype == mstype.float32


def number(value: Any) -> float:
    """The number in a tensor or array, or the mean of several; waits until it has been computed."""
    if is_plain(value):
        return float(value)
    return float(np.mean(value.asnumpy() if isinstance(value, Tensor) else value))


def detached(value: Any) -> Any:
    """The tensor without what it was computed from; anything else as it is.

    In PYNATIVE mode of MindSpore 2.8 and newer, an output holds on to the graph that gradients would go back through;
    older ones have no such graph, and a `Tensor` of 2.0 no `data`.
    """
    return getattr(value, "data", value) if isinstance(value, Tensor) else value
