"""The pages for users of other libraries name arguments that exist, and both languages name the same."""

from __future__ import annotations

import inspect
import pathlib
import re

import pytest

import ms_callbacks

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGES = ["coming_from_keras", "coming_from_lightning", "coming_from_mindspore", "coming_from_pytorch"]
HERE = {"en": "here", "zh": "本库"}
NONE = {"en": "none", "zh": "无"}


def rows(page, language):
    """The rows of all tables of a page that have a column for this package: `[(theirs, ours, difference), ...]`."""
    found, is_ours = [], False
    for line in (DOCS / language / f"{page}.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            is_ours = False
        elif cells[1:2] == [HERE[language]]:
            is_ours = True
        elif is_ours and not set(line) <= set("|-"):
            found.append(cells)
    return found


def named(cell):
    """The names in a cell, each with its arguments: `LRWarmup(steps)` gives `("LRWarmup", ["steps"])`."""
    for code in re.findall(r"`([^`]+)`", cell):
        called = re.fullmatch(r"(\w+)(?:\((.*)\))?", code)
        if called:
            yield called[1], [one.split("=")[0].strip() for one in (called[2] or "").split(",") if one.strip()]


@pytest.mark.parametrize("language", HERE)
@pytest.mark.parametrize("page", PAGES)
def test_every_argument_of_ours_exists(page, language):
    """By the signature of the public class or function."""
    wrong = []
    for theirs, ours, _ in rows(page, language):
        names = list(named(ours))
        assert names or ours == NONE[language] or ours.startswith("`model."), (theirs, ours)
        for name, arguments in names:
            known = getattr(ms_callbacks, name, None) if name in ms_callbacks.__all__ else None
            parameters = [] if known is None else list(inspect.signature(known).parameters)
            wrong += [f"{theirs}: {name}({one})" for one in arguments if one not in parameters]
            wrong += [f"{theirs}: {name}"] * (known is None)
    assert not wrong


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_name_the_same_arguments(page):
    """Row by row, theirs and ours."""
    english, chinese = (
        [(sorted(re.findall(r"`[^`]+`", theirs)), list(named(ours))) for theirs, ours, _ in rows(page, language)]
        for language in HERE
    )
    assert english == chinese


def test_the_tables_are_found():
    """So that a changed heading does not make the tests above pass with nothing."""
    assert sum(len(rows(page, "en")) for page in PAGES) > 200
