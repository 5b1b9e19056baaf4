"""The messages on the page for troubleshooting are those that the package has."""

from __future__ import annotations

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
OF_PYTHON = ["EarlyStopping.__init__() takes from 1 to 2 positional arguments but 3 were given"]
OURS = {"en": "## Messages of this package", "zh": "## 本库的报错"}


def headings(language):
    """The messages that the page quotes as this package's."""
    page = (ROOT / "docs" / language / "troubleshooting.md").read_text(encoding="utf-8")
    sections = [section for section in re.split(r"(?m)^(?=## )", page) if section.startswith(OURS[language])]
    return [heading for section in sections for heading in re.findall(r"(?m)^### (.*)$", section)]


@functools.cache
def texts():
    """All texts written in the package but docstrings, one a line; a field of an f-string ends one."""
    found = set()
    for path in (ROOT / "ms_callbacks").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                found.add(node.value)
    return "\n".join(found)


def is_written(part, pieces=3):
    """Whether a part of a message is in the source, in one piece or in few that are put together."""
    if part in texts():
        return True
    ends = range(len(part) - 5, 4, -1) if pieces > 1 else ()
    return any(part[:end] in texts() and is_written(part[end:], pieces - 1) for end in ends)


def quoted(heading):
    """The fixed parts of a heading: without the name of a callback before it, and without `…`."""
    parts = [part.strip(" ;:,.") for part in re.sub(r"^\w+(\.\w+)?: ", "", heading).split("…")]
    return [part for part in parts if len(part) > 4]


@pytest.mark.parametrize("heading", [one for one in headings("en") if one not in OF_PYTHON])
def test_each_message_of_ours_is_in_the_source(heading):
    """All of its fixed parts, and enough of them to find it."""
    parts = quoted(heading)
    assert max(map(len, parts)) > 12
    assert not [part for part in parts if not is_written(part)]


def test_both_languages_have_the_same_messages():
    """So that the test above speaks for both."""
    assert headings("en") == headings("zh")
    assert len(headings("en")) >= 25
