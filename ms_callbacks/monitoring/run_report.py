"""Write one page about a run that can be mailed, archived and read years later without a server or a network."""

from __future__ import annotations

import datetime
import os
import time
from typing import Any, Optional, Union

from .. import __version__
from ..core import distributed
from ..core.arguments import check_choice, check_path, check_text
from ..core.atomic_files import check_folder, shown, staged
from ..core.callback import TrainCallback, only_one
from ..core.monitor import Monitor
from ..core.observations import EpochSummary, Evaluation
from ..core.run import Run
from ._report_artifacts import sections_of
from ._report_curves import Curves
from ._report_facts import callbacks_of, facts_of
from ._report_html import LANGUAGES, both, page, texts
from ._report_sections import Story, around_section, curves_section, summary, what_if_section

__all__ = ["RunReport"]

_OWNER = "RunReport"
_OWN = b"ms_callbacks RunReport"  # in the first kilobyte of every report
_OF_SCRIPT = ("epoch", "step", "none", "best_mark", "log_scale", "to_other_language", "to_dark", "to_light")


class RunReport(TrainCallback):
    """Write a page about a run when it finishes, is stopped or interrupted, or fails with an exception.

    The page is one HTML file that needs no other file, no server and no network. It shows what happened and why, the
    best value, curves of losses, validation values and learning rate, what `EarlyStopping` would have done with other
    values of `patience` (as `History.what_if`), the network, the data, the machine and the versions, the callbacks with
    their arguments, and the tables, texts and figures (`artifacts`) of the other callbacks in the list: the layer table
    of `ShapeInspector`, the matrix of `ConfusionMatrix`, the images of `HardExamples`, the gradients of
    `GradientMonitor`, the times of `CallbackProfiler`, and those of your own callbacks. A part without content is left
    out.

    The page is in English and Chinese, with a switch. It has a light and a dark theme, can be printed, and works on a
    phone and with a screen reader. To read values, point at a chart, touch it, or use the arrow keys. All values are
    also in tables, which need no JavaScript. If there are more than 1,000 epochs, or evaluations between steps, every
    n-th is shown, together with the last epoch and those with the highest or lowest value.

    The page contains the command line and the arguments of callbacks. Values of arguments whose name ends in `token`,
    `password`, `api_key` and the like are replaced by `***`; environment variables are not read. Read the page before
    you publish it.

    The file is written completely or not at all, by the first process only. If a signal kills a run without
    `GracefulStop`, there is no report. If a failed run cannot write its report, the exception of the run is raised, not
    that of the report. After a resume by `TrainingState`, the report has the values and the time of all parts of the
    run. Without `TrainingState`, each run writes its own report.

    Args:
        filepath: the file to write, ending in `.html`; its folder must exist. The path is resolved against the working
            directory at construction. A report that is already there is replaced; any other file is not.
            Default: "report.html".
        title: the heading of the page. Default: None, the class of the network.
        language: the language in which the page opens, `"en"` or `"zh"`. Default: "en".
        monitor: the value whose best is reported and for which patience is compared: `"loss"`, `"eval_loss"`, or a
            metric of the Model. Default: None, the value that the first callback of the list with a `monitor` watches,
            or else the first metric whose direction is known, or else a loss.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: the run will not have the
            monitored value, it is not known which direction is better, or there is another file at `filepath`.
        OSError: before the first step, or at the end of the run: the report cannot be written.

    Example:
        >>> report = RunReport(folder + "/report.html", title="A first run")
        >>> model.train(2, train_dataset, callbacks=[Validate(model, valid_dataset), report])
        RunReport: wrote ...report.html
        >>> os.path.getsize(folder + "/report.html") < 300_000
        True
    """

    transient = ("_began",)
    needs_losses = needs_samples = True

    def __init__(
        self,
        filepath: Union[str, os.PathLike[str]] = "report.html",
        *,
        title: Optional[str] = None,
        language: str = "en",
        monitor: Optional[str] = None,
    ) -> None:
        super().__init__()
        self.filepath = check_path(_OWNER, "filepath", filepath)
        if not self.filepath.lower().endswith((".html", ".htm")):
            raise ValueError(f"{_OWNER}: filepath must end in '.html', but got {os.fspath(filepath)!r}")
        self.title = None if title is None else check_text(_OWNER, "title", title)
        self.language = check_choice(_OWNER, "language", language, tuple(LANGUAGES))
        self.monitor = None if monitor is None else check_text(_OWNER, "monitor", monitor)
        self._began: Optional[float] = None  # while a run is to be reported
        self.reset_state()

    def reset_state(self) -> None:
        """Forget earlier runs."""
        self._curves = Curves()
        self._elapsed, self._started_at, self._runs = 0.0, "", 0

    def check(self, run: Run) -> None:
        """Raise if the report cannot be written, or the run will not have the monitored value."""
        super().check(run)
        place = os.path.realpath(self.filepath)
        reports = [each for each in run.callbacks if isinstance(each, RunReport)]
        alike = [each for each in reports if os.path.realpath(each.filepath) == place]
        only_one(_OWNER, alike, f"write {shown(self.filepath)!r}", "; give the other a filepath of its own")
        check_folder(_OWNER, self.filepath)
        if os.path.isfile(self.filepath):
            with open(self.filepath, "rb") as file:
                if _OWN not in file.read(1024):
                    raise ValueError(
                        f"{_OWNER}: {self.filepath!r} is not a report of {_OWNER}, and would be replaced; pass another "
                        f"filepath, or remove the file"
                    )
        if self.monitor is not None:
            self._check_mode(run, run.metrics.metric(_OWNER, self.monitor))

    def _check_mode(self, run: Run, metric: object) -> None:
        assert self.monitor is not None
        if any(
            getattr(each, "monitor", None) == self.monitor and getattr(each, "mode", None) in ("min", "max")
            for each in run.callbacks
        ):
            return
        try:
            Monitor(self.monitor).resolve_mode(_OWNER, metric)
        except ValueError:
            raise ValueError(
                f"{_OWNER}: nothing says whether a smaller or a larger {self.monitor!r} is better; leave monitor out, "
                f"or add a callback that says so, such as EarlyStopping({self.monitor!r}, mode='max')"
            ) from None

    def monitors(self, name: str) -> bool:
        """Return true: every value is reported."""
        return True

    def before_train(self, run: Run) -> None:
        """Find out what is run where."""
        self._began = time.perf_counter()
        self._runs += 1
        self._started_at = self._started_at or _now()
        self._facts = facts_of(run) if distributed.is_first() else {}

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Record an evaluation."""
        self._curves.add_evaluation(run, evaluation)

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Record the epoch."""
        self._curves.add_epoch(summary)

    def teardown(self) -> None:
        """Write the report of a run that has begun."""
        if self._began is None:
            return
        self._elapsed, self._began = self._elapsed_so_far, None
        if distributed.is_first():
            content = self._page(self.run)
            with staged(self.filepath, lambda file: file.write(content)):
                pass
            self.log(f"wrote {shown(self.filepath)}")

    def state_dict(self) -> dict[str, Any]:
        """Return the values so far, the time, and the number of runs that it took."""
        return {
            **self._curves.state_dict(),
            "elapsed": self._elapsed_so_far,
            "started_at": self._started_at,
            "runs": self._runs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, in the next run."""
        super().load_state_dict(state)
        self._curves = Curves.of_state(state)
        self._elapsed, self._started_at, self._runs = state["elapsed"], state["started_at"], state["runs"]

    @property
    def _elapsed_so_far(self) -> float:
        return self._elapsed + (0.0 if self._began is None else time.perf_counter() - self._began)

    # The page

    def _page(self, run: Run) -> bytes:
        curves, story = self._curves, self._story(run)
        monitor = curves.monitor(self.monitor, run.callbacks)
        charts = curves.charts(monitor)
        artifacts, problems = sections_of(run.callbacks, self)
        sections = [
            *summary(story, curves, monitor),
            *curves_section(curves, charts),
            *what_if_section(curves, monitor),
            *around_section(story, curves),
            *artifacts,
            *(f'<p class="note">{problem}</p>' for problem in problems),
        ]
        words = {language: {key: texts()[language][key] for key in _OF_SCRIPT} for language in LANGUAGES}
        title = self.title or self._facts.get("network") or _OWNER
        footer = both("footer", version=__version__, date=story.ended_at)
        return page(title, self.language, footer, sections, {"texts": words, **charts})

    def _story(self, run: Run) -> Story:
        rows, outcome = self._curves.epochs, run.outcome
        done = rows[-1]["epoch"] if rows else run.progress.initial_epoch
        deciding = [each for each in run.callbacks if type(each).__name__ == outcome.by]
        reasons = [reason for each in deciding if (reason := getattr(each, "stop_reason_", ""))]
        return Story(
            outcome,
            reason=str(reasons[0]) if reasons else "",
            epoch=run.epoch,
            step=run.step_in_epoch if run.epoch > done else 0,
            steps=run.steps_per_epoch,
            epochs_done=done,
            epochs=run.epochs,
            runs=self._runs,
            elapsed=self._elapsed,
            started_at=self._started_at,
            ended_at=_now(),
            facts=self._facts,
            callbacks=callbacks_of(run),
            notes=list(run.notes),
        )


def _now() -> str:
    """Return the local time, with its distance to UTC."""
    return datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
