"""The HTML of a report: text in two languages, escaped, in a page that needs no other file and runs no other code.

Both languages are in the page, and the style sheet shows the one that `<html lang>` says, so that the switch works
without building anything again, and the page is complete without JavaScript.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

import numpy as np

__all__ = ["LANGUAGES", "Markup", "both", "mark_up", "name", "page", "phrase", "table", "texts"]

# The languages of a report, by the value of `language`: the attribute `lang` of the page.
LANGUAGES = {"en": "en", "zh": "zh-CN"}
_FOLDER = pathlib.Path(__file__).parent / "_report"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TAG = re.compile("<[^>]*>")
_LONG = 30  # characters of a cell that may be broken into lines
_LONGEST_SENTENCE = 300  # characters of a text that is looked up
_MANY = 25  # rows of a table that may be printed on several pages
_SHADES = 9


class Markup(str):
    """HTML as opposed to text; only this module and constants make it."""

    __slots__ = ()


Words = Union[str, int, float, Markup, tuple[Any, Any]]


def mark_up(value: Any) -> Markup:
    """Return a text as HTML that shows it, whatever it holds."""
    return value if isinstance(value, Markup) else Markup(html.escape(_CONTROL.sub("\ufffd", str(value))))


def name(value: Any) -> Markup:
    """Return a user's text as HTML, with a direction of its own, so that it cannot reorder what is around it."""
    return Markup(f"<bdi>{mark_up(value)}</bdi>")


@functools.cache
def texts() -> dict[str, dict[str, str]]:
    """Return the texts of a report by language, and the Chinese of English words and sentences of callbacks.

    `phrases` has whole texts, `patterns` regular expressions and what they become.
    """
    loaded: dict[str, dict[str, str]] = json.loads((_FOLDER / "texts.json").read_text(encoding="utf-8"))
    return loaded


def both(key: str, **values: Words) -> Markup:
    """Return a text in both languages; a value may be a pair, one for each language."""
    filled = []
    for place, language in enumerate(LANGUAGES):
        own = {each: mark_up(value[place] if isinstance(value, tuple) else value) for each, value in values.items()}
        filled.append(mark_up(texts()[language][key]).format(**own))
    return _pair(*filled)


def phrase(text: str) -> Markup:
    """Return a text of an artifact in both languages, if its Chinese is known."""
    known = texts()["phrases"].get(text)
    for pattern, chinese in () if known or len(text) > _LONGEST_SENTENCE else texts()["patterns"].items():
        found = re.fullmatch(pattern, text)
        known = found.expand(chinese) if found and known is None else known
    return name(text) if known is None else _pair(mark_up(text), mark_up(known))


def _pair(english: str, chinese: str) -> Markup:
    if english == chinese:
        return Markup(english)
    return Markup(f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh-CN">{chinese}</span>')


def table(
    label: str,
    header: Sequence[Markup],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[int] = (),
    shades: Optional[np.ndarray[Any, Any]] = None,
) -> Markup:
    """Return a table that scrolls within itself.

    Args:
        label: the id of the element that names the table.
        header: a heading for each column.
        rows: the cells; the first of a row is its heading.
        right: the columns that are aligned to the right.
        shades: how dark to shade each cell, from 0 to 1; NaN for a cell that is not shaded. Default: None.
    """
    listed = list(rows)
    heads = "".join(f'<th scope="col"{_class("r" * (place in right))}>{each}</th>' for place, each in enumerate(header))
    lines = []
    for index, row in enumerate(listed):
        cells = []
        for place, value in enumerate(row):
            kind = _kind(value, place in right, index, place, shades)
            cells.append(f'<th scope="row"{kind}>{mark_up(value)}' if place == 0 else f"<td{kind}>{mark_up(value)}")
        lines.append(f"<tr>{''.join(cells)}")
    kinds = ["scroll", *["many"] * (len(listed) > _MANY), *["wide"] * (len(header) > 8)]
    shaded = "" if shades is None else ' class="shaded"'
    return Markup(
        f'<div class="{" ".join(kinds)}" role="region" tabindex="0" aria-labelledby="{label}"><table{shaded}>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>" + "\n".join(lines) + "\n</tbody></table></div>"
    )


def _kind(value: Any, is_right: bool, row: int, column: int, shades: Optional[np.ndarray[Any, Any]]) -> str:
    kinds = ["r"] if is_right else ["long"] if len(_TAG.sub("", str(value))) > _LONG else []
    if shades is not None and column:
        shade = shades[row, column]
        if np.isfinite(shade) and round(shade * _SHADES):
            kinds.append(f"h{round(shade * _SHADES)}")
        if value == "0":
            kinds.append("zero")
        if row + 1 == column and np.isnan(shade):
            kinds.append("self")
    return _class(" ".join(kinds))


def _class(kinds: str) -> str:
    return f' class="{kinds}"' if kinds else ""


def page(title: str, language: str, footer: Markup, sections: Iterable[str], data: dict[str, Any]) -> bytes:
    """Return a whole page."""
    style, script = _asset("style.css"), _asset("page.js")
    policy = [
        "default-src 'none'",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    parts = {
        "lang": LANGUAGES[language],
        "policy": "; ".join(policy),
        "title": mark_up(title),
        "style": style,
        "script": script,
        "skip": both("skip"),
        "kicker": both("kicker"),
        "footer": footer,
        "sections": "\n".join(sections),
        "data": _as_json(data),
    }
    # All at once: a user's text may hold a placeholder itself.
    whole = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))
    return whole.encode()


def _as_json(data: dict[str, Any]) -> str:
    """Return strict JSON that cannot end the element it is in; everything that is not ASCII is escaped."""
    written = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", written)


@functools.cache
def _asset(file: str) -> str:
    return (_FOLDER / file).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
