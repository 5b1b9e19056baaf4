"""Tables, texts and figures that a callback provides for reports, trackers and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Callable, Optional, Union

import numpy as np

from .tables import render, render_html

__all__ = ["Artifact", "FigureArtifact", "TableArtifact", "TextArtifact"]


@dataclass(frozen=True)
class TextArtifact:
    """A text.

    Attributes:
        name (str): identifies the artifact in a tracker, such as `layer_table`; letters, digits and underscores.
        title (str): a heading for it.
        text (str): the text.

    Example:
        >>> class Motto(TrainCallback):
        ...     def artifacts(self):
        ...         return [TextArtifact("motto", "Motto of the run", "small steps")]
        >>> Motto().artifacts()[0].title
        'Motto of the run'
    """

    name: str
    title: str
    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_html_(self) -> str:
        return f"<div>{escape(self.title)}</div><pre>{escape(self.text)}</pre>"


@dataclass(frozen=True)
class TableArtifact:
    """A table.

    Attributes:
        name (str): identifies the artifact in a tracker, such as `layer_table`; letters, digits and underscores.
        title (str): a heading for it.
        header (Sequence[str]): a heading for each column.
        rows (Sequence[Sequence[str]]): the cells of each row.
        right (Sequence[str]): the headings of the columns that are aligned to the right.
        note (str): lines below the table.
        shades (np.ndarray | None): how dark to shade each cell, from 0 to 1, of shape (rows, columns); NaN for a cell
            that is not shaded.
        images (Sequence[np.ndarray]): an image for each row, RGB in [0, 1], of shape (h, w, 3); empty for none.

    Example:
        >>> print(TableArtifact("sizes", "Sizes", ["Layer", "Size"], [["conv", "150"], ["dense", "48"]], ["Size"]))
        Layer  Size
        -----------
        conv    150
        dense    48
        -----------
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()
    note: str = ""
    shades: Optional[np.ndarray[Any, Any]] = None
    images: Sequence[np.ndarray[Any, Any]] = ()

    def __str__(self) -> str:
        """Return the table as text, followed by the note."""
        table = render(self.header, self.rows, self.right)
        return f"{table}\n{self.note}" if self.note else table

    def _repr_html_(self) -> str:
        return render_html(
            self.header,
            self.rows,
            self.right,
            title=self.title,
            note=self.note,
            shades=self.shades,
            images=self.images,
        )


@dataclass(frozen=True)
class FigureArtifact:
    """A figure, which is drawn only if it is shown somewhere.

    A figure with the same name as a table shows the same content in another form.

    Attributes:
        name (str): identifies the artifact in a tracker, such as `confusion_matrix`; letters, digits and underscores.
        title (str): a heading for it.
        draw (Callable[[], matplotlib.figure.Figure]): draws it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure = FigureArtifact("empty", "Nothing", Figure)
        >>> figure.draw().axes
        []
    """

    name: str
    title: str
    draw: Callable[[], Any]


Artifact = Union[TextArtifact, TableArtifact, FigureArtifact]
