"""Which of a network's outputs is meant: the only one that can be, or the one that is named."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor

from ms_callbacks.core.network_output import check_output, describe, find_place, pick

ROWS = Tensor(np.zeros((4, 3), np.float32))
WIDE = Tensor(np.zeros((4, 8), np.float32))
LOSS = Tensor(1.0)


def is_rows(part):
    return part.shape == (4, 3)


@pytest.mark.parametrize(
    ("output", "place"),
    [
        (ROWS, None),
        (WIDE, None),  # the only output need not fit
        (np.zeros((4, 3)), None),
        ((ROWS,), 0),
        ([WIDE], 0),
        ((LOSS, ROWS), 1),
        ([ROWS, WIDE, LOSS], 0),
        ({"loss": LOSS, "scores": ROWS}, "scores"),
        ({"logits": WIDE, "scores": ROWS}, "logits"),  # by its name
        ((LOSS, (WIDE, LOSS), ROWS), 2),
    ],
)
def test_the_output_that_is_meant_is_found(output, place):
    """The only one, the one called logits, or the only one that fits; `pick` takes it from there."""
    found = find_place("Owner", output, is_rows)
    assert found == place
    assert pick("Owner", output, found) is (output if place is None else output[place])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            (ROWS, ROWS),
            r"a tuple with the shapes {0: \(4, 3\), 1: \(4, 3\)}, and more than one of them fits; say which",
        ),
        ((LOSS, WIDE), "and none of them fits; say which"),
        ({"a": ROWS, "b": ROWS}, "a dict with the shapes {'a': .* such as output='a', or pass a function, such as out"),
        (
            (LOSS, (ROWS,)),
            r"\(\), 1: tuple}, and the one that fits is within another; .*output=lambda outputs",
        ),
        ((ROWS, (LOSS, ROWS)), "more than one of them fits"),
        ((ROWS, {"deep": (ROWS,)}), "more than one of them fits"),
        ((), "a tuple, and none of them fits"),
    ],
)
def test_where_none_or_several_can_be_meant_it_has_to_be_said(output, message):
    """The error lists them, and says how."""
    with pytest.raises(ValueError, match=f"^Owner: the network gives .*{message}"):
        find_place("Owner", output, is_rows)


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ((LOSS, ROWS), 1),
        ((LOSS, ROWS), -1),
        ([ROWS], 0),
        ({"a": ROWS}, "a"),
        ({0: ROWS}, 0),
        ((LOSS, (ROWS,)), lambda outputs: outputs[1][0]),
        (ROWS, lambda outputs: outputs),
        (ROWS, None),
    ],
)
def test_an_output_is_picked_by_index_key_or_function(output, place):
    """The tensor itself."""
    assert pick("Owner", output, place) is ROWS


@pytest.mark.parametrize(
    ("output", "place", "message"),
    [
        (ROWS, 0, "output=0 is for a network with several outputs, but this one gives a Tensor of shape .4, 3.; leave"),
        ((ROWS,), 1, "output=1 is not among the network's outputs .0."),
        ((ROWS,), -2, "output=-2 is not among the network's outputs .0."),
        ((ROWS,), "logits", "output='logits' is not among the network's outputs .0."),
        ({"logits": ROWS}, "logit", r"output='logit' is not among .*'logits'.; did you mean 'logits'\?"),
        ({"logits": ROWS}, 0, "output=0 is not among the network's outputs .'logits'."),
        ((LOSS, (ROWS,)), 1, "output must lead to a Tensor, but output=1 gives a tuple"),
        (
            (LOSS, (ROWS,)),
            len,
            r"output must lead to a Tensor, but output=len gives 2 \(int\); the network gives",
        ),
        ((ROWS, ROWS), None, "output must lead to a Tensor, but without one, the network gives a tuple"),
    ],
)
def test_what_leads_to_no_tensor_is_refused(output, place, message):
    """With what the network gives."""
    with pytest.raises(ValueError, match=f"^Owner: {message}"):
        pick("Owner", output, place)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (ROWS, "a Tensor of shape (4, 3)"),
        (LOSS, "a Tensor of shape ()"),
        ((ROWS, 2.5), "a tuple with the shapes {0: (4, 3), 1: float}"),
        ({"a": ROWS, "b": (ROWS,)}, "a dict with the shapes {'a': (4, 3), 'b': tuple}"),
        ([], "a list"),
        (2.5, "2.5 (float)"),
        (None, "a NoneType"),
    ],
)
def test_an_output_in_words(output, text):
    """Its shapes, and never its values."""
    assert describe(output) == text


@pytest.mark.parametrize("value", [None, 0, -1, "logits", len])
def test_an_index_a_key_or_a_function_is_taken(value):
    """Or nothing."""
    assert check_output("Owner", value) is value


@pytest.mark.parametrize(
    ("value", "told"), [(True, r"True \(bool\)"), (1.5, r"1.5 \(float\)"), ([0], r"\[0\] \(list\)")]
)
def test_what_names_no_output_is_refused(value, told):
    """When the callback is made."""
    with pytest.raises(TypeError, match=f"Owner: output must be an index, a key or a function .* but got {told}"):
        check_output("Owner", value)
