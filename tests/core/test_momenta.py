"""The momentum of optimizers, where it can be set."""

from __future__ import annotations

import pytest
from mindspore import nn
from training import Network

from ms_callbacks.core.momenta import Momenta


def made(kind, *arguments):
    return kind(Network().trainable_params(), 0.1, *arguments)


def test_it_is_read_and_set_where_it_is_a_parameter():
    """Others are left as they are, and so is one that is given `None`."""
    momenta = Momenta([made(nn.Momentum, 0.9), made(nn.Adam), made(nn.SGD, 0.5), made(nn.RMSProp)])
    assert momenta.read() == [0.9, None, 0.5, None]
    momenta.set([0.8, 0.8, None, 0.8])
    assert momenta.read() == [0.8, None, 0.5, None]


def test_an_optimizer_in_another_is_found():
    """`nn.LARS` has none of its own."""
    assert Momenta([nn.LARS(made(nn.Momentum, 0.9))]).read() == [0.9]


def test_what_cannot_be_set_is_refused():
    """By the optimizer's name."""
    Momenta([made(nn.Momentum, 0.9)]).check("O")
    with pytest.raises(ValueError, match="O: cycle_momentum=True needs .* but got 'Adam'; leave cycle_momentum out"):
        Momenta([made(nn.Momentum, 0.9), made(nn.Adam)]).check("O")
