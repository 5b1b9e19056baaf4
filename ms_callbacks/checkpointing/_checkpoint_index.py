"""Find checkpoints on disk, with the records that say what they are and whether they are whole."""

from __future__ import annotations

import contextlib
import os
from typing import Any, NamedTuple, Optional

from ..core import atomic_files
from ..core.path_template import PathTemplate

__all__ = ["CheckpointRecord", "at", "is_without_record", "latest_run", "remove", "runs_before", "save", "verified"]

_OWN_DIGEST = "record_sha256"
# What this process has saved, and so need not read again: stamp and SHA-256 by path.
_saved: dict[str, tuple[tuple[int, int, int], str]] = {}


class CheckpointRecord(NamedTuple):
    """A checkpoint on disk."""

    path: str
    record: dict[str, Any]

    @property
    def value(self) -> float:
        return float(self.record["value"])


def at(path: str) -> CheckpointRecord:
    """Return the checkpoint at `path`; raise if it has no readable record."""
    try:
        return CheckpointRecord(path, _read(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path!r}: its record cannot be read ({error})") from error


def is_without_record(path: str) -> bool:
    """Return whether there is a file at `path` without a record: then it is not one of ours."""
    return os.path.isfile(path) and not os.path.exists(_record_path(path))


def save(path: str, write: atomic_files.Write, record: dict[str, Any]) -> None:
    """Save a checkpoint and its record with the SHA-256 of the file: completely, or leave the earlier one."""
    with atomic_files.staged(path, write) as record["sha256"]:
        # The record is written first and contains the old file's digest too: between the two renames the old file is
        # still there, and still verifies. The record has a digest of its own, because it decides which checkpoint is
        # the best.
        content = {**record, "previous": _previous(path)}
        atomic_files.write_json(_record_path(path), {**content, _OWN_DIGEST: atomic_files.digest_of(content)})
    _saved[path] = (_stamp(path), record["sha256"])


def latest_run(filepath: str, template: PathTemplate, besides: str) -> list[CheckpointRecord]:
    """Return what the latest run that saved to `filepath` left on disk, the best first, except `besides`.

    Those with a damaged record come first, without a record: they are refused as soon as they are verified.
    """
    found, damaged = [], []
    for path in _recorded(filepath):
        if path == besides:
            continue
        try:
            record = _read(path)
            if record.get("filepath") == os.path.basename(filepath):
                found.append((_order(record), CheckpointRecord(path, {**record, "value": float(record["value"])})))
        except (OSError, ValueError, KeyError, TypeError):
            if template.may_have_made(os.path.basename(path)) and os.path.isfile(path):
                damaged.append(CheckpointRecord(path, {}))
            # Otherwise it is not one of our records, but some other file.
    if not found:
        return damaged
    latest = max(found, key=lambda each: each[0])[1].record.get("run")
    of_run = [kept for _, kept in found if kept.record.get("run") == latest]
    return damaged + sorted(of_run, key=lambda each: each.value, reverse=of_run[0].record.get("mode") == "max")


def runs_before(filepath: str) -> int:
    """Return how many runs have saved to `filepath`, judging by the disk: unlike a clock, this never goes back."""
    most = 0
    for path in _recorded(filepath):
        with contextlib.suppress(OSError, ValueError, TypeError):
            record = _read(path)
            if record.get("filepath") == os.path.basename(filepath):
                most = max(most, int(record.get("runs_before", -1)) + 1)
    return most


def _recorded(filepath: str) -> list[str]:
    """Return the paths in the folder of `filepath` that have a JSON file next to them."""
    folder = os.path.dirname(filepath)
    names = sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else []
    return [os.path.join(folder, name[: -len(".json")]) for name in names if name.endswith(".json")]


def _order(record: dict[str, Any]) -> tuple[int, float]:
    return int(record.get("runs_before", -1)), float(record["saved_at"])


def _read(path: str) -> dict[str, Any]:
    record = atomic_files.read_json(_record_path(path))
    own = record.pop(_OWN_DIGEST, None)
    if own is not None and own != atomic_files.digest_of(record):
        raise ValueError("damaged, the SHA-256 of the record is not the one in it")
    return record


def _record_path(path: str) -> str:
    return path + ".json"


def _previous(path: str) -> Optional[dict[str, Any]]:
    """Return the record of the file at `path`; `None` if there is no file or it is not what was saved."""
    try:
        record = _read(path)
        if _saved.get(path) != (_stamp(path), record.get("sha256")):
            record = verified(CheckpointRecord(path, record))
    except (OSError, ValueError):
        return None
    return {name: value for name, value in record.items() if name != "previous"}


def _stamp(path: str) -> tuple[int, int, int]:
    """Return what changes whenever the file does."""
    state = os.stat(path)
    return state.st_ino, state.st_size, state.st_mtime_ns


def verified(kept: CheckpointRecord) -> dict[str, Any]:
    """Return the record of a file that is exactly what was saved; raise if it is not."""
    if not os.path.exists(kept.path):
        raise FileNotFoundError(f"{kept.path!r}: the file is missing")
    digest = atomic_files.sha256(kept.path)
    records = [kept.record, kept.record.get("previous")]
    with contextlib.suppress(OSError, ValueError):
        # The run has saved there again since, or failed in the very last step of a save.
        newer = _read(kept.path)
        records += [newer] if newer.get("run") == kept.record.get("run", "") else []
    for record in records:
        if isinstance(record, dict) and record.get("sha256") == digest:
            return record
    raise ValueError(f"{kept.path!r}: damaged or incomplete, its SHA-256 is not the one in its record")


def remove(path: str) -> None:
    """Remove a checkpoint and its record, if they exist."""
    for each in (path, _record_path(path)):
        with contextlib.suppress(FileNotFoundError):
            os.remove(each)
    _saved.pop(path, None)
