"""Log a run to an experiment tracker: the base of `TrackerLogger` and of the loggers of single trackers."""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Mapping
from typing import Any, Callable, Optional, TypeVar

import numpy as np

from ..core import distributed
from ..core.arguments import check_choice, check_int, check_number
from ..core.artifacts import Artifact, FigureArtifact
from ..core.callback import TrainCallback, only_one
from ..core.console import counted
from ..core.names import OF_RUN, label
from ..core.observations import EpochSummary, Evaluation
from ..core.phases import Phases
from ..core.placement import Needs
from ..core.run import Run
from ..core.tensors import as_array
from ..core.tracker import TrackedRun, Tracker
from ._run_config import plain, run_config
from ._tracker_thread import TrackerThread

__all__ = ["TrackerCallback"]

_T = TypeVar("_T")


class TrackerCallback(TrainCallback):
    """Logs a run to a tracker, whose methods are called in a thread of its own.

    Args:
        tracker: the tracker.
        every_n_steps: as for `TrackerLogger`; so are the others.
        config: see there.
        histograms: see there.
        figures: see there.
        timeout: see there.
    """

    needs_losses = needs_samples = True
    transient = ("_thread", "_earlier")
    _package = ""  # that has to be installed, and the extra of this package that installs it
    _extra = ""
    id_: Optional[str]

    def __init__(
        self,
        tracker: Tracker,
        every_n_steps: int,
        config: Optional[Mapping[str, Any]],
        histograms: Optional[int],
        figures: Optional[str],
        timeout: float,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.tracker = tracker
        self.every_n_steps = check_int(name, "every_n_steps", every_n_steps, 1)
        if config is not None and not isinstance(config, Mapping):
            raise TypeError(f"{name}: config must be a dictionary, but got {config!r} ({type(config).__name__})")
        self.config = config
        self.histograms = histograms if histograms is None else check_int(name, "histograms", histograms, 1)
        self.figures = check_choice(name, "figures", figures, ("end", "epoch", None))
        self.timeout = check_number(name, "timeout", timeout, above=0)
        self._thread: Optional[TrackerThread] = None
        self._earlier: Optional[TrackerThread] = None  # of a run before, which may not have come to its end
        self._has_reported = self._is_started = False
        self.reset_state()

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        self.id_ = None
        self.lost_ = 0
        self._sum, self._count = 0.0, 0  # of the losses since the last log
        self._epoch_logged_at = 0  # the last step with which the epoch was logged
        # The digests of the texts that were logged last; `None` before the first epoch's end.
        self._texts: Optional[dict[str, str]] = None
        # What an interrupted run had logged, but the tracker had not flushed when its state was saved.
        self._unflushed: list[tuple[int, dict[str, float]]] = []

    def before_train(self, run: Run) -> None:
        """Register for the losses and the interval."""
        self._thread, self._has_reported, self._is_started, self.lost_ = None, False, False, 0
        if distributed.is_first():
            run.losses.on_read(self, self._add_losses)
            run.step_hooks.every(self.every_n_steps, self, self._log_steps)

    def check(self, run: Run) -> None:
        """Raise if the tracker's client is not installed, or another logger has the same tracker."""
        super().check(run)
        alike = [each for each in run.callbacks if isinstance(each, TrackerCallback) and each.tracker is self.tracker]
        only_one(type(self).__name__, alike, "log to the same tracker", ", or give each a tracker of its own")
        if self._package and importlib.util.find_spec(self._package) is None:
            raise ImportError(
                f"{type(self).__name__}: the package {self._package!r} is not installed; "
                f"pip install 'ms-callbacks[{self._extra}]'"
            )

    def needs(self, run: Run) -> Needs:
        """Require whole weights for histograms."""
        return super().needs(run) | (Needs.NOTHING if self.histograms is None else Needs.WEIGHTS)

    def monitors(self, name: str) -> bool:
        """Return true: every value is logged."""
        return True

    def before_epoch(self, run: Run) -> None:
        """Start the tracker, before the first epoch: now it is known where the run begins, and all checks are done."""
        if not self._is_started:
            self._is_started = True
            distributed.do_once(type(self).__name__, lambda: self._start(run))

    def _start(self, run: Run) -> None:
        network = type(run.parts.found_network or run.parts.train_network).__name__
        config = run_config(run, self.config)
        name = f"{network}-{time.strftime('%Y%m%d-%H%M%S')}"
        step = run.step if self.continues else 0
        unflushed, self._unflushed = self._unflushed, []
        if unflushed:
            step = min(step, unflushed[0][0] - 1)
        earlier = self._earlier
        try:
            if earlier is not None and not earlier.has_ended(self.timeout):
                raise TimeoutError(f"it has not closed its earlier run within {self.timeout:g} s")
            self._earlier = thread = TrackerThread(self.tracker)
            self.id_ = thread.start(TrackedRun(name, config, self.id_, step), self.timeout)
        except (Exception, SystemExit) as error:
            raise RuntimeError(
                f"{type(self).__name__}: the tracker could not be started: {type(error).__name__}: {error}; correct "
                f"that, or leave {type(self).__name__} out"
            ) from error
        self._thread = thread
        if not self.continues:
            thread.log_text("texts/config", _as_text(config), step)
        for logged_at, values in unflushed:
            thread.log(values, logged_at)

    def _add_losses(self, first: int, losses: list[Optional[float]]) -> None:
        for loss in losses:
            if loss is not None:  # loss scaling has dropped the step otherwise
                self._sum += loss
                self._count += 1

    def _log_steps(self, run: Run) -> None:
        run.losses.read()
        values = {"train/loss": self._sum / self._count} if self._count else {}
        self._sum, self._count = 0.0, 0
        rates = run.parts.rates.read() if run.parts.rates is not None else []
        for place, rate in enumerate(rates, 1):
            values["train/learning_rate" if len(rates) == 1 else f"train/learning_rate_{place}"] = rate
        self._log(run, values, of_step=True)

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Log an evaluation."""
        numbers = {name: value for name, value in evaluation.results.items() if isinstance(value, float)}
        self._log(run, {f"eval/{_without_prefix(name)}": value for name, value in numbers.items()})

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Log the numbers of the epoch, except those of its evaluation, which were logged by then."""
        numbers = {**summary.as_dict(), "epoch": None}
        for name in summary.results:
            numbers.pop(name, None)
        self._log(run, {f"epoch/{name}": float(value) for name, value in numbers.items() if value is not None})

    def end_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Log what the callbacks have to show, and histograms."""
        if self._thread is None:
            return
        if self.histograms is not None and run.epoch % self.histograms == 0:
            trained = {name: each for name, each in run.weights.items() if each.requires_grad}
            arrays = {f"weights/{name}": np.array(as_array(parameter)) for name, parameter in trained.items()}
            self._thread.log_histograms(arrays, run.step)
        if self._texts is None:
            self._log_texts(run)
        if self.figures == "epoch":
            self._log_figures(run)
        self._thread.flush()

    def end_train(self, run: Run) -> None:
        """Log what the callbacks have to show at the end, unless a later run continues this one."""
        if self._thread is None or not run.progress.is_finished:
            return
        self._log_texts(run)
        if self.figures == "end":
            self._log_figures(run)

    def teardown(self) -> None:
        """Close the tracker, and say whether anything was lost."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        is_closed = thread.close(self.run.outcome.status, self.timeout)
        self._report(thread)
        self.lost_ = thread.lost
        if not is_closed:
            self.log(f"the tracker did not close within {self.timeout:g} s")
        if self.lost_:
            self.log(f"{counted(self.lost_, 'value')} of this run did not reach the tracker")

    def state_dict(self) -> dict[str, Any]:
        """Return the id of the tracker's run, the mean loss of the interval so far, and what is not flushed yet."""
        if self.in_run:
            self.run.losses.read()
        unflushed, texts = self._unflushed, self._texts
        if self._thread is not None:
            self._thread.flush()
            unflushed = self._thread.unflushed()
            texts = self._texts if self._thread.kept_texts else None
        return {
            "id": self.id_,
            "sum": self._sum,
            "count": self._count,
            "epoch_logged_at": self._epoch_logged_at,
            "texts": texts,
            "unflushed": [[step, values] for step, values in unflushed],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the tracker's run in the next run."""
        super().load_state_dict(state)
        self.id_, self._texts = state["id"], state["texts"]
        self._sum, self._count, self._epoch_logged_at = state["sum"], state["count"], state["epoch_logged_at"]
        self._unflushed = [(step, values) for step, values in state["unflushed"]]

    # Helpers

    def _log(self, run: Run, values: dict[str, float], *, of_step: bool = False) -> None:
        if self._thread is None:  # with several processes, only the first logs
            return
        if self._epoch_logged_at != run.step:  # once a step, because some trackers store duplicates
            self._epoch_logged_at = run.step
            values["epoch"] = float(run.epoch)
        if values:
            self._thread.log(values, run.step, of_step=of_step)
        self._report(self._thread)

    def _report(self, thread: TrackerThread) -> None:
        """Say once that the tracker has failed; here and not in its thread, to keep lines of the run in order."""
        error = thread.error
        if error is not None and not self._has_reported:
            self._has_reported = True
            self.log(f"the tracker failed ({type(error).__name__}: {error}); training continues")

    def _artifacts(self, run: Run) -> list[Artifact]:
        listed = [one for each in run.callbacks if isinstance(each, Phases) for one in (each, *each.inner)]
        found = [self._tried(f"{label(each)} could not show its results", each.artifacts) for each in listed]
        return [artifact for artifacts in found for artifact in artifacts or ()]

    def _tried(self, failure: str, action: Callable[[], _T]) -> Optional[_T]:
        """Return what an action returns; if it raises, say what has failed, and return `None`: training continues."""
        try:
            return action()
        except Exception as error:
            self.log(f"{failure} ({type(error).__name__}: {error})")
            return None

    def _log_texts(self, run: Run) -> None:
        """Log the tables and texts that are new or have changed."""
        assert self._thread is not None
        shown = [each for each in self._artifacts(run) if not isinstance(each, FigureArtifact)]
        logged, self._texts = self._texts or {}, {}
        for each in shown:
            text = self._tried(f"the table {each.name!r} could not be made", each.__str__)
            if text is None:
                continue
            self._texts[each.name] = digest = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
            if logged.get(each.name) != digest:
                self._thread.log_text(f"texts/{each.name}", text, run.step)

    def _log_figures(self, run: Run) -> None:
        """Draw the figures and log them; one that cannot be drawn is reported."""
        assert self._thread is not None
        for each in self._artifacts(run):
            if not isinstance(each, FigureArtifact):
                continue
            figure = self._tried(f"the figure {each.name!r} could not be drawn", each.draw)
            if figure is not None:
                self._thread.log_figure(f"figures/{each.name}", figure, run.step)


def _without_prefix(name: str) -> str:
    """Return `loss` for `eval_loss`: values of an evaluation have the prefix only to differ from those of a run."""
    bare = name[len("eval_") :] if name.startswith("eval_") else name
    return bare if bare in OF_RUN else name


def _as_text(config: Mapping[str, Any], indent: str = "") -> str:
    """Return nested dictionaries as indented lines."""
    lines = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", _as_text(value, indent + "  ")] if value else [f"{indent}{key}"]
        else:
            lines.append(f"{indent}{key}: {plain(value)}")
    return "\n".join(lines)
