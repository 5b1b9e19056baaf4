"""What is not whole in one process is refused by the name of the setting, to those that need it and no others."""

from __future__ import annotations

import pytest
from mindspore import nn

from ms_callbacks.core import mindspore_compat
from ms_callbacks.core.placement import Needs, check_whole

EACH = [Needs.WEIGHTS, Needs.OPTIMIZER, Needs.LOSS, Needs.OUTPUTS, Needs.RUN]
MODEL = {Needs.WEIGHTS, Needs.OPTIMIZER, Needs.OUTPUTS}


class AutoParallel(nn.Cell):
    """By its name, which is how MindSpore's own is told: that one needs several devices."""

    def __init__(self, network, devices, stages=1):
        super().__init__()
        self.network, self._device_num, self._pipeline_stages = network, devices, stages


def plain():
    return nn.Dense(2, 2)


def flagged(**flags):
    """A network one of whose parameters has been set so."""

    def make():
        network = plain()
        for name, value in flags.items():
            setattr(network.weight, name, value)
        return network

    return make


def with_optimizer(is_parallel):
    """A training cell whose optimizer may keep the moments of some parameters alone."""

    def make():
        network = plain()
        optimizer = nn.Momentum(network.trainable_params(), 0.1, 0.9)
        optimizer.use_parallel = is_parallel
        return nn.TrainOneStepCell(nn.WithLossCell(network, nn.MSELoss()), optimizer)

    return make


@pytest.mark.parametrize(
    ("make", "mode", "refused", "told"),
    [
        (plain, None, set(), ""),
        (plain, "stand_alone", set(), ""),
        (plain, "data_parallel", set(), ""),
        (plain, "semi_auto_parallel", MODEL, "parallel_mode='semi_auto_parallel' gives each process a part of the"),
        (plain, "auto_parallel", MODEL, "parallel_mode='auto_parallel' gives"),
        (plain, "hybrid_parallel", MODEL, "parallel_mode='hybrid_parallel' gives"),
        (lambda: AutoParallel(plain(), 1), None, set(), ""),
        (lambda: AutoParallel(plain(), 8), None, MODEL, "AutoParallel on 8 devices gives each process a part"),
        (lambda: AutoParallel(plain(), 1, 2), None, {*MODEL, Needs.LOSS}, "pipeline_stages=2 gives each process the"),
        (
            flagged(layerwise_parallel=True),
            None,
            {Needs.WEIGHTS, Needs.OPTIMIZER},
            "the parameter 'weight' with layerwise_parallel=True is not whole in this process",
        ),
        (
            flagged(sliced=True),
            None,
            {Needs.WEIGHTS, Needs.OPTIMIZER},
            "the parameter 'weight' which MindSpore has sliced is not whole",
        ),
        (with_optimizer(False), "data_parallel", set(), ""),
        (
            with_optimizer(True),
            "data_parallel",
            {Needs.OPTIMIZER},
            "enable_parallel_optimizer=True gives each process the moments of some parameters of Momentum only",
        ),
    ],
)
def test_only_what_is_lacking_is_refused(make, mode, refused, told):
    """For each need alone; whoever needs nothing stands anywhere."""
    cell = make()
    check_whole("Owner", Needs.NOTHING, cell, mode)
    for need in EACH:
        if need in refused:
            with pytest.raises(ValueError, match=f"^Owner: {told}"):
                check_whole("Owner", need, cell, mode)
        else:
            check_whole("Owner", need, cell, mode)


@pytest.mark.parametrize(
    ("needs", "instead"),
    [
        (Needs.WEIGHTS, "and put the parts together with mindspore.transform_checkpoints$"),
        (Needs.OPTIMIZER, r"save with mindspore.train.ModelCheckpoint and CheckpointConfig\(integrated_save=False\)$"),
        (Needs.OUTPUTS, "leave it out, or train in data_parallel mode$"),
        (Needs.OPTIMIZER | Needs.OUTPUTS, r"CheckpointConfig\(integrated_save=False\)$"),
        (Needs.RUN | Needs.OUTPUTS, "leave it out, or train in data_parallel mode$"),
    ],
)
def test_an_error_says_what_to_do_instead(needs, instead):
    """For the first of several needs."""
    with pytest.raises(ValueError, match=instead):
        check_whole("Owner", needs, plain(), "semi_auto_parallel")


def test_who_decides_by_the_loss_can_watch_another_value(monkeypatch):
    """Where only the last stage of a pipeline has it."""
    monkeypatch.setattr(mindspore_compat, "pipeline_stages", lambda cell=None: 4)
    with pytest.raises(ValueError, match="Owner: pipeline_stages=4 .*; monitor a validation value instead$"):
        check_whole("Owner", Needs.LOSS, plain())
