"""The phases of a run: what the lifecycle calls on each callback, and what it asks beforehand. All are no-ops here."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from .artifacts import Artifact
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
        needs_losses (bool): whether it needs the loss of every step. Read once, when the run begins.
        needs_samples (bool): whether it needs the number of samples that the steps have seen. Read once.
        saves_run_states (bool): whether the callback saves the state of the run; a stop that no callback has decided on
            is then an interruption.
    """

    needs_losses: bool = False
    needs_samples: bool = False
    saves_run_states: bool = False

    @property
    def inner(self) -> tuple[Phases, ...]:
        """Callbacks that this one holds, like `LRWarmup(after=...)`, and that are not in the list themselves.

        Their phases are called like those of any other.
        """
        return ()

    # Before the first step

    def check(self, run: Run) -> None:
        """Raise if the run would go wrong. Change nothing: `check_callbacks` calls this without a run."""

    def needs(self, run: Run) -> Needs:
        """Return what has to be whole in this process; if it is not, the run is refused."""
        return Needs.NOTHING

    def check_plan(self, run: Run) -> None:
        """Raise like `check`, for checks that need to know the first and the last epoch."""

    def check_batch(self, run: Run) -> None:
        """Raise like `check`, for checks that need the first batch: called before the first step."""

    def disk_space(self, run: Run) -> dict[str, int]:
        """Return the maximum number of bytes that the callback will use, by folder."""
        return {}

    def monitors(self, name: str) -> bool:
        """Return whether the callback monitors, records or prints the validation value `name`."""
        return key_among(getattr(self, "monitor", ""), (name,)) is not None

    def summary_names(self, run: Run) -> tuple[str, ...]:
        """Return the names of the numbers that `summary_values` gives, which a log needs before the first step.

        They can be monitored, recorded and logged like the mean loss.
        """
        return ()

    def output_reader(self) -> Optional[OutputReader]:
        """Return what finds the loss in a step's output; `None` for the usual places."""
        return None

    @property
    def evaluation_source(self) -> Optional[EvaluationSource]:
        """What the callback evaluates: a Model on a dataset; `None` if nothing."""
        return None

    # Training begins

    def part(self) -> None:
        """Called when the run is over: no longer take part in it."""

    def place(self, run: Run) -> None:
        """Set in `run.progress` and `run.losses` where the run continues, if it does."""

    def load_run_state(self, run: Run) -> None:
        """Called first of all: load the states that an earlier run has saved into the callbacks of the run."""

    def join(self, lifecycle: Any) -> None:
        """Called once everything that can be checked by then has been: take part in the run from now on."""

    def reset_state(self) -> None:
        """Called when a run begins that does not continue another: forget what was learnt in earlier runs."""

    def before_train(self, run: Run) -> None:
        """Called when training begins, before the first epoch."""

    # Epochs and evaluations

    def before_epoch(self, run: Run) -> None:
        """Called before the first step of an epoch."""

    def evaluates_at_epoch_end(self, run: Run) -> bool:
        """Return whether the callback evaluates at the end of this epoch."""
        return False

    def before_evaluation(self, run: Run) -> None:
        """Called before the Model is evaluated, at the end of an epoch or between two steps."""

    def summary_values(self, run: Run) -> dict[str, Optional[float]]:
        """Return numbers about the epoch's training steps so far, for the `train_means` of an observation.

        Called before each evaluation and at the end of each epoch, in every process, where it must return the same.
        A number is `None` if there is none yet.
        """
        return {}

    def run_evaluation(self, run: Run) -> None:
        """Evaluate the Model, and publish the results with `run.metrics.publish`."""

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Called after each evaluation, at the end of an epoch or between two steps."""

    def end_evaluation(self, run: Run) -> None:
        """Called after every callback has observed an evaluation: undo what `before_evaluation` did."""

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Called at the end of an epoch, after its evaluation, unless the epoch was interrupted."""

    def end_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Called after every callback has observed the end of an epoch: show what all of them have learnt."""

    def before_checkpoint(self, run: Run) -> None:
        """Called before weights are kept, in memory or on disk: raise if they must not be."""

    def save_run_state(self, run: Run, epochs: int, steps: int, finished_by: Optional[str]) -> None:
        """Called when every callback is done with `epochs` epochs, and `steps` steps of the next.

        Args:
            run: the run.
            epochs: the number of completed epochs.
            steps: the number of completed steps of the next epoch.
            finished_by: `None` while training continues. When it ends: the callback that has stopped it for good, `"its
                last epoch"`, or `""` if it was interrupted.
        """

    def request_state(self) -> None:
        """Called to request that the state be saved as soon as possible, for example after a signal."""

    # Training ends

    def flush(self) -> None:
        """Called before the run counts as finished: wait until everything is written; raise if that failed."""

    def finalize_weights(self, run: Run) -> None:
        """Called when training ends: replace the weights by final ones, such as their average."""

    def restore_weights(self, run: Run) -> None:
        """Called when training ends: give the network its final weights.

        Also called if an exception ends it; `run.progress.is_over` is false then.
        """

    def final_weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the weights that `restore_weights` would set, by name; empty if it leaves them unchanged."""
        return {}

    def after_train(self, run: Run) -> None:
        """Called at the end of training, unless an exception ended it."""

    def end_train(self, run: Run) -> None:
        """Called after `after_train` of every callback: show what all of them have learnt."""

    def teardown(self) -> None:
        """Called once when the run is over, however it ended: release all resources."""

    # What the callback learns

    def artifacts(self) -> list[Artifact]:
        """Return the tables, texts and figures that the callback has to show now, for reports and trackers."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt, as plain numbers, strings, lists, dictionaries and `None`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, in the next run."""

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays of the state, such as the best weights; they are copied before training continues."""
        return {}

    def load_state_arrays(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Restore what `state_arrays` returned, after `load_state_dict`."""

    def take_results(self, epochs: int) -> None:
        """Called after the state of a finished run of `epochs` epochs was loaded: be as after that run."""
