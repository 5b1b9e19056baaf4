"""The contents of layers: kernels and feature maps, as numbers and as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import nn

from ..core.console import counted
from ..core.plotting import figure, save
from ._layer_values import numbers_of

__all__ = ["Contents"]

_COLUMNS = 4


class Contents:
    """The first kernel and the first output channel of each convolution, and the last layer's output.

    All are for the batch's first sample, and from the first call of a layer that is called more than once.
    """

    def __init__(self) -> None:
        self._kernels: dict[str, np.ndarray[Any, Any]] = {}
        self._maps: dict[str, np.ndarray[Any, Any]] = {}
        self._kinds: dict[str, str] = {}
        self._last: tuple[str, np.ndarray[Any, Any]] = ("", np.zeros(0))

    def add(self, name: str, layer: nn.Cell, output: np.ndarray[Any, Any]) -> None:
        """Add a call of a layer; an output of size 0 has no sample to show."""
        if not output.size:
            return
        self._kinds[name] = type(layer).__name__
        if isinstance(layer, nn.Conv2d) and name not in self._kernels:
            self._kernels[name] = numbers_of(layer.weight)[0, 0].copy()
            self._maps[name] = output[0, 0].copy()
        # A scalar, such as a loss, covers all samples.
        self._last = name, (output[0] if output.ndim else output).reshape(-1).copy()

    def __str__(self) -> str:
        blocks = []
        for name, kernel in self._kernels.items():
            blocks += [
                f"{self._titled(name)}, kernel 1:\n{_numbers(kernel)}",
                f"{self._titled(name)}, output channel 1:\n{_numbers(self._maps[name])}",
            ]
        blocks.append(f"{self._titled(self._last[0])}, output:\n{_numbers(self._last[1])}")
        return "\n".join(blocks)

    def draw(self, path: str) -> None:
        """Draw them into a PNG."""
        pictures = []
        for name, kernel in self._kernels.items():
            pictures += [
                (f"{self._titled(name)}\nkernel 1, {_size(kernel)}", kernel),
                (f"{self._titled(name)}\noutput channel 1, {_size(self._maps[name])}", self._maps[name]),
            ]
        rows = -(-(len(pictures) + 1) // _COLUMNS)
        canvas = figure(2.6 * _COLUMNS, 2.8 * rows)
        for place, (title, picture) in enumerate(pictures, 1):
            axes = canvas.add_subplot(rows, _COLUMNS, place)
            shown = axes.imshow(picture, cmap="viridis")
            canvas.colorbar(shown, ax=axes, fraction=0.046)
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
        axes = canvas.add_subplot(rows, _COLUMNS, len(pictures) + 1)
        axes.bar(range(self._last[1].size), self._last[1].astype(np.float64), color="0.35")
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(f"{self._titled(self._last[0])}\noutput, {counted(self._last[1].size, 'value')}", fontsize=9)
        axes.set_xlabel("place in the output", fontsize=8)
        save(canvas, path)

    def _titled(self, name: str) -> str:
        """Return a layer's name with its class, because a name may be just a number: `0 (Conv2d)`."""
        kind = self._kinds.get(name, name)
        return name if kind == name else f"{name} ({kind})"


def _size(array: np.ndarray[Any, Any]) -> str:
    return "x".join(map(str, array.shape))


def _numbers(array: np.ndarray[Any, Any]) -> str:
    return np.array2string(array, precision=3, suppress_small=True, threshold=200, edgeitems=3)
