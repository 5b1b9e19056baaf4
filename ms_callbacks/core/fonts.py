"""Choose fonts for characters that matplotlib's own font lacks, such as Chinese class names, within one figure only."""

from __future__ import annotations

import contextlib
import functools
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from .console import log_line

__all__ = ["choose_fonts"]

# Fonts that systems commonly have; tried before all others, each of which must be opened.
_LIKELY = ("cjk", "han sans", "hei", "song", "pingfang", "gothic", "nanum", "noto", "unifont", "arial unicode")
# Fonts whose glyphs do not show the characters themselves.
_NOT_FOR_TEXT = ("cm", "stix", "last resort", "dejavu math")
_IN_CJK_FONTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "FULLWIDTH", "IDEOGRAPHIC", "BOPOMOFO")


def choose_fonts(drawn: Any) -> None:
    """Give each text of a figure fallback fonts for its characters; if none has them, say which font to install.

    Texts are drawn literally: a dollar sign in a name does not start a formula.
    """
    from matplotlib.font_manager import findfont, get_font
    from matplotlib.text import Text

    lacking: dict[Any, set[str]] = {}
    for text in drawn.findobj(Text):
        text.set_parse_math(False)
        beyond = {each for each in text.get_text() if each > "~" and each.isprintable() and not each.isspace()}
        missing = _lacking(get_font(findfont(text.get_fontproperties())), beyond) if beyond else set()
        if missing:
            lacking[text] = missing
    families = families_with(frozenset().union(*lacking.values())) if lacking else ()
    for text in lacking:
        text.set_fontfamily([*text.get_fontfamily(), *families])


@functools.lru_cache(maxsize=1000)
def families_with(characters: frozenset[str]) -> tuple[str, ...]:
    """Return the families that together have the most of these characters; report it if some are missing."""
    chosen: list[str] = []
    lacking = set(characters)
    for family, font in _fonts():
        rest = _lacking(font, lacking)
        if len(rest) < len(lacking):
            chosen.append(family)
            lacking = rest
        if not lacking:
            break
    if lacking:
        _tell("".join(sorted(lacking)))
    return tuple(chosen)


def _lacking(font: Any, characters: Iterable[str]) -> set[str]:
    return {each for each in characters if not font.get_char_index(ord(each))}


def _fonts() -> Iterator[tuple[str, Any]]:
    """Return the fonts that can draw text, each with its family, likely ones first."""
    from matplotlib.font_manager import findSystemFonts, fontManager, get_font

    # matplotlib caches its list of fonts between processes, so recently installed fonts are missing from it.
    for path in set(findSystemFonts()).difference(entry.fname for entry in fontManager.ttflist):
        with contextlib.suppress(Exception):  # not a font file
            fontManager.addfont(path)
    entries: dict[str, Any] = {}  # by family, the closest to a regular face
    for entry in fontManager.ttflist:
        if not entry.name.lower().startswith(_NOT_FOR_TEXT):
            entries[entry.name] = min(entries.get(entry.name, entry), entry, key=_strangeness)
    for family in sorted(entries, key=lambda family: (_unlikeliness(family), _strangeness(entries[family]), family)):
        with contextlib.suppress(Exception):  # removed, or unreadable for FreeType
            font = get_font(entries[family].fname)
            if font.scalable:
                yield family, font


def _unlikeliness(family: str) -> int:
    name = family.lower()
    return next((place for place, part in enumerate(_LIKELY) if part in name), len(_LIKELY))


def _strangeness(entry: Any) -> tuple[bool, int]:
    from matplotlib.font_manager import weight_dict

    weight = weight_dict.get(entry.weight, entry.weight)
    return entry.style != "normal", abs(int(weight) - 400)


def _tell(lacking: str) -> None:
    names = [unicodedata.name(each, "") for each in lacking]
    kind = "Noto Sans CJK (fonts-noto-cjk)" if any(each.startswith(_IN_CJK_FONTS) for each in names) else "Noto Sans"
    shown = lacking if len(lacking) <= 20 else f"{lacking[:20]}..."
    log_line(f"matplotlib: finds no font with {shown}, shown as boxes in the picture; install one, such as {kind}")
