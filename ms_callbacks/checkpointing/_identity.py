"""Which callback of a list a saved state belongs to: told by what a callback is, not by where it stands."""

from __future__ import annotations

import enum
import hashlib
import json
import math
import os
from collections.abc import Iterable
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
from mindspore.train import Callback

from ..core.callback import TrainCallback
from ..core.configuration import parameters_of

__all__ = ["Identity", "check_left", "matched", "twins", "with_later_arguments"]

# Arguments that say what a callback is for; the others say how it does that.
_PATHS = ("filepath", "filename", "directory", "path", "picture", "dump_dir")
_NAMES = ("monitor", *_PATHS)
_LONGEST = 50  # items of a list that is kept as it is
_DEEPEST = 4  # of callbacks and lists within each other, which may hold one another
_OPAQUE = "an object of "
_NOT_KEPT = _OPAQUE + "which nothing is kept"


class Identity(NamedTuple):
    """What a callback is: its class, the key that its author or user has given it, and its arguments."""

    kind: str
    state_key: Optional[str]
    arguments: dict[str, Any]

    @classmethod
    def of(cls, callback: Any, directory: str) -> Identity:
        """That of a callback, whose paths count from `directory`, so that all may be moved together."""
        key = getattr(callback, "state_key", None)
        if not isinstance(key, (str, type(None))):
            raise TypeError(f"state_key of {type(callback).__name__} must be a string, but got {key!r}")
        return cls(type(callback).__name__, key, _arguments(callback, directory))

    def __str__(self) -> str:
        given = [f"{name}={value!r}" for name, value in self.arguments.items() if name in _NAMES]
        key = [f"state_key={self.state_key!r}"] if self.state_key else []
        return f"{self.kind}({', '.join([*key, *given])})"

    @property
    def is_opaque(self) -> bool:
        """Whether an argument is an object of which no more than its class is known."""
        return any(isinstance(value, str) and value.startswith(_OPAQUE) for value in self.arguments.values())

    def named(self, *names: str) -> tuple[Any, ...]:
        """Class, key and some of the arguments."""
        return (self.kind, self.state_key, *(self.arguments.get(name) for name in names))

    def differences(self, other: Identity) -> str:
        """What of the arguments is not what it is in `other`: `patience=3 instead of 5`."""
        names = [*self.arguments, *(name for name in other.arguments if name not in self.arguments)]
        return ", ".join(
            f"{name}={self.arguments.get(name)!r} instead of {other.arguments.get(name)!r}"
            for name in names
            if self.arguments.get(name) != other.arguments.get(name)
        )


def with_later_arguments(saved: Iterable[Identity], callbacks: Iterable[Any]) -> list[Identity]:
    """Saved identities with the defaults of the arguments that their class did not have yet when they were saved."""
    defaults = {
        type(callback).__name__: {
            one.name: _plain(one.default, "", 0)
            for one in parameters_of(type(callback))
            if one.default is not one.empty
        }
        for callback in callbacks
    }
    return [one._replace(arguments={**defaults.get(one.kind, {}), **one.arguments}) for one in saved]


def matched(saved: list[Identity], present: list[Identity]) -> tuple[dict[int, int], list[int], list[int]]:
    """Which of `present` is which of `saved`: pairs of their places, and the places of those on either side alone."""
    pairs: dict[int, int] = {}
    criteria: tuple[Callable[[Identity], Any], ...] = (
        lambda one: one,
        lambda one: one.named(*_NAMES),
        lambda one: one.named("monitor"),
    )
    for is_exact, criterion in zip((True, False, False), criteria):
        for place, one in enumerate(present):
            if place in pairs:
                continue
            same = [index for index in _left(saved, pairs.values()) if criterion(saved[index]) == criterion(one)]
            rivals = [index for index in _left(present, pairs) if criterion(present[index]) == criterion(one)]
            if same and (is_exact or len(same) == len(rivals) == 1):
                pairs[place] = same[0]
    return pairs, _left(saved, pairs.values()), _left(present, pairs)


def check_left(gone: list[Identity], new: list[Identity]) -> None:
    """Raises where callbacks of one class are left on both sides, so that one may have been meant to be the other."""
    for kind in dict.fromkeys(one.named() for one in gone):
        before, now = ([str(one) for one in side if one.named() == kind] for side in (gone, new))
        if now:
            raise ValueError(
                f"it is that of {' and '.join(before)}, but the list of callbacks has {' and '.join(now)}; make them "
                f"as in the interrupted run, or give one that is to begin at its beginning a state_key of its own"
            )


def twins(callbacks: Iterable[tuple[str, Any]], directory: str) -> Optional[str]:
    """Two callbacks of a list that cannot be told apart, and may learn different things; `None` for none."""
    seen: list[tuple[str, Identity]] = []
    for name, callback in callbacks:
        identity = Identity.of(callback, directory)
        if not isinstance(callback, TrainCallback) or identity.is_opaque:
            for other, known in seen:
                if known == identity:
                    return f"{other} and {name}"
        seen.append((name, identity))
    return None


def _left(identities: list[Identity], taken: Iterable[int]) -> list[int]:
    known = set(taken)
    return [index for index in range(len(identities)) if index not in known]


def _arguments(callback: Any, directory: str, depth: int = 0) -> dict[str, Any]:
    """What a callback was made with, as far as it keeps that under the names of its arguments."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(one.name for one in parameters_of(type(callback))):
        try:
            value = getattr(callback, name)
        except Exception:  # a property may raise anything
            found[name] = _NOT_KEPT
            continue
        if name in _PATHS and isinstance(value, (str, os.PathLike)):
            value = _relative(os.fspath(value), directory)
        found[name] = _plain(value, directory, depth)
    return found


def _plain(value: Any, directory: str, depth: int) -> Any:
    """A value as JSON holds it, without reading a device: a list that is long by its digest, an object by its class."""
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return str(value)  # which is equal to itself
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if depth < _DEEPEST:
        if isinstance(value, (list, tuple)):
            items = [_plain(each, directory, depth + 1) for each in value]
            if len(items) <= _LONGEST:
                return items
            return f"{len(items)} items, SHA-256 {hashlib.sha256(json.dumps(items).encode()).hexdigest()[:16]}"
        if isinstance(value, dict):
            return {str(key): _plain(each, directory, depth + 1) for key, each in value.items()}
        if isinstance(value, Callback):
            return [type(value).__name__, _arguments(value, directory, depth + 1)]
    return _OPAQUE + (getattr(value, "__qualname__", None) or type(value).__name__)


def _relative(path: str, directory: str) -> str:
    """A path from a directory, by whatever links to folders both were given."""
    try:
        return os.path.relpath(*(_without_links(os.path.abspath(each)) for each in (path, directory)))
    except ValueError:  # on another drive of Windows
        return os.path.abspath(path)


def _without_links(path: str) -> str:
    """A path whose folders are no links; its last part may be one that is moved along."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)
