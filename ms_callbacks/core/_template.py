"""File names made of a run's values: `"{epoch:02d}-{acc:.4f}.ckpt"`, and nothing that could leave its folder."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable
from typing import Any

from ._checks import nearest, quoted
from ._names import key_among

__all__ = ["PathTemplate"]


class PathTemplate:
    """A path whose last part may hold fields in braces."""

    def __init__(self, owner: str, path: str) -> None:
        self._owner = owner
        self._folder, self._name = os.path.split(path)
        try:
            parsed = list(string.Formatter().parse(self._name))
            in_folder = [field for _, field, _, _ in string.Formatter().parse(self._folder) if field is not None]
        except ValueError as error:
            raise ValueError(f"{owner}: filepath {path!r} is not a valid template: {error}") from None
        self._any_fill = re.compile(
            "".join(re.escape(text) + ("" if field is None else ".*") for text, field, _, _ in parsed), re.DOTALL
        )
        self.fields: set[str] = set()
        for _, field, spec, conversion in parsed:
            if field is None:
                continue
            # A name alone: attributes and indexes would reach into objects, and a nested field into the format.
            if not field.isidentifier() or conversion or "{" in (spec or ""):
                raise ValueError(
                    f"{owner}: filepath {path!r} holds the field {field!r}, which is not a plain name; "
                    f"write names with a format, such as '{{epoch:02d}}' or '{{acc:.4f}}'"
                )
            if re.search(r"\d{4}", spec or ""):
                raise ValueError(f"{owner}: filepath {path!r} holds a width that no file's name has room for")
            self.fields.add(field)
        if in_folder:
            raise ValueError(f"{owner}: filepath {path!r} has fields in its folder; they may stand in the name only")
        self._fill({field: 1 if field in ("epoch", "step") else 0.5 for field in self.fields})

    def check(self, names: Iterable[str]) -> None:
        """Raises where a field is none of the run's values."""
        known = ["epoch", "step", "loss", *(name for name in names if name not in ("epoch", "step", "loss"))]
        for field in sorted(self.fields):
            if key_among(field, known) is None:
                raise ValueError(
                    f"{self._owner}: filepath {self._name!r} holds the unknown field {field!r}; "
                    f"this run has {quoted(known)}{nearest(field, known)}"
                )

    def path(self, values: dict[str, Any]) -> str:
        """The path with the values filled in."""
        self.check(values)
        meant = {field: key_among(field, values) for field in self.fields}
        return os.path.join(self._folder, self._fill({field: values[key] for field, key in meant.items() if key}))

    def may_have_made(self, path: str) -> bool:
        """Whether some values make `path` of this template: the folder is its own, and the name is alike."""
        folder, name = os.path.split(path)
        is_here = os.path.abspath(folder) == os.path.abspath(self._folder)
        return is_here and self._any_fill.fullmatch(name) is not None

    def _fill(self, values: dict[str, Any]) -> str:
        try:
            name = self._name.format_map(values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self._owner}: filepath {self._name!r} cannot be filled in: {error}") from None
        if os.path.basename(name) != name or "\0" in name or name in ("", os.curdir, os.pardir):
            raise ValueError(f"{self._owner}: filepath {self._name!r} makes {name!r}, which leaves its folder")
        return name
