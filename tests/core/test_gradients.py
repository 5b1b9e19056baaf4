"""Gradients computed beside a training step."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from training import NetworkWithLoss, assert_same_weights, dataset, loss_fn, seeded, weights

from ms_callbacks.core.gradients import loss_and_gradients, loss_of_batch, norm_of


def batch():
    return next(iter(dataset().create_tuple_iterator()))


@pytest.mark.parametrize("has_own_loss", [False, True])
def test_they_are_those_of_mindspore(mode, has_own_loss):
    """By the batch's statistics, which are then what they were, like flags and mode."""
    network = seeded()
    network.set_train()
    given = tuple(batch())
    before, flags = weights(network), [cell.training for _, cell in network.cells_and_names()]
    parameters = network.trainable_params()
    whole = NetworkWithLoss(network, loss_fn()) if has_own_loss else network
    loss, gradients = loss_and_gradients(whole, None if has_own_loss else loss_fn(), given, parameters)
    assert_same_weights(dict(zip(before, weights(network).values())), before)  # under other names in a cell around it
    assert [cell.training for _, cell in network.cells_and_names()] == flags
    assert ms.get_context("mode") == {"graph": ms.GRAPH_MODE, "pynative": ms.PYNATIVE_MODE}[mode]
    ms.set_context(mode=ms.PYNATIVE_MODE)
    criterion = loss_fn()
    expected, others = ms.value_and_grad(
        lambda x, label: criterion(network(x), label), None, ms.ParameterTuple(parameters)
    )(*given)
    assert float(loss.asnumpy()) == pytest.approx(float(expected.asnumpy()), abs=1e-6)
    for one, other in zip(gradients, others):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), atol=1e-6)


def test_without_a_loss_function_the_loss_is_the_first_tensor():
    """Or `None` where there is none."""

    class Several(nn.Cell):
        def construct(self, x):
            return {"loss": x.sum(), "other": x}

    class Nothing(nn.Cell):
        def construct(self, x):
            return ()

    given = (Tensor(np.ones(3, np.float32)), Tensor(0))
    assert float(loss_of_batch(Several(), None, given).asnumpy()) == 3
    assert loss_of_batch(Nothing(), None, given) is None


def test_norms_are_in_double_precision():
    """So that the square of a large one does not overflow."""
    assert norm_of(np.array([3e30, 4e30], np.float32)) == pytest.approx(5e30)
    assert np.isnan(norm_of(Tensor([1.0, float("nan")])))
