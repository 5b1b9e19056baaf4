"""Summarise a layer's output in a few numbers, and detect what is wrong with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

import numpy as np
from mindspore import Tensor, nn

from ..core.forward_hooks import first_tensor, observe, statistics_of
from ..core.tables import render
from ..core.tensors import as_array, is_finite

__all__ = ["LayerValues", "numbers_of", "observed_values", "values_of", "values_table"]

# A bounded activation counts as saturated if nearly all of its outputs are at a bound.
_SATURATED_SHARE = 0.95
_SATURATED_MARGIN = 0.01
# Findings that BatchNorm causes with a batch that is too small.
_BY_BATCH = ("dead", "saturated")
_BOUNDS = {"Sigmoid": (0.0, 1.0), "HSigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0), "ReLU6": (0.0, 6.0)}


Array = np.ndarray[Any, Any]
Also = Callable[[str, nn.Cell, Array], None]  # also receives each output, with its layer and the layer's name


@dataclass(frozen=True)
class LayerValues:
    """A layer's output at a step, over all elements of its first tensor; for complex numbers, their magnitudes.

    `finding` is `"dead"`, `"saturated"`, `"not finite"`, `"empty"` (no numbers, whose values are NaN) or `""`.
    """

    name: str
    type: str
    minimum: float
    maximum: float
    mean: float
    zeros: float
    finding: str


def observed_values(
    network: nn.Cell, inputs: tuple[Any, ...], layers: dict[str, nn.Cell], also: Optional[Also] = None
) -> list[LayerValues]:
    """Run a batch through the network and return the values of each call of `layers`, as in a training step.

    BatchNorm normalises by the batch, and all else is in evaluation mode. In the first steps, running statistics would
    mislead: they do not match the batches yet, and the resulting outputs of later layers would not be those layers'
    fault. If the statistics themselves are not finite, evaluation is broken, and their layer is named. With a batch
    that is too small, BatchNorm produces zeros, so dead or saturated layers must be so with the running statistics as
    well.
    """

    def look(also: Optional[Also], *, batch_statistics: bool) -> list[LayerValues]:
        seen: list[LayerValues] = []

        def see(name: str, layer: nn.Cell, taken: tuple[Any, ...], output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is None:
                return
            array = numbers_of(tensor)
            values = values_of(name, type(layer).__name__, array)
            if not all(is_finite(as_array(one)) for one in statistics_of(layer)):
                values = replace(values, finding="not finite")
            seen.append(values)
            if also is not None:
                also(name, layer, array)

        observe(network, inputs, layers, see, batch_statistics=batch_statistics)
        return seen

    found = look(also, batch_statistics=True)
    doubtful = any(values.finding in _BY_BATCH for values in found)
    if doubtful and any(statistics_of(cell) for _, cell in network.cells_and_names()):
        others = look(None, batch_statistics=False)
        if [each.name for each in others] == [each.name for each in found]:  # otherwise it took another path
            found = [
                replace(values, finding="") if values.finding in _BY_BATCH and not other.finding else values
                for values, other in zip(found, others)
            ]
    return found


def values_of(name: str, kind: str, output: Array) -> LayerValues:
    """Return the values of a layer's output, and what is wrong with them."""
    if not output.size:
        return LayerValues(name, kind, math.nan, math.nan, math.nan, math.nan, "empty")
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
        # ReLU6 is 0 at rest by design, so that only its upper bound counts.
        at_bound = (output >= high - margin) | (kind != "ReLU6" and output <= low + margin)
        finding = "saturated" if at_bound.mean() >= _SATURATED_SHARE else ""
    return LayerValues(name, kind, float(output.min()), float(output.max()), float(output.mean()), zeros, finding)


def numbers_of(tensor: Tensor) -> Array:
    """Return the tensor as an array of real numbers: magnitudes if complex, nothing if text."""
    array = as_array(tensor)
    if array.dtype.kind == "c":
        return np.abs(array)
    return array if array.dtype.kind in "biuf" else np.zeros(0)


def values_table(values: list[LayerValues]) -> str:
    """Return a table with a row for each layer's values."""
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
