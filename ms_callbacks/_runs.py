"""The command `runs`: the checkpoints and states in a folder and the folders below it."""

from __future__ import annotations

import os
from typing import Any

from . import _found
from ._output import print_json
from ._show import progress
from .core import atomic_files
from .core.console import counted, print_line, printable
from .core.tables import render

__all__ = ["runs"]

_MOST = 10_000  # files and folders of one kind


def runs(folder: str, *, depth: int = 6, quick: bool = False, as_json: bool = False) -> int:
    """Print what is found; return the exit status: 1 if something of it is damaged, otherwise 0.

    Args:
        folder: where to search. Hidden folders, and links that lead out of it, are left out.
        depth: how many levels of folders below it to search. Default: 6.
        quick: compare sizes only, instead of computing checksums. Default: False.
        as_json: print one JSON object instead of a table. Default: False.
    """
    if not os.path.isdir(folder):
        raise _found.NotHereError(f"{folder!r} is not a folder")
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise _found.NotHereError(f"the folder {folder!r} cannot be read: {error.strerror}") from None
    search = _Search(folder, depth)
    found = [
        _found.totals((_found.state if kind == "state" else _found.checkpoint)(path, verify=not quick, within=folder))
        for kind, path in search.found
    ]
    _mark_older(found)
    damaged = sum(not facts["whole"] for facts in found)
    if as_json:
        print_json({"folder": folder, "found": found, "damaged": damaged, "notes": search.notes})
        return 1 if damaged else 0
    header = ["path", "kind", "epoch", "value", "saved", "size", "condition"]
    rows = [[printable(cell) for cell in _row(facts, folder)] for facts in found]
    lines = [render(header, rows, ["size"])] if rows else [f"No checkpoint and no state in {folder!r}"]
    print_line("\n".join([*lines, *map(printable, search.notes)]))
    return 1 if damaged else 0


class _Search:
    """What is in a folder, in the order of names, folders after files."""

    def __init__(self, folder: str, depth: int) -> None:
        self.found: list[tuple[str, str]] = []  # kind and path
        self.notes: list[str] = []
        self._links = self._unreadable = self._deeper = 0
        self._visit(folder, depth)
        if self._links:
            self.notes.append(f"Not followed: {counted(self._links, 'link')} to folders")
        if self._unreadable:
            self.notes.append(f"Not readable: {counted(self._unreadable, 'folder')}")
        if self._deeper:
            self.notes.append(f"Not searched: {counted(self._deeper, 'folder')} below level {depth}; use --depth")
        if len(self.found) >= _MOST:
            self.notes.append(f"Not searched further after {_MOST:,} checkpoints and states; name a smaller folder")

    def _visit(self, folder: str, depth: int) -> None:
        try:
            with os.scandir(folder) as entries:
                there = sorted(entries, key=lambda each: each.name)
        except OSError:
            self._unreadable += 1
            return
        folders = []
        for entry in there:
            if len(self.found) >= _MOST:
                return
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    folders.append(entry.path)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                self._links += 1
            elif _found.is_checkpoint(entry.path):
                self.found.append(("checkpoint", entry.path))
        for path in folders:
            if _found.is_state(path):
                self.found.append(("state", path))
            elif depth > 0:
                self._visit(path, depth - 1)
            else:
                self._deeper += 1


def _mark_older(found: list[dict[str, Any]]) -> None:
    """Mark the states that are not the newest whole one of their directory."""
    used = set()
    for facts in reversed(found):
        if facts["kind"] == "state":
            directory = os.path.dirname(facts["path"])
            facts["is_used"] = facts["whole"] and directory not in used
            if facts["is_used"]:
                used.add(directory)


def _row(facts: dict[str, Any], folder: str) -> list[str]:
    is_state = facts["kind"] == "state"
    told = facts if is_state else facts["record"] or {}
    best = facts["best"] if is_state else told
    step = told.get("step_in_epoch") if is_state else told.get("step") if told.get("between_steps") else None
    epoch = "-" if told.get("epoch") is None else f"{told['epoch']}" + (f", step {step}" if step else "")
    value = f"{best['monitor']} {best['value']:.6g}" if best and best.get("value") is not None else "-"
    saved = (told.get("saved_at") or "-")[:16].replace("T", " ")
    size = "-" if facts["bytes"] is None else atomic_files.in_words(facts["bytes"])
    return [os.path.relpath(facts["path"], folder), facts["kind"], epoch, value, saved, size, _condition(facts)]


def _condition(facts: dict[str, Any]) -> str:
    if not facts["whole"]:
        return f"damaged: {facts['problems'][0]}"
    if facts["kind"] == "state":
        return progress(facts) if facts["is_used"] else "older than the state that is used"
    return "whole" if facts["verified_by"] else "no record" if facts["record"] is None else "not verified"
