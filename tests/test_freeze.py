"""freeze: named layers stay as they are, the rest learns."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from training import Network, dataset, loss_fn, weights

from ms_callbacks import freeze


def test_frozen_layers_stay_and_the_rest_learns(mode):
    """To the last bit."""
    network = Network()
    assert freeze(network, "hidden") == ["hidden.weight"]
    before = weights(network)
    ms.Model(network, loss_fn(), nn.Adam(network.trainable_params(), 0.1)).train(1, dataset())
    after = weights(network)
    np.testing.assert_array_equal(after["hidden.weight"], before["hidden.weight"])
    assert not np.array_equal(after["head.weight"], before["head.weight"])


def test_a_layer_that_does_not_exist_is_named_with_the_nearest():
    """And nothing is frozen."""
    network = Network()
    with pytest.raises(ValueError, match=r"freeze: the network has no layer 'hiden' .*; did you mean 'hidden'\?"):
        freeze(network, "head", "hiden")
    with pytest.raises(ValueError, match="freeze: layer 'relu' has no parameter that is trained"):
        freeze(network, "relu")
    assert len(network.trainable_params()) == len(Network().trainable_params())


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        ("network", "hidden", "network must be an nn.Cell, but got str"),
        (Network, ["hidden"], r"layers must be names, as in freeze\(network, 'conv1', 'conv2'\), but got \['hidden'\]"),
        (Network, 0, "layers must be names, .*, but got 0"),
    ],
)
def test_what_is_no_network_or_name_is_refused(network, layer, message):
    """A list of names among them, which is easily passed as one."""
    with pytest.raises(TypeError, match=f"freeze: {message}"):
        freeze(network if isinstance(network, str) else network(), layer)
