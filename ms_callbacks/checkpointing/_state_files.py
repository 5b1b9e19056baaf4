"""The files of a state, and whether they are exactly what was saved; read without MindSpore."""

from __future__ import annotations

import os
import re
from typing import Any

from ..core import atomic_files

__all__ = ["CONTENT", "FORMAT", "PREFIX", "WEIGHTS", "is_state", "number_of", "paths_in", "verified_content"]

FORMAT = 3
WEIGHTS, CONTENT = "weights.ckpt", "state.json"
PREFIX = "state-"
_NAME = re.compile(PREFIX + r"\d{8,}")
_MOST_CONTENT_BYTES = 1 << 28  # room for the history of a million epochs


def is_state(path: str) -> bool:
    """Return whether a folder has the name of a state."""
    return _NAME.fullmatch(os.path.basename(path)) is not None


def paths_in(directory: str) -> list[str]:
    """Return the states in a directory, the oldest first."""
    return sorted((os.path.join(directory, name) for name in os.listdir(directory) if is_state(name)), key=number_of)


def number_of(path: str) -> int:
    """Return the number of a state, which is the higher, the later it was saved."""
    return int(os.path.basename(path)[len(PREFIX) :])


def verified_content(path: str, *, with_weights: bool = True) -> dict[str, Any]:
    """Return the content of a state that is exactly what was saved; raise if it is not.

    Args:
        path: the folder of the state.
        with_weights: whether to read the weights for their SHA-256, and not only compare their size. Default: True.
    """
    file = atomic_files.read_json(os.path.join(path, CONTENT), _MOST_CONTENT_BYTES)
    content: dict[str, Any] = file["content"]
    if atomic_files.digest_of(content) != file["sha256"]:
        raise ValueError(f"damaged, the SHA-256 of {CONTENT} is not the one in it")
    if content["format"] != FORMAT:
        raise ValueError(f"of format {content['format']}, which this version does not know")
    weights, expected = os.path.join(path, WEIGHTS), content["weights"]
    is_whole = os.path.getsize(weights) == expected["bytes"]
    if not is_whole or (with_weights and atomic_files.sha256(weights) != expected["sha256"]):
        raise ValueError(f"damaged or incomplete, the SHA-256 of {WEIGHTS} is not the one in its record")
    return content
