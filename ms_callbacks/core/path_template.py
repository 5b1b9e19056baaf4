"""File names built from a run's values, such as `"{epoch:02d}-{acc:.4f}.ckpt"`, that cannot leave their folder."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Collection, Iterable
from typing import Any, Optional

from .arguments import check_path, quoted
from .names import OF_RUN, alike, hint, key_among, result_name, spelled

__all__ = ["PathTemplate"]

_Part = tuple[str, Optional[str], Optional[str], Optional[str]]  # text, then a field: name, format, conversion

_COUNTS = ("epoch", "step")
_OF_EVALUATION = ("val", "valid", "validation", "eval", "test")
_VERSION = re.compile(r"-v[1-9]\d*$")
_ALL_DIGITS = -0.12345678901234568  # it prints with all its digits unless the format limits them


class PathTemplate:
    """A path whose last component may contain fields in braces.

    It is given as the user wrote it; the working directory in front of it may itself contain braces.
    """

    def __init__(self, owner: str, path: str) -> None:
        self._owner, self._path = owner, path
        self._whole: list[_Part] = []
        try:
            self._whole = list(string.Formatter().parse(path))
        except ValueError as error:
            raise self._invalid(f"is not a valid template: {error}") from None
        for _, field, spec, _ in self._whole:
            if any(separator in (field or "") + (spec or "") for separator in (os.sep, os.altsep) if separator):
                raise self._invalid(f"is not a valid template: {{{field}}} contains a folder separator")
        folder, self._name = os.path.split(path)
        self._parts = list(string.Formatter().parse(self._name))
        self._any_fill = re.compile(
            "".join(re.escape(text) + ("" if field is None else ".*") for text, field, _, _ in self._parts), re.DOTALL
        )
        self.fields: set[str] = set()
        for _, field, spec, conversion in self._parts:
            if field is None:
                continue
            # Only a name: attributes and indexes would reach into objects, and a nested field into the format.
            if _plain(field) != field or conversion or "{" in (spec or ""):
                written = f"{field}!{conversion}" if conversion else field
                raise self._invalid(f"holds the field {written!r}, which is not a plain name")
            if re.search(r"\d{4}", spec or ""):
                raise ValueError(f"{owner}: filepath {path!r} has a width that is too large for any file name")
            self.fields.add(field)
        if any(field is not None for _, field, _, _ in string.Formatter().parse(folder)):
            raise ValueError(f"{owner}: filepath {path!r} has fields in its folder; use them in the file name only")
        self._fill({field: _sample(field) for field in self.fields})
        self.folder = os.path.dirname(check_path(owner, "filepath", os.path.join(folder, "name")))

    def check(self, names: Iterable[str], *, more_may_come: bool = False) -> None:
        """Raise if a field is not one of the run's values.

        With `more_may_come`, the run may have further values, so only an obvious misspelling of a known one is refused.
        """
        known = [*_COUNTS, "loss", *(name for name in names if name not in (*_COUNTS, "loss"))]
        for field in sorted(self.fields):
            if key_among(field, known) is None and not (more_may_come and alike(field, known) is None):
                options = [spelled(name) for name in known]
                raise ValueError(
                    f"{self._owner}: filepath {self._name!r} holds the unknown field {field!r}; "
                    f"this run has {quoted(options)}{hint(field, options)}"
                )

    def path(self, values: dict[str, Any], taken: Collection[str] = ()) -> str:
        """Return the path with the values filled in, plus `-v1`, `-v2`, ... before its ending if it is `taken`."""
        self.check(values)
        meant = {field: key_among(field, values) for field in self.fields}
        path = os.path.join(self.folder, self._fill({field: values[key] for field, key in meant.items() if key}))
        (start, ending), version = os.path.splitext(path), 0
        while os.path.realpath(path) in taken:
            version += 1
            path = f"{start}-v{version}{ending}"
        return path

    def longest_name(self, epochs: int, steps: int) -> str:
        """Return approximately the longest name that it produces in a run of so many epochs and steps."""
        counts = dict(zip(_COUNTS, (epochs, steps)))
        return self._fill({field: counts.get(field, _ALL_DIGITS) for field in self.fields})

    def may_have_made(self, name: str) -> bool:
        """Return whether some values would produce a file of this name."""
        start, ending = os.path.splitext(name)
        return any(self._any_fill.fullmatch(each + ending) for each in (start, _VERSION.sub("", start)))

    def _fill(self, values: dict[str, Any]) -> str:
        # Not `str.format`, which would read a name such as "iou@0.5" as an attribute access.
        try:
            name = "".join(
                text + ("" if field is None else format(values[field], spec or ""))
                for text, field, spec, _ in self._parts
            )
        except (ValueError, TypeError) as error:
            raise self._invalid(f"cannot be filled in: {error}") from None
        if os.path.basename(name) != name or "\0" in name or name in ("", os.curdir, os.pardir):
            raise ValueError(f"{self._owner}: filepath {self._name!r} makes {name!r}, which leaves its folder")
        return name

    def _invalid(self, problem: str) -> ValueError:
        """Return the error, with a template that works: a corrected one if the intention is clear, else an example."""
        works = "".join(_corrected(*part) for part in self._whole)
        try:
            if works in ("", self._path):
                raise ValueError
            PathTemplate(self._owner, works)
        except ValueError:
            works = "{epoch:02d}-{eval_loss:.4f}.ckpt"
        return ValueError(f"{self._owner}: filepath {self._path!r} {problem}; write {works!r}, for example")


def _corrected(text: str, field: Optional[str], spec: Optional[str], conversion: Optional[str]) -> str:
    text = text.replace("{", "{{").replace("}", "}}")
    if field is None:
        return text
    name = _plain(field)
    if spec:
        try:
            format(_sample(name), spec)
            fits = os.path.basename(spec) == spec
        except ValueError:
            fits = False
        spec = spec if fits else "02d" if name in _COUNTS else ".4f"
    return f"{text}{{{name}:{spec}}}" if spec else f"{text}{{{name}}}"


def _plain(field: str) -> str:
    """Return the name that a field means: itself if it is one of the names."""
    group, _, name = field.replace("\\", "/").rpartition("/")
    if group in _OF_EVALUATION:
        return result_name(_plain(name))
    if group:  # the run's own name for "train/loss" is "loss"
        return _plain(name if group == "train" and name in OF_RUN else f"{group}_{name}".replace("/", "_"))
    name = spelled(re.split(r"\.(?!\d)|\[", name)[0])
    return "epoch" if not name or name.isdigit() else name


def _sample(field: str) -> float:
    return 1 if field in _COUNTS else 0.5
