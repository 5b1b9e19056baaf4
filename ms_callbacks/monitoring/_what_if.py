"""Determine where early stopping would have stopped a recorded run, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional, Union

from ..core.arguments import check_int, check_number
from ..core.monitor import BestTracker, Monitor, mode_of_class, place
from ..core.names import EVAL_LOSS, OF_RUN, TRAIN_LOSS, is_train_loss, key_among, unknown_monitor
from ..core.observations import Evaluation
from ..core.patience import StopRule
from ..core.run import Run
from ..core.tables import render, render_html

__all__ = ["Record", "Values", "WhatIf", "WhatIfRow", "best_of", "what_if"]

_OWNER = "History.what_if"
Values = tuple[
    list[int], dict[str, list[Any]], list[dict[str, Any]]
]  # epochs, values by key, evaluations between steps


@dataclass
class Record:
    """The facts, besides the recorded values, that determine what a callback observed.

    Attributes:
        train_names (list[str]): the names of the values of the training steps.
        evaluated (list[int]): the epochs that were evaluated at their end. Another epoch may still have the values of
            an evaluation after its last step.
        modes (dict[str, str]): by name of a value, which direction is better by its metric's class; `""` if that is not
            known.
    """

    train_names: list[str] = field(default_factory=lambda: [TRAIN_LOSS])
    evaluated: list[int] = field(default_factory=list)
    modes: dict[str, str] = field(default_factory=dict)

    def note(self, run: Run, evaluation: Evaluation, epoch: int) -> None:
        """Add an evaluation; `epoch` is the epoch under which it is recorded."""
        if evaluation.at_epoch_end:
            self.evaluated.append(epoch)
        for name in evaluation.results:
            if name not in self.modes:
                self.modes[name] = mode_of_class(run.metrics.known_metric(name)) or ""

    def state_dict(self) -> dict[str, Any]:
        """Return all attributes."""
        return {"train_names": [*self.train_names], "evaluated": [*self.evaluated], "modes": {**self.modes}}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Record:
        """Return the record in a History's state; before version 0.2, evaluations were only at the ends of epochs."""
        evaluated = state.get("evaluated", state["epoch"])
        return cls([*state.get("train_names", [TRAIN_LOSS])], [*evaluated], {**state.get("modes", {})})


class _Observed(NamedTuple):
    """An observed value of the run.

    `step` is 0 for a value at the end of an epoch. `epochs` is the number of epochs that had begun, and `seconds` the
    training time, when the value was observed.
    """

    epoch: int
    step: int
    value: float
    epochs: int
    seconds: float


@dataclass(frozen=True)
class WhatIfRow:
    """The outcome with one value of `patience`.

    Attributes:
        patience (int): the patience.
        stopped_epoch (int): the epoch in which the run would have stopped; 0 if it would not have stopped.
        stopped_step (int): the step, if the run would have stopped between two steps; 0 at the end of an epoch.
        best (float | None): the best value until then; `None` if there is none.
        best_epoch (int): the epoch of the best value; 0 if there is none.
        best_step (int): its step, if it was observed between two steps; 0 at the end of an epoch.
        worse_by (float | None): how much worse `best` is than the best value of the whole run; 0.0 if they are equal,
            `None` if there is no best value.
        epochs (int): the number of epochs that would have been trained, incomplete ones included.
        seconds (float): the time of their training steps, without evaluations.
        reason (str): why the run would have stopped; empty if it would not have stopped.
    """

    patience: int
    stopped_epoch: int
    stopped_step: int
    best: Optional[float]
    best_epoch: int
    best_step: int
    worse_by: Optional[float]
    epochs: int
    seconds: float
    reason: str


class WhatIf(list[WhatIfRow]):
    """A list of rows, one for each patience; `str` returns a table, and a notebook shows one."""

    def __init__(self, monitor: str, rows: Iterable[WhatIfRow]) -> None:
        super().__init__(rows)
        self.monitor = monitor

    def __str__(self) -> str:
        return render(*self._table())

    def _repr_html_(self) -> str:
        return render_html(*self._table())

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]], tuple[str, ...]]:
        """Return the header, the rows, and the columns that are right-aligned."""
        header = ("Patience", "Stops after", f"Best {self.monitor}", "In", "Worse by", "Epochs", "Seconds")
        rows: list[tuple[str, ...]] = [
            (
                str(row.patience),
                place(row.stopped_epoch, row.stopped_step) if row.stopped_epoch else "-",
                "-" if row.best is None else f"{row.best:.6g}",
                place(row.best_epoch, row.best_step) if row.best_epoch else "-",
                "-" if row.worse_by is None else f"{row.worse_by:.3g}",
                str(row.epochs),
                f"{row.seconds:.1f}",
            )
            for row in self
        ]
        return header, rows, ("Patience", header[2], "Worse by", "Epochs", "Seconds")


