"""Save and restore the random states of Python, NumPy and MindSpore, as plain lists."""

from __future__ import annotations

import random
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import dataset as ds

__all__ = ["draw_from", "drawn_from", "restore_seeds", "seeds"]


def seeds() -> dict[str, Any]:
    """Return MindSpore's seeds, and the random states of Python and NumPy."""
    return {"mindspore": ms.get_seed(), "dataset": ds.config.get_seed(), **drawn_from()}


def drawn_from() -> dict[str, Any]:
    """Return the random states of Python and NumPy."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {"numpy": [kind, np.asarray(keys).tolist(), *rest], "python": [version, list(internal), gauss]}


def restore_seeds(saved: dict[str, Any]) -> None:
    """Restore what `seeds` returned."""
    if saved["mindspore"] is not None:
        ms.set_seed(saved["mindspore"])
    ds.config.set_seed(saved["dataset"])
    draw_from(saved)


def draw_from(saved: dict[str, Any]) -> None:
    """Restore the random states that `drawn_from` returned, as far as they are present."""
    if "numpy" in saved:
        kind, keys, *rest = saved["numpy"]
        np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    if "python" in saved:
        version, internal, gauss = saved["python"]
        random.setstate((version, tuple(internal), gauss))
