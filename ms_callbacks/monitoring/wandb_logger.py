"""Log a run to Weights & Biases."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from ..core.arguments import check_choice, check_text
from ..core.tracker import TrackedRun
from ._client_tracker import ClientTracker, as_image
from ._tracker_callback import TrackerCallback

__all__ = ["WandbLogger"]

_EXIT_CODES = {"finished": 0, "stopped": 0, "interrupted": 255, "failed": 1}  # 255 is that of Ctrl-C


class WandbLogger(TrackerCallback):
    """Log a run to Weights & Biases.

    What is logged and when is described in `TrackerLogger`. The step of W&B is the training step. An active run of your
    own is not affected. When the run is closed, its state is finished, killed if a later run may continue it, or
    failed. A resumed run continues it by its id. W&B refuses steps that it already has, so the logger leaves them out.

    With `mode="offline"`, W&B writes a folder that `wandb sync` uploads, and a resumed run writes a second folder with
    the same id. W&B writes what was logged to the disk every 15 seconds: a process that is killed loses the rest.

    Needs wandb (`pip install "ms-callbacks[wandb]"`).

    Args:
        project: the project. Default: "ms_callbacks".
        name: a name for the run. Default: None, the class of the network and the time.
        mode: "online", "offline", "disabled", or `None` for what W&B is configured for (the variable `WANDB_MODE`).
            Default: None.
        every_n_steps: the interval of the values of steps, in steps, as in `TrackerLogger`. Default: 50.
        config: your own hyper-parameters, by name. Default: None.
        histograms: the interval, in epochs, at which the distribution of each trained parameter is logged. Default:
            None, never.
        figures: when to draw and log figures: "end", "epoch" or `None`. Default: "end".
        timeout: how many seconds to wait for W&B, once when it starts, and once when it is closed. Default: 30.0.

    Attributes:
        experiment (wandb.Run | None): W&B's run while it lasts, for your own values; pass steps that do not decrease.
        id_ (str | None): the id of W&B's run; `None` before it starts.
        lost_ (int): how many values of the last run did not reach the client.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ImportError: before the first step: wandb is not installed.
        RuntimeError: before the first step: W&B cannot be reached, or you are not logged in.

    Example:
        >>> logger = WandbLogger("lenet", mode="disabled", every_n_steps=2)
        >>> model.train(1, train_dataset, callbacks=[logger])
        >>> logger.lost_
        0
    """

    _package = _extra = "wandb"

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
        self.project = check_text("WandbLogger", "project", project)
        self.name = None if name is None else check_text("WandbLogger", "name", name)
        self.mode = check_choice("WandbLogger", "mode", mode, ("online", "offline", "disabled", None))
        super().__init__(_Wandb(project, name, mode), every_n_steps, config, histograms, figures, timeout)

    @property
    def experiment(self) -> Any:
        """The run of W&B while it lasts."""
        return self.tracker.client  # type: ignore[attr-defined]


class _Wandb(ClientTracker):
    """Logs to one run of W&B."""

    def __init__(self, project: str, name: Optional[str], mode: Optional[str]) -> None:
        self.project, self.name, self.mode = project, name, mode

    def start(self, run: TrackedRun) -> str:
        import wandb

        self._wandb = wandb
        self.client = wandb.init(
            project=self.project,
            name=None if run.id is not None else self.name or run.name,
            mode=self.mode,
            id=run.id,
            resume=None if run.id is None else "allow",
            reinit="create_new",  # leaves another active run alone
        )
        self.client.config.update(dict(run.config), allow_val_change=True)
        # The first step that it does not have; 0 if it is new.
        self._first, self._step, self._is_complete = int(self.client.step or 0), 0, False
        return str(self.client.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._log(values, step)

    def log_text(self, name: str, text: str, step: int) -> None:
        self._log({name: self._wandb.Html(f"<pre>{html.escape(text)}</pre>")}, step)

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        self._log({name: self._wandb.Image(as_image(figure))}, step)

    def log_histogram(self, name: str, values: np.ndarray[Any, Any], step: int) -> None:
        finite = values[np.isfinite(values)]
        if finite.size:
            self._log({name: self._wandb.Histogram(np_histogram=np.histogram(finite, bins=64))}, step)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        if step < self._first:
            return
        # Tables and figures at the end come after the last epoch's flush, which has completed the row of their step.
        step = max(step, self._step + self._is_complete)
        self._step, self._is_complete = step, False
        self.client.log(dict(values), step=step)

    def flush(self) -> None:
        if self._step >= self._first and not self._is_complete:
            # The values of a step are one row, which is sent on once a later step begins, unless it is complete.
            self.client.log({}, step=self._step, commit=True)
            self._is_complete = True

    def close(self, status: str) -> None:
        run, self.client = self.client, None
        if run is not None:
            run.finish(exit_code=_EXIT_CODES[status])