def _outcome(rule: StopRule, monitor: Monitor, observed: Sequence[_Observed], epochs: int, seconds: float) -> WhatIfRow:
    """Return the outcome of a rule.

    Args:
        rule: the rule.
        monitor: the monitor; its mode is not "auto".
        observed: the values of the run.
        epochs: the number of epochs of the whole run.
        seconds: the time of all training steps of the run.
    """
    best, reason = BestTracker(monitor), ""
    last: Optional[_Observed] = None
    is_first = True
    for each in observed:
        if each.epoch <= rule.start_from_epoch:
            continue
        reason = rule.observe(best, each.value, each.epoch, each.step, is_first=is_first).reason
        is_first = False
        if reason:
            last, epochs, seconds = each, each.epochs, each.seconds
            break
    finite = [each.value for each in observed if math.isfinite(each.value)]
    worse_by = None
    if best.best is not None:
        worse_by = best.best - min(finite) if monitor.mode == "min" else max(finite) - best.best
    return WhatIfRow(
        patience=rule.patience,
        stopped_epoch=0 if last is None else last.epoch,
        stopped_step=0 if last is None else last.step,
        best=best.best,
        best_epoch=best.best_epoch,
        best_step=best.best_step,
        worse_by=worse_by,
        epochs=epochs,
        seconds=seconds,
        reason=reason,
    )


def what_if(
    values: Values,
    record: Record,
    watched: tuple[str, str, float],
    patience: Union[int, Iterable[int]],
    *,
    baseline: Optional[float],
    start_from_epoch: int,
) -> WhatIf:
    """Check the arguments and return the result of `History.what_if`; `watched` is (monitor, mode, min_delta)."""
    monitor, mode, _ = watched
    listed = list(patience) if isinstance(patience, Iterable) and not isinstance(patience, str) else [patience]
    each_patience = [check_int(_OWNER, "patience", each, 0) for each in listed]
    if not each_patience:
        raise ValueError(f"{_OWNER}: patience must be a whole number or several of them, but got {patience!r}")
    rule = StopRule(
        0,
        None if baseline is None else check_number(_OWNER, "baseline", baseline),
        check_int(_OWNER, "start_from_epoch", start_from_epoch, 0),
    )
    checked = Monitor.checked(_OWNER, *watched)
    epochs, by_key, evaluations = values
    if not epochs:
        raise ValueError(f"{_OWNER}: nothing is recorded yet; train with this History in the list of callbacks")
    names = dict.fromkeys(name for one in (by_key, *evaluations) for name in one)
    key = _key(monitor, names, record.train_names)
    if mode == "auto":
        known = record.modes.get(key)
        checked = checked._replace(mode=known) if known else checked.resolve_mode(_OWNER)
    observed, seconds = _observed(values, record, key), math.fsum(by_key["seconds"])
    rows = [_outcome(rule._replace(patience=each), checked, observed, len(epochs), seconds) for each in each_patience]
    return WhatIf(monitor, rows)


def best_of(values: Values, record: Record, monitor: Monitor) -> BestTracker:
    """Return the best of the values that a callback with this monitor, whose mode is not "auto", observes."""
    best = BestTracker(monitor)
    epochs, by_key, evaluations = values
    names = dict.fromkeys(name for one in (by_key, *evaluations) for name in one)
    if epochs or evaluations:
        for each in _observed(values, record, _key(monitor.name, names, record.train_names)):
            best.observe(each.value, each.epoch, each.step)
    return best


def _key(monitor: str, names: Iterable[str], train_names: list[str]) -> str:
    """Return the key under which a monitor's values are recorded."""
    if is_train_loss(monitor):
        return TRAIN_LOSS
    if monitor in train_names:
        return monitor
    results = [name for name in names if name not in OF_RUN and name not in train_names]
    key = key_among(monitor, results)
    if key is None:
        raise unknown_monitor(_OWNER, monitor, [*results, *train_names])
    return key


def _observed(values: Values, record: Record, key: str) -> list[_Observed]:
    """Return the values that a callback with this monitor observes, in order."""
    epochs, by_key, evaluations = values
    is_of_training, seconds, observed = key in record.train_names, 0.0, []
    between = [] if is_of_training else list(evaluations)

    def observe_between(last_epoch: float, epochs_begun: int) -> None:
        while between and between[0]["epoch"] <= last_epoch:
            row = between.pop(0)
            if (value := _value(row, key)) is not None:
                observed.append(_Observed(row["epoch"], row["step"], value, epochs_begun, seconds + row["seconds"]))

    for index, epoch in enumerate(epochs):
        observe_between(epoch, index + 1)
        one = {name: of_epochs[index] for name, of_epochs in by_key.items()}
        seconds += one["seconds"]
        value = one[key] if is_of_training else _value(one, key) if epoch in record.evaluated else None
        if value is not None:
            observed.append(_Observed(epoch, 0, value, index + 1, seconds))
    observe_between(math.inf, len(epochs) + 1)  # in an interrupted last epoch
    return observed


def _value(record: dict[str, Any], key: str) -> Optional[float]:
    """Return a validation value as a callback observes it: NaN if the evaluation's loss is NaN, as in `Evaluation`."""
    value, eval_loss = record.get(key), record.get(EVAL_LOSS)
    is_nan = value is not None and isinstance(eval_loss, float) and math.isnan(eval_loss)
    return math.nan if is_nan else value
