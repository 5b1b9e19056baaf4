"""Stop a run cleanly before a time limit."""

from __future__ import annotations

from time import monotonic
from typing import Any, Optional

from ..core import distributed
from ..core.arguments import check_bool, check_choice, check_number
from ..core.callback import TrainCallback
from ..core.console import duration
from ..core.monitor import place
from ..core.observations import EpochSummary, Evaluation
from ..core.phases import Phases
from ..core.rounds import Rounds
from ..core.run import Run

__all__ = ["TimeLimit"]

_OWNER = "TimeLimit"


class TimeLimit(TrainCallback):
    """Stop a run before a time limit, early enough for what is left to do after the last step.

    Time counts from the beginning of `Model.train` and includes compilation, evaluations and saves. Changes of the
    system clock do not affect it. The run stops as soon as the time left is less than a reserve. The reserve is the sum
    of four times, each the longest so far: a step, an evaluation, the end of an epoch without its evaluation (the
    callbacks' work and saves), and a write in the background. With `interval="epoch"`, the run stops only at the end
    of an epoch, and the reserve is the longest epoch with its evaluation, the longest end of an epoch and the longest
    write. The first step, which compiles the network, does not count as a step. The first epoch counts only until
    there is another.

    The reserve cannot include what has not happened yet. Set the limit some minutes lower if it may be reached before
    the first evaluation, or if something long runs only once, after the last epoch (`ExportBest`, `Robustness`, your
    own code). At least one step runs, however small the limit is.

    With `TrainingState` in the list, the stop is an interruption: the state is saved, even in the middle of an epoch,
    and a later run continues from it. That epoch is not evaluated. The state includes the measured times. MindSpore 2.0
    cannot continue in the middle of an epoch: pass `interval="epoch"` there. Without `TrainingState`, no later run can
    continue, so the stop is final: the incomplete epoch is evaluated and counted, and `BestCheckpoint` and others
    observe the last weights.

    With several processes, all stop after the same step, as soon as one of them reaches its reserve. They ask each
    other about once a second, at most 20 steps apart, and at the end of each epoch. In sink mode, a step is a whole
    sink.

    Args:
        hours: hours of the limit. Default: 0.
        minutes: minutes, added to the hours. Default: 0.
        seconds: seconds, added to both. Default: 0.
        interval: when to check: `"step"`, after each step and each epoch, or `"epoch"`. Default: "step".
        across_runs: whether the limit is for several runs together: the runs that this one continues, whose time
            `TrainingState` keeps, and earlier runs with the same object. Default: False, the limit is for each
            `Model.train` alone, as in a cluster job.
        verbose: 1 prints a line if the callback stopped the run; 0 prints nothing. Default: 1.

    Attributes:
        elapsed_ (float): the seconds used, as of the last check.
        reserve_ (float): the reserve in seconds, for the next step, or epoch, and the end of the run.
        stopped_epoch_ (int): the epoch in which it stopped the run; 0 if it did not.
        stopped_step_ (int): the step, counted from the first of epoch 1; 0 at the end of an epoch.

    Raises:
        TypeError, ValueError: an argument is not as described, or the limit is 0.

    Example:
        >>> limit = TimeLimit(hours=3, minutes=50)
        >>> model.train(1, train_dataset, callbacks=[TrainingState(folder + "/state"), limit])
        >>> limit.stopped_epoch_
        0
    """

    transient = ("_rounds",)
    elapsed_: float
    _rounds: Rounds

    def __init__(
        self,
        *,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        interval: str = "step",
        across_runs: bool = False,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.hours = check_number(_OWNER, "hours", hours, minimum=0)
        self.minutes = check_number(_OWNER, "minutes", minutes, minimum=0)
        self.seconds = check_number(_OWNER, "seconds", seconds, minimum=0)
        if not self._limit:
            raise ValueError(f"{_OWNER}: the limit is 0; pass hours, minutes or seconds, as in TimeLimit(hours=3.5)")
        self.interval = check_choice(_OWNER, "interval", interval, ("step", "epoch"))
        self.across_runs = check_bool(_OWNER, "across_runs", across_runs)
        self.verbose = check_choice(_OWNER, "verbose", verbose, (0, 1))
        self.reset_on_train_begin = not self.across_runs
        self.reset_state()

    def before_train(self, run: Run) -> None:
        """Start the clock."""
        self.elapsed_ = self.elapsed_ if self.across_runs else 0.0
        self._began = monotonic() - self.elapsed_
        self.stopped_epoch_ = self.stopped_step_ = 0
        self._late_at = self._began + self._limit - self.reserve_
        self._rounds, self._is_alone = Rounds(), distributed.count() == 1
        self._is_first = True  # whether no epoch of this call has begun
        self._since: Optional[float] = None  # when the measured step, or end of an epoch, began
        self._epoch_since = monotonic()
        self._evaluation_since: Optional[float] = None
        self._evaluated = 0.0  # the seconds of evaluations since `_since`
        if self.interval == "step":
            run.step_hooks.on_step_end(self, self._look)

    def before_epoch(self, run: Run) -> None:
        """Measure the end of the previous epoch."""
        if self._is_first:
            self._is_first = False  # its first step compiles the network
        else:
            self._learn("write", run.background.longest)
            self._measure("end")

    def _look(self, run: Run) -> None:
        """Measure the step, and stop if the next one might not fit."""
        if self._rounds.is_due():
            now = self._measure("step")
            if now > self._late_at or not self._is_alone:
                self._check(run, run.step)

    def before_evaluation(self, run: Run) -> None:
        """Start the clock of the evaluation."""
        self._evaluation_since = monotonic()

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Measure the evaluation, which does not count as part of a step or of the end of an epoch."""
        if self._evaluation_since is not None:
            seconds, self._evaluation_since = monotonic() - self._evaluation_since, None
            self._evaluated += seconds
            self._learn("evaluation", seconds)

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Stop if the next step, or the next epoch, might not fit."""
        if self.interval == "epoch":
            now = monotonic()
            trained = now - self._epoch_since - self._evaluated
            if run.progress.steps_skipped:  # a resumed epoch: scale its time to that of a whole epoch
                trained *= run.step_in_epoch / max(run.step_in_epoch - run.progress.steps_skipped, 1)
            self._learn("epoch" if run.progress.epochs_ended > 1 else "first_epoch", trained + self._evaluated)
            self._epoch_since = self._since = now
            self._evaluated = 0.0
        self._check(run, 0)

    def after_train(self, run: Run) -> None:
        """Print why the run stopped."""
        self._update()
        if self.stopped_epoch_ and self.verbose:
            where = place(self.stopped_epoch_, self.stopped_step_)
            self.log(
                f"stopped after {where}: {duration(self._stopped_at)} of {duration(self._limit)} used, "
                f"{duration(self.reserve_)} kept in reserve"
            )

    @property
    def reserve_(self) -> float:
        """The reserve in seconds, for the next step, or epoch, and the end of the run."""
        longest = self._longest
        if self.interval == "epoch":
            return (longest["epoch"] or longest["first_epoch"]) + longest["end"] + longest["write"]
        return longest["step"] + longest["evaluation"] + longest["end"] + longest["write"]

    def state_dict(self) -> dict[str, Any]:
        """Return the time used, where the callback stopped the run, and the measured times."""
        self._update()
        return {
            "elapsed": self.elapsed_,
            "stopped_epoch": self.stopped_epoch_,
            "stopped_step": self.stopped_step_,
            "longest": dict(self._longest),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.elapsed_, self._longest = state["elapsed"], dict(state["longest"])
        self.stopped_epoch_, self.stopped_step_ = state["stopped_epoch"], state["stopped_step"]

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        self.elapsed_ = self._stopped_at = 0.0
        self.stopped_epoch_ = self.stopped_step_ = 0
        self._longest = dict.fromkeys(("step", "evaluation", "end", "epoch", "first_epoch", "write"), 0.0)

    @property
    def _limit(self) -> float:
        return (self.hours * 60 + self.minutes) * 60 + self.seconds

    def _update(self) -> None:
        if self.in_run:
            self.elapsed_ = monotonic() - self._began

    def _measure(self, what: str) -> float:
        """Measure what has just ended, and start the clock of what follows; return the time."""
        now = monotonic()
        if self._since is not None:
            self._learn(what, now - self._since - self._evaluated)
        self._since, self._evaluated, self.elapsed_ = now, 0.0, now - self._began
        return now

    def _learn(self, what: str, seconds: float) -> None:
        if seconds > self._longest[what]:
            self._longest[what] = seconds
            self._late_at = self._began + self._limit - self.reserve_

    def _check(self, run: Run, step: int) -> None:
        self._update()
        self._learn("write", run.background.longest)
        is_late = self.elapsed_ + self.reserve_ > self._limit
        if not self._rounds.highest([is_late])[0] or run.is_stopping or self._is_last(run):
            return
        self.stopped_epoch_, self.stopped_step_, self._stopped_at = self.epoch_of(run), step, self.elapsed_
        saves = any(isinstance(each, Phases) and each.saves_run_states for each in run.callbacks)
        run.request_stop(_OWNER, interrupt=saves)

    def _is_last(self, run: Run) -> bool:
        """Return whether the run ends here anyway."""
        is_over = not run.progress.is_epoch_open or run.step_in_epoch == run.progress.known_steps
        return run.epoch >= run.epochs and is_over
