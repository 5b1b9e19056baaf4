"""Plain text tables, to the character; and the same as HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from ms_callbacks.core.tables import render, render_html

ROWS = [["conv", "1,024"], ["a longer name", "7"]]


@pytest.mark.parametrize(
    ("rows", "right", "expected"),
    [
        (
            ROWS,
            ["count"],
            """\
name           count
--------------------
conv           1,024
a longer name      7
--------------------""",
        ),
        (
            ROWS,
            [],
            """\
name           count
--------------------
conv           1,024
a longer name  7
--------------------""",
        ),
        (
            [["x", ""]],
            ["count"],
            """\
name  count
-----------
x
-----------""",
        ),
        (
            [],
            ["count"],
            """\
name  count
-----------
-----------""",
        ),
    ],
)
def test_columns_fit_their_widest_cell(rows, right, expected):
    """Numbers to the right, no blanks at the end of a line; the header counts too."""
    assert render(["name", "count"], rows, right) == expected


class Cells(HTMLParser):
    """The cells of a table in HTML: name, attributes and text of each."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.images, self.names = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.names.append(name)
        if name in ("th", "td"):
            self.cells.append([name, dict(attributes), ""])
        if name == "img":
            self.images.append(dict(attributes))

    def handle_data(self, text):
        if self.cells:
            self.cells[-1][2] += text


HOSTILE = ["</script><script>alert(1)</script>", "a & b", "\"quoted\" 'twice'", "$'", "\u202eright to left", "😀"]


def test_html_has_the_cells_with_their_scopes():
    """A row is named by its first cell; numbers stand to the right; title and note are there."""
    text = render_html(["name", "count"], ROWS, ["count"], title="Layers", note="two\nlines")
    cells = Cells(text).cells
    assert [(name, of.get("scope"), content.strip()) for name, of, content in cells[:3]] == [
        ("th", "col", "name"),
        ("th", "col", "count"),
        ("th", "row", "conv"),
    ]
    assert "text-align: right" in cells[1][1]["style"]
    assert "text-align: left" in cells[2][1]["style"]
    assert "text-align: right" in cells[3][1]["style"]
    assert "Layers</caption>" in text
    assert "<div>two</div><div>lines</div>" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_stands_in_a_cell_is_text(text):
    """In a header, a cell, the title and the note."""
    parsed = Cells(render_html([text], [[text]], [text], title=text, note=text))
    assert [content for _, _, content in parsed.cells[:1]] == [text]
    assert set(parsed.names) == {"div", "table", "caption", "thead", "tr", "th", "tbody"}


def test_html_takes_its_text_colour_from_the_page():
    """And shades are translucent, so that a dark notebook is readable too."""
    text = render_html(["a", "b", "c"], [["x", "1", "2"]], shades=np.array([[np.nan, 0.0, 1.0]]))
    assert "color:" not in text.replace("background-color:", "")
    cells = Cells(text).cells
    assert ["background" in of["style"] for _, of, _ in cells[3:]] == [False, False, True]
    assert "rgba(0, 114, 178, 0.75)" in cells[-1][1]["style"]


def test_images_stand_before_the_rows():
    """One for each, of limited size; the header has an empty cell above them."""
    parsed = Cells(render_html(["a"], [["x"], ["y"]], images=[np.zeros((200, 100, 3)), np.ones((10, 20, 3))]))
    assert [name for name, _, _ in parsed.cells] == ["td", "th", "td", "th", "td", "th"]
    assert [(each.get("width"), each.get("height")) for each in parsed.images] == [(None, "48"), ("48", None)]
    assert all(each["src"].startswith("data:image/png;base64,") for each in parsed.images)
