"""The interface of experiment trackers: seven methods, and a description of the run without MindSpore objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol, runtime_checkable

import numpy as np

__all__ = ["TrackedRun", "Tracker"]


@dataclass(frozen=True)
class TrackedRun:
    """The description of a run that a tracker gets when the run starts. It contains no MindSpore objects.

    Attributes:
        name (str): a name for the run: the class of the network and the time.
        config (Mapping[str, Any]): the hyper-parameters: nested dictionaries of numbers, strings, lists and `None`.
        id (str | None): the tracker's run to continue; `None` for a new one.
        step (int): the step after which a resumed run logs; 0 for a new run. Steps after it that an earlier process had
            logged are logged once more, with the same values.

    Example:
        >>> run = TrackedRun("LeNet5", {"epochs": 10, "optimizer": {"class": "Adam"}})
        >>> run.id, run.step
        (None, 0)
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    id: Optional[str] = None
    step: int = 0


@runtime_checkable
class Tracker(Protocol):
    """The methods that `TrackerLogger` calls on an experiment tracker.

    All methods are called one after the other, in one thread other than the main thread. An exception in `start` ends
    the run before its first step. After that, exceptions are reported and never reach the training. Steps never
    decrease within a run, and numbers may be NaN or infinite.

    Example:
        >>> class Printer:
        ...     def start(self, run):
        ...         print("started with", run.config["epochs"], "epoch")
        ...
        ...     def log(self, values, step):
        ...         if "epoch/loss" in values:
        ...             print("step", step, sorted(values)[:2])
        ...
        ...     def log_text(self, name, text, step): ...
        ...
        ...     def log_figure(self, name, figure, step): ...
        ...
        ...     def log_histogram(self, name, values, step): ...
        ...
        ...     def flush(self): ...
        ...
        ...     def close(self, status):
        ...         print("closed:", status)
        >>> isinstance(Printer(), Tracker)
        True
        >>> model.train(1, train_dataset, callbacks=[TrackerLogger(Printer())])
        started with 1 epoch
        step 4 ['epoch', 'epoch/learning_rate']
        closed: finished
    """

    def start(self, run: TrackedRun) -> Optional[str]:
        """Start a run, or continue `run.id`; return the id with which it can be continued, or `None`.

        If a run is continued, values of steps above `run.step` may be stored already, because the interrupted process
        had logged them. They are logged again: replace the stored ones, or skip the new ones.
        """

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Store numbers by name, such as `train/loss`."""

    def log_text(self, name: str, text: str, step: int) -> None:
        """Store a text of several lines, such as a table."""

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Store a figure of matplotlib."""

    def log_histogram(self, name: str, values: np.ndarray[Any, Any], step: int) -> None:
        """Store the distribution of the values of an array, such as a layer's weights."""

    def flush(self) -> None:
        """Make sure that what was logged so far survives a crash of the process. Called after each epoch."""

    def close(self, status: str) -> None:
        """End the run. Called once, with the status "finished", "stopped", "interrupted" or "failed".

        It is also called, with "failed", if `start` has raised an exception or has taken too long.
        """
