"""One callback sets the rate, of optimizers that hold a number."""

from __future__ import annotations

import pytest
from mindspore import nn
from training import Script

from ms_callbacks.core.rate_setter import RateSetter


class Halve(RateSetter):
    """Halves the rate before every epoch."""

    def before_epoch(self, run):
        self._rates.set([rate / 2 for rate in self._rates.read()])


def test_it_has_the_rates_while_the_run_lasts():
    """A callback of one's own sets them."""
    halve = Halve()
    assert Script(0.8).run([halve], [None] * 3) == pytest.approx([0.4, 0.2, 0.1])
    assert halve._rates is None


def test_two_that_set_the_rate_are_refused():
    """Also of a kind."""
    with pytest.raises(ValueError, match="Halve and Halve both set the learning rate; keep one of them; for a warm-up"):
        Script().run([Halve(), Halve()], [None])


def test_an_optimizer_that_sets_its_rate_itself_is_refused():
    """With what to make it with instead."""
    script = Script()
    script.optimizer = nn.SGD(script.network.trainable_params(), [0.1, 0.2])
    with pytest.raises(ValueError, match="Halve: the optimizer holds a list or a schedule of learning rates"):
        script.run([Halve()], [None])
