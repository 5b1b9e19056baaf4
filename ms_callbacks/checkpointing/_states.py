"""The states of a run on disk: folders that exist completely or not at all, in the order in which they were saved."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, Callable, Optional

import numpy as np

from ..core import atomic_files, checkpoint_io, distributed
from ..core.parameters import Arrays
from ._identity import Identity
from ._state_files import CONTENT, FORMAT, PREFIX, WEIGHTS, number_of, paths_in, verified_content

__all__ = ["NETWORK", "RANKS", "State", "States"]

# Prefixes of parameter names, so that no callback's array is mistaken for one; each rank's own statistics are stacked.
NETWORK, RANKS = "network/", "ranks/"


class State:
    """A state, verified on construction to be exactly what was saved."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.content = verified_content(path)
        arrays = checkpoint_io.load(os.path.join(path, WEIGHTS))
        self.parameters = {name[len(NETWORK) :]: arrays[name] for name in arrays if name.startswith(NETWORK)}
        for name in [name for name in arrays if name.startswith(RANKS)]:
            if len(arrays[name]) == distributed.count():
                self.parameters[name[len(RANKS) :]] = arrays[name][distributed.place()]
        self._arrays = arrays

    @property
    def identities(self) -> list[Identity]:
        """The identities of its callbacks."""
        saved = self.content["callbacks"]
        return [Identity(each["name"].split()[0], each["state_key"], each["arguments"]) for each in saved]

    def arrays_of(self, callback: int) -> Arrays:
        """Return the arrays of one of its callbacks."""
        kinds = self.content["callbacks"][callback]["arrays"]
        # MindSpore cannot read an array without elements, and 2.0 reads a 0-dimensional bool back with one dimension.
        return {
            key: np.zeros(shape, kind) if 0 in shape else self._arrays[f"{callback}/{key}"].reshape(shape)
            for key, (shape, kind) in kinds.items()
        }


class States:
    """The states of one directory."""

    def __init__(self, directory: str, keep: int) -> None:
        self.directory = directory
        self._keep = keep
        self.good: list[str] = []  # those of the current run, the oldest first

    @property
    def paths(self) -> list[str]:
        """The states on disk, the oldest first."""
        return paths_in(self.directory) if os.path.isdir(self.directory) else []

    def newest(self, say: Callable[[str], None]) -> Optional[State]:
        """Return the newest state that is whole, after reporting which were refused; `None` if there is none at all."""
        refused = []
        for path in reversed(self.paths):
            try:
                return State(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                refused.append(f"{path!r} ({error})")
                say(f"refused {refused[-1]}")
        if refused:
            raise ValueError(f"no whole state is left; refused: {', '.join(refused)}")
        return None

    def clear(self) -> None:
        """Remove all states."""
        for path in self.paths:
            shutil.rmtree(path)
        self.good = []

    def write(self, content: dict[str, Any], arrays: Arrays) -> None:
        """Write a state, and remove those that it supersedes."""
        latest = max((number_of(path) for path in self.paths), default=0)
        path = os.path.join(self.directory, f"{PREFIX}{latest + 1:08d}")
        with atomic_files.staged_folder(path) as folder:
            weights = os.path.join(folder, WEIGHTS)
            digest = atomic_files.written(weights, lambda file: checkpoint_io.save(file, arrays))
            of_weights = {"sha256": digest, "bytes": os.path.getsize(weights)}
            content = {"format": FORMAT, **content, "weights": of_weights}
            with open(os.path.join(folder, CONTENT), "w", encoding="utf-8") as file:
                json.dump({"sha256": atomic_files.digest_of(content), "content": content}, file)
        self.good = [*self.good, path][-self._keep :]
        for old in set(self.paths) - set(self.good):
            shutil.rmtree(old, ignore_errors=True)
