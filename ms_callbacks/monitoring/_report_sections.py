"""The sections of a report that tell what happened, with which values, and what was run where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..core.monitor import BestTracker, Monitor
from ..core.names import TRAIN_LOSS
from ..core.outcome import Outcome
from ._report_curves import Curves
from ._report_facts import facts_section
from ._report_html import Markup, Words, both, mark_up, name, phrase, table
from ._secrets import hidden
from ._what_if import WhatIfRow

__all__ = ["Story", "around_section", "curves_section", "summary", "what_if_section"]

_DASH = "\u2013"
_MOST_COLUMNS = 16
_LONGEST_LINE = 300  # characters of an exception's line
_LONGEST_MESSAGE = 6000


@dataclass
class Story:
    """What happened in a run.

    Attributes:
        outcome (Outcome): how it ended.
        reason (str): why a callback stopped it; empty if that is not known.
        epoch (int): the epoch in which it ended.
        step (int): the step within the epoch; 0 if it ended between two epochs.
        steps (int): the steps of an epoch.
        epochs_done (int): the last complete epoch.
        epochs (int): the last epoch planned.
        runs (int): the number of calls that it took, each of which has continued the one before.
        elapsed (float): the seconds of all of these calls.
        started_at (str): when the first began.
        ended_at (str): when the last ended.
        facts (dict): what was run where.
        callbacks (list[str]): the callbacks, with their arguments.
        notes (list[str]): the warnings of the checks.
    """

    outcome: Outcome
    reason: str
    epoch: int
    step: int
    steps: int
    epochs_done: int
    epochs: int
    runs: int
    elapsed: float
    started_at: str
    ended_at: str
    facts: dict[str, Any]
    callbacks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def summary(story: Story, curves: Curves, monitor: Optional[Monitor]) -> list[Markup]:
    """Return the sentence about what happened, the exception, and the key numbers."""
    best = None if monitor is None else curves.best(monitor)
    return [_sentence(story, best), *_exception(story.outcome.error), _numbers(story, curves, best)]


def _sentence(story: Story, best: Optional[BestTracker]) -> Markup:
    status = story.outcome.status
    is_between = status in ("interrupted", "failed") and not story.step
    values: dict[str, Words] = {
        "by": name(story.outcome.by) if story.outcome.by else both("somebody"),
        "reason": both("because", reason=phrase(story.reason)) if story.reason else "",
        "epoch": story.epoch,
        "step": f"{story.step:,}",
        "steps": f"{story.steps:,}",
        "epochs_done": story.epochs_done,
        "epochs": story.epochs,
    }
    parts = [both(f"{status}_between" if is_between else status, **values)] if status != "running" else []
    if best is not None and best.best is not None:
        key = "best_is_step" if best.best_step else "best_is"
        shown = Markup(f"<strong>{number(best.best)}</strong>")
        parts.append(
            both(key, monitor=name(best.monitor.name), value=shown, epoch=best.best_epoch, step=f"{best.best_step:,}")
        )
    mark = {"finished": "✓", "stopped": "■", "interrupted": "❚❚", "failed": "✕"}.get(status, "…")
    return Markup(
        f'<p class="sentence {status}"><span class="status"><span aria-hidden="true">{mark}</span> '
        f"{both(f'status_{status}')}</span> {' '.join(parts)}</p>"
    )


def _exception(error: Optional[BaseException]) -> list[Markup]:
    if error is None:
        return []
    message = hidden(str(error).strip())
    first = next((line.strip() for line in message.splitlines() if line.strip(" -")), "")
    line = f"{type(error).__name__}: {first}" if first else type(error).__name__
    whole = "\n".join([f"{type(error).__name__}: {message}", *map(hidden, getattr(error, "__notes__", ()))])
    shown = f'<div class="notice failed"><p><code>{name(line[:_LONGEST_LINE])}</code></p>'
    if whole not in (line, f"{line}: ") and whole.strip() != line:
        shown += (
            f"<details><summary>{both('whole_message')}</summary>"
            f'<div class="scroll" tabindex="0"><pre>{mark_up(whole[:_LONGEST_MESSAGE])}</pre></div></details>'
        )
    return [Markup(f"{shown}</div>")]


def _numbers(story: Story, curves: Curves, best: Optional[BestTracker]) -> Markup:
    numbers: list[tuple[Markup, Any, Any]] = []
    if best is not None and best.best is not None:
        where = both("in_step" if best.best_step else "in_epoch", epoch=best.best_epoch, step=f"{best.best_step:,}")
        numbers.append((both("best", monitor=name(best.monitor.name)), f"{best.best:.4g}", where))
    losses = [row for row in curves.epochs if row["values"].get(TRAIN_LOSS) is not None]
    if losses:
        mean_of = both("mean_of_epoch", epoch=losses[-1]["epoch"])
        numbers.append((both("last_loss"), number(losses[-1]["values"][TRAIN_LOSS], digits=4), mean_of))
    resumed = both("resumed", count=story.runs - 1) if story.runs > 1 else ""
    numbers.append((both("epochs"), both("of", done=story.epochs_done, all=story.epochs), resumed))
    seconds = math.fsum(row["values"]["seconds"] for row in curves.epochs)
    numbers.append((both("time"), _duration(story.elapsed), both("of_it_steps", time=_duration(seconds))))
    counted = [row for row in curves.epochs if row["samples"] is not None]
    if counted and (time := math.fsum(row["values"]["seconds"] for row in counted)):
        rate = sum(row["samples"] for row in counted) / time
        numbers.append((both("throughput"), f"{rate:,.0f}" if rate >= 10 else f"{rate:.3g}", ""))
    items = []
    for label, value, more in numbers:
        small = f"<small>{more}</small>" if more else ""
        items.append(f'<div><dt>{label}</dt><dd><span class="value">{value}</span>{small}</dd></div>')
    heading = f'<h2 class="unseen" id="numbers">{both("key_numbers")}</h2>'
    return Markup(f'<section aria-labelledby="numbers">{heading}<dl class="numbers">{"".join(items)}</dl></section>')


def curves_section(curves: Curves, charts: dict[str, Any]) -> list[Markup]:
    """Return the figures, which page.js draws, and the values as tables, which need no JavaScript."""
    if not curves.epochs and not curves.evaluations:
        return []
    large: list[str] = []
    small: list[str] = []
    for place, panel in enumerate(charts["panels"]):
        is_named = panel["kind"] == "training" and len(panel["series"]) == 1
        title = name(panel["series"][0]["name"]) if is_named else both(f"panel_{panel['kind']}")
        if panel["all"] > len(panel["series"]):
            few = both("series_left_out", shown=len(panel["series"]), all=panel["all"])
            title = Markup(f"{title} <small>{few}</small>")
        (small if panel["kind"] == "training" else large).append(
            f'<figure class="panel" id="panel-{place}" hidden><figcaption><h3 id="caption-{place}">{title}</h3>'
            f"</figcaption></figure>"
        )
    figures = [*large, f'<div class="pair">{"".join(small)}</div>' if small else ""]
    marks = {type(y) for panel in charts["panels"] for one in panel["series"] for y in one["y"]} - {float}
    lines = [f'<p class="note" id="curves-hint" hidden>{both("curves_hint")}</p>']
    if marks:
        lines.append(f'<p class="note">{both("nonfinite_hint")}</p>')
    heading = f'<h2 id="curves">{both("curves")}</h2>'
    inside = "".join([*figures, *lines, _epochs(curves), _evaluations(curves)])
    return [Markup(f"<section>{heading}{inside}</section>")]


def _epochs(curves: Curves) -> str:
    if not curves.epochs:
        return ""
    rows, every = curves.shown_epochs()
    others = [each for each in curves.record.train_names if each != TRAIN_LOSS]
    names = [TRAIN_LOSS, *curves.results, "learning_rate", "seconds", "samples_per_second", *others]
    names = [each for each in names if any(row["values"].get(each) is not None for row in rows)][:_MOST_COLUMNS]
    cells = [[row["epoch"], *(number(row["values"].get(each)) for each in names)] for row in rows]
    title = both("all_epochs") if every == 1 else both("some_epochs", every=every)
    return _folded("epochs", title, [both("epoch"), *map(name, names)], cells, right=range(len(names) + 1))


def _evaluations(curves: Curves) -> str:
    rows, every = curves.shown_evaluations()
    if not rows:
        return ""
    names = [TRAIN_LOSS, *curves.results][:_MOST_COLUMNS]
    cells = [[row["step"], row["epoch"], *(number(row["values"].get(each)) for each in names)] for row in rows]
    title = both("step_evaluations") if every == 1 else both("some_evaluations", every=every)
    header = [both("step_head"), both("epoch"), *map(name, names)]
    return _folded("evaluations", title, header, cells, right=range(len(header)))


def _folded(label: str, title: Markup, header: Sequence[Markup], rows: Any, right: Sequence[int]) -> str:
    return f'<details open><summary id="{label}">{title}</summary>{table(label, header, rows, right=right)}</details>'


def what_if_section(curves: Curves, monitor: Optional[Monitor]) -> list[Markup]:
    """Return the table of what EarlyStopping would have done; equal rows one after the other are one."""
    rows = None if monitor is None else curves.what_if(monitor)
    if not rows or monitor is None or all(row.best is None for row in rows):
        return []
    groups: list[list[WhatIfRow]] = []
    for row in rows:
        if groups and _outcome(groups[-1][0]) == _outcome(row):
            groups[-1].append(row)
        else:
            groups.append([row])
    cells = []
    for group in groups:
        row = group[0]
        patience = str(row.patience) if len(group) == 1 else f"{row.patience}{_DASH}{group[-1].patience}"
        cells.append(
            [
                patience,
                _place(row.stopped_epoch, row.stopped_step) if row.stopped_epoch else both("not_stopped"),
                number(row.best),
                _place(row.best_epoch, row.best_step) if row.best_epoch else _DASH,
                _DASH if row.worse_by is None else f"{row.worse_by:.3g}",
                row.epochs,
                f"{row.seconds:.1f}",
            ]
        )
    watched = name(monitor.name)
    header = [both("patience"), both("stops_after"), both("best", monitor=watched), both("found_in")]
    header += [both("worse_by"), both("trained_epochs"), both("seconds")]
    heading = f'<h2 id="what-if">{both("what_if")}</h2><p class="note">{both("what_if_note", monitor=watched)}</p>'
    return [Markup(f"<section>{heading}{table('what-if', header, cells, right=(0, 2, 4, 5, 6))}</section>")]


def _outcome(row: WhatIfRow) -> tuple[Any, ...]:
    return (row.stopped_epoch, row.stopped_step, row.best, row.best_epoch, row.best_step, row.epochs)


def _place(epoch: int, step: int) -> Markup:
    return both("in_step" if step else "in_epoch", epoch=epoch, step=f"{step:,}")


def around_section(story: Story, curves: Curves) -> list[Markup]:
    """Return what was run and where, the callbacks, and the warnings of the checks."""
    sections = [facts_section(story.facts, curves.epochs, story.steps, story.started_at, story.ended_at)]
    if story.callbacks:
        items = "".join(f"<li><code>{name(each)}</code></li>" for each in story.callbacks)
        sections.append(Markup(f'<section><h2>{both("callbacks")}</h2><ul class="calls">{items}</ul></section>'))
    if story.notes:
        items = "".join(f'<div class="notice"><p>{name(each)}</p></div>' for each in story.notes)
        sections.append(Markup(f"<section><h2>{both('warnings')}</h2>{items}</section>"))
    return sections


def number(value: Any, digits: int = 6) -> str:
    """Return a number in a few digits; a dash for none."""
    if value is None:
        return _DASH
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}"


def _duration(seconds: float) -> Markup:
    """Return a time with its two largest units, in both languages."""
    if seconds < 60:
        return both("units_s", value=f"{seconds:.3g}")
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if whole < 3600:
        return both("units_min", minutes=minutes, seconds=rest)
    return both("units_h", hours=minutes // 60, minutes=minutes % 60)
