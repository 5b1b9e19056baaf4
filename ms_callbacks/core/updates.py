"""Determine which steps of a run update the weights; schedules and averages count only these.

Loss scaling drops a step whose gradients overflow, and an optimizer that accumulates gradients updates the weights once
in several steps. Otherwise every step is an update, and nothing has to be read from the device.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from mindspore import Tensor

from .progress import Progress
from .step_outputs import OutputReader, StepOutput, loss_of

__all__ = ["Accumulating", "Updates"]


@runtime_checkable
class Accumulating(Protocol):
    """An optimizer that accumulates the gradients of several steps for one update of the weights."""

    steps_per_update: int
    opt: Any  # the wrapped optimizer, called with the mean of the gradients

    def accumulated(self) -> int:
        """Return the number of steps accumulated since the last update; this waits for the device."""

    def flush(self) -> None:
        """Update the weights with the mean of the accumulated gradients."""


class Updates:
    """The updates of the weights in a run whose parameters are `args`.

    Attributes:
        steps_per_update (int): the number of steps for one update of the weights; 1 unless gradients are accumulated.

    Args:
        args: the parameters of MindSpore's run context.
        optimizers: the optimizers of the run.
        progress: the position of the run.
        reader: finds the flag of a dropped step in a step's output.
    """

    def __init__(
        self, args: dict[str, Any], optimizers: tuple[Any, ...], progress: Progress, reader: OutputReader
    ) -> None:
        self._args, self._progress, self._reader = args, progress, reader
        self._accumulating = [one for one in optimizers if isinstance(one, Accumulating)]
        self._are_all = len(self._accumulating) == len(optimizers)
        self.steps_per_update = max([1, *(one.steps_per_update for one in self._accumulating)])
        self._has_begun = False
        self._accumulated = 0  # the steps of the current group

    @property
    def per_epoch(self) -> int:
        """The number of updates in an epoch with as many steps as the dataset declares."""
        return -(-self._progress.steps_per_epoch // self.steps_per_update)

    @property
    def before(self) -> int:
        """The number of updates before this training call, if every epoch had as many steps as the dataset declares."""
        progress = self._progress
        return progress.initial_epoch * self.per_epoch + progress.resumed_steps // self.steps_per_update

    def check(self) -> None:
        """Raise if the optimizers cannot accumulate gradients in this run."""
        if self.steps_per_update == 1:
            return
        owner, n, steps = "accumulate_gradients", self.steps_per_update, self._progress.steps_per_epoch
        problem = "steps run on the device unseen, and the last update of an epoch could not be made"
        self._progress.check_sees_steps(owner, problem)
        if not self._are_all or len({one.steps_per_update for one in self._accumulating}) > 1:
            raise ValueError(
                f"{owner}: the optimizers of one Model must accumulate the same number of steps; wrap all of them in "
                f"accumulate_gradients(optimizer, {n})"
            )
        if 0 < steps < n:
            raise ValueError(
                f"{owner}: n={n} steps make one update, but an epoch has only {steps}; lower n, or use smaller batches"
            )

    def observe(self, output: Any) -> bool:
        """Note that a step has returned `output`; return whether it updated the weights."""
        if type(output) is not Tensor and self._is_dropped(output):
            return False
        if self.steps_per_update == 1:
            return True
        if not self._has_begun:  # an earlier run may have been interrupted within a group
            self._has_begun = True
            self._accumulated = self._accumulating[0].accumulated()
        else:
            self._accumulated += 1
        if self._accumulated == self.steps_per_update:
            self._accumulated = 0
        elif self._accumulated and self._args["cur_step_num"] == self._progress.last_step:
            return self.finish_group()
        return self._accumulated == 0

    def finish_group(self) -> bool:
        """Make the update of the last steps of an epoch if they are fewer than a group; return whether that was so."""
        waiting = [one for one in self._accumulating if one.accumulated()]
        for one in waiting:
            one.flush()
        self._accumulated = 0
        return bool(waiting)

    def _is_dropped(self, output: Any) -> bool:
        taken = self._reader.take(output)
        return isinstance(taken, StepOutput) and taken.dropped is not None and loss_of(taken) is None
