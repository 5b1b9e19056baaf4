"""Detect layers that die or saturate while a network learns."""

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
    """Name the layers that have died or saturated, and the epoch in which it happened.

    At the end of an epoch, its last batch runs through the network again, without gradients and in evaluation mode,
    except that BatchNorm normalises by the batch, as in a training step. Parameters, statistics, attributes of cells,
    flags and random state are then restored, whatever the network writes in its forward pass; your own hooks run one
    more time. A layer is dead if all of its outputs are 0, and saturated if 95 % of a sigmoid's or tanh's outputs are
    within 1 % of its range of a bound. If the network has BatchNorm, the finding must also hold with the running
    statistics, in a second pass, because BatchNorm turns a single sample into zeros. A cell that is called more than
    once is monitored call by call: `relu`, `relu (call 2)`.

    Args:
        every_n_epochs: check at the end of every n-th epoch. Default: 1.
        network: the network to check, if the Model was given a training cell that holds several and none of them is
            its `network`; it receives as many columns of the batch as its `construct` takes. Default: None, the
            trained one.
        verbose: 1 prints a line when a layer dies, saturates or recovers, 0 nothing. Default: 1.

    Attributes:
        dead_ (dict[str, int]): the currently dead layers, and the epoch in which they were first found dead.
        saturated_ (dict[str, int]): the same for saturated ones.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: sink mode on GPU or Ascend,
            where batches cannot be seen.

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
        """Forget the findings of earlier runs."""
        self.dead_, self.saturated_ = {}, {}

    def needs(self, run: Run) -> Needs:
        """Require the network's output for a batch to be complete in this process."""
        return super().needs(run) | Needs.OUTPUTS

    def check(self, run: Run) -> None:
        """Raise if batches cannot be seen."""
        super().check(run)
        run.parts.network("ActivationMonitor", self.network)
        run.progress.check_sees_steps("ActivationMonitor")

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Check the layers, and report what has changed."""
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
        """Return the layers that are dead or saturated, and since when."""
        return {"dead": dict(self.dead_), "saturated": dict(self.saturated_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
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
