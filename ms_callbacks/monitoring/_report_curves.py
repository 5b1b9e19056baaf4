"""The values of a run by epoch and evaluation, over all calls of `Model.train` that it took, and their charts."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Optional

from ..core.monitor import BestTracker, Monitor
from ..core.names import EVAL_LOSS, TRAIN_LOSS, is_train_loss, key_among
from ..core.observations import EpochSummary, Evaluation
from ..core.run import Run
from ._what_if import Record, Values, WhatIf, best_of, what_if

__all__ = ["Curves", "Point"]

_MOST_POINTS = 1000  # of epochs, and of evaluations between steps
_MOST_SERIES = 6  # in a chart: as many as there are colours
_MOST_CHARTS = 10
_PATIENCE = range(1, 10)


class Point(NamedTuple):
    """A place on the axis: `x` is the epoch, with a fraction between two steps; `step` is 0 at an epoch's end."""

    x: float
    epoch: int
    step: int


class Curves:
    """The recorded values.

    Attributes:
        epochs (list[dict]): a row for each epoch: `epoch`, `step`, `steps` (in the epoch), `samples`, `evaluated`
            (whether it was), and `values` by name.
        evaluations (list[dict]): a row for each evaluation between two steps: `epoch`, `step`, `x` and `values`.
        record (Record): what else determines what a callback has observed.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.record = Record()

    def add_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Add an evaluation; one at an epoch's end is in the epoch's row."""
        self.record.note(run, evaluation, evaluation.epoch)
        if not evaluation.at_epoch_end:
            share = evaluation.step_in_epoch / max(run.steps_per_epoch, evaluation.step_in_epoch)
            values = {name: value for name, value in evaluation.as_dict().items() if name not in ("epoch", "step")}
            row = {"epoch": evaluation.epoch, "step": evaluation.step, "x": evaluation.epoch - 1 + share}
            self.evaluations.append({**row, "values": values})

    def add_epoch(self, summary: EpochSummary) -> None:
        """Add an epoch."""
        self.record.train_names = list(summary.train_means)
        self.epochs.append(
            {
                "epoch": summary.epoch,
                "step": summary.step,
                "steps": summary.step_in_epoch,
                "samples": summary.samples,
                "evaluated": bool(summary.results),
                "values": {name: value for name, value in summary.as_dict().items() if name != "epoch"},
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all of it in plain values."""
        epochs = [{**row, "values": dict(row["values"])} for row in self.epochs]
        evaluations = [{**row, "values": dict(row["values"])} for row in self.evaluations]
        return {"epochs": epochs, "evaluations": evaluations, "record": self.record.state_dict()}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Curves:
        """Return the curves of a state that `state_dict` returned."""
        curves = cls()
        curves.epochs = [{**row, "values": dict(row["values"])} for row in state["epochs"]]
        curves.evaluations = [{**row, "values": dict(row["values"])} for row in state["evaluations"]]
        record = state["record"]
        curves.record = Record([*record["train_names"]], [*record["evaluated"]], {**record["modes"]})
        return curves

    # Names

    @property
    def results(self) -> list[str]:
        """The names of the validation values, in order of appearance."""
        of_run = {*self.record.train_names, "learning_rate", "seconds", "samples_per_second"}
        names = dict.fromkeys(name for row in (*self.epochs, *self.evaluations) for name in row["values"])
        return [name for name in names if name not in of_run]

    def monitor(self, wanted: Optional[str], callbacks: list[Any]) -> Optional[Monitor]:
        """Return the value whose best is reported: the wanted one, that of the first callback with one, or a metric."""
        available = [*self.results, *self.record.train_names]
        watched = [each.best.monitor for each in callbacks if isinstance(getattr(each, "best", None), BestTracker)]
        metrics = sorted(self.results, key=lambda name: name == EVAL_LOSS)
        for name, mode in [
            *((each.name, each.mode) for each in watched if wanted in (None, each.name)),
            *([(wanted, "auto")] if wanted else []),
            *((name, "auto") for name in [*metrics, TRAIN_LOSS] if not wanted),
        ]:
            key = name if name in available else TRAIN_LOSS if is_train_loss(name) else key_among(name, self.results)
            if key is not None and key in available:
                try:
                    known = self.record.modes.get(key) or mode
                    return Monitor(name, mode if mode != "auto" else known).resolve_mode("RunReport")
                except ValueError:  # nothing says which direction is better
                    continue
        return None

    # What a callback would have observed

    @property
    def _values(self) -> Values:
        names = dict.fromkeys(name for row in self.epochs for name in row["values"])
        by_key = {name: [row["values"].get(name) for row in self.epochs] for name in [*names, "seconds"]}
        between = [{**row["values"], "epoch": row["epoch"], "step": row["step"]} for row in self.evaluations]
        return [row["epoch"] for row in self.epochs], by_key, between

    def best(self, monitor: Monitor) -> BestTracker:
        """Return the best value of the monitor."""
        return best_of(self._values, self.record, monitor)

    def what_if(self, monitor: Monitor) -> Optional[WhatIf]:
        """Return the rows of `History.what_if`; `None` if there is no epoch."""
        if not self.epochs:
            return None
        watched = (monitor.name, monitor.mode, 0.0)
        return what_if(self._values, self.record, watched, _PATIENCE, baseline=None, start_from_epoch=0)

    # Tables and charts

    def shown_epochs(self) -> tuple[list[dict[str, Any]], int]:
        """Return the rows to show, and `n` if that is every n-th, besides the last and those of extreme values."""
        every = math.ceil(len(self.epochs) / _MOST_POINTS)
        if every <= 1:
            return self.epochs, 1
        kept = {*range(every - 1, len(self.epochs), every), len(self.epochs) - 1}
        for name in [*self.record.train_names, *self.results][:50]:
            numbers = [
                (value, place)
                for place, row in enumerate(self.epochs)
                if (value := row["values"].get(name)) is not None and math.isfinite(value)
            ]
            if numbers:
                kept.update((min(numbers)[1], max(numbers, key=lambda pair: (pair[0], -pair[1]))[1]))
        return [self.epochs[place] for place in sorted(kept)], every

    def shown_evaluations(self) -> tuple[list[dict[str, Any]], int]:
        """Return the evaluations between steps to show, and `n` if that is every n-th."""
        every = max(1, math.ceil(len(self.evaluations) / _MOST_POINTS))
        return self.evaluations[every - 1 :: every], every

    def charts(self, monitor: Optional[Monitor]) -> dict[str, Any]:
        """Return what page.js draws: points on the axis, and panels with series of values at some of them.

        A value that is missing is `None`, one that is not finite is its name.
        """
        epochs, evaluations = self.shown_epochs()[0], self.shown_evaluations()[0]
        ends = {row["step"] for row in epochs}  # an evaluation after an epoch's last step is in the epoch's row
        evaluations = [row for row in evaluations if row["step"] not in ends]
        placed = [(Point(row["epoch"], row["epoch"], 0), row, False) for row in epochs]
        placed += [(Point(float(f"{row['x']:.6g}"), row["epoch"], row["step"]), row, True) for row in evaluations]
        placed.sort(key=lambda each: (each[0].x, not each[2]))
        best = None if monitor is None else self.best(monitor)
        best_place = None if best is None or best.best is None else (best.best_epoch, best.best_step)
        best_key = "" if monitor is None else _key(monitor.name, [*self.results, *self.record.train_names])
        panels = []
        for kind, names in self._panels():
            series = []
            for style, name in enumerate(names[:_MOST_SERIES]):
                at, y = self._series(name, placed)
                one = {"name": name, "y": y, "style": style if kind != "validation" else (style + 1) % _MOST_SERIES}
                if at != list(range(len(placed))):
                    one["at"] = at
                found = [place for place in at if (placed[place][0].epoch, placed[place][0].step) == best_place]
                if name == best_key and found:
                    one["best"] = found[0]
                if any(value is not None for value in y):
                    series.append(one)
            if series:
                is_rate = kind == "rate"
                panels.append({"kind": kind, "series": series, "all": len(names), "steps": is_rate, "log": not is_rate})
        xs = [point.x for point, _, _ in placed] or [0.0]
        room = 0.5 if xs[0] == xs[-1] else 0.0
        points = [list(point) for point, _, _ in placed]
        return {"points": points, "from": xs[0] - room, "to": xs[-1] + room, "panels": panels[:_MOST_CHARTS]}

    def _panels(self) -> list[tuple[str, list[str]]]:
        """Return the charts: the kind of each, and the names of its values."""
        results = self.results
        losses = [name for name in results if "loss" in name.lower()]
        metrics = [name for name in results if name not in losses]
        shares = [name for name in metrics if self._is_share(name)]
        others: dict[str, list[str]] = {}
        for name in self.record.train_names:
            if name != TRAIN_LOSS:
                others.setdefault(name.partition("/")[0] + "/" * ("/" in name), []).append(name)
        return [
            ("loss", [TRAIN_LOSS, *losses]),
            ("validation", shares),
            *(("validation", [name]) for name in metrics if name not in shares),
            ("rate", ["learning_rate"]),
            *(("training", names) for names in others.values()),
        ]

    def _is_share(self, name: str) -> bool:
        values = [row["values"].get(name) for row in (*self.epochs, *self.evaluations)]
        return all(0 <= value <= 1 for value in values if value is not None and math.isfinite(value))

    def _series(self, name: str, placed: list[tuple[Point, dict[str, Any], bool]]) -> tuple[list[int], list[Any]]:
        is_result, at, y = name in self.results, [], []
        for place, (_, row, is_between) in enumerate(placed):
            if is_result and (is_between or row["evaluated"]):
                value = row["values"].get(name)
                eval_loss = row["values"].get(EVAL_LOSS)
                # MindSpore's metrics turn logits that are NaN into a plausible accuracy; the loss stays NaN.
                is_nan = value is not None and isinstance(eval_loss, float) and math.isnan(eval_loss)
                at.append(place)
                y.append(_plain(math.nan if is_nan else value))
            elif not is_result and not is_between:
                at.append(place)
                y.append(_plain(row["values"].get(name)))
        return at, y


def _key(name: str, available: list[str]) -> str:
    if name in available:
        return name
    return TRAIN_LOSS if is_train_loss(name) else key_among(name, available) or ""


def _plain(value: Optional[float]) -> Any:
    """Return a number as strict JSON has it, in 7 digits; one that is not finite by its name."""
    if value is None:
        return None
    if math.isfinite(value):
        return float(f"{value:.7g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
