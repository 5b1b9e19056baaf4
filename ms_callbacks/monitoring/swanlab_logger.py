"""Log a run to SwanLab."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from ..core.arguments import check_choice, check_text
from ..core.tracker import TrackedRun
from ._client_tracker import ClientTracker, as_image, as_numbers
from ._tracker_callback import TrackerCallback

__all__ = ["SwanLabLogger"]

_STATES = {"finished": "success", "stopped": "success", "interrupted": "aborted", "failed": "crashed"}


class SwanLabLogger(TrackerCallback):
    """Log a run to SwanLab.

    What is logged and when is described in `TrackerLogger`. As SwanLab has no histograms, the minimum, mean, standard
    deviation and maximum are logged instead. SwanLab allows only one run per process. If one is active, the training is
    refused. When the run is closed, its state is success, aborted if a later run may continue it, or crashed. A resumed
    run continues it by its id, and SwanLab leaves out the steps that it already has.

    With `mode="offline"`, SwanLab writes a folder that `swanlab sync` uploads, and a resumed run writes a second folder
    with the same id. SwanLab buffers what it writes to the disk: a process that is killed loses up to 8 kB.

    Needs swanlab (`pip install "ms-callbacks[swanlab]"`). SwanLab 0.10 requires an older protobuf than MindSpore 2.10
    accepts, but works with a newer one: after installing it, run `pip install "protobuf>=7.34"`.

    Args:
        project: the project. Default: "ms_callbacks".
        name: a name for the run. Default: None, the class of the network and the time.
        mode: "online", "local", "offline", "disabled", or `None` for what SwanLab is configured for (the variable
            `SWANLAB_MODE`). Default: None.
        every_n_steps: the interval of the values of steps, in steps, as in `TrackerLogger`. Default: 50.
        config: your own hyper-parameters, by name. Default: None.
        histograms: the interval, in epochs, at which the distribution of each trained parameter is logged. Default:
            None, never.
        figures: when to draw and log figures: "end", "epoch" or `None`. Default: "end".
        timeout: how many seconds to wait for SwanLab, once when it starts, and once when it is closed. Default: 30.0.

    Attributes:
        experiment (swanlab.Run | None): SwanLab's run while it lasts, for your own values.
        id_ (str | None): the id of SwanLab's run; `None` before it starts.
        lost_ (int): how many values of the last run did not reach the client.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ImportError: before the first step: swanlab is not installed.
        RuntimeError: before the first step: SwanLab cannot be reached, you are not logged in, or another run is active.

    Example:
        >>> logger = SwanLabLogger("lenet", mode="disabled", every_n_steps=2)
        >>> model.train(1, train_dataset, callbacks=[logger])
        >>> logger.lost_
        0
    """

    _package = _extra = "swanlab"

    def __init__(
        self,
        project: str = "ms_callbacks",
        *,
        name: Optional[str] = None,
        mode: Optional[str] = None,
        every_n_steps: int = 50,
        config: Optional[Mapping[str, Any]] = None,
        histograms: Optional[int] = None,
        figures: Optional[str] = "end",
        timeout: float = 30.0,
    ) -> None:
        self.project = check_text("SwanLabLogger", "project", project)
        self.name = None if name is None else check_text("SwanLabLogger", "name", name)
        self.mode = check_choice("SwanLabLogger", "mode", mode, ("online", "local", "offline", "disabled", None))
        super().__init__(_SwanLab(project, name, mode), every_n_steps, config, histograms, figures, timeout)

    @property
    def experiment(self) -> Any:
        """The run of SwanLab while it lasts."""
        return self.tracker.client  # type: ignore[attr-defined]


class _SwanLab(ClientTracker):
    """Logs to SwanLab's run."""

    def __init__(self, project: str, name: Optional[str], mode: Optional[str]) -> None:
        self.project, self.name, self.mode = project, name, mode

    def start(self, run: TrackedRun) -> str:
        import swanlab

        if swanlab.has_run():
            raise RuntimeError("SwanLab has only one run in a process, and one is active; call swanlab.finish() first")
        self._swanlab, hook = swanlab, sys.excepthook
        self.client = swanlab.init(
            project=self.project,
            name=None if run.id is not None else self.name or run.name,
            mode=self.mode,
            id=run.id,
            resume=None if run.id is None else "allow",
            config=dict(run.config),
        )
        # SwanLab ends its run as crashed whenever this hook is called, and C code also calls it to print an error that
        # it ignores, such as MindSpore 2.10 with NumPy 2. The logger reports an exception that ends training itself.
        sys.excepthook = hook
        return str(self.client.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.client.log(dict(values), step=step)

    def log_text(self, name: str, text: str, step: int) -> None:
        self.client.log({name: self._swanlab.Text(text)}, step=step)

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        self.client.log({name: self._swanlab.Image(as_image(figure))}, step=step)

    def log_histogram(self, name: str, values: np.ndarray[Any, Any], step: int) -> None:
        self.log(as_numbers(name, values), step)

    def flush(self) -> None:
        pass  # SwanLab has no call for it

    def close(self, status: str) -> None:
        run, self.client = self.client, None
        if run is not None and run.alive:  # a handler of its own may have finished it
            run.finish(state=_STATES[status], error="training failed" if status == "failed" else None)
