"""Report a run's evaluations to Optuna, and stop the run if Optuna prunes the trial."""

from __future__ import annotations

from typing import Any, Union

import numpy as np

from ..core import distributed
from ..core.monitor import place
from ..core.monitor_callback import MonitorCallback
from ..core.observations import EpochSummary, Evaluation
from ..core.run import Run

__all__ = ["OptunaPruning"]

_OWNER = "OptunaPruning"


class OptunaPruning(MonitorCallback):
    """Report a value to an Optuna trial; if the trial is pruned, stop the run and raise `optuna.TrialPruned`.

    Each value is reported once. Its step in Optuna (the `step` of `trial.report`) is the epoch. If
    `Validate(every_n_steps=...)` evaluates between steps, it is the training step. Pruners compare trials at equal
    steps; if trials have different batch sizes, let `Validate` evaluate only at the ends of epochs. The trial
    evaluation before the first step is not reported. A step up to the last one that the trial has is not reported
    again, neither after a resume with `TrainingState` nor in a second run with the same trial.

    If the trial is pruned, the run ends as after `EarlyStopping`: the epoch is completed, files are written, weights
    are restored, and every callback finishes. Then `Model.train` raises `optuna.TrialPruned`, which the study expects
    from the objective. For `TrainingState` the run is finished: a script that resumes it must raise
    `optuna.TrialPruned` itself if `stopped_epoch_` is not 0.

    NaN is reported as it is: Optuna stores it, and its pruners treat it as the worst value (tested with Optuna 5.0). An
    objective must not return NaN: the trial would fail, and the study would continue.

    MindSpore does not let two Models train on one dataset. Create the datasets in the objective, like the Model.

    With several processes, one process has the trial, and the others pass `None`. That process reports, and all stop
    together. Every process raises `optuna.TrialPruned`, so each needs an installation of Optuna.

    Needs Optuna (`pip install ".[optuna]"` in this repository). A copy of the callback shares the trial. A pickled
    callback has none.

    Args:
        trial: the trial that the study passes to its objective, of a study with one objective. `None` in a process
            without the study.
        monitor: the value to report: `"loss"`, `"eval_loss"`, or a metric of the Model.
        mode: `"min"`, `"max"`, or `"auto"` to go by the metric's class, or else its name. It must be the direction of
            the study. Default: "auto".

    Attributes:
        reported_ (int): the step in Optuna of the last reported value; 0 before the first.
        stopped_epoch_ (int): the epoch in which the trial was pruned; 0 if it was not pruned.
        stopped_step_ (int): the step, if it was pruned between two steps; 0 at the end of an epoch.
        best_ (float | None): the best value so far.
        best_epoch_ (int): the epoch of the best value; 0 before the first.

    Raises:
        TypeError: `trial` is not a trial of Optuna.
        ValueError: before the first step: no process has a trial, the study has several objectives or the opposite
            direction, the run will not have such a value, or `mode="auto"` cannot determine which direction is better.
        optuna.TrialPruned: after the run, if the trial was pruned.

    Example:
        >>> import optuna
        >>> def objective(trial):
        ...     network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
        ...     optimizer = nn.SGD(network.trainable_params(), trial.suggest_float("rate", 0.001, 0.1, log=True))
        ...     model = ms.Model(network, loss_fn, optimizer, metrics={"acc"})
        ...     pruning = OptunaPruning(trial, "acc")
        ...     model.train(2, train_dataset, callbacks=[Validate(model, valid_dataset), pruning])
        ...     return pruning.best_
        >>> study = optuna.create_study(direction="maximize")
        >>> study.optimize(objective, n_trials=1)
        >>> sorted(study.trials[0].intermediate_values)
        [1, 2]
    """

    reported_: int
    stopped_epoch_: int

    def __init__(self, trial: Any, monitor: str, *, mode: str = "auto") -> None:
        super().__init__(monitor, mode)
        if trial is not None and not (callable(getattr(trial, "report", None)) and hasattr(trial, "should_prune")):
            raise TypeError(
                f"{_OWNER}: trial must be a trial of Optuna, as the study gives it to its objective, but got {trial!r}"
            )
        self.trial = trial
        self.reset_state()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "trial": None}  # a pickled trial would contain the whole study

    def __copy__(self) -> OptunaPruning:
        copied = type(self).__new__(type(self))
        copied.__setstate__({**self.__getstate__(), "trial": self.trial})
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> OptunaPruning:
        copied: OptunaPruning = super().__deepcopy__(memo)  # type: ignore[assignment]
        copied.trial = self.trial
        return copied

    def before_train(self, run: Run) -> None:
        """Find the last step that the trial already has."""
        super().before_train(run)
        self.stopped_epoch_ = self.stopped_step_ = 0
        source = run.metrics.source
        is_evaluation = not run.metrics.follows(self.monitor)
        self._counts_steps = is_evaluation and source is not None and source.every_n_steps is not None
        self._known = distributed.do_together(_OWNER, self._last_known)

    def check(self, run: Run) -> None:
        """Raise if there is no trial, or its study has the opposite direction."""
        super().check(run)
        mode = self._resolve_mode(run).mode
        distributed.do_together(_OWNER, lambda: self._check_study(mode))
        if not distributed.gathered(np.array([self.trial is not None], np.float32)).any():
            raise ValueError(
                f"{_OWNER}: there is no trial; pass the one that the study gives to its objective, in one process"
            )
        if distributed.count() > 1:
            _pruned("")  # raises if Optuna is missing, because each process will need it

    def observe(self, run: Run, value: float, observation: Union[Evaluation, EpochSummary]) -> None:
        """Report a value, and stop the run if the trial is pruned."""
        if observation.step_between and not self._counts_steps:  # another callback has requested this evaluation
            return
        epoch, number = observation.epoch, observation.step if self._counts_steps else observation.epoch
        self.best.observe(value, epoch, observation.step_between)
        if run.is_stopping and self.stopped_epoch_:
            return
        prune = distributed.do_together(_OWNER, lambda: self._report(value, number))
        self.reported_ = max(self.reported_, number)
        if distributed.gathered(np.array([prune], np.float32)).any():
            self.stopped_epoch_, self.stopped_step_ = epoch, observation.step_between
            told = f"{_OWNER}: pruned after {place(epoch, observation.step_between)} ({self.monitor}: {value:.6g})"
            run.request_stop(_OWNER, error=_pruned(told))

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far, the last reported step, and where the trial was pruned."""
        return {
            **super().state_dict(),
            "reported": self.reported_,
            "stopped_epoch": self.stopped_epoch_,
            "stopped_step": self.stopped_step_,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.reported_ = state["reported"]
        self.stopped_epoch_, self.stopped_step_ = state["stopped_epoch"], state["stopped_step"]

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        super().reset_state()
        self.reported_ = self.stopped_epoch_ = self.stopped_step_ = 0

    def _check_study(self, mode: str) -> None:
        study = getattr(self.trial, "study", None)  # a FixedTrial has none
        if study is None:
            return
        directions = [direction.name.lower() for direction in study.directions]
        if len(directions) > 1:
            raise ValueError(
                f"{_OWNER}: the study has {len(directions)} objectives, and Optuna prunes only trials of one; leave "
                f"{_OWNER} out"
            )
        expected = {"min": "minimize", "max": "maximize"}[mode]
        if directions != [expected]:
            raise ValueError(
                f"{_OWNER}: the study has direction={directions[0]!r}, but monitor {self.monitor!r} is better if it is "
                f"{'smaller' if mode == 'min' else 'larger'} (mode={mode!r}); create the study with "
                f"direction={expected!r}, or monitor a value with its direction"
            )

    def _last_known(self) -> int:
        """Return the last step that the trial has; another process or an earlier run may have reported it."""
        study = getattr(self.trial, "study", None)
        if study is None:
            return 0
        values = study.get_trials(deepcopy=False)[self.trial.number].intermediate_values
        return max(values, default=0)

    def _report(self, value: float, number: int) -> bool:
        """Report a value in the process that has the trial; return whether the trial is pruned."""
        if self.trial is None or number <= max(self._known, self.reported_):
            return False
        self.trial.report(value, number)
        return bool(self.trial.should_prune())


def _pruned(told: str) -> Exception:
    """Return the exception that ends a pruned trial; Optuna is imported only here."""
    try:
        from optuna import TrialPruned
    except ImportError as error:
        raise ImportError(
            f"{_OWNER}: optuna.TrialPruned cannot be imported ({error}); install Optuna for each process"
        ) from None
    pruned: Exception = TrialPruned(told)
    return pruned
