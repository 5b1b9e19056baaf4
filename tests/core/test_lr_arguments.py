"""Arguments that are one rate for all parameter groups, or one for each."""

from __future__ import annotations

import numpy as np
import pytest

from ms_callbacks.core.lr_arguments import as_text, checked_first_rate, checked_per_group, checked_rates, for_group


def test_a_number_is_for_every_group_and_a_list_has_one_for_each():
    """As floats; a rate of 0 in a list is a frozen group."""
    assert checked_per_group("O", "min_lr", 1, minimum=0) == 1.0
    assert checked_first_rate("O", (1, 0)) == [1.0, 0.0]
    assert checked_first_rate("O", None) is None
    assert [for_group(0.5, 1), for_group([0.1, 0.2], 1)] == [0.5, 0.2]
    assert [as_text([0.1]), as_text([0.1, 0.2])] == ["0.1", "[0.1, 0.2]"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "O: learning_rate must be a number, or a list with one for each parameter group, but it is empty"),
        (0, "O: learning_rate must be finite and above 0, but got 0"),
        ([0.1, -1], r"O: learning_rate\[1\] must be finite and at least 0, but got -1"),
        (["0.1"], r"O: learning_rate\[0\] must be a number, but got '0.1'"),
    ],
)
def test_a_wrong_rate_is_refused(value, message):
    """By its place."""
    with pytest.raises((TypeError, ValueError), match=message):
        checked_first_rate("O", value)


def test_a_list_of_rates_in_any_form():
    """As the shortest decimals of what single precision holds."""
    assert checked_rates("O", "lr_list", np.array([0.01, 0.1], np.float32)) == [0.01, 0.1]
