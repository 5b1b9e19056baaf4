"""freeze: named layers stay as they are, the rest learns."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from training import Network, dataset, loss_fn, make_model, weights

from ms_callbacks import History, check_callbacks, freeze


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


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_optimizer_that_holds_what_is_frozen_is_refused(by_hand, mode):
    """It would change it all the same; named with the remedy before the first step, in both modes."""
    model = make_model()
    if by_hand:
        model.predict_network.hidden.weight.requires_grad = False
    else:
        freeze(model.predict_network, "hidden")
    before = weights(model.train_network)
    message = "the optimizer holds 'hidden.weight', where requires_grad is False, .*; freeze first, then make the opti"
    with pytest.raises(ValueError, match=message):
        model.train(1, dataset(), callbacks=[History()])
    with pytest.raises(ValueError, match=message):
        check_callbacks(model, dataset(), [History()], epochs=1)
    assert all((before[name] == array).all() for name, array in weights(model.train_network).items())


@pytest.mark.parametrize(
    "make",
    [
        lambda network: nn.SGD([{"params": network.trainable_params(), "lr": 0.1}], 0.2),
        lambda network: nn.LARS(nn.Momentum(network.trainable_params(), 0.1, 0.9)),
        lambda network: nn.Adam(list(network.get_parameters()), 0.1),
    ],
    ids=["groups", "wrapped", "all"],
)
def test_every_kind_of_optimizer_is_asked(make):
    """The statistics of a BatchNorm are not taken for frozen parameters."""
    model = make_model(make)
    check_callbacks(model, dataset(), [History()], epochs=1)
    freeze(model.predict_network, "head", "hidden")
    with pytest.raises(ValueError, match="holds 'hidden.weight', 'head.weight', 'head.bias', where|'head.*', 'hidden"):
        check_callbacks(model, dataset(), [History()], epochs=1)


def test_an_optimizer_made_after_freezing_is_not(mode):
    """Also where it takes the place of one that held all."""
    network = Network()
    nn.Adam(network.trainable_params(), 0.1)
    freeze(network, "hidden")
    model = ms.Model(network, loss_fn(), nn.Adam(network.trainable_params(), 0.1))
    before = weights(network)["hidden.weight"]
    model.train(1, dataset(), callbacks=[History()])
    np.testing.assert_array_equal(weights(network)["hidden.weight"], before)
