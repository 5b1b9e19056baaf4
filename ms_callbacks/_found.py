"""What a file or a folder that a run has left is, as plain facts for the commands `show` and `runs`.

MindSpore is not imported. Nothing is believed of a file before its type is checked: it may come from anywhere.
"""

from __future__ import annotations

import datetime
import os
import sys
from typing import Any, Optional

from .checkpointing import _checkpoint_index, _state_files
from .core import weight_files

__all__ = ["NotHereError", "checkpoint", "is_checkpoint", "is_state", "state", "totals"]

_REFUSED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
_LAST_EPOCH = "its last epoch"  # what TrainingState calls the end of a run that nothing has stopped
_NETWORK = "network/"
_MOST_CHARACTERS = 200


class NotHereError(Exception):
    """What was asked for is not there, or is of another kind."""


def is_checkpoint(path: str) -> bool:
    """Return whether a path has the ending of a file of weights."""
    return os.path.splitext(path)[1] in weight_files.ENDINGS


def is_state(path: str) -> bool:
    """Return whether a folder is a state of `TrainingState`."""
    whole = os.path.abspath(path)  # `state-00000001/` and `.` have no name of their own
    return _state_files.is_state(whole) and os.path.lexists(os.path.join(path, _state_files.CONTENT))


def checkpoint(path: str, *, verify: bool = True, within: Optional[str] = None) -> dict[str, Any]:
    """Return the facts about a file of weights.

    Args:
        path: the file.
        verify: whether to compute the checksums of the whole file. Default: True.
        within: a folder that no link may lead out of. Default: None, links may lead anywhere.
    """
    facts = _begun(path, "checkpoint")
    facts.update(format=os.path.splitext(path)[1][1:], record=None)
    recorded = f"{path}.json"
    try:
        _check_place(path, within)
        weight_files.opened(path).close()
        facts["bytes"] = os.path.getsize(path)
        if os.path.lexists(recorded):
            _check_place(recorded, within)
            kept = _checkpoint_index.at(path)
            if "sha256" in kept.record:  # otherwise it is some other file
                facts["record"] = _record(kept.record)
                if verify:
                    facts["record"] = _record(_checkpoint_index.verified(kept))
                    facts["verified_by"] = "the SHA-256 in its record"
    except _REFUSED as error:
        facts["problems"].append(_reason(error, path))
    try:
        _check_place(path, within)
        held = weight_files.read(path, verify=verify)
        facts["parameters"] = held.arrays
        facts["verified_by"] = facts["verified_by"] or held.verified_by
    except _REFUSED as error:
        facts["problems"].append(_reason(error, path))
    return _ended(facts)


def state(path: str, *, verify: bool = True, within: Optional[str] = None) -> dict[str, Any]:
    """Return the facts about a state of `TrainingState`; the arguments are those of `checkpoint`."""
    facts = _begun(path, "state")
    facts.update(run=None, epoch=None, epochs=None, step_in_epoch=None, steps_per_epoch=None)
    facts.update(finished=None, finished_by=None, callbacks=[], best=None, saved_at=None, mindspore=None)
    try:
        files = [os.path.join(path, name) for name in (_state_files.CONTENT, _state_files.WEIGHTS)]
        for file in files:
            _check_place(file, within or path)
            weight_files.opened(file).close()
        facts["bytes"] = sum(map(os.path.getsize, files))
        content = _state_files.verified_content(path, with_weights=verify)
        facts.update(_content(content))
        held = weight_files.read(files[1], verify=False).arrays
        facts["parameters"] = [
            one._replace(name=one.name[len(_NETWORK) :]) for one in held if one.name.startswith(_NETWORK)
        ]
        facts["verified_by"] = "the SHA-256 in it" if verify else None
    except _REFUSED as error:
        facts["problems"].append(_reason(error, path))
    return _ended(facts)


def totals(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts with totals of the parameters instead of a list of them."""
    parameters = facts["parameters"]
    return {**facts, "parameters": len(parameters), "values": sum(each.values for each in parameters)}


def _begun(path: str, kind: str) -> dict[str, Any]:
    return {
        "path": path, "kind": kind, "bytes": None, "whole": False, "problems": [], "verified_by": None,
        "parameters": [],
    }  # fmt: skip


def _ended(facts: dict[str, Any]) -> dict[str, Any]:
    facts["problems"] = list(dict.fromkeys(facts["problems"]))
    facts["whole"] = not facts["problems"]
    return facts


def _check_place(path: str, within: Optional[str]) -> None:
    """Raise if a path leads out of a folder by links."""
    if within is None:
        return
    folder = os.path.realpath(within)
    if os.path.commonpath([folder, os.path.realpath(path)]) != folder:
        raise ValueError(f"{os.path.basename(path)} is a link that leads out of the folder")


def _reason(error: BaseException, path: str) -> str:
    """Return what is wrong, without the path, which is printed in front of it."""
    if isinstance(error, (KeyError, TypeError, AttributeError)):
        return "it has other content than what was saved"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text[len(f"{path!r}: ") :] if text.startswith(f"{path!r}: ") else text


def _record(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the record of a checkpoint says."""
    versions = record.get("versions")
    return {
        "monitor": _text(record.get("monitor")),
        "mode": _text(record.get("mode")),
        "value": _number(record.get("value")),
        "epoch": _count(record.get("epoch")),
        "step": _count(record.get("step")),
        "between_steps": record.get("between_steps") is True,
        "with_optimizer": record.get("with_optimizer") is True,
        "run": _text(record.get("run")),
        "saved_at": _date(record.get("saved_at")),
        "mindspore": _text(versions.get("mindspore")) if isinstance(versions, dict) else None,
    }


def _content(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a state says."""
    epoch, epochs = _count(content["epoch"]), _count(content["epochs"])
    if epoch is None or epochs is None:
        raise TypeError("the epochs are numbers")
    finished_by = _text(content["finished_by"]) or None
    callbacks, best = [], None
    for each in content["callbacks"]:
        monitor = _text(each["arguments"].get("monitor"))
        callbacks.append(f"{_text(each['name'])}({monitor!r})" if monitor else _text(each["name"]))
        learnt = each["state"] if isinstance(each["state"], dict) else {}
        value = _number(learnt.get("best"))
        if best is None and monitor and value is not None:
            best = {"monitor": monitor, "value": value, "epoch": _count(learnt.get("best_epoch"))}
    return {
        "run": _text(content["run"]),
        "epoch": epoch,
        "epochs": epochs,
        "step_in_epoch": _count(content["step_in_epoch"]),
        "steps_per_epoch": _count(content["steps_per_epoch"]),
        "finished": finished_by is not None or epoch >= epochs,
        "finished_by": None if finished_by == _LAST_EPOCH else finished_by,
        "callbacks": callbacks,
        "best": best,
        "saved_at": _date(content["saved_at"]),
        "mindspore": _text(content["versions"]["mindspore"]),
    }


def _text(value: Any) -> Optional[str]:
    return value[:_MOST_CHARACTERS] if isinstance(value, str) else None


def _count(value: Any) -> Optional[int]:
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def _number(value: Any) -> Optional[float]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) <= sys.float_info.max else None  # which excludes NaN too


def _date(seconds: Any) -> Optional[str]:
    """Return a time in seconds since 1970 as ISO 8601, in the local time zone."""
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
        return moment.astimezone().isoformat(timespec="seconds")
    except _REFUSED:
        return None
