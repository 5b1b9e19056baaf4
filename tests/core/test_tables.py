"""Plain text tables, to the character."""

from __future__ import annotations

import pytest

from ms_callbacks.core.tables import render

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
