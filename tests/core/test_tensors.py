"""Numbers and arrays of tensors of every type, with the precision that they have."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from ms_callbacks.core.tensors import as_array, is_finite, is_plain, number

NAN, INF = math.nan, math.inf


def of_half(values):
    """A tensor of bfloat16, where this MindSpore has that."""
    if not hasattr(ms, "bfloat16"):
        pytest.skip("this MindSpore has no bfloat16")
    return Tensor(np.array(values, np.float32)).astype(ms.bfloat16)


def array_of_half(values):
    """The array that MindSpore makes of it, where it can."""
    try:
        return of_half(values).asnumpy()
    except TypeError:
        pytest.skip("this MindSpore makes no array of bfloat16 with this NumPy")


@pytest.mark.parametrize(
    ("make", "value", "plain"),
    [
        (lambda: Tensor(0.5, ms.float32), 0.5, True),
        (lambda: Parameter(Tensor(0.5, ms.float32), name="x"), 0.5, True),
        (lambda: Tensor(NAN, ms.float32), NAN, True),
        (lambda: Tensor([0.5], ms.float32), 0.5, False),
        (lambda: Tensor([[0.0, 1.0]], ms.float32), 0.5, False),
        (lambda: Tensor(0.5, ms.float16), 0.5, False),
        (lambda: Tensor(0.5, ms.float64), 0.5, False),
        (lambda: Tensor(2, ms.int32), 2.0, False),
        (lambda: Tensor(True), 1.0, False),
        (lambda: of_half(0.5), 0.5, False),
        (lambda: of_half([0.0, 1.0]), 0.5, False),
        (lambda: np.float32(0.5), 0.5, False),
        (lambda: np.array([0.0, 1.0]), 0.5, False),
        (lambda: array_of_half([0.0, 1.0]), 0.5, False),
        (lambda: 0.5, 0.5, False),
    ],
)
def test_a_number_is_read_of_whatever_holds_one(make, value, plain):
    """Of several it is the mean; the short way is taken only where it is safe."""
    found = number(make())
    assert type(found) is float
    assert found == value or (math.isnan(found) and math.isnan(value))
    assert is_plain(make()) is plain


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: Tensor([0.5, NAN], ms.float32), np.float32),
        (lambda: Tensor([0.5, NAN], ms.float16), np.float16),
        (lambda: of_half([0.5, NAN]), np.float32),
        (lambda: array_of_half([0.5, NAN]), np.float32),
        (lambda: [0.5, NAN], np.float64),
        (lambda: np.array([0.5, NAN], np.float16), np.float16),
    ],
)
def test_an_array_can_be_calculated_with(make, kind):
    """In its own type, but for bfloat16, which NumPy does not have: each of its values is one of float32."""
    array = as_array(make())
    assert array.dtype == kind
    np.testing.assert_array_equal(array + array, np.array([1.0, NAN], kind))


@pytest.mark.parametrize(
    ("make", "finite"),
    [
        (lambda: np.array([0.5, -1e30]), True),
        (lambda: np.array([0.5, NAN]), False),
        (lambda: np.array([INF]), False),
        (lambda: np.array([-INF], np.float16), False),
        (lambda: np.array(NAN), False),
        (lambda: np.zeros(0), True),
        (lambda: np.array([1, 2]), True),
        (lambda: np.array([True]), True),
        (lambda: np.array([1j * INF]), False),
        (lambda: np.array([1 + 1j]), True),
        (lambda: array_of_half([1.0, NAN]), False),
        (lambda: array_of_half([1.0]), True),
    ],
)
def test_what_is_not_finite_is_seen_in_every_type_that_can_hold_it(make, finite):
    """NumPy takes bfloat16 for no floating point."""
    assert is_finite(make()) is finite
