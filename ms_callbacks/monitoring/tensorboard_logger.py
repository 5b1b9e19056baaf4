"""Log a run to TensorBoard, in event files that tensorboardX writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional, Union

import numpy as np

from ..core.arguments import check_path
from ..core.tracker import TrackedRun
from ._client_tracker import ClientTracker
from ._tracker_callback import TrackerCallback

__all__ = ["TensorBoardLogger"]


class TensorBoardLogger(TrackerCallback):
    """Log a run to TensorBoard: `tensorboard --logdir <log_dir>`.

    What is logged and when is described in `TrackerLogger`. Each run has a folder of its own in `log_dir`, named after
    the network and the time, so TensorBoard never shows two runs as one. A resumed run continues in its folder:
    TensorBoard then hides what the interrupted process had logged after the saved state. Event files are flushed at the
    end of each epoch.

    Needs tensorboardX (`pip install "ms-callbacks[tensorboard]"`).

    Args:
        log_dir: the folder of all runs, relative to the working directory at construction; it is created if it does not
            exist.
        every_n_steps: the interval of the values of steps, in steps, as in `TrackerLogger`. Default: 50.
        config: your own hyper-parameters, by name. Default: None.
        histograms: the interval, in epochs, at which the distribution of each trained parameter is logged. Default:
            None, never.
        figures: when to draw and log figures: "end", "epoch" or `None`. Default: "end".
        timeout: how many seconds to wait when the writer is started or closed. Default: 30.0.

    Attributes:
        experiment (tensorboardX.SummaryWriter | None): the writer during a run, for your own values; call it with steps
            that do not decrease.
        id_ (str | None): the name of the run's folder in `log_dir`; `None` before it starts.
        lost_ (int): how many values of the last run were not written.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ImportError: before the first step: tensorboardX is not installed.
        RuntimeError: before the first step: the folder cannot be written.

    Example:
        >>> logger = TensorBoardLogger(folder + "/runs", every_n_steps=2)
        >>> model.train(1, train_dataset, callbacks=[Validate(model, valid_dataset), logger])
        >>> sorted(os.listdir(os.path.join(folder, "runs", logger.id_)))[0]
        'events.out.tfevents...'
    """

    _package, _extra = "tensorboardX", "tensorboard"

    def __init__(
        self,
        log_dir: Union[str, os.PathLike[str]] = "runs",
        *,
        every_n_steps: int = 50,
        config: Optional[Mapping[str, Any]] = None,
        histograms: Optional[int] = None,
        figures: Optional[str] = "end",
        timeout: float = 30.0,
    ) -> None:
        self.log_dir = check_path("TensorBoardLogger", "log_dir", log_dir)
        super().__init__(_TensorBoard(self.log_dir), every_n_steps, config, histograms, figures, timeout)

    @property
    def experiment(self) -> Any:
        """The writer during a run."""
        return self.tracker.client  # type: ignore[attr-defined]


class _TensorBoard(ClientTracker):
    """Writes event files."""

    def __init__(self, log_dir: str) -> None:
        self.log_dir = log_dir

    def start(self, run: TrackedRun) -> str:
        from tensorboardX import SummaryWriter

        name = run.id if run.id is not None else _new_folder(self.log_dir, run.name)
        folder = os.path.join(self.log_dir, name)
        os.makedirs(folder, exist_ok=True)
        # Event files are read in the order of their names, which have only the second: within it, a later one would
        # replace an earlier one.
        place = f".{len(os.listdir(folder)):04d}"
        # Every reader drops the events of earlier files from this step on; they are about to be written again.
        purge_step = None if run.id is None else run.step + 1
        self.client = SummaryWriter(folder, purge_step=purge_step, filename_suffix=place)
        self.client.file_writer.event_writer.close()
        self.client.file_writer.event_writer = _DirectWriter(folder, f"{place}.run")
        return name

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.add_scalar(name, value, step)

    def log_text(self, name: str, text: str, step: int) -> None:
        # As TensorBoard shows Markdown, an indented block keeps columns and line ends.
        self.client.add_text(name, "\n".join(f"    {line}" for line in text.split("\n")), step)

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        self.client.add_figure(name, figure, step, close=False)

    def log_histogram(self, name: str, values: np.ndarray[Any, Any], step: int) -> None:
        finite = values[np.isfinite(values)]  # NumPy bins no others
        if finite.size:
            self.client.add_histogram(name, finite, step)

    def flush(self) -> None:
        self.client.flush()

    def close(self, status: str) -> None:
        if self.client is not None:
            writer, self.client = self.client, None
            writer.close()


class _DirectWriter:
    """Writes events as they come, in place of tensorboardX's own writer.

    The latter has a queue and a thread, and its `flush` does not wait for them (tensorboardX 2.6.5): a process that is
    killed after it loses events. The logger has a thread anyway.
    """

    def __init__(self, folder: str, suffix: str) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        self._folder = folder
        self._events: Any = EventsWriter(os.path.join(folder, "events"), suffix)

    def get_logdir(self) -> str:
        return self._folder

    def add_event(self, event: Any) -> None:
        self._events.write_event(event)

    def flush(self) -> None:
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        if self._events is not None:
            events, self._events = self._events, None
            events.close()


def _new_folder(log_dir: str, name: str) -> str:
    """Create a folder that no other run has, and return its name."""
    os.makedirs(log_dir, exist_ok=True)
    number = 1
    while True:
        unique = name if number == 1 else f"{name}-{number}"
        try:
            os.mkdir(os.path.join(log_dir, unique))
        except FileExistsError:
            number += 1
        else:
            return unique
