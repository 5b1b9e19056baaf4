"""Read numbers from tensors, and detach tensors from everything but their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Tensor
from mindspore import dtype as mstype

__all__ = ["as_array", "is_finite", "is_plain", "number"]


def is_plain(value: Any) -> bool:
    """Return whether `float` can read the value, in an eighth of the time that MindSpore takes to make an array of it.

    With NumPy 2, MindSpore 2.10 crashes when `float` reads a bfloat16 value.
    """
    return isinstance(value, Tensor) and value.shape == () and value.dtype == mstype.float32


def number(value: Any) -> float:
    """Return the number in a tensor or array, or the mean of several; wait until it has been computed."""
    if is_plain(value):
        return float(value)
    return float(np.mean(as_array(value)))


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """Return the values of a tensor or array as an array that supports arithmetic.

    NumPy has no bfloat16. The arrays that MindSpore makes of it can be neither added nor divided and do not count as
    floating point; with NumPy 2, MindSpore 2.10 cannot make them at all. Such values become float32, which represents
    each of them exactly.
    """
    if isinstance(value, Tensor):
        return (value.astype(mstype.float32) if str(value.dtype) == "BFloat16" else value).asnumpy()  # type: ignore[no-any-return]
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def is_finite(array: np.ndarray[Any, Any]) -> bool:
    """Return whether an array holds neither NaN nor infinity; always true for types that have neither."""
    return (array.dtype.kind not in "fc" and array.dtype.name != "bfloat16") or bool(np.isfinite(array).all())
