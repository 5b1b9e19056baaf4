"""The phases of a run: what the lifecycle calls on each callback, and what it asks them before. None does anything."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from .metrics import EvaluationSource
from .names import key_among
from .observations import EpochSummary, Evaluation
from .placement import Needs
from .run import Run
from .step_outputs import OutputReader

__all__ = ["Phases"]


class Phases:
    """The phases that a callback may override, in the order in which the lifecycle calls them.

    Attributes:
        saves_run_states (bool): whether it saves the state of the run, so that a stop that no callback has decided on
            is an interruption.
    """

    saves_run_states: bool = False

    @property
    def inner(self) -> tuple[Phases, ...]:
        """Callbacks that this one holds, as `LRWarmup(after=...)` does, and that stand in no list.

        Their phases are called like those of any other.
        """
        return ()

    @property
    def needs_losses(self) -> bool:
        """Whether it needs the loss of every step. Read once, when the run begins."""
        return False

    @property
    def needs_samples(self) -> bool:
        """Whether it needs the number of samples that the steps have seen. Read once, when the run begins."""
        return False

    # Before the first step

    def check(self, run: Run) -> None:
        """Raise where the run cannot go well. Change nothing: `check_callbacks` calls it without a run."""

    def needs(self, run: Run) -> Needs:
        """Return what has to be whole in this process; where it is not, the run is refused."""
        return Needs.NOTHING

    def check_plan(self, run: Run) -> None:
        """Raise as `check` does, for what needs the first and the last epoch to be known."""

    def check_batch(self, run: Run) -> None:
        """Raise as `check` does, for what needs the first batch to be seen: called before the first step."""

    def disk_space(self, run: Run) -> dict[str, int]:
        """Return the bytes that it will take at most, by folder."""
        return {}

    def monitors(self, name: str) -> bool:
        """Whether it watches, records or prints the validation value `name`."""
        return key_among(getattr(self, "monitor", ""), (name,)) is not None

    def output_reader(self) -> Optional[OutputReader]:
        """Return what finds the loss in what a step returns; `None` for the usual places."""
        return None

    @property
    def evaluation_source(self) -> Optional[EvaluationSource]:
        """What it evaluates: a Model on a dataset; `None` where it evaluates nothing."""
        return None

    # Training begins

    def part(self) -> None:
        """Called when the run is over: the callback is no part of it any more."""

    def place(self, run: Run) -> None:
        """Tell `run.progress` and `run.losses` where the run continues, if it does."""

    def load_run_state(self, run: Run) -> None:
        """Called first of all: give the callbacks of the run the states that an earlier run has saved."""

    def join(self, lifecycle: Any) -> None:
        """Called once everything is checked that can be by then: from now on the callback is part of the run."""

    def reset_state(self) -> None:
        """Called when a run begins that continues no other: forget what earlier runs have taught."""

    def before_train(self, run: Run) -> None:
        """Called when training begins, before the first epoch."""

    # Epochs and evaluations

    def before_epoch(self, run: Run) -> None:
        """Called before the first step of an epoch."""

    def evaluates_at_epoch_end(self, run: Run) -> bool:
        """Whether it evaluates at the end of this epoch."""
        return False

    def before_evaluation(self, run: Run) -> None:
        """Called before the Model is evaluated, at the end of an epoch or between two steps."""

    def run_evaluation(self, run: Run) -> None:
        """Evaluate the Model, and publish the results with `run.metrics.publish`."""

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Called after each evaluation, at the end of an epoch or between two steps."""

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Called at the end of an epoch, after its evaluation, unless the run is interrupted in its middle."""

    def before_checkpoint(self, run: Run) -> None:
        """Called before weights are kept, in memory or on disk: raise where they must not be."""

    def save_run_state(self, run: Run, epochs: int, steps: int, finished_by: Optional[str]) -> None:
        """Called when `epochs` epochs are over for every callback, and `steps` steps of the next.

        Args:
            run: the run.
            epochs: how many epochs are over.
            steps: how many steps of the next epoch are.
            finished_by: `None` while training continues. When it ends: the callback that has stopped it for good, `"its
                last epoch"`, or `""` where it was interrupted.
        """

    def request_state(self) -> None:
        """Called when the state is to be saved as soon as possible, as for a signal."""

    # Training ends

    def flush(self) -> None:
        """Called before the run counts as finished: wait until everything is written; raise where that failed."""

    def restore_weights(self, run: Run) -> None:
        """Called when training ends: give the network the weights that it is to end with.

        Also called where an exception ends it, which `run.progress.is_over` shows: it is false then.
        """

    def final_weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the weights that `restore_weights` would give, by name; empty where it leaves them as they are."""
        return {}

    def after_train(self, run: Run) -> None:
        """Called at the end of training, unless an exception ended it."""

    def teardown(self) -> None:
        """Called once when the run is over, however it ended: release what it has taken."""

    # What it learns

    def state_dict(self) -> dict[str, Any]:
        """Return what it has learnt, as plain numbers, strings, lists, dictionaries and `None`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, in the next run."""

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what of the state is arrays, such as the best weights; they are copied before training continues."""
        return {}

    def load_state_arrays(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take what `state_arrays` returned, after `load_state_dict`."""

    def take_results(self, epochs: int) -> None:
        """Called after a state was loaded of a run of so many epochs that is over: be as after that run."""
