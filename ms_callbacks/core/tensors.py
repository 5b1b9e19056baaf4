"""Single numbers out of tensors, and tensors that hold on to nothing but their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Tensor
from mindspore import dtype as mstype

__all__ = ["as_array", "is_finite", "is_plain", "number"]


def is_plain(value: Any) -> bool:
    """Whether `float` reads the value, in an eighth of the time that MindSpore takes to make an array of it.

    Of a bfloat16, MindSpore 2.10 crashes at it with NumPy 2.
    """
    return isinstance(value, Tensor) and value.shape == () and value.dtype == mstype.float32


def number(value: Any) -> float:
    """The number in a tensor or array, or the mean of several; waits until it has been computed."""
    if is_plain(value):
        return float(value)
    return float(np.mean(as_array(value)))


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """The values of a tensor, or of an array, as an array that can be computed with.

    NumPy has no bfloat16 of its own: what MindSpore makes of one it can neither add nor divide, and takes for no
    floating point; with NumPy 2, MindSpore 2.10 makes none at all. It becomes float32, which holds each of its values.
    """
    if isinstance(value, Tensor):
        return (value.astype(mstype.float32) if str(value.dtype) == "BFloat16" else value).asnumpy()  # type: ignore[no-any-return]
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def is_finite(array: np.ndarray[Any, Any]) -> bool:
    """Whether an array holds neither NaN nor an infinity; of numbers that can hold none, it never does."""
    return (array.dtype.kind not in "fc" and array.dtype.name != "bfloat16") or bool(np.isfinite(array).all())
