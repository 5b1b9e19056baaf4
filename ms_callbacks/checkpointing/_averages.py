"""An average of parameters in float32, updated in place; shared by the callbacks that average weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import numpy as np
from mindspore import Parameter

from ..core.callback import TrainCallback, only_one
from ..core.parameters import Arrays, Snapshot, check_parameters, views
from ..core.placement import Needs
from ..core.run import Run
from ..core.tensors import as_array

__all__ = ["Averages", "AveragingCallback", "averaged"]

_PART = 1 << 16  # numbers per part; they and the temporary array fit into the processor's cache
_FLOATS = ("Float16", "BFloat16", "Float32", "Float64")


def averaged(parameters: Mapping[str, Parameter], *, trained_only: bool) -> dict[str, Parameter]:
    """Return the parameters that can be averaged, which are those with a floating-point type."""
    return {
        name: one
        for name, one in parameters.items()
        if str(one.dtype) in _FLOATS and (one.requires_grad or not trained_only)
    }


class AveragingCallback(TrainCallback):
    """A callback that leaves an average of the weights in the network; at most one in a list of callbacks."""

    def needs(self, run: Run) -> Needs:
        """Require the complete weights."""
        return super().needs(run) | Needs.WEIGHTS

    def check(self, run: Run) -> None:
        """Raise if another callback leaves an average too, or the weights could not be written back."""
        super().check(run)
        others = [each for each in run.callbacks if isinstance(each, AveragingCallback)]
        only_one(type(self).__name__, others, "leave their average in the network")
        check_parameters(type(self).__name__, averaged(run.weights, trained_only=False))


class Averages:
    """The average of parameters, in float32; in half precision, small updates would be rounded to nothing.

    Attributes:
        arrays (dict[str, ndarray]): the averages by name; empty before the first update.
    """

    def __init__(self, arrays: Optional[Arrays] = None) -> None:
        self.arrays: Arrays = arrays or {}
        self._part = np.empty(_PART, np.float32)

    def add(self, parameters: Mapping[str, Parameter], share: float) -> None:
        """Move the average by `share` of its distance to the parameters; the first time, make it equal to them."""
        now = views(parameters)
        if not self.arrays:
            self.arrays = {name: np.array(as_array(array), np.float32, order="C") for name, array in now.items()}
            return
        for name, array in now.items():
            self._move(self.arrays[name].reshape(-1), as_array(array).reshape(-1), np.float32(share))

    def write(self, parameters: Mapping[str, Parameter]) -> None:
        """Write the average into the parameters, converted to the type of each."""
        given = dict(parameters)
        kinds = {name: array.dtype for name, array in views(given).items()}
        arrays = {name: self.arrays[name].astype(kind, copy=False) for name, kind in kinds.items()}
        Snapshot(given, arrays).restore(together=False)

    def _move(self, average: np.ndarray, weights: np.ndarray, share: np.float32) -> None:  # type: ignore[type-arg]
        """Work in place and in parts, so that each array is read from memory only once."""
        for start in range(0, average.size, _PART):
            part = average[start : start + _PART]
            step = self._part[: part.size]
            np.subtract(weights[start : start + _PART], part, out=step, casting="same_kind")
            step *= share
            part += step
