"""Find the callback in a list that a saved state belongs to, by what the callback is, not by its position."""

from __future__ import annotations

import enum
import hashlib
import inspect
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

# Arguments that say what a callback is for; the others only say how it works.
_PATHS = ("filepath", "filename", "directory", "path", "picture", "dump_dir", "log_dir")
_NAMES = ("monitor", *_PATHS)
_LONGEST = 50  # items of a list that is stored in full
_DEEPEST = 4  # nested callbacks and lists, which may contain one another
_OPAQUE = "an object of "
_NOT_KEPT = _OPAQUE + "which nothing is kept"


class Identity(NamedTuple):
    """What identifies a callback: its class, the `state_key` that its author or user has set, and its arguments."""

    kind: str
    state_key: Optional[str]
    arguments: dict[str, Any]

    @classmethod
    def of(cls, callback: Any, directory: str) -> Identity:
        """Return a callback's identity, with paths relative to `directory`, so that all may be moved together."""
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
        """Whether an argument is an object of which only the class is known."""
        return any(isinstance(value, str) and value.startswith(_OPAQUE) for value in self.arguments.values())

    def named(self, *names: str) -> tuple[Any, ...]:
        """Return class, key and the given arguments."""
        return (self.kind, self.state_key, *(self.arguments.get(name) for name in names))

    def differences(self, other: Identity) -> str:
        """Return how the arguments differ from those of `other`: `patience=3 instead of 5`."""
        names = [*self.arguments, *(name for name in other.arguments if name not in self.arguments)]
        return ", ".join(
            f"{name}={self.arguments.get(name)!r} instead of {other.arguments.get(name)!r}"
            for name in names
            if self.arguments.get(name) != other.arguments.get(name)
        )


def with_later_arguments(saved: Iterable[Identity], callbacks: Iterable[Any]) -> list[Identity]:
    """Return saved identities, with defaults for arguments that their class did not have when they were saved."""
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
    """Return which of `saved` is which of `present`, as pairs of indices, and the unmatched indices of each."""
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
    """Raise if unmatched callbacks of one class are left on both sides, so that they may be meant to correspond."""
    for kind in dict.fromkeys(one.named() for one in gone):
        before, now = ([str(one) for one in side if one.named() == kind] for side in (gone, new))
        if now:
            raise ValueError(
                f"it holds {' and '.join(before)}, but the list of callbacks has {' and '.join(now)}; make them as in "
                f"the interrupted run, or give a callback that should start from scratch its own state_key"
            )


def twins(callbacks: Iterable[tuple[str, Any]], directory: str) -> Optional[str]:
    """Return the names of two callbacks that cannot be told apart but may learn different things, or `None`."""
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
    """Return a callback's arguments, as far as it keeps them under their own names."""
    found: dict[str, Any] = {}
    kinds = {one.kind for one in inspect.signature(type(callback).__init__).parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds or inspect.Parameter.VAR_POSITIONAL in kinds:
        found["others"] = _NOT_KEPT  # as in `__init__(self, **kwargs)`, of which no name is known
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
    """Return a value as plain JSON, without reading a device: a long list as a digest, an object as its class."""
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return str(value)  # a string, which equals itself even for NaN
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
    """Return a path relative to a directory, with links to folders resolved in both."""
    try:
        return os.path.relpath(*(_without_links(os.path.abspath(each)) for each in (path, directory)))
    except ValueError:  # on another drive of Windows
        return os.path.abspath(path)


def _without_links(path: str) -> str:
    """Return a path with links resolved in its folders; its last part may be a link that is moved along."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)
