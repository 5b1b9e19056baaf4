"""What the trackers of single clients share: the client's object, and values as clients accept them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["ClientTracker", "as_numbers", "cut", "safe_name"]

_MARK = "... (cut)"


class ClientTracker:
    """A tracker that holds an object of its client's during a run; a copy or a pickle does not."""

    client: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "client"}


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, with a mark at its end if it was longer."""
    return text if len(text) <= limit else text[: limit - len(_MARK)] + _MARK


def safe_name(name: str, forbidden: str, limit: int) -> str:
    """Return a name with each match of the pattern `forbidden` replaced by an underscore, and cut."""
    return cut(re.sub(forbidden, "_", name) or "_", limit)


def as_numbers(name: str, values: np.ndarray[Any, Any]) -> Mapping[str, float]:
    """Return the distribution of values as numbers, for clients without histograms."""
    if not values.size:
        return {}
    wide = values.astype(np.float64)
    return {
        f"{name}/{key}": float(function(wide))
        for key, function in {"min": np.min, "mean": np.mean, "std": np.std, "max": np.max}.items()
    }
