"""Pictures drawn with matplotlib, which is imported only when a picture is requested.

Figures are created without pyplot, so that the user's own plots, styles and backend are unaffected.
"""

from __future__ import annotations

import importlib.util
import io
import math
import os
import warnings
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from . import distributed
from .arguments import check_path
from .atomic_files import staged
from .fonts import choose_fonts

__all__ = [
    "Picture",
    "as_picture",
    "check_image_shape",
    "check_matplotlib",
    "check_picture",
    "check_png",
    "contact_sheet",
    "figure",
    "has_matplotlib",
    "is_image_shape",
    "save",
]

_DOTS_PER_INCH = 120
_SHOWN_PER_INCH = 96  # by a notebook: the other dots are for screens with more
_CELL_INCHES = 1.7
_CAPTION_LINE_INCHES = 0.16


class Picture:
    """A figure as a PNG in memory, which a notebook shows."""

    def __init__(self, drawn: Any) -> None:
        file = io.BytesIO()
        _write(drawn, file)
        self._png = file.getvalue()
        self._size = tuple(round(float(inches) * _SHOWN_PER_INCH) for inches in drawn.get_size_inches())

    def __repr__(self) -> str:
        """Return the size in pixels."""
        return f"<picture of {self._size[0]} x {self._size[1]} pixels>"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self._png, dict(zip(("width", "height"), self._size))


def has_matplotlib() -> bool:
    """Return whether matplotlib is installed, without importing it."""
    return importlib.util.find_spec("matplotlib") is not None


def check_matplotlib(owner: str) -> None:
    """Raise unless matplotlib is installed, without importing it."""
    if not has_matplotlib():
        raise ImportError(f"{owner}: a picture needs matplotlib; pip install 'ms-callbacks[plots]'")


def check_picture(owner: str, picture: Any) -> Optional[str]:
    """Return the absolute path of a PNG, or `None`; raise if it is not such a path or pictures cannot be drawn."""
    return None if picture is None else check_png(owner, "picture", picture)


def check_png(owner: str, name: str, value: Any) -> str:
    """Return the absolute path of a PNG; raise if it is not such a path or pictures cannot be drawn."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{owner}: {name} must be the path of a PNG file, but got {value!r} ({type(value).__name__})")
    if not os.fsdecode(value).lower().endswith(".png"):
        raise ValueError(f"{owner}: {name} must end in '.png', but got {os.fspath(value)!r}")
    check_matplotlib(owner)
    return check_path(owner, name, value)


def figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure of this size in inches, laid out when it is saved."""
    check_matplotlib("ms_callbacks")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")


def save(drawn: Any, path: str) -> None:
    """Write a figure as a complete PNG, or not at all."""
    if not distributed.is_first():
        return
    with staged(path, lambda file: _write(drawn, file)):
        pass


def _write(drawn: Any, file: Any) -> None:
    choose_fonts(drawn)
    with warnings.catch_warnings():
        # Warned for each glyph that no font has (already reported once), and for scripts old versions cannot shape.
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not support")
        drawn.savefig(file, format="png")


def as_picture(owner: str, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an image of shape (h, w), (1, h, w) or (3, h, w) as RGB of shape (h, w, 3).

    It is scaled from 0, its darkest value, to 1, its brightest, however it was normalised. Values that are not finite
    are black.
    """
    check_image_shape(owner, image.shape)
    values = image.astype(np.float64)
    if values.ndim == 3:
        values = values.transpose(1, 2, 0) if len(values) == 3 else values[0]
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    values = np.where(np.isfinite(values), (values - low) / ((high - low) or 1.0), 0.0)
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)


def check_image_shape(owner: str, shape: tuple[int, ...]) -> None:
    """Raise unless an image of this shape can be drawn."""
    if not is_image_shape(shape):
        raise ValueError(
            f"{owner}: picture needs images of shape (h, w), (1, h, w) or (3, h, w), but each is of shape {shape}; "
            f"leave picture out"
        )


def is_image_shape(shape: tuple[int, ...]) -> bool:
    """Return whether an image of this shape can be drawn."""
    return len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))


def contact_sheet(pictures: Sequence[np.ndarray[Any, Any]], captions: Sequence[str]) -> Any:
    """Return a figure with rows of `pictures`, RGB of shape (h, w, 3) in [0, 1], each with its caption below."""
    height, width = (max(each.shape[axis] for each in pictures) for axis in (0, 1))
    shape = width / height
    columns = max(1, min(len(pictures), round(math.sqrt(len(pictures) / shape) + 0.49)))
    rows = math.ceil(len(pictures) / columns)
    cell_height = _CELL_INCHES + _CAPTION_LINE_INCHES * (1 + max(caption.count("\n") + 1 for caption in captions))
    sheet = figure(columns * max(_CELL_INCHES, _CELL_INCHES * shape), rows * cell_height)
    for index, axes in enumerate(sheet.subplots(rows, columns, squeeze=False).flat):
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        if index < len(pictures):
            axes.imshow(np.clip(pictures[index], 0, 1), interpolation="nearest")
            axes.set_xlabel(captions[index], fontsize=8)
    return sheet
