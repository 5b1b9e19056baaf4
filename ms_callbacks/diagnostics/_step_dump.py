"""A training step on disk: its batch, the weights before it and its outcome. Whole when written, verified when read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from mindspore import Tensor, nn

from ..core import atomic_files, checkpoint_io
from ..core.forward_hooks import observe, tensors_in
from ..core.gradients import loss_and_gradients, norm_of
from ..core.model_parts import positional_count
from ._layer_values import numbers_of

__all__ = ["FirstOutput", "StepDump", "as_tensors", "inside", "prune"]

WEIGHTS, BATCH, REPORT = "weights.ckpt", "batch.npz", "report.json"
_MOST_REPORT_BYTES = 1 << 26  # room for the gradients of half a million parameters
_NAME = re.compile(r"epoch-\d{3,}-step-\d{5,}(-\d+)?")

Arrays = dict[str, np.ndarray[Any, Any]]


class StepDump(NamedTuple):
    """A step: the train network's parameters before it, the columns of its batch, and a report in plain values."""

    parameters: Arrays
    batch: Sequence[np.ndarray[Any, Any]]
    report: dict[str, Any]

    def write(self, directory: str) -> str:
        """Write it to a folder of its own, named after its epoch and step; return the folder."""
        name = f"epoch-{self.report['epoch']:03d}-step-{self.report['step']:05d}"
        path = os.path.join(directory, name)
        again = 1
        while os.path.exists(path):  # from an earlier run that got as far
            again += 1
            path = os.path.join(directory, f"{name}-{again}")
        with atomic_files.staged_folder(path) as folder:
            weights, batch = os.path.join(folder, WEIGHTS), os.path.join(folder, BATCH)
            saved = atomic_files.written(weights, lambda file: checkpoint_io.save(file, self.parameters))
            columns: Any = {f"column_{index:03d}": column for index, column in enumerate(self.batch)}
            np.savez(batch, **columns)
            digests = {WEIGHTS: saved, BATCH: atomic_files.sha256(batch), REPORT: _digest(self.report)}
            with open(os.path.join(folder, REPORT), "w", encoding="utf-8") as file:
                json.dump({**self.report, "sha256": digests}, file, indent=2, allow_nan=False)
                file.write("\n")
        return path

    @classmethod
    def read(cls, owner: str, path: str) -> StepDump:
        """Read what `write` wrote; raise if it is anything else."""
        if not os.path.isdir(path):
            raise FileNotFoundError(f"{owner}: there is no folder {path!r}")
        try:
            report = atomic_files.read_json(os.path.join(path, REPORT), _MOST_REPORT_BYTES)
            digests = report.pop("sha256")
            found = {name: atomic_files.sha256(os.path.join(path, name)) for name in (WEIGHTS, BATCH)}
            for name, digest in {REPORT: _digest(report), **found}.items():
                if digests[name] != digest:
                    raise ValueError(f"the SHA-256 of {name} is not the one in {REPORT}")
            parameters = checkpoint_io.load(os.path.join(path, WEIGHTS))
            with np.load(os.path.join(path, BATCH), allow_pickle=False) as columns:
                return cls(parameters, [columns[name] for name in sorted(columns.files)], report)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{owner}: {path!r} is damaged or incomplete: {error}; nothing was loaded") from error


