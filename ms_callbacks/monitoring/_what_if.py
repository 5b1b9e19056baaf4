"""What early stopping would have done to a run that was recorded: where it would have stopped, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from ..core.monitor import BestTracker, Monitor, place
from ..core.patience import StopRule
from ..core.tables import render

__all__ = ["Observed", "WhatIf", "WhatIfRow", "outcome"]


class Observed(NamedTuple):
    """A value of the run: its epoch, its step if it was between two steps or else 0, and the time trained until then.

    Values are in the order in which the run had them. `epochs` is how many epochs it had begun by then.
    """

    epoch: int
    step: int
    value: float
    epochs: int
    seconds: float


@dataclass(frozen=True)
class WhatIfRow:
    """What one value of `patience` would have led to.

    Attributes:
        patience (int): the patience.
        stopped_epoch (int): the epoch in which the run would have stopped; 0 if it would not have.
        stopped_step (int): the step, if it would have stopped between two steps; 0 at the end of an epoch.
        best (float | None): the best value until then; `None` if there is none.
        best_epoch (int): its epoch; 0 if there is none.
        best_step (int): its step, if it was between two steps; 0 at the end of an epoch.
        worse_by (float | None): how much worse that is than the best value of the whole run, 0.0 if it is that value.
        epochs (int): how many epochs would have been trained, also in part.
        seconds (float): how long their training steps took; evaluations do not count.
        reason (str): why the run would have stopped; empty if it would not have.
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
    """The rows, one for each patience; `str` of it is a table."""

    def __init__(self, monitor: str, rows: Iterable[WhatIfRow]) -> None:
        super().__init__(rows)
        self.monitor = monitor

    def __str__(self) -> str:
        header = ("Patience", "Stops after", f"Best {self.monitor}", "In", "Worse by", "Epochs", "Seconds")
        rows = [
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
        return render(header, rows, right=("Patience", header[2], "Worse by", "Epochs", "Seconds"))


def outcome(rule: StopRule, monitor: Monitor, observed: Sequence[Observed], epochs: int, seconds: float) -> WhatIfRow:
    """Return what a rule would have led to.

    Args:
        rule: the rule.
        monitor: the monitor, its mode resolved.
        observed: the values of the run.
        epochs: the number of epochs of the whole run.
        seconds: the time of all of its training steps.
    """
    best, reason = BestTracker(monitor), ""
    last: Optional[Observed] = None
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
