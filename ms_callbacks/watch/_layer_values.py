"""What a layer puts out, in a few numbers, and whether something is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core._table import render

__all__ = ["LayerValues", "values_of", "values_table"]

# A bounded activation counts as saturated where nearly all of its outputs are at a bound.
_SATURATED_SHARE = 0.95
_SATURATED_MARGIN = 0.01
_BOUNDS = {"Sigmoid": (0.0, 1.0), "HSigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0), "ReLU6": (0.0, 6.0)}


@dataclass(frozen=True)
class LayerValues:
    """What a layer put out at a step, over all elements.

    `finding` is `"dead"`, `"saturated"`, `"not finite"` or `""`.
    """

    name: str
    type: str
    minimum: float
    maximum: float
    mean: float
    zeros: float
    finding: str


def values_of(name: str, kind: str, output: np.ndarray[Any, Any]) -> LayerValues:
    """The values of a layer's output, and what is wrong with them."""
    output = output.astype(np.float64)
    zeros = float((output == 0).mean())
    finding = ""
    if not np.isfinite(output).all():
        finding = "not finite"
    elif zeros == 1:
        finding = "dead"
    elif kind in _BOUNDS:
        low, high = _BOUNDS[kind]
        margin = _SATURATED_MARGIN * (high - low)
        # ReLU6 rests at 0 by design, so that only its upper bound counts.
        at_bound = (output >= high - margin) | (kind != "ReLU6" and output <= low + margin)
        finding = "saturated" if at_bound.mean() >= _SATURATED_SHARE else ""
    return LayerValues(name, kind, float(output.min()), float(output.max()), float(output.mean()), zeros, finding)


def values_table(values: list[LayerValues]) -> str:
    """A row for each."""
    header = "Layer Type Minimum Maximum Mean Zeros Finding".split()
    cells = [
        [
            each.name,
            each.type,
            f"{each.minimum:.4g}",
            f"{each.maximum:.4g}",
            f"{each.mean:.4g}",
            f"{each.zeros:.1%}",
            each.finding,
        ]
        for each in values
    ]
    return render(header, cells, right=("Minimum", "Maximum", "Mean", "Zeros"))
