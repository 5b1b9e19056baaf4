"""Checkpoints on disk and the records beside them, which say what they are and whether they are whole."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Optional

from ..core import _files

__all__ = ["Kept", "at", "latest_run", "previous", "record_path", "remove", "verified"]


@dataclass(frozen=True)
class Kept:
    """A checkpoint on disk."""

    path: str
    record: dict[str, Any]

    @property
    def value(self) -> float:
        return float(self.record["value"])


def at(path: str) -> Kept:
    """The checkpoint at `path`; raises where it has no record that can be read."""
    try:
        return Kept(path, _files.read_json(record_path(path)))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path!r}: its record cannot be read ({error})") from error


def latest_run(folder: str, template: str, besides: str) -> list[Kept]:
    """What the latest run whose files are named by `template` left in `folder`, the best first, `besides` left out."""
    found = []
    for name in sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else []:
        path = os.path.join(folder, name[: -len(".json")])
        if not name.endswith(".json") or path == besides:
            continue
        try:
            record = _files.read_json(record_path(path))
            if record.get("filepath") == template:
                found.append((float(record["saved_at"]), Kept(path, {**record, "value": float(record["value"])})))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no record of ours: another's file
    if not found:
        return []
    latest = max(found, key=lambda each: each[0])[1].record.get("run")
    of_run = [kept for _, kept in found if kept.record.get("run") == latest]
    return sorted(of_run, key=lambda each: each.value, reverse=of_run[0].record.get("mode") == "max")


def record_path(path: str) -> str:
    return path + ".json"


def previous(path: str) -> Optional[dict[str, Any]]:
    """The record of the file that stands at `path` now; `None` where none does or it is not what was saved."""
    try:
        record = verified(Kept(path, _files.read_json(record_path(path))))
    except (OSError, ValueError):
        return None
    return {name: value for name, value in record.items() if name != "previous"}


def verified(kept: Kept) -> dict[str, Any]:
    """The record of a file that is just what was saved; raises where it is not."""
    if not os.path.exists(kept.path):
        raise FileNotFoundError(f"{kept.path!r}: the file is missing")
    digest = _files.sha256(kept.path)
    for record in (kept.record, kept.record.get("previous")):
        if isinstance(record, dict) and record.get("sha256") == digest:
            return record
    raise ValueError(f"{kept.path!r}: damaged or incomplete, its SHA-256 is not the one in its record")


def remove(path: str) -> None:
    for each in (path, record_path(path)):
        with contextlib.suppress(FileNotFoundError):
            os.remove(each)
