"""What the trackers of single clients share: the client's object, and values as clients accept them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["ClientTracker", "SafeNames", "as_image", "as_numbers", "cut"]

_MARK = "... (cut)"


class ClientTracker:
    """A tracker that holds an object of its client's during a run; a copy or a pickle does not."""

    client: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "client"}


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, with a mark at its end if it was longer."""
    return text if len(text) <= limit else text[: limit - len(_MARK)] + _MARK


class SafeNames:
    """Names that a client accepts: two different names never become one.

    Args:
        forbidden: a pattern; each match is replaced by an underscore.
        limit: how long a name may be.
    """

    def __init__(self, forbidden: str, limit: int) -> None:
        self.forbidden, self.limit = forbidden, limit
        self._made: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._made:
            first = made = re.sub(self.forbidden, "_", name)[: self.limit] or "_"
            number = 1
            while made in self._made.values():
                number += 1
                end = f"_{number}"
                made = first[: self.limit - len(end)] + end
            self._made[name] = made
        return self._made[name]


def as_image(figure: Any) -> Any:
    """Return a figure of matplotlib as an image of Pillow, which matplotlib requires.

    W&B 0.31 converts no figure unless pyplot was imported.
    """
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return Image.open(drawn)


def as_numbers(name: str, values: np.ndarray[Any, Any]) -> Mapping[str, float]:
    """Return the distribution of values as numbers, for clients without histograms."""
    if not values.size:
        return {}
    wide = values.astype(np.float64)
    numbers = {"min": wide.min(), "mean": wide.mean(), "std": wide.std(), "max": wide.max()}
    return {f"{name}/{key}": float(number) for key, number in numbers.items()}
