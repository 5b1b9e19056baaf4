"""The multiply-adds of a network: those of ShapeInspector's table, for one sample, and what could not be counted."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from training import Network, seeded, weights

from ms_callbacks import ShapeInspector
from ms_callbacks.core.multiply_adds import multiply_adds, per_sample


class Own(nn.Cell):
    """A product with a matrix of its own, which no class tells."""

    def __init__(self):
        super().__init__()
        self.matrix = Parameter(Tensor(np.ones((16, 3), np.float32)), name="matrix")

    def construct(self, x):
        return ops.matmul(x, self.matrix)


class Twice(nn.Cell):
    """A layer that is called twice, and one that never is."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(16, 16)
        self.idle = nn.Dense(16, 4)

    def construct(self, x):
        return self.dense(self.dense(x))


NETWORKS = {
    "convolution": (Network, (1, 4, 4), 1 * 3 * 3 * 3 * 2 * 2 + 12 * 3, ()),
    "twice": (Twice, (16,), 2 * 16 * 16, ("Dense",)),
    "own": (lambda: nn.SequentialCell(nn.Dense(16, 16), Own()), (16,), 16 * 16, ("Own",)),
    "none": (nn.ReLU, (16,), 0, ()),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("samples", [1, 5])
def test_the_multiply_adds_of_one_sample(kind, samples):
    """By hand, and by the table; weights and statistics stay as they are."""
    make, shape, expected, uncounted = NETWORKS[kind]
    network, batch = make(), Tensor(np.ones((samples, *shape), np.float32))
    before = weights(network)
    assert per_sample(network, (batch,)) == (expected, uncounted)
    rows = ShapeInspector().inspect(network, batch).rows_
    assert expected == sum(row.multiply_adds or 0 for row in rows)
    assert all(np.array_equal(before[name], array) for name, array in weights(network).items())


@pytest.mark.parametrize(
    ("layer", "takes", "gives", "expected"),
    [
        (nn.Conv2d(2, 4, 3), (8, 2, 5, 5), (8, 4, 5, 5), 8 * 4 * 25 * 2 * 9),
        (nn.Conv2d(4, 4, 3, group=4), (1, 4, 5, 5), (1, 4, 5, 5), 4 * 25 * 9),
        (nn.Dense(3, 7), (2, 3), (2, 7), 2 * 3 * 7),
        (nn.Embedding(10, 3), (2, 4), (2, 4, 3), 0),
        (nn.ReLU(), (2, 3), (2, 3), 0),
        (nn.Dense(3, 7), None, (2, 7), None),
        (nn.ReLU(), None, None, 0),
        (Own(), (2, 16), (2, 3), None),
    ],
)
def test_the_multiply_adds_of_a_call(layer, takes, gives, expected):
    """For the whole batch; `None` where a layer has a matrix and nothing is known of it."""
    assert multiply_adds(layer, takes, gives) == expected


def test_the_network_is_as_before_in_training():
    """Its flags too."""
    network = seeded()
    network.set_train()
    per_sample(network, (Tensor(np.ones((2, 1, 4, 4), np.float32)),))
    assert all(cell.training for _, cell in network.cells_and_names())
