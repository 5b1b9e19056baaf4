"""The tables, texts and figures that the callbacks of a run have to show, as sections of a report."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core.artifacts import Artifact, FigureArtifact, TableArtifact, TextArtifact
from ..core.names import labelled
from ..core.phases import Phases
from ..core.png import data_uri, encode_png, thumbnail
from ._report_html import Markup, both, mark_up, name, phrase, table

__all__ = ["sections_of"]

_ORDER = ("layer_table", "confusion_matrix", "hard_examples", "gradients", "", "callback_times")
_MOST_ROWS = 400
_MOST_LETTERS = 20_000
_MOST_IMAGES = 64
_MOST_PIXELS = 128  # on a side of an image in a table
_SMALL = 64  # pixels on a side of an image whose pixels are shown as squares


def sections_of(callbacks: list[Any], skipped: Any) -> tuple[list[Markup], list[Markup]]:
    """Return a section for each artifact, and a line for each callback whose artifacts could not be read.

    Args:
        callbacks: the callbacks of the run.
        skipped: the one that makes the report.
    """
    found: list[tuple[int, str, Artifact]] = []
    problems = []
    for label, each in labelled(callbacks):
        for owner in (each, *each.inner) if isinstance(each, Phases) else ():
            if owner is skipped:
                continue
            try:
                artifacts = owner.artifacts()
                tables = {one.name for one in artifacts if not isinstance(one, FigureArtifact)}
                # A figure that has the name of a table shows the same once more.
                kept = [one for one in artifacts if not (isinstance(one, FigureArtifact) and one.name in tables)]
                found.extend((_place(one), label, _drawn(one)) for one in kept)
            except Exception as error:  # a report is no reason to fail
                problems.append(_problem(label, error))
    found.sort(key=lambda each: each[0])
    titles = [artifact.title for _, _, artifact in found]
    sections = []
    for number, (_, label, artifact) in enumerate(found):
        try:
            own = phrase(artifact.title)
            title = own if titles.count(artifact.title) == 1 else Markup(f"{own} ({name(label)})")
            sections.append(_section(f"artifact-{number}", title, artifact))
        except Exception as error:  # a table with cells that are no text, for example
            problems.append(_problem(label, error))
    return sections, problems


def _problem(label: str, error: Exception) -> Markup:
    return both("problem", name=name(label), error=name(f"{type(error).__name__}: {error}"))


class _Picture:
    """A figure, drawn."""

    def __init__(self, figure: FigureArtifact) -> None:
        stream = io.BytesIO()
        figure.draw().savefig(stream, format="png")
        self.title, self.content = figure.title, stream.getvalue()


def _drawn(artifact: Artifact) -> Any:
    return _Picture(artifact) if isinstance(artifact, FigureArtifact) else artifact


def _place(artifact: Artifact) -> int:
    return _ORDER.index(artifact.name if artifact.name in _ORDER else "")


def _section(identity: str, title: Markup, artifact: Any) -> Markup:
    if isinstance(artifact, TextArtifact):
        shown = artifact.text[:_MOST_LETTERS] + "\n..." * (len(artifact.text) > _MOST_LETTERS)
        region = f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{identity}">'
        inside = f"{region}<pre>{mark_up(shown)}</pre></div>"
    elif isinstance(artifact, TableArtifact):
        inside = _gallery(artifact) if len(artifact.images) else _table(identity, artifact)
    else:
        inside = f'<img class="picture" alt="{mark_up(artifact.title)}" src="{data_uri(artifact.content)}">'
    return Markup(f'<section><h2 id="{identity}">{title}</h2>{inside}</section>')


def _table(identity: str, artifact: TableArtifact) -> str:
    rows = [[_cell(cell) for cell in row] for row in itertools.islice(artifact.rows, _MOST_ROWS)]
    right = [place for place, head in enumerate(artifact.header) if head in artifact.right]
    shades = None if artifact.shades is None else np.asarray(artifact.shades)
    heads = [Markup(phrase(head).replace("_", "_<wbr>")) for head in artifact.header]
    lines = [phrase(line) for line in artifact.note.splitlines() if line]
    if len(artifact.rows) > _MOST_ROWS:
        lines.append(both("rows_left_out", shown=_MOST_ROWS, all=len(artifact.rows)))
    return table(identity, heads, rows, right=right, shades=shades) + _notes(lines)


def _cell(cell: str) -> Markup:
    return Markup(f"<pre>{mark_up(cell)}</pre>") if "\n" in cell else phrase(cell)


def _notes(lines: Iterable[Markup]) -> str:
    return "".join(f'<p class="note">{line}</p>' for line in lines)


def _gallery(artifact: TableArtifact) -> str:
    items = []
    for row, image in itertools.islice(zip(artifact.rows, artifact.images), _MOST_IMAGES):
        small = thumbnail(np.asarray(image), _MOST_PIXELS)
        about = "".join(f"<dt>{phrase(head)}</dt><dd>{name(cell)}</dd>" for head, cell in zip(artifact.header, row))
        alt = ", ".join(f"{head} {cell}" for head, cell in zip(artifact.header, row))
        kind = ' class="small"' if max(small.shape[:2]) <= _SMALL else ""
        picture = f'<img{kind} alt="{mark_up(alt)}" width="{small.shape[1]}" height="{small.shape[0]}"'
        items.append(f'<li>{picture} src="{data_uri(encode_png(small))}"><dl>{about}</dl></li>')
    lines = [phrase(line) for line in artifact.note.splitlines() if line]
    if len(artifact.rows) > _MOST_IMAGES:
        lines.append(both("rows_left_out", shown=_MOST_IMAGES, all=len(artifact.rows)))
    return f'<ul class="gallery">{"".join(items)}</ul>{_notes(lines)}'
