"""Stop a run that no longer improves, and optionally restore the best weights."""

from __future__ import annotations

import math
from typing import Any, Optional, Union

import numpy as np

from ..core import distributed
from ..core.arguments import check_bool, check_choice, check_int, check_number
from ..core.console import log_line
from ..core.monitor import place
from ..core.monitor_callback import MonitorCallback
from ..core.observations import EpochSummary, Evaluation
from ..core.parameters import Snapshot, check_parameters, flaw_in
from ..core.patience import StopRule
from ..core.placement import Needs
from ..core.run import Run

__all__ = ["EarlyStopping"]


class EarlyStopping(MonitorCallback):
    """Stop training when a monitored value has not improved for `patience` observations.

    Decisions match Keras 3 for every argument shared with its `EarlyStopping`, and Lightning for `stopping_threshold`,
    `divergence_threshold` and `check_finite`, with one exception each: a value that is not finite is never the best,
    not even the first, and weights that hold NaN are never restored; and a value that reaches `stopping_threshold` can
    be the best. A tie is not better. An epoch without an evaluation is not an observation.

    With `restore_best_weights`, a run in which each process holds only a part of the weights, as in
    `semi_auto_parallel` mode or a pipeline, is refused before the first step: `docs/en/large_runs.md` of the project
    says which settings these are, and what to use instead.

    Args:
        monitor: the value to watch: `"loss"` (the mean training loss of the epoch, in sink mode that of its last step),
            `"eval_loss"`, or a metric of the Model; `"val_loss"` and `"val_acc"` mean `"eval_loss"` and `"acc"`. Under
            `Model.fit` alone, `eval_loss` is MindSpore's, which covers the last batch only; add `Validate`, or a metric
            `loss`, to correct it. Default: "eval_loss".
        patience: how many observations without a better value to accept before stopping; 0 stops at the first.
            The first epoch never stops a run. Default: 3.
        mode: `"min"`, `"max"`, or `"auto"` to go by the metric's class, or else its name. Default: "auto".
        min_delta: by how much a value must be better to count, at least 0. Default: 0.0.
        baseline: patience is reset only by values that are also better than this. Default: None.
        start_from_epoch: how many epochs to skip at the start. Default: 0.
        restore_best_weights: restores the best epoch's weights when the run is over, however it ends: stopped,
            finished, or aborted by an exception. Everything that is learnt is restored: the parameters of the network,
            of its loss, and of what a training cell holds besides them, such as averaged weights. The optimizer keeps
            its state, and training can continue. Default: False.
        stopping_threshold: stops at once when the value is better than this. Default: None.
        divergence_threshold: stops at once when the value is worse than this. Default: None.
        check_finite: stops at once when the value is NaN or infinite; otherwise such a value counts as not better.
            Default: True.
        reset_on_train_begin: whether each `Model.train` is a new run. `False` is for a loop that calls
            `model.train(1, ...)` repeatedly: patience, the best value and the count of epochs then span all of its
            calls, and the best weights are restored in the call in which it stops (`stopped_epoch_` shows this, so that
            the loop can end too), or when `restore()` is called after the loop. Default: True.
        verbose: 1 prints why the run stopped and what was restored; 2 also prints a line per epoch with its losses,
            validation values and learning rate, the best so far and the misses out of `patience`; 0 prints nothing.
            Default: 1.

    Attributes:
        stopped_epoch_ (int): the epoch in which it stopped; 0 if it did not.
        best_ (float | None): the best value.
        best_epoch_ (int): the epoch of the best value; 0 before the first.
        wait_ (int): how many observations have passed since `best_` (or, with a baseline, since it was last beaten).
        stop_reason_ (str): why it stopped; empty if it did not.

    Raises:
        TypeError, ValueError: an argument is not as described; at the start of the run if that can be known then, or
            else at the first evaluation: the run will not have such a value, or `mode="auto"` cannot determine which
            direction is better.

    Example:
        >>> stopping = EarlyStopping("acc", patience=3, restore_best_weights=True, verbose=0)
        >>> model.train(2, train_dataset, callbacks=[Validate(model, valid_dataset), stopping])
        >>> stopping.best_epoch_ in (1, 2)
        True
    """

    transient = ("_snapshot",)
    baseline: Optional[float]
    stopping_threshold: Optional[float]
    divergence_threshold: Optional[float]
    stop_reason_: str
    _snapshot: Optional[Snapshot]
    _best_weights: dict[str, np.ndarray[Any, Any]]

    def __init__(
        self,
        monitor: str = "eval_loss",
        *,
        patience: int = 3,
        mode: str = "auto",
        min_delta: float = 0.0,
        baseline: Optional[float] = None,
        start_from_epoch: int = 0,
        restore_best_weights: bool = False,
        stopping_threshold: Optional[float] = None,
        divergence_threshold: Optional[float] = None,
        check_finite: bool = True,
        reset_on_train_begin: bool = True,
        verbose: int = 1,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        owner = "EarlyStopping"
        self.patience = check_int(owner, "patience", patience, 0)
        self.start_from_epoch = check_int(owner, "start_from_epoch", start_from_epoch, 0)
        self.restore_best_weights = check_bool(owner, "restore_best_weights", restore_best_weights)
        self.check_finite = check_bool(owner, "check_finite", check_finite)
        self.reset_on_train_begin = check_bool(owner, "reset_on_train_begin", reset_on_train_begin)
        self.verbose = check_choice(owner, "verbose", verbose, (0, 1, 2))
        for name, value in (
            ("baseline", baseline),
            ("stopping_threshold", stopping_threshold),
            ("divergence_threshold", divergence_threshold),
        ):
            setattr(self, name, None if value is None else check_number(owner, name, value))
        self.reset_state()

    def before_train(self, run: Run) -> None:
        """Resolve the mode, and allocate memory for the best weights."""
        super().before_train(run)
        if self.restore_best_weights:
            kept = {} if self._snapshot is None else self._snapshot.arrays
            self._snapshot = Snapshot(run.weights, self._best_weights or kept)
        self._best_weights = {}

    def check(self, run: Run) -> None:
        """Raise if the run will not have the value, or the weights could not be restored."""
        super().check(run)
        if self.restore_best_weights:
            check_parameters("EarlyStopping", run.weights)

    def needs(self, run: Run) -> Needs:
        """Require the loss if it is monitored, and the weights if they are restored."""
        return super().needs(run) | (Needs.WEIGHTS if self.restore_best_weights else Needs.NOTHING)

    @property
    def needs_losses(self) -> bool:  # type: ignore[override]
        """Whether the training loss is monitored or printed."""
        return super().needs_losses or self.verbose == 2

    def monitors(self, name: str) -> bool:
        """Return whether the value is monitored or printed; with `verbose=2`, every value is."""
        return self.verbose == 2 or super().monitors(name)

    def observe(self, run: Run, value: float, observation: Union[Evaluation, EpochSummary]) -> None:
        """Decide whether to stop, from one more value."""
        epoch = self.epoch_of(run)
        if epoch <= self.start_from_epoch or (self.stop_reason_ and run.is_stopping):
            return  # an epoch in which it has stopped the run may be evaluated once more at its end
        flaw = self._flaw(run, value)
        value = value if flaw is None else math.nan
        self._observations += 1
        is_best, reason = self._rule.observe(
            self.best, value, epoch, observation.step_between, is_first=self._observations == 1
        )
        if is_best and self._snapshot is not None:
            run.before_checkpoint()
            self._snapshot = Snapshot(run.weights)  # reuse the memory of the previous copy
            self._snapshot = run.copies.take(run.weights)
        self.stop_reason_ = flaw if flaw is not None and self.check_finite else reason
        if self.stop_reason_:
            self.stopped_epoch_, self.stopped_step_ = epoch, observation.step_between
            run.request_stop("EarlyStopping")

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Observe a value of the training steps; with `verbose=2`, print the epoch's line."""
        super().after_epoch(run, summary)
        if self.verbose == 2:
            log_line(self._line(run, summary))

    def restore_weights(self, run: Run) -> None:
        """Print why it stopped, and restore the best weights; in a loop of runs, only if it stopped."""
        if self.stop_reason_ and self.verbose and run.progress.is_over:
            self.log(f"stopped after {place(self.stopped_epoch_, self.stopped_step_)}: {self.stop_reason_}")
        if self.reset_on_train_begin or self.stop_reason_ or not run.progress.is_over:
            self._restore(together=run.progress.is_over)

    def final_weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the best weights, if they are restored at the end."""
        return self.state_arrays() if self.reset_on_train_begin or self.stop_reason_ else {}

    def restore(self) -> None:
        """Restore the network's best weights, after a loop of runs with `reset_on_train_begin=False`."""
        self._restore(together=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far, the wait, and why it stopped."""
        return {
            **super().state_dict(),
            "observations": self._observations,
            "stopped_epoch": self.stopped_epoch_,
            "stopped_step": self.stopped_step_,
            "stop_reason": self.stop_reason_,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        # States before version 0.2 have neither; their runs were observed only at the ends of epochs.
        self._observations, self.stopped_step_ = state.get("observations", 0), state.get("stopped_step", 0)
        self.stopped_epoch_ = state["stopped_epoch"]
        self.stop_reason_ = state["stop_reason"]

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the best weights, if they are kept."""
        return {} if self._snapshot is None else self._snapshot.arrays

    def load_state_arrays(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Restore the best weights."""
        self._best_weights = dict(arrays)

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        super().reset_state()
        self._snapshot = None
        self._best_weights = {}
        self._observations = 0
        self.stopped_epoch_ = self.stopped_step_ = 0
        self.stop_reason_ = ""

    @property
    def _rule(self) -> StopRule:
        return StopRule(
            self.patience,
            self.baseline,
            self.start_from_epoch,
            self.stopping_threshold,
            self.divergence_threshold,
            self.check_finite,
        )

    def _flaw(self, run: Run, value: float) -> Optional[str]:
        """Return why the epoch's weights must not be restored although its value is the best, or `None`."""
        if self._snapshot is None or not self.best.monitor.is_better(value, self.best_):
            return None
        flaw = flaw_in(run.weights)
        if any(distributed.total([flaw is not None])):  # one rank's finding counts for all
            return flaw or "the weights of another rank are not finite"
        return None

    def _line(self, run: Run, summary: EpochSummary) -> str:
        hidden = ("epoch", "seconds", "samples_per_second")
        shown = {name: value for name, value in summary.as_dict().items() if name not in hidden}
        values = ", ".join(f"{name} {'-' if value is None else format(value, '.4g')}" for name, value in shown.items())
        best = "none" if self.best_ is None else f"{self.best_:.4g} ({self.best.place})"
        return (
            f"Epoch {run.epoch}/{run.epochs}: {values}; best {self.monitor} {best}, misses {self.wait_}/{self.patience}"
        )

    def _restore(self, together: bool) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is None or not snapshot.arrays:
            return
        snapshot.restore(together=together)
        if self.verbose:
            self.log(f"restored the weights of {self.best.place} ({self.monitor}: {self.best_:.6g})")
