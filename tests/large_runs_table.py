"""The table of `docs/en/large_runs.md`, in both languages, for the tests that try its cells."""

from __future__ import annotations

import functools
import itertools
import pathlib
import re

DOCS = pathlib.Path(__file__).parent.parent / "docs"


@functools.cache
def table(language="en"):
    """The cells of the page: `{(callback, setting): "works" or "refused"}`."""
    text = (DOCS / language / "large_runs.md").read_text(encoding="utf-8")
    header, _, *rows = re.findall(r"^\|.*\|$", text[text.index("<!-- matrix -->") :], re.MULTILINE)
    columns = [cell.strip() for cell in header.strip("|").split("|")][1:]
    found = {}
    for row in itertools.takewhile(lambda row: row.startswith("| `"), rows):
        name, *cells = [cell.strip(" `") for cell in row.strip("|").split("|")]
        found.update({(name, column): cell for column, cell in zip(columns, cells)})
    return found


def check_cell(kind, setting, outcome, record_property):
    """That both languages of the page say what came of it; and puts it into the table that `--matrix` prints."""
    record_property("matrix", [kind.__name__, setting, outcome])
    for language in ("en", "zh"):
        assert table(language)[kind.__name__, setting] == outcome, language
