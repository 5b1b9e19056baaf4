"""Show a progress bar: how far the run is, how it is doing, and how long it will take."""

from __future__ import annotations

import sys
import time
from typing import Any, Optional

import mindspore as ms

from ..core import distributed
from ..core.arguments import check_file, check_number
from ..core.callback import TrainCallback
from ..core.console import SafeStream, known, print_line
from ..core.learning_rates import Rates
from ..core.observations import EpochSummary, Evaluation
from ..core.run import Run
from ._bar import Bar, Clock, find_tqdm, is_notebook

__all__ = ["ProgressBar"]


class ProgressBar(TrainCallback):
    """Show steps and epochs, loss, learning rate, the latest validation values, and the time left.

    On a terminal, this is one bar for the run, drawn by tqdm (`pip install 'ms-callbacks[progress]'`), as wide as the
    terminal; lines that other callbacks of this package print appear above it, intact. A narrow terminal shows epoch,
    percentage and loss, and as much of the rest as fits: steps, time left, validation, learning rate, steps per second.
    In a notebook, it is tqdm's widget if ipywidgets is installed, or else the same bar as text. If the output is a file
    or a pipe, plain lines are printed at an interval instead.

    The first step in GRAPH mode compiles the network, which takes seconds or minutes. Until it is over, the bar says
    `compiling` and for how long, and a file gets a line at its beginning, at each interval and at its end. This is done
    by a second thread, which calls nothing of MindSpore and ends with that step. While MindSpore holds Python's
    interpreter lock, the seconds stand still, for at most five as measured on 2.0 to 2.10. That step does not count in
    the estimate of the time left.

    If the number of batches varies from epoch to epoch, each future epoch counts as the mean of the past ones.

    Args:
        file: where to show it, as in `print`. Default: None, standard error, as in tqdm; in a notebook, standard
            output, which has no red background there.
        interval: seconds between two plain lines. Default: 30.0.
        refresh: seconds between two updates on a terminal and in a notebook; the loss is read from the device only
            then. Default: 0.5.

    Raises:
        ImportError: before the first step: tqdm is not installed.
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> model.train(1, train_dataset, callbacks=[ProgressBar(file=open(os.devnull, "w"))])
    """

    needs_losses = True
    transient = ("_bar", "_clock", "_rates", "_stream")

    def __init__(self, *, file: Any = None, interval: float = 30.0, refresh: float = 0.5) -> None:
        super().__init__()
        self.file = check_file("ProgressBar", file)
        self.interval = check_number("ProgressBar", "interval", interval, minimum=0)
        self.refresh = check_number("ProgressBar", "refresh", refresh, minimum=0)
        self._stream: Any = None
        self._bar: Optional[Bar] = None
        self._clock: Optional[Clock] = None
        self._rates: Optional[Rates] = None

    def before_train(self, run: Run) -> None:
        """Reset what belongs to one run."""
        self._rates = run.parts.rates
        self._validation = ""
        stream = sys.stderr if self.file is None else self.file
        if self.file is None and is_notebook(SafeStream(sys.stdout)):
            stream = sys.stdout
        self._stream = SafeStream(stream)
        self._is_drawn = self._stream.isatty() or is_notebook(self._stream)
        self._began = self._looked = time.monotonic()
        self._counted_from: Optional[int] = None
        # This is where MindSpore keeps what it has compiled.
        is_compiled = ms.get_context("mode") != ms.GRAPH_MODE or getattr(run.parts.train_network, "compile_cache", None)
        if distributed.is_first():
            run.step_hooks.on_step_end(self, self._update)
            if not is_compiled:
                run.step_hooks.on_step_begin(self, self._begin_to_compile)

    def check(self, run: Run) -> None:
        """Raise if tqdm is not installed."""
        super().check(run)
        find_tqdm()

    def before_epoch(self, run: Run) -> None:
        """Draw the bar before the first step."""
        if self._counted_from is None:
            self._counted_from = run.progress.steps_before
            if self._is_drawn and distributed.is_first():
                self._bar = Bar(
                    self._stream, self._epoch, run.progress.steps_before, run.progress.steps_expected, self.refresh
                )

    def monitors(self, name: str) -> bool:
        """Return true: every value is shown."""
        return True

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Keep the values to show from an evaluation."""
        self._validation = ", ".join(
            f"{name} {value:.4f}" for name, value in sorted(evaluation.results.items()) if isinstance(value, float)
        )

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Show the epoch with its validation values."""
        if not summary.results:
            self._validation = ""
        if distributed.is_first():
            self._show(run)

    def teardown(self) -> None:
        """Close the bar."""
        if self._clock is not None:
            self._clock.stop()
        if self._bar is not None:
            self._bar.close()
        self._bar = self._clock = self._rates = self._stream = None

    def _begin_to_compile(self, run: Run) -> None:
        """Show that the first step is compiling, and for how long, until it is over."""
        run.step_hooks.on_step_begin(self, None)
        run.step_hooks.on_step_end(self, self._end_compiling)
        # What to show is collected here, because the other thread must not call MindSpore.
        bar, epoch = self._bar, self._epoch
        done, total = self.run.progress.steps_before, self.run.progress.steps_expected

        def say(seconds: float) -> None:
            what = f"compiling, {seconds:.0f} s" if seconds else "compiling"
            if bar is None:
                print_line(f"Epoch {epoch}: {what}", self._stream)
            else:
                bar.show(epoch, [what], done, total)

        say(0)
        self._clock = Clock(max(self.interval, 1.0) if bar is None else 1.0, say)

    def _end_compiling(self, run: Run) -> None:
        """Estimate the time left from steps that do not compile."""
        run.step_hooks.on_step_end(self, self._update)
        assert self._clock is not None
        seconds, self._clock = self._clock.stop(), None
        self._began, self._counted_from = time.monotonic(), run.step
        if self._bar is None:
            print_line(f"Epoch {self._epoch}: compiled, {seconds:.1f} s with the first step", self._stream)
        else:
            self._bar.restart_clock(run.step)
        self._update(run)

    def _update(self, run: Run) -> None:
        """Show the loss, if it was last shown long enough ago."""
        now = time.monotonic()
        if now - self._looked >= (self.refresh if self._is_drawn else self.interval):
            self._looked = now
            self._show(run)

    @property
    def _epoch(self) -> str:
        return f"{self.run.epoch}/{self.run.epochs}"

    def _show(self, run: Run) -> None:
        loss = run.losses.mean
        rates = "/".join(f"{rate:.5g}" for rate in self._rates.read()) if self._rates is not None else "-"
        parts = [f"loss {'-' if loss is None else format(loss, '.4f')}", f"lr {rates}", self._validation]
        state = [part for part in parts if part]
        done, total = run.step, run.progress.steps_expected
        if self._bar is not None:
            self._bar.show(self._epoch, state, done, total)
            return
        pace = (time.monotonic() - self._began) / max(done - (self._counted_from or 0), 1)
        left = find_tqdm().format_interval(pace * (total - done))
        place = f"Epoch {self._epoch}, step {run.step_in_epoch}/{known(run.progress.known_steps)}"
        print_line(f"{', '.join([place, *state])}, {left} left", self._stream)
