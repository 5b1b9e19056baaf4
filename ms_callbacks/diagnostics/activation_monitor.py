"""Watches for layers that die or saturate while a network learns."""

from __future__ import annotations

from typing import Any, Optional

from mindspore import nn

from ..core.arguments import check_cell, check_choice, check_int
from ..core.callback import TrainCallback
from ..core.forward_hooks import layers_of
from ..core.observations import EpochSummary
from ..core.placement import Needs
from ..core.run import Run
from ._layer_values import observed_values

__all__ = ["ActivationMonitor"]


class ActivationMonitor(TrainCallback):
    """Names the layers that have died or saturated, and the epoch in which they did.

    At the end of an epoch its last batch runs through the network once more, without gradients and in evaluation mode,
    but that BatchNorm normalises by the batch, as in a training step. Parameters, statistics, attributes of cells,
    flags and random state are afterwards as they were, whatever the network writes in its forward pass; hooks of your
    own run once more. A layer is dead where all of its outputs are 0, and saturated where 95 % of a sigmoid's or tanh's
    outputs are within 1 % of its range of a bound. Where the network has BatchNorm, that must be so by the running
    statistics too, in a second pass: BatchNorm makes zeros of a single sample. A cell that is called more than once is
    watched call by call: `relu`, `relu (call 2)`.

    Args:
        every_n_epochs: looks at the end of every n-th epoch. Default: 1.
        network: the network to look at, where the Model was given a training cell that holds several and none of them
            as its `network`; it gets as many columns of the batch as its `construct` takes. Default: None, the one that
            is trained.
        verbose: 1 prints a line when a layer dies, saturates or recovers, 0 nothing. Default: 1.

    Attributes:
        dead_ (dict[str, int]): the layers that are dead now, and the epoch in which they were first found so.
        saturated_ (dict[str, int]): the same for saturated ones.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: sink mode on GPU or Ascend,
            where batches are not seen.

    Example:
        >>> monitor = ActivationMonitor()
        >>> model.train(1, train_dataset, callbacks=[monitor])
        >>> monitor.dead_
        {}
    """

    def __init__(self, *, every_n_epochs: int = 1, network: Optional[nn.Cell] = None, verbose: int = 1) -> None:
        super().__init__()
        self.every_n_epochs = check_int("ActivationMonitor", "every_n_epochs", every_n_epochs, 1)
        self.network = check_cell("ActivationMonitor", "network", network)
        self.verbose = check_choice("ActivationMonitor", "verbose", verbose, (0, 1))
        self.dead_: dict[str, int] = {}
        self.saturated_: dict[str, int] = {}

    def reset_state(self) -> None:
        """Forgets what earlier runs have taught it."""
        self.dead_, self.saturated_ = {}, {}

    def needs(self, run: Run) -> Needs:
        """What the network gives for a batch."""
        return super().needs(run) | Needs.OUTPUTS

    def check(self, run: Run) -> None:
        """Raises where batches are not seen."""
        super().check(run)
        run.parts.network("ActivationMonitor", self.network)
        if run.progress.is_sinking:
            raise ValueError(
                "ActivationMonitor: in sink mode batches go to the device unseen; train with dataset_sink_mode=False"
            )

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Looks, and says what has changed."""
        if run.epoch % self.every_n_epochs:
            return
        findings = self._look(run)
        for finding, known in (("dead", self.dead_), ("saturated", self.saturated_)):
            found = [name for name, each in findings.items() if each == finding]
            for name in found:
                if name not in known:
                    known[name] = run.epoch
                    self._tell(f"layer {name!r} is {finding} since epoch {run.epoch}")
            for name in [name for name in known if name not in found]:
                self._tell(f"layer {name!r} is no longer {finding} in epoch {run.epoch}")
                del known[name]

    def state_dict(self) -> dict[str, Any]:
        """The layers that are dead or saturated, and since when."""
        return {"dead": dict(self.dead_), "saturated": dict(self.saturated_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.dead_, self.saturated_ = dict(state["dead"]), dict(state["saturated"])

    def _look(self, run: Run) -> dict[str, str]:
        findings: dict[str, str] = {}
        calls: dict[str, int] = {}
        network = run.parts.network("ActivationMonitor", self.network)
        for values in observed_values(
            network, run.parts.inputs("ActivationMonitor", run.batch, self.network), layers_of(network)
        ):
            calls[values.name] = calls.get(values.name, 0) + 1
            label = values.name if calls[values.name] == 1 else f"{values.name} (call {calls[values.name]})"
            findings[label] = values.finding
        return findings

    def _tell(self, line: str) -> None:
        if self.verbose:
            self.log(line)
