"""The parts that a callback may play in a run beside its own work, so that the order of the list does not matter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore.train import Model

from .step_outputs import OutputReader

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Evaluator", "Examiner", "OutputDescriber", "Reporter", "Restorer", "StateKeeper", "Writer"]


class Evaluator(ABC):
    """Who evaluates the Model at the end of an epoch; at most one in a list of callbacks."""

    model: Model
    dataset: Any

    @abstractmethod
    def evaluate(self, run: Run) -> None:
        """Sees to it that this epoch's results, where it is to have any, are published in the run's parameters."""


class Examiner(ABC):
    """Who looks at steps only now and then, and must have seen them before what they led to is kept."""

    @abstractmethod
    def before_checkpoint(self, run: Run) -> None:
        """Looks at the steps that are over; raises, or gives the network better weights, where they are no good."""


class OutputDescriber(ABC):
    """Who knows what the values are that a training step returns; at most one in a list of callbacks."""

    @abstractmethod
    def output_reader(self) -> OutputReader:
        """What reads the outputs of a run."""


class Reporter(ABC):
    """Who follows the losses and reports on them at steps that it names ahead, so that no step has to ask."""

    @abstractmethod
    def report(self, run: Run) -> None:
        """Reports, at the end of the step that was named with `run.report_at`, or the first after it that is seen."""


class Restorer(ABC):
    """Who gives the network other weights when the run is over."""

    @abstractmethod
    def final_weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Those weights, by the names of `Run.weights`, where the run ends as it stands; none to leave them as is."""

    @abstractmethod
    def restore(self) -> None:
        """Writes those weights, unless that is done already."""


class StateKeeper(ABC):
    """Who keeps a run's state, so that a later one can go on from it."""

    @abstractmethod
    def place(self, run: Run) -> None:
        """Tells the run where it continues, if it does."""

    @abstractmethod
    def load_run_state(self, run: Run) -> None:
        """Gives the run and its callbacks the state that they go on from, before any of them begins."""

    @abstractmethod
    def save_run_state(self, run: Run, epochs: int, steps: int) -> None:
        """Keeps the state now that `epochs` epochs are over for all, and `steps` steps of the next."""


class Writer(ABC):
    """Who writes files behind the run's back."""

    @abstractmethod
    def flush(self) -> None:
        """Waits until all is written, before the run counts as finished; raises where that failed."""
