"""The gradient that attacks follow, and what running a cell between two steps leaves behind."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import ops
from training import Network, loss_fn, seeded, valid_dataset

from ms_callbacks.core.fgsm import InputGradient, between_steps


@pytest.mark.parametrize("loss", [loss_fn("none"), loss_fn("sum"), loss_fn("mean")])
def test_it_is_the_gradient_of_the_summed_loss(mode, loss):
    """With any reduction; parameters keep their names."""
    network = seeded(Network())
    network.set_train(False)
    names = [one.name for one in network.get_parameters()]
    images, labels = next(valid_dataset().create_tuple_iterator(num_epochs=1))
    found = InputGradient(network, loss)(images, labels).asnumpy()
    assert [one.name for one in network.get_parameters()] == names
    ms.set_context(mode=ms.PYNATIVE_MODE)
    expected = ms.grad(lambda inputs: ops.reduce_sum(loss(network(inputs), labels)))(images).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_it_knows_what_it_is_of():
    """The very objects."""
    network, loss = Network(), loss_fn()
    gradient = InputGradient(network, loss)
    assert gradient.is_of(network, loss)
    assert not gradient.is_of(network, loss_fn())
    assert not gradient.is_of(Network(), loss)


def test_flags_and_random_numbers_come_back_even_after_an_exception(mode):
    """Of the cell and of each cell within it."""
    cell = InputGradient(seeded(Network()), loss_fn())
    cell.set_train(True)
    cell.loss.network.norm.set_train(False)
    flags = {name: each.training for name, each in cell.cells_and_names()}

    def draw():
        return ops.standard_normal((3,)).asnumpy().tolist()

    ms.set_seed(3)
    expected = [draw(), draw()]
    ms.set_seed(3)
    found = [draw()]
    with pytest.raises(RuntimeError, match="mine"), between_steps(cell):
        assert not any(each.training for _, each in cell.cells_and_names())
        draw()
        raise RuntimeError("mine")
    found.append(draw())
    assert found == expected
    assert {name: each.training for name, each in cell.cells_and_names()} == flags
