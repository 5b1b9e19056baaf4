"""The command `show`: what one checkpoint or state holds, and whether it is whole."""

from __future__ import annotations

import os
from typing import Any, Optional

from . import _found
from ._output import print_json
from .checkpointing import _state_files
from .core import atomic_files, weight_files
from .core.console import counted, print_line, printable
from .core.tables import render

__all__ = ["show"]


def show(path: str, *, as_json: bool = False) -> int:
    """Print what a file or folder is; return the exit status: 1 if it is damaged, otherwise 0."""
    facts = _facts(path)
    if as_json:
        print_json(_listed(facts))
    else:
        print_line("\n".join(map(printable, _lines(facts))))
    return 0 if facts["whole"] else 1


def _facts(path: str) -> dict[str, Any]:
    """Return the facts about a path; raise unless it is a checkpoint, a state or a folder of states."""
    if not os.path.lexists(path):
        raise _found.NotHereError(f"{path!r} does not exist")
    if not os.path.isdir(path):
        if _found.is_checkpoint(path):
            return _found.checkpoint(path)
        is_record = path.endswith(".json") and _found.is_checkpoint(path[: -len(".json")])
        raise _found.NotHereError(
            f"{path!r} is not a file of weights, which ends in one of {weight_files.ENDINGS}"
            + (f"; show {path[: -len('.json')]!r}, whose record it is" if is_record else "")
        )
    if _found.is_state(path):
        return _found.state(path)
    try:
        paths = _state_files.paths_in(path)
    except OSError as error:
        raise _found.NotHereError(f"the folder {path!r} cannot be read: {error.strerror}") from None
    states = [_found.state(each, within=path) for each in paths]
    if not states:
        raise _found.NotHereError(
            f"the folder {path!r} holds no state of TrainingState; for what is in the folders below it, use "
            f"'ms-callbacks runs'"
        )
    newest = next((each for each in reversed(states) if each["whole"]), states[-1])
    problems = [f"{os.path.basename(each['path'])}: {one}" for each in states for one in each["problems"]]
    return {
        "path": path, "kind": "states", "whole": not problems, "problems": problems, "newest": newest["path"],
        "states": states,
    }  # fmt: skip


def _listed(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts with the parameters as JSON has them."""
    if "states" in facts:
        return {**facts, "states": [_listed(each) for each in facts["states"]]}
    parameters = facts["parameters"]
    listed = [{"name": one.name, "shape": one.shape, "dtype": one.dtype, "bytes": one.size} for one in parameters]
    return {**facts, "parameters": listed, "values": sum(one.values for one in parameters)}


def _lines(facts: dict[str, Any]) -> list[str]:
    """Return the lines of the printed report."""
    if facts["kind"] == "states":
        newest = next(each for each in facts["states"] if each["path"] == facts["newest"])
        return [
            f"{facts['path']}: {counted(len(facts['states']), 'state')}",
            *(
                f"Also there:  {os.path.basename(each['path'])}, "
                + (progress(each) if each["whole"] else f"damaged: {each['problems'][0]}")
                for each in facts["states"]
                if each is not newest
            ),
            *_lines(newest),
        ]
    size = "" if facts["bytes"] is None else f", {atomic_files.in_words(facts['bytes'])}"
    lines = [f"{facts['path']}: {facts['kind']}{size}"]
    lines += [f"Damaged:     {problem}" for problem in facts["problems"]]
    if facts["whole"]:
        verified = f"yes, verified by {facts['verified_by']}" if facts["verified_by"] else _UNVERIFIED
        lines.append(f"Whole:       {verified}")
    lines += _of_state(facts) if facts["kind"] == "state" else _of_record(facts["record"])
    parameters = facts["parameters"]
    if not parameters:
        return lines
    lines.append(
        f"Parameters:  {len(parameters):,} with {sum(one.values for one in parameters):,} values, "
        f"{atomic_files.in_words(sum(one.size for one in parameters))}"
    )
    rows = [[one.name, str(one.shape), one.dtype, f"{one.values:,}"] for one in parameters]
    header = ["name", "shape", "dtype", "values"]
    return [*lines, *render(header, [list(map(printable, row)) for row in rows], ["values"]).split("\n")]


_UNVERIFIED = "as far as its format shows; it has no record and no checksum, so altered values would not be noticed"


def _of_record(record: Optional[dict[str, Any]]) -> list[str]:
    if record is None:
        return []
    lines = []
    if record["monitor"] is not None:
        value = "not a number" if record["value"] is None else f"{record['value']:.6g}"
        lines.append(f"Monitor:     {record['monitor']} ({record['mode']}): {value}")
    step = f", step {record['step']}" if record["between_steps"] else ""
    lines.append(f"Saved:       in epoch {record['epoch']}{step}{_when(record)}")
    lines.append(f"Optimizer:   {'included' if record['with_optimizer'] else 'not included'}")
    return lines


def _of_state(facts: dict[str, Any]) -> list[str]:
    if facts["epoch"] is None:
        return []
    lines = [f"Run:         {progress(facts)}"]
    if facts["best"] is not None:
        best = facts["best"]
        lines.append(f"Best:        {best['monitor']} {best['value']:.6g} in epoch {best['epoch']}")
    lines.append(f"Saved:       after {counted(facts['epoch'], 'epoch')}{_when(facts)}")
    lines.append(f"Callbacks:   {', '.join(map(str, facts['callbacks'])) or 'none with a state'}")
    return lines


def progress(facts: dict[str, Any]) -> str:
    """Return how far the run of a state is, and whether it can be resumed."""
    epoch, epochs = facts["epoch"], facts["epochs"]
    if facts["finished_by"] is not None:
        return f"finished: {facts['finished_by']} stopped it after {epoch} of {counted(epochs, 'epoch')}"
    if facts["finished"]:
        return f"finished: {epoch} of {counted(epochs, 'epoch')}"
    step = f" after step {facts['step_in_epoch']} of {facts['steps_per_epoch']}" if facts["step_in_epoch"] else ""
    return f"can be resumed in epoch {epoch + 1} of {epochs}{step}"


def _when(facts: dict[str, Any]) -> str:
    date = "" if facts["saved_at"] is None else f", {facts['saved_at'][:16].replace('T', ' ')}"
    return date + ("" if facts["mindspore"] is None else f", with MindSpore {facts['mindspore']}")
