"""Read and write parameters safely in memory.

`Parameter.asnumpy()` is a live view of the weights, so whatever is kept is copied. In PYNATIVE mode of MindSpore 2.8
and newer, `set_data` and `load_param_into_net` detach a parameter from an optimizer that has stepped: the weights then
silently stop training. `copy_` and `ops.assign` do not, so all writes here use them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from . import distributed, mindspore_compat
from .learning_rates import Rates
from .model_parts import named_parameters, optimizers_of
from .tensors import as_array, is_finite

__all__ = [
    "MUCH",
    "Arrays",
    "Snapshot",
    "aligned",
    "as_tensor",
    "check_parameters",
    "first_nonfinite",
    "flaw_in",
    "is_same",
    "load_into",
    "nonfinite",
    "size_of",
    "views",
    "with_optimizer",
    "without_optimizer",
]

Arrays = dict[str, np.ndarray[Any, Any]]

# What an optimizer, a loss scale or a checkpoint of MindSpore's contains besides a moment for each weight.
_STATES = frozenset(
    "global_step learning_rate beta1_power beta2_power weight_decay scale_sense current_iterator_step "
    "last_overflow_iterator_step epoch_num step_num".split()
)
_PART = 1 << 20  # bytes
MUCH = 1 << 23  # bytes that two threads copy in half the time of one; below this, threads do not pay off


class Snapshot:
    """A copy of parameters that can be updated repeatedly in the same memory."""

    def __init__(self, parameters: dict[str, Parameter], arrays: Optional[Arrays] = None) -> None:
        self._parameters = parameters
        self.arrays = arrays or {}

    def take(self) -> None:
        """Copy the current parameters."""
        now = views(self._parameters)
        for name, array in now.items():
            if name not in self.arrays:
                self.arrays[name] = np.empty_like(array)
        copies = [self.arrays[name] for name in now]
        if sum(array.nbytes for array in copies) < MUCH:
            for copy, array in zip(copies, now.values()):
                np.copyto(copy, array)
        else:
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(np.copyto, copies, now.values()))

    def changed(self) -> dict[str, Parameter]:
        """Return the parameters that have changed, compared bit for bit, including NaN and the sign of zero."""
        now = views(self._parameters)
        return {name: self._parameters[name] for name, array in self.arrays.items() if not is_same(array, now[name])}

    def restore(self, *, together: bool = True) -> None:
        """Write the copy back, so that training can continue; with `together`, every rank gets the first rank's."""
        if together:
            self.arrays = {name: distributed.from_first(array) for name, array in self.arrays.items()}
        _assign(self._parameters, self.arrays)


