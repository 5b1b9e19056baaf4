"""Tables, as plain text and as HTML for notebooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:  # the command line prints tables without NumPy
    import numpy as np

__all__ = ["render", "render_html"]


def render(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Return a table whose columns fit their widest cell, two spaces apart; columns in `right` are right-aligned."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(header, cells, widths)
        ]
        return "  ".join(padded).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(header), rule, *(line(row) for row in rows), rule])


# Colours are inherited or translucent, so that a table is readable in light and in dark notebooks.
_SHADE = "rgba(0, 114, 178, {:.2f})"
_DARKEST = 0.75
_STYLE = "text-align: {}; white-space: nowrap"
_IMAGE_PIXELS = 48  # of the longer side, as shown


def render_html(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str] = (),
    *,
    title: str = "",
    note: str = "",
    shades: Optional[np.ndarray[Any, Any]] = None,
    images: Sequence[np.ndarray[Any, Any]] = (),
) -> str:
    """Return a table as HTML that needs no style sheet: all text is escaped, and its colour is that of the page.

    Args:
        header: a heading for each column; the first column holds the name of each row.
        rows: the cells of each row.
        right: the headings of the columns that are right-aligned.
        title: a line above the table. Default: "", none.
        note: lines below the table. Default: "", none.
        shades: how dark each cell is, from 0 to 1, of shape (rows, columns); NaN for a cell that is not shaded.
        images: an RGB image in [0, 1], of shape (h, w, 3), for each row; it stands in a column before the first.
    """
    aligned = ["right" if name in right else "left" for name in header]
    head = "".join(
        f'<th scope="col" style="{_STYLE.format(side)}">{escape(name)}</th>' for name, side in zip(header, aligned)
    )
    lines = []
    for number, row in enumerate(rows):
        cells = [f"<td>{_image(images[number])}</td>"] if len(images) else []
        for column, (text, side) in enumerate(zip(row, aligned)):
            shade = 0.0 if shades is None else _shade(float(shades[number, column]))
            colour = f"; background: {_SHADE.format(_DARKEST * shade)}" if shade else ""
            name, scope = ("td", "") if column else ("th", ' scope="row"')
            cells.append(f'<{name}{scope} style="{_STYLE.format(side)}{colour}">{escape(text)}</{name}>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    caption = f'<caption style="caption-side: top; text-align: left">{escape(title)}</caption>' if title else ""
    below = "".join(f"<div>{escape(line)}</div>" for line in note.splitlines())
    corner = "<td></td>" if len(images) else ""
    return (
        f'<div style="overflow-x: auto"><table style="border-collapse: collapse">{caption}'
        f"<thead><tr>{corner}{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{below}</div>"
    )


def _shade(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _image(picture: np.ndarray[Any, Any]) -> str:
    from .png import data_uri, encode_png, thumbnail  # which needs NumPy

    size = "height" if picture.shape[0] >= picture.shape[1] else "width"
    address = data_uri(encode_png(thumbnail(picture, 2 * _IMAGE_PIXELS)))
    style = f"{size}: {_IMAGE_PIXELS}px; max-width: none; image-rendering: pixelated"
    return f'<img src="{address}" alt="" {size}="{_IMAGE_PIXELS}" style="{style}">'
