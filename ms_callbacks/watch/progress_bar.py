"""A progress bar: how far the run is, how it is doing, and how long it will take."""

from __future__ import annotations

import sys
import time
from typing import Any, Optional

from ..core import _ranks
from ..core._callback import STEP_END, TrainCallback
from ..core._checks import check_file, check_number
from ..core._context import Run
from ..core._output import emit, known, set_printer
from ..core._rates import Rates

__all__ = ["ProgressBar"]


class ProgressBar(TrainCallback):
    """Shows steps and epochs, loss, learning rate, the latest validation, and the time left.

    On a terminal it is one bar for the run, drawn by tqdm (`pip install 'ms-callbacks[progress]'`); lines that other
    callbacks of this package print appear above it, unbroken. Where the output is a file or a pipe, it is a plain line
    at an interval instead. Where the number of batches varies from epoch to epoch, an epoch to come counts as the mean
    of those that are over.

    Args:
        file: where to show it, as in `print`. Default: None, the standard error, as tqdm's.
        interval: seconds between two lines of the plain form. Default: 30.0.
        refresh: seconds between two looks at the loss on a terminal; only then is it read from the device.
            Default: 0.5.

    Raises:
        ImportError: before the first step: tqdm is not installed.
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> model.train(1, train_dataset, callbacks=[ProgressBar(file=open(os.devnull, "w"))])
    """

    _run_only = ("_bar", "_rates", "_tqdm")

    def __init__(self, *, file: Any = None, interval: float = 30.0, refresh: float = 0.5) -> None:
        super().__init__()
        self.file = check_file("ProgressBar", file)
        self.interval = check_number("ProgressBar", "interval", interval, minimum=0)
        self.refresh = check_number("ProgressBar", "refresh", refresh, minimum=0)
        self._bar: Any = None
        self._rates: Optional[Rates] = None

    def on_train_begin(self, run_context: Any) -> None:
        """Begins anew."""
        super().on_train_begin(run_context)
        self._rates = self._run.all_rates()
        self._validation = ""
        self._tqdm = _tqdm()
        self._shown = 0
        self._began = self._looked = time.monotonic()
        self.at_step(STEP_END, self._move_on)

    def check(self, run: Run) -> None:
        """Raises where tqdm is not installed."""
        super().check(run)
        _tqdm()

    def before_epoch(self, run: Run) -> None:
        """Draws the bar before the first step."""
        if self._bar is None:
            self._bar = self._open(run)

    @property
    def follows_losses(self) -> bool:
        """Always."""
        return True

    def _move_on(self, run_context: Any) -> None:
        """Looks at the loss now and then."""
        now = time.monotonic()
        if now - self._looked >= (self.refresh if self._on_terminal else self.interval):
            self._looked = now
            self._show(self._run)

    def after_epoch(self, run: Run) -> None:
        """Shows the epoch with its validation."""
        self._validation = "".join(
            f", {name} {value:.4f}" for name, value in sorted(run.results.items()) if isinstance(value, float)
        )
        self._show(self._run)

    def on_exit(self) -> None:
        """Takes the bar down, and lets lines be printed as they were."""
        set_printer()
        if self._bar is not None:
            self._bar.close()
        self._bar = self._rates = None

    @property
    def _stream(self) -> Any:
        return sys.stderr if self.file is None else self.file

    @property
    def _on_terminal(self) -> bool:
        return _ranks.is_first() and bool(getattr(self._stream, "isatty", lambda: False)())

    def _open(self, run: Run) -> Any:
        bar = self._tqdm(
            total=run.steps_expected,
            initial=run.steps_before,
            file=self._stream,
            disable=not self._on_terminal,
            mininterval=self.refresh,
            dynamic_ncols=True,
            unit="step",
            desc=f"Epoch {run.epoch}/{run.epochs}",
        )
        self._shown = run.steps_before
        if self._on_terminal:
            set_printer(lambda line: self._tqdm.write(line, file=sys.stdout))
        return bar

    def _show(self, run: Run) -> None:
        loss = run.losses.mean
        rates = "/".join(f"{rate:.5g}" for rate in self._rates.read()) if self._rates is not None else "-"
        state = f"loss {'-' if loss is None else format(loss, '.4f')}, lr {rates}{self._validation}"
        if self._on_terminal:
            self._bar.set_description(f"Epoch {run.epoch}/{run.epochs}", refresh=False)
            self._bar.set_postfix_str(state, refresh=False)
            self._bar.total = run.steps_expected
            self._bar.update(run.step - self._shown)
            self._bar.refresh()
        else:
            done = run.step
            left = (time.monotonic() - self._began) / max(done - run.steps_before, 1) * (run.steps_expected - done)
            text = f"Epoch {run.epoch}/{run.epochs}, step {run.step_in_epoch}/{known(run.known_steps)}, {state}"
            emit(f"{text}, {self._tqdm.format_interval(left)} left", self._stream)
        self._shown = run.step


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("ProgressBar needs tqdm: pip install 'ms-callbacks[progress]'") from error
    return tqdm