def with_optimizer(cell: nn.Cell, weights: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return the weights and the other content of a training cell: optimizer state without learning rates.

    Learning rates are parameters too; loading them would silently override a new schedule.
    """
    optimizers = [one for one in optimizers_of(cell) if isinstance(one, nn.Optimizer)]
    known = {id(one) for optimizer in optimizers for one in Rates(optimizer).parameters}
    known.update(id(one) for one in weights.values())
    state = {name: one for name, one in named_parameters(cell).items() if id(one) not in known}
    return {**weights, **state}


def load_into(
    owner: str, parameters: dict[str, Parameter], arrays: Arrays, source: str, *, besides: Optional[Iterable[str]] = ()
) -> None:
    """Write `arrays` into `parameters`: all of them, or none and raise an error.

    Entries without a parameter are an error too, except those named in `besides`; with `None`, all of them are ignored.
    """
    # MindSpore 2.0 returns a bool that was saved without dimensions with one dimension.
    for name, parameter in parameters.items():
        if parameter.size == 1 and name in arrays and arrays[name].size == 1:
            arrays = {**arrays, name: arrays[name].reshape(parameter.shape)}
    missing = sorted(set(parameters) - set(arrays))
    misshapen = [
        f"{name} is {arrays[name].shape} {arrays[name].dtype} in the file and {tuple(parameter.shape)} "
        f"{str(parameter.dtype).lower()} in the network"
        for name, parameter in parameters.items()
        if name in arrays
        and (arrays[name].shape, str(arrays[name].dtype)) != (tuple(parameter.shape), str(parameter.dtype).lower())
    ]
    unknown = [] if besides is None else sorted(set(arrays) - set(parameters) - set(besides))
    if missing or misshapen or unknown:
        problems = [f"the file lacks {', '.join(missing)}"] if missing else []
        problems += misshapen
        problems += [f"this one has no {', '.join(unknown)}"] if unknown else []
        raise ValueError(
            f"{owner}: {source!r} holds the weights of another network: {'; '.join(problems)}. "
            f"Nothing was loaded; pass the network that the file was saved from"
        )
    _assign(parameters, arrays)


def aligned(owner: str, names: Collection[str], arrays: Arrays, source: str) -> tuple[Arrays, list[str]]:
    """Return the arrays under the names of their parameters, and the names of arrays that belong to something else.

    A cell around a network adds a prefix to its names, such as `backbone.conv.weight` for `conv.weight`, and a file may
    have been saved with or without one. If some of the arrays have the names behind a prefix, the others belong to
    something else; if the names have a prefix that the arrays lack, it is added.
    """
    if not names or all(name in arrays for name in names):
        return arrays, []
    first = next(iter(names))
    prefixes = [name[: -len(first)] for name in arrays if name.endswith(f".{first}")]
    fitting = [prefix for prefix in prefixes if all(f"{prefix}{name}" in arrays for name in names)]
    if len(fitting) > 1:
        raise ValueError(
            f"{owner}: {source!r} holds such a network more than once, under {', '.join(map(repr, fitting))}; "
            f"nothing was loaded; pass the whole network that the file was saved from"
        )
    if fitting:
        within = {name[len(fitting[0]) :]: array for name, array in arrays.items() if name.startswith(fitting[0])}
        return within, [name for name in arrays if not name.startswith(fitting[0])]
    start = next(iter(arrays), "")
    for prefix in [name[: -len(start)] for name in names if name.endswith(f".{start}")]:
        if all(f"{prefix}{name}" in names for name in arrays):
            return {f"{prefix}{name}": array for name, array in arrays.items()}, []
    return arrays, []


def without_optimizer(arrays: Arrays) -> Arrays:
    """Return the arrays except those that look like optimizer state: a step, or a moment named after a weight."""

    def is_state(name: str) -> bool:
        parts = name.split(".")
        return parts[-1] in _STATES or any(".".join(parts[place:]) in arrays for place in range(1, len(parts)))

    return {name: array for name, array in arrays.items() if not is_state(name)}


def views(parameters: Mapping[str, Parameter]) -> Arrays:
    """Return live views of parameters."""
    return {name: parameter.asnumpy() for name, parameter in parameters.items()}


def check_parameters(owner: str, parameters: Mapping[str, Parameter]) -> None:
    """Raise if a parameter could be read but not written back."""
    if ms.get_context("device_target") != "CPU":
        return
    for name, parameter in parameters.items():
        if str(parameter.dtype) == "BFloat16":
            raise ValueError(
                f"{owner}: MindSpore cannot write parameters of bfloat16 on a CPU, and {name!r} is one; "
                f"train in float32 there"
            )


def size_of(parameters: Mapping[str, Parameter]) -> int:
    """Return the size of parameters in bytes."""
    return sum(one.nbytes for one in parameters.values())


def first_nonfinite(parameters: Mapping[str, Parameter], besides: Collection[str] = ()) -> Optional[str]:
    """Return the name of the first parameter that holds NaN or infinity; `None` if all are finite.

    Parameters named in `besides` may hold them, as a mask of minus infinities does.
    """
    present = {name: one for name, one in parameters.items() if not mindspore_compat.is_uninitialised(one)}
    return next((name for name in nonfinite(views(present)) if name not in besides), None)


def nonfinite(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Iterator[str]:
    """Return the names of the arrays that hold NaN or infinity, in order."""
    for name, array in arrays.items():
        if not is_finite(array):
            yield name


def is_same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Return whether two arrays of the same kind are equal bit for bit, including NaN and the sign of zero."""
    bits, others = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (one, other))
    # In parts, because the comparison takes as much memory as its operands.
    parts = range(0, bits.size, _PART)
    return all(np.array_equal(bits[start : start + _PART], others[start : start + _PART]) for start in parts)


def flaw_in(parameters: Mapping[str, Parameter]) -> Optional[str]:
    """Return what makes weights useless, whatever a metric says: NaN, or infinity in a trained parameter."""
    arrays = views(parameters)
    if sum(array.nbytes for array in arrays.values()) < MUCH:
        flaws: Iterable[Optional[str]] = map(_flaw, parameters.values(), arrays.values())
    else:
        with ThreadPoolExecutor(2) as threads:
            flaws = list(threads.map(_flaw, parameters.values(), arrays.values()))
    return next((f"the weights hold {flaw} ({name!r})" for name, flaw in zip(parameters, flaws) if flaw), None)


def _flaw(parameter: Parameter, array: np.ndarray[Any, Any]) -> Optional[str]:
    array = as_array(array)
    if array.dtype.kind not in "fc":
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):  # takes a sixth of the time of testing every element
            return None
    if np.isnan(array).any():
        return "NaN"
    return "an infinity" if parameter.requires_grad and np.isinf(array).any() else None  # a mask may hold one


def _assign(parameters: Mapping[str, Parameter], arrays: Arrays) -> None:
    if not parameters:
        return
    tensors = {name: as_tensor(arrays[name]) for name in parameters}  # all before the first is written
    mindspore_compat.stop_recording()
    for name, parameter in parameters.items():
        if mindspore_compat.is_uninitialised(parameter):  # otherwise there is no memory to write into yet
            parameter.set_data(Tensor(arrays[name].copy()))
            continue
        mindspore_compat.write_into(parameter, tensors[name])
    mindspore_compat.finish_pending()


def as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """Return the array as a tensor that shares its memory; a copy takes as long as writing and blocks other threads.

    A bfloat16 array, whose type is not NumPy's own, is copied.
    """
    return Tensor.from_numpy(array) if array.dtype.isbuiltin == 1 else Tensor(array)
