"""What is remembered of an optimizer's first rates; with real schedules, see test_lr_callback.py."""

from __future__ import annotations

import mindspore as ms
import pytest
from mindspore import Tensor, nn
from training import Network

from ms_callbacks.core.initial_rates import determine, first_rates, remember
from ms_callbacks.core.learning_rates import Rates


def rates(learning_rate=0.1):
    return Rates(nn.SGD(Network().trainable_params(), learning_rate))


def determined(one, led_to=None, continues=True):
    return determine("O", one, continues=continues, had_led_to=lambda bases, now: now == led_to, takes_first_rate=True)


def test_the_first_rates_are_known_until_somebody_else_sets_another():
    """By the optimizer."""
    one = rates()
    remember(one)
    one.set([0.05])
    remember(one, [0.1])
    assert first_rates(one) == [0.1]
    one.set([0.3])
    assert first_rates(one) == [0.3]


def test_a_rate_that_a_schedule_had_led_to_is_not_the_first():
    """One that came from elsewhere cannot be told from one that is meant."""
    one = rates()
    one.set([0.05])
    one.optimizers[0].global_step.set_data(Tensor([4], ms.int32))
    assert determined(one, led_to=[0.05]) == [0.1]
    with pytest.raises(ValueError, match=r"the optimizer began with 0.1 and holds 0.05, .*O\(..., learning_rate=0.1"):
        determined(one)


def test_an_unused_optimizer_has_the_rate_that_was_set():
    """By hand, before its first step."""
    one = rates()
    one.set([0.4])
    assert determined(one, continues=False) == [0.4]