def prune(directory: str, keep: int) -> None:
    """Remove all dumps in `directory` except the newest `keep`."""
    names = [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
    dumps = [path for path in (os.path.join(directory, name) for name in names) if _is_dump(path)]
    for path in sorted(dumps, key=lambda path: os.stat(path).st_mtime_ns)[:-keep]:
        shutil.rmtree(path, ignore_errors=True)


def as_tensors(batch: Sequence[np.ndarray[Any, Any]]) -> tuple[Tensor, ...]:
    """Return the columns of a batch in the form that a train network takes."""
    return tuple(Tensor(column) for column in batch)


class FirstOutput(NamedTuple):
    """The first output of a step that is not finite.

    `layer` is the cell that returned it, `bad_inputs` says which of its `inputs` (from 1) were already not finite.
    `made_in` is the cell whose `construct` produced it from finite inputs: the layer itself or, with an operator
    between its cells, one around it; `None` if it came with the batch.
    """

    layer: str
    kind: str  # its class
    inputs: int
    bad_inputs: list[int]
    made_in: Optional[str]
    is_of_user: bool  # whether `made_in` is not one of MindSpore's classes
    is_container: bool = False
    is_loss: bool = False

    def __str__(self) -> str:
        named = repr(self.layer) if self.layer == self.kind else f"{self.layer!r} ({self.kind})"
        told = f"the first output that is not finite is that of {'the loss ' if self.is_loss else ''}{named}"
        if not self.bad_inputs:
            told += f", whose {'input is' if self.inputs == 1 else 'inputs are'} finite"
            if self.is_container:
                told += ", and so are the outputs of the cells in it: an operator in its construct produced it"
            return told
        which = "" if self.inputs == 1 else f" {', '.join(map(str, self.bad_inputs))} of {self.inputs}"
        told += f", whose input{which} was already not finite"
        return told if self.made_in is None else f"{told}: an operator in the construct of {self.made_in!r} produced it"


class _Call(NamedTuple):
    """A completed call of a cell."""

    name: str
    cell: nn.Cell
    bad_inputs: list[int]
    inputs: int


def inside(
    network: Optional[nn.Cell], loss_fn: Any, batch: tuple[Tensor, ...]
) -> tuple[Optional[FirstOutput], dict[str, float]]:
    """Look inside a step: find the first output that is not finite, and the norm of each gradient.

    The batch runs in PYNATIVE mode with the network's own flags, without loss scaling. Everything is restored
    afterwards.
    """
    if network is None:
        raise ValueError("the training cell holds no network that can be identified")
    inputs = batch[: positional_count(network)] if loss_fn is None else batch[:-1]
    calls: list[_Call] = []  # from the first call with such an output, and the cells around it

    def see(name: str, cell: nn.Cell, cell_inputs: tuple[Any, ...], output: Any) -> None:
        if not calls and _are_finite(output):
            return
        if not calls or name == root or calls[0].name.startswith(f"{name}."):
            bad = [place for place, each in enumerate(cell_inputs, 1) if not _are_finite(each)]
            calls.append(_Call(name, cell, bad, len(cell_inputs)))

    root = type(network).__name__
    observe(network, inputs, {name or root: cell for name, cell in network.cells_and_names()}, see, training=True)
    parameters = network.trainable_params()
    loss, gradients = loss_and_gradients(network, loss_fn, batch, parameters)
    norms = {one.name: norm_of(each) for one, each in zip(parameters, gradients)}
    is_finite = _are_finite(loss)
    if calls:
        return _first_of(calls), norms
    if is_finite or loss_fn is None:
        return None, norms
    name = type(loss_fn).__name__
    bad = [] if _are_finite(batch[-1]) else [2]
    return FirstOutput(name, name, 2, bad, None if bad else name, _is_of_user(loss_fn), is_loss=True), norms


def _first_of(calls: list[_Call]) -> FirstOutput:
    first = calls[0]
    # The innermost cell whose own inputs were finite: if the first cell received bad inputs, one around it made them.
    maker = next((call for call in calls if not call.bad_inputs), None)
    return FirstOutput(
        first.name,
        type(first.cell).__name__,
        first.inputs,
        first.bad_inputs,
        None if maker is None else maker.name,
        maker is not None and _is_of_user(maker.cell),
        is_container=bool(first.cell.name_cells()),
    )


def _is_of_user(of_loss_or_cell: Any) -> bool:
    module = getattr(of_loss_or_cell, "__module__", "")
    return not str(module).startswith("mindspore.")


def _are_finite(values: Any) -> bool:
    return all(np.isfinite(numbers_of(tensor)).all() for tensor in tensors_in(values))


def _digest(report: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(report, sort_keys=True).encode()).hexdigest()


def _is_dump(path: str) -> bool:
    return os.path.isfile(os.path.join(path, REPORT))
