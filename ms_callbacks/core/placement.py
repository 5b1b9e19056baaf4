"""Find what part of a Model is not whole in this process: its weights, its optimizer's state, its loss, its outputs.

A callback that saves or replaces weights would then silently mistake a part for the whole. So each callback declares
what it needs, and if that is not whole, the run is refused with the name of the setting. The Model's own mode counts,
not MindSpore's global one, which MindSpore resets after creating a Model.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple, Optional

from mindspore import nn

from . import mindspore_compat
from .model_parts import named_parameters, optimizers_of

__all__ = ["ALL_SEE_THE_SAME", "Needs", "check_whole"]

# In these modes, processes divide among them not the samples but the weights of one network.
ALL_SEE_THE_SAME = ("semi_auto_parallel", "auto_parallel")

_SPLIT = (*ALL_SEE_THE_SAME, "hybrid_parallel")
_OWN_WEIGHTS = "gives each process a part of the weights, and one part would be mistaken for the whole"


class Needs(enum.Flag):
    """What has to be whole in a callback's process, where several processes may hold a part each.

    `WEIGHTS`: it saves or replaces the weights. `OPTIMIZER`: it saves an optimizer's state. `LOSS`: it makes decisions
    based on the loss of the training steps. `OUTPUTS`: it runs the network, or evaluates its outputs. `RUN`: what it
    learns or writes covers the whole run, from its first step to its last.

    Example:
        >>> class KeepsWeights(TrainCallback):
        ...     def needs(self, run):
        ...         return super().needs(run) | Needs.WEIGHTS
        >>> model.train(1, train_dataset, callbacks=[KeepsWeights()])
    """

    NOTHING = 0
    WEIGHTS = enum.auto()
    OPTIMIZER = enum.auto()
    LOSS = enum.auto()
    OUTPUTS = enum.auto()
    RUN = enum.auto()


_INSTEAD = {
    Needs.WEIGHTS: "save with mindspore.train.ModelCheckpoint and CheckpointConfig(integrated_save=False), and put the "
    "parts together with mindspore.transform_checkpoints",
    Needs.OPTIMIZER: "save with mindspore.train.ModelCheckpoint and CheckpointConfig(integrated_save=False)",
    Needs.LOSS: "monitor a validation value instead",
    Needs.OUTPUTS: "leave it out, or train in data_parallel mode",
}


class _Obstacle(NamedTuple):
    """A setting, what is not whole with it, and why."""

    setting: str
    lacking: Needs
    reason: str


def check_whole(owner: str, needs: Needs, cell: nn.Cell, parallel_mode: Optional[str] = None) -> None:
    """Raise if something that is needed is not whole in this process.

    Args:
        owner: the callback to name in the error.
        needs: what it needs.
        cell: the training cell, or a network alone.
        parallel_mode: the Model's mode; `None` for a network alone, which has none.
    """
    if not needs:
        return
    for setting, lacking, reason in _obstacles(cell, parallel_mode):
        for need in Needs:
            if need & needs & lacking:
                raise ValueError(f"{owner}: {setting} {reason}; {_INSTEAD[need]}")


def _obstacles(cell: nn.Cell, parallel_mode: Optional[str]) -> Iterator[_Obstacle]:
    stages = mindspore_compat.pipeline_stages(cell)
    if stages > 1:
        yield _Obstacle(
            f"pipeline_stages={stages}",
            Needs.WEIGHTS | Needs.OPTIMIZER | Needs.LOSS | Needs.OUTPUTS,
            "gives each process the weights of its own stage, and only those of the last stage the loss",
        )
    if parallel_mode in _SPLIT:
        yield _Obstacle(
            f"parallel_mode={parallel_mode!r}", Needs.WEIGHTS | Needs.OPTIMIZER | Needs.OUTPUTS, _OWN_WEIGHTS
        )
    devices = mindspore_compat.devices_of_auto_parallel(cell)
    if devices > 1:
        yield _Obstacle(
            f"AutoParallel on {devices} devices", Needs.WEIGHTS | Needs.OPTIMIZER | Needs.OUTPUTS, _OWN_WEIGHTS
        )
    for name, one in named_parameters(cell).items():
        kind = mindspore_compat.kind_of_storage(one)
        if kind is not None:
            yield _Obstacle(f"the parameter {name!r} {kind}", Needs.WEIGHTS | Needs.OPTIMIZER, _ELSEWHERE)
    for optimizer in optimizers_of(cell):
        if getattr(optimizer, "use_parallel", False):
            yield _Obstacle(
                "enable_parallel_optimizer=True",
                Needs.OPTIMIZER,
                f"gives each process the moments of some parameters of {type(optimizer).__name__} only, and the others "
                f"would be saved with wrong values",
            )


_ELSEWHERE = "is not whole in this process, and what is here would be mistaken for all of it"
