"""Tables, as plain text and as HTML for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple, Union

__all__ = ["Cell", "render", "render_html"]


class Cell(NamedTuple):
    """A cell of an HTML table that has more than text.

    Attributes:
        text (str): the text; it is escaped.
        shade (float): how strongly the cell is coloured, from 0.0 to 1.0.
        is_grey (bool): whether its colour is grey instead of blue.
        picture (str): the address of a picture above the text, such as a `data:` URI. Default: "", none.
    """

    text: str
    shade: float = 0.0
    is_grey: bool = False
    picture: str = ""


HTMLCell = Union[str, Cell]


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
_BLUE, _GREY = "0, 114, 178", "128, 128, 128"
_MOST_OPAQUE = 0.75


def render_html(
    header: Sequence[str],
    rows: Sequence[Sequence[HTMLCell]],
    right: Sequence[str] = (),
    *,
    title: str = "",
    notes: Sequence[str] = (),
) -> str:
    """Return a table as HTML that needs no style sheet: everything is escaped, and colours are those of the page.

    Args:
        header: the name of each column. The first column holds the name of each row.
        rows: the cells: texts, or `Cell` where there is more to show.
        right: the columns that are right-aligned.
        title: a line above the table.
        notes: lines below the table.
    """
    aligned = ["right" if name in right else "left" for name in header]
    head = "".join(
        f'<th scope="col" style="text-align: {side}">{html.escape(name)}</th>' for name, side in zip(header, aligned)
    )
    body = "".join(
        f"<tr>{''.join(_html_cell(cell, side, is_name=not at) for at, (cell, side) in enumerate(zip(row, aligned)))}</tr>"
        for row in rows
    )
    caption = f'<caption style="caption-side: top; text-align: left">{html.escape(title)}</caption>' if title else ""
    below = "".join(f"<div>{html.escape(note)}</div>" for note in notes)
    return (
        f'<div style="overflow-x: auto"><table style="border-collapse: collapse">{caption}'
        f'<thead style="border-bottom: 1px solid currentColor"><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{below}</div>"
    )


def _html_cell(cell: HTMLCell, side: str, *, is_name: bool) -> str:
    text, shade, is_grey, picture = cell if isinstance(cell, Cell) else Cell(cell)
    style = f"text-align: {side}; white-space: nowrap"
    if shade:
        style += f"; background: rgba({_GREY if is_grey else _BLUE}, {_MOST_OPAQUE * shade:.2f})"
    image = f'<img src="{html.escape(picture)}" alt="" style="max-width: none"><br>' if picture else ""
    name, scope = ("th", ' scope="row"') if is_name else ("td", "")
    return f'<{name}{scope} style="{style}">{image}{html.escape(text)}</{name}>'
