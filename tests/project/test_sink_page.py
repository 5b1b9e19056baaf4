"""The page about sink mode says what the table of large runs says, which tests try cell by cell."""

from __future__ import annotations

import pathlib
import re

import pytest
from large_runs_table import table

import ms_callbacks

DOCS = pathlib.Path(__file__).parents[2] / "docs"
MODES = ("sink, GRAPH", "sink, PYNATIVE")
BY_ARGUMENT = {"DynamicLR", "ExportBest", "ShapeInspector"}  # refused in the table, and not with some argument
FUNCTIONS = {"accumulate_gradients", "freeze"}  # not in the table


def names(language):
    """The callbacks in the two columns of the page: those that work, and those that are refused."""
    text = (DOCS / language / "sink_mode.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")][1:]
    return [
        {name for row in rows for name in re.findall(r"`(\w+)[`(]", row[column]) if name in ms_callbacks.__all__}
        for column in (1, 2)
    ]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_and_the_table_agree(language):
    """What the page says works does so in one of the modes, and what is refused in both is on the page."""
    outcomes = table()
    works, refused = names(language)
    for name in works - BY_ARGUMENT - FUNCTIONS:
        assert "works" in {outcomes[name, mode] for mode in MODES}, name
    for name in {name for name, setting in outcomes if setting == MODES[0]}:
        if all(outcomes[name, mode] == "refused" for mode in MODES):
            assert name in refused, name
