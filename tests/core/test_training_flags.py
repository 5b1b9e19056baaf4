"""The flags of each cell, over an evaluation."""

from __future__ import annotations

import pytest
from training import Network, dataset, make_model, valid_dataset

from ms_callbacks.core.training_flags import TrainingFlags


@pytest.mark.parametrize("evaluates", [True, False])
def test_each_cell_has_its_flag_again_and_the_next_step_leaves_it(mode, evaluates):
    """Where MindSpore would set all cells to training."""
    network = Network()
    model = make_model(network=network)
    model.train(1, dataset(12))
    network.norm.set_train(False)
    flags = TrainingFlags(model, model.train_network)
    if evaluates:
        model.eval(valid_dataset())
        assert not network.training
    flags.restore()
    assert (network.training, network.norm.training, network.head.training) == (True, False, True)
    model._check_network_mode(model.train_network, True)  # as before each step
    assert not network.norm.training
