"""Hide secrets in what is shown of a run: its command line, the arguments of its callbacks, and its exception."""

from __future__ import annotations

import re
import shlex
import sys

__all__ = ["command", "hidden"]

# A name that ends in one of these words, and is not just the end of another word, such as `author`.
_SECRET = (
    r"(?:[\w-]*[_-])?"
    r"(?:(?:api|access|private|secret)[_-]?key|token|secret|password|passwd|passphrase|credentials?|auth)"
)
# `--api-key value`, `--api-key=value`, `api_key='value'` and `'api_key': 'value'`, and a password within an address.
_OPTION = re.compile(rf"-{{1,2}}{_SECRET}", re.IGNORECASE)
_WHOLE = re.compile(rf"((?:[-+~]{{1,2}}|[\w.]*\.)?{_SECRET}[=:]).+", re.IGNORECASE | re.DOTALL)
_ASSIGNED = re.compile(
    rf"((?<![\w-]){_SECRET}['\"]?\s*[=:]\s*)('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s,)]+)", re.IGNORECASE
)
_ADDRESS = re.compile(r"(://[^\s/:@]*:)[^\s/@]+@")


def command() -> str:
    """Return the command line of this process, with secrets hidden; `""` in a notebook."""
    if "ipykernel" in sys.modules:
        return ""
    words: list[str] = []
    for word in sys.argv:
        is_value = bool(words) and "=" not in words[-1] and _OPTION.fullmatch(words[-1]) and not word.startswith("-")
        assigned = _WHOLE.fullmatch(word)
        shown = shlex.quote(word) if assigned is None else f"{assigned[1]}***"
        words.append("***" if is_value else shown)
    return hidden(" ".join(["python", *words]))


def hidden(text: str) -> str:
    """Return a text with `***` for each value that is assigned to a name such as `api_key`."""
    return _ADDRESS.sub(r"\1***@", _ASSIGNED.sub(r"\1***", text))
