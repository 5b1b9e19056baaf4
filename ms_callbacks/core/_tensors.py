"""Single numbers out of tensors, and tensors that hold on to nothing but their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Tensor
from mindspore import dtype as mstype

__all__ = ["detached", "number"]


def number(value: Any) -> float:
    """The number in a tensor or array, or the mean of several; waits until it has been computed."""
    if not isinstance(value, Tensor):
        return float(np.mean(value))
    # A number by itself takes MindSpore an eighth of the time that an array of it does. Of bfloat16, MindSpore 2.10
    # crashes at it with NumPy 2.
    return float(value) if value.shape == () and value.dtype == mstype.float32 else float(np.mean(value.asnumpy()))


def detached(value: Any) -> Any:
    """The tensor without what it was computed from.

    In PYNATIVE mode of MindSpore 2.8 and newer, an output holds on to the graph that gradients would go back through;
    older ones have no such graph.
    """
    return getattr(value, "data", value) if isinstance(value, Tensor) else value
