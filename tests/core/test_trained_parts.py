"""What a run trains: the network, the weights and the rates that callbacks ask for, and what is not whole here."""

from __future__ import annotations

import pytest
from mindspore import nn
from training import (
    Network,
    NetworkWithLoss,
    OwnTrainCell,
    TwoOptimizers,
    dataset,
    loss_fn,
)

from ms_callbacks.core.placement import Needs
from ms_callbacks.core.trained_parts import TrainedParts


def sgd(network, rate=0.1):
    return nn.SGD(network.trainable_params(), rate)


def parts_of(network, loss=None, optimizer=None, **others):
    """As of the parameters of MindSpore's run context."""
    args = {"train_network": network, "network": network, "loss_fn": loss, "optimizer": optimizer}
    return TrainedParts({**args, "train_dataset": dataset(), **others})


class Gan(nn.Cell):
    """Two networks, and nothing says which is meant."""

    def __init__(self):
        super().__init__()
        self.generator, self.critic = nn.Dense(2, 2), nn.Dense(2, 1)
        self.one, self.other = sgd(self.generator), sgd(self.critic)


def test_network_loss_and_optimizer_are_those_of_the_model():
    """As given, or found inside a training cell; the weights are named alike in both."""
    network, loss = Network(), loss_fn()
    optimizer = sgd(network)
    plain = parts_of(network, loss, optimizer)
    assert (plain.network("Owner"), plain.loss_fn, plain.optimizers) == (network, loss, (optimizer,))
    within = parts_of(nn.TrainOneStepCell(nn.WithLossCell(network, loss), optimizer))
    assert (within.network("Owner"), within.loss_fn, within.optimizers) == (network, loss, (optimizer,))
    assert list(within.weights) == list(plain.weights)
    assert "hidden.weight" in plain.weights
    assert "norm.moving_mean" in plain.weights
    assert plain.weights_beside == within.weights_beside == []


def test_weights_of_a_loss_are_weights_beside():
    """They are learnt as well, and no part of a file of the network."""
    loss = nn.Dense(3, 1)
    parts = parts_of(Network(), loss, None)
    assert sorted(set(parts.weights) - set(parts_of(Network()).weights)) == parts.weights_beside
    assert len(parts.weights_beside) == 2


def test_rates_are_known_where_all_optimizers_are_mindspores():
    """With one for each; `None` where there is none, or another trains too."""
    network = Network()
    assert parts_of(network, loss_fn(), sgd(network, 0.5)).rates.read() == [0.5]
    assert parts_of(network, loss_fn()).rates is None
    halves = network.trainable_params()
    cell = TwoOptimizers(network, nn.SGD(halves[:2], 0.5), nn.SGD(halves[2:], 0.25))
    assert parts_of(cell).rates.read() == [0.5, 0.25]
    own = nn.LARS(sgd(network, 0.5))
    assert parts_of(network, loss_fn(), own).rates.read() == [0.5]


def test_a_network_that_cannot_be_told_is_an_error_of_who_needs_it():
    """With the way to say it; one that is given is taken."""
    gan = Gan()
    parts = parts_of(gan)
    assert parts.found_network is None
    with pytest.raises(ValueError, match=r"^Owner: cannot tell which of the cells inside Gan is .*; pass network="):
        parts.network("Owner")
    assert parts.network("Owner", gan.critic) is gan.critic
    assert len(parts.optimizers) == 2


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: parts_of(Network(), loss_fn()), ("images",)),
        (lambda: parts_of(NetworkWithLoss(Network(), loss_fn())), ("images", "labels")),
        (
            lambda: parts_of(OwnTrainCell(cell := NetworkWithLoss(Network(), loss_fn()), sgd(cell))),
            ("images", "labels"),
        ),
    ],
)
def test_what_a_network_takes_of_a_batch(make, expected):
    """The columns before the label, or all that its own loss needs; another network takes what it can."""
    parts = make()
    assert parts.inputs("Owner", ("images", "labels")) == expected
    assert parts.inputs("Owner", ("images", "labels"), nn.Dense(1, 1)) == ("images",)
    with pytest.raises(ValueError, match="Owner: in sink mode batches go to the device unseen; train with"):
        parts.inputs("Owner", None)


@pytest.mark.parametrize(
    ("mode", "is_split"),
    [
        (None, False),
        ("stand_alone", False),
        ("data_parallel", False),
        ("hybrid_parallel", False),
        ("semi_auto_parallel", True),
        ("auto_parallel", True),
    ],
)
def test_processes_share_one_network_in_some_modes(mode, is_split):
    """By the Model's own mode; without one it is alone."""
    parts = parts_of(Network(), parallel_mode=mode)
    assert (parts.is_split, parts.parallel_mode) == (is_split, mode or "stand_alone")


class TrainFaultTolerance:
    """By its name, which is how MindSpore's own is told."""


@pytest.mark.parametrize(
    ("setting", "needs", "is_refused"),
    [
        ("{TTP:1,UCE:1}", Needs.RUN, True),
        ("{ARF:1}", Needs.RUN | Needs.WEIGHTS, True),
        ("{UCE:1}", Needs.WEIGHTS, False),
        ("{UCE:0}", Needs.RUN, False),
        ("{TTP:1}", Needs.RUN, False),  # which does not begin again
        ("", Needs.RUN, False),
    ],
)
def test_what_is_of_the_whole_run_is_refused_where_mindspore_repairs_it(monkeypatch, setting, needs, is_refused):
    """And where its callback is there; what needs the rest alone is not."""
    monkeypatch.setenv("MS_ENABLE_TFT", setting)
    parts = parts_of(Network(), loss_fn())
    parts.check_whole("Owner", needs, [])
    if is_refused:
        with pytest.raises(ValueError, match="Owner: with TrainFaultTolerance and MS_ENABLE_TFT=.*leave one of"):
            parts.check_whole("Owner", needs, [TrainFaultTolerance()])
    else:
        parts.check_whole("Owner", needs, [TrainFaultTolerance()])


def test_what_is_not_whole_is_refused_by_the_models_mode():
    """The callback is named, and the mode."""
    parts = parts_of(Network(), loss_fn(), parallel_mode="auto_parallel")
    parts.check_whole("Owner", Needs.LOSS | Needs.RUN, [])
    with pytest.raises(ValueError, match="^Owner: parallel_mode='auto_parallel' gives each process a part"):
        parts.check_whole("Owner", Needs.WEIGHTS, [])
