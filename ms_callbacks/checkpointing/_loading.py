"""Read a checkpoint, and write what it holds into a network: the other side of saving, which needs no run."""

from __future__ import annotations

import os
from typing import Any, Optional

from mindspore import nn

from ..core import checkpoint_io
from ..core.model_parts import optimizers_of, placed_parameters, take_apart
from ..core.parameters import Arrays, aligned, load_into, with_optimizer, without_optimizer
from ._checkpoint_index import CheckpointRecord, verified

__all__ = ["load_checkpoint", "read"]


def read(kept: CheckpointRecord) -> tuple[dict[str, Any], Arrays]:
    """Return the record and the weights of one and the same file, even while a run is saving there."""
    for _ in range(3):
        before = os.stat(kept.path) if os.path.exists(kept.path) else None
        record = verified(kept)
        arrays = checkpoint_io.load(kept.path)
        after = os.stat(kept.path)
        if before is not None and (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns):
            return record, arrays
    raise ValueError(f"{kept.path!r}: replaced again and again while it was read")


def load_checkpoint(owner: str, network: nn.Cell, record: dict[str, Any], arrays: Arrays, path: str) -> Optional[str]:
    """Write the content of a file into a network, or a cell around one.

    Returns:
        What of the file was left out, as a sentence; `None` if nothing was.
    """
    has_optimizer = record.get("with_optimizer", _has_optimizer(arrays))
    parts = take_apart(network)
    parameters = parts.weights
    if record and has_optimizer and optimizers_of(network):
        parameters = with_optimizer(network, parameters)
    elif has_optimizer and not all(name in arrays for name in parameters):
        arrays = without_optimizer(arrays)
    saved = arrays
    arrays, beside = aligned(owner, parameters, saved, path)
    if parts.network is not None and not parts.beside and not all(name in arrays for name in parameters):
        # A cell around the network has renamed parameters whose name differs from their attribute's.
        placed = placed_parameters(parts.network)
        by_place, beside_places = aligned(owner, placed, saved, path)
        if all(name in by_place for name in placed):
            parameters, arrays, beside = placed, by_place, beside_places
    load_into(owner, parameters, arrays, path, besides=None if has_optimizer else record.get("beside", ()))
    if not beside or has_optimizer:
        return None
    return f"{path!r} holds more than this network; left out: {', '.join(sorted(beside))}"


def _has_optimizer(arrays: Arrays) -> bool:
    """Return whether arrays without a record are those of a training cell, which has a step besides its weights."""
    return any(name.rpartition(".")[2] == "global_step" for name in arrays)
