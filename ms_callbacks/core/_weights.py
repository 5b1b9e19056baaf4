"""Parameters read and written safely, in memory and on disk. Never through pickle.

`Parameter.asnumpy()` is a live view of the weights, so whatever is kept is copied. In PYNATIVE mode of MindSpore 2.8
and newer, `set_data` and `load_param_into_net` detach a parameter from an optimizer that has stepped: the weights then
freeze without a word. `copy_` and `ops.assign` do not, so every write here goes through them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from . import _ranks
from ._rates import Rates

__all__ = [
    "Snapshot",
    "check_format",
    "check_parameters",
    "everything",
    "first_nonfinite",
    "load",
    "named_parameters",
    "nonfinite",
    "save",
    "size_of",
    "statistics",
    "views",
    "without_rates",
    "write",
]

FORMATS = (".ckpt", ".safetensors")
_MUCH = 1 << 23  # bytes that two threads copy in half the time of one, and less would not be worth the threads


class Snapshot:
    """A copy of parameters that can be taken again and again into the same memory."""

    def __init__(
        self, parameters: dict[str, Parameter], arrays: Optional[dict[str, np.ndarray[Any, Any]]] = None
    ) -> None:
        self._parameters = parameters
        self.arrays = arrays or {}

    def take(self) -> None:
        """Copies the parameters as they are now."""
        now = views(self._parameters)
        for name, array in now.items():
            if name not in self.arrays:
                self.arrays[name] = np.empty_like(array)
        copies = [self.arrays[name] for name in now]
        if sum(array.nbytes for array in copies) < _MUCH:
            for copy, array in zip(copies, now.values()):
                np.copyto(copy, array)
        else:
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(np.copyto, copies, now.values()))

    def restore(self, *, together: bool = True) -> None:
        """Writes the copy back, so that training can go on from it; `together`, the first rank's on every rank."""
        if together:
            self.arrays = {name: _ranks.from_first(array) for name, array in self.arrays.items()}
        _assign(self._parameters, self.arrays)


def named_parameters(cell: nn.Cell) -> dict[str, Parameter]:
    """The parameters of a cell by name: weights, and statistics such as BatchNorm's."""
    return {parameter.name: parameter for parameter in cell.get_parameters()}


def without_rates(cell: nn.Cell) -> dict[str, Parameter]:
    """What a checkpoint of `cell` holds: all parameters but the optimizer's learning rates.

    These are parameters of its own; loading them would override a new schedule without a word.
    """
    optimizer = getattr(cell, "optimizer", None)
    rates = {id(one) for one in Rates(optimizer).parameters} if isinstance(optimizer, nn.Optimizer) else set()
    return {name: one for name, one in named_parameters(cell).items() if id(one) not in rates}


def write(
    owner: str,
    cell: nn.Cell,
    arrays: dict[str, np.ndarray[Any, Any]],
    source: str,
    *,
    exact: bool = False,
    rates: bool = False,
) -> None:
    """Writes `arrays` into the parameters of `cell`: all of them, or none and an error.

    Entries that the cell has no parameter for are left out, so that weights saved with an optimizer load into a
    network alone; with `exact`, they too are an error. Only with `rates` is the learning rate of an optimizer
    expected among them: else the schedule stays the user's.
    """
    parameters = named_parameters(cell) if rates else without_rates(cell)
    # MindSpore 2.0 gives a bool that was saved without dimensions back with one.
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
    unknown = sorted(set(arrays) - set(parameters)) if exact else []
    if missing or misshapen or unknown:
        problems = [f"the file lacks {', '.join(missing)}"] if missing else []
        problems += misshapen
        problems += [f"this one has no {', '.join(unknown)}"] if unknown else []
        raise ValueError(
            f"{owner}: {source!r} holds the weights of another network: {'; '.join(problems)}. "
            f"Nothing was loaded; pass the network that the file was saved from"
        )
    _assign(parameters, arrays)


def statistics(cell: nn.Cell) -> dict[str, np.ndarray[Any, Any]]:
    """Live views of the parameters that no gradient changes, such as BatchNorm's: each process has its own."""
    return {name: one.asnumpy() for name, one in named_parameters(cell).items() if not one.requires_grad}


def everything(cell: nn.Cell) -> dict[str, np.ndarray[Any, Any]]:
    """Live views of all parameters of `cell`, an optimizer's rates too."""
    return views(named_parameters(cell))


def views(parameters: dict[str, Parameter]) -> dict[str, np.ndarray[Any, Any]]:
    """Live views of parameters."""
    return {name: parameter.asnumpy() for name, parameter in parameters.items()}


def check_parameters(owner: str, cell: nn.Cell) -> None:
    """Raises where parameters could be read but not written back."""
    if ms.get_context("device_target") != "CPU":
        return
    for name, parameter in named_parameters(cell).items():
        if str(parameter.dtype) == "BFloat16":
            raise ValueError(
                f"{owner}: MindSpore cannot write parameters of bfloat16 on a CPU, and {name!r} is one; "
                f"train in float32 there"
            )


def check_format(owner: str, path: str) -> None:
    """Raises unless the ending of `path` names a format that can be written here."""
    ending = os.path.splitext(path)[1]
    if ending not in FORMATS:
        raise ValueError(f"{owner}: filepath must end in one of {FORMATS}, but got {path!r}")
    if ending == ".safetensors":
        _safetensors()


def save(path: str, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    """Writes `arrays` to `path`, in the format that its ending names."""
    if path.endswith(".safetensors"):
        contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}  # written as memory lies
        try:
            _safetensors().numpy.save_file(contiguous, path)
        except _safetensors().SafetensorError as error:
            raise OSError(str(error)) from error
    else:
        ms.save_checkpoint([{"name": name, "data": _as_tensor(array)} for name, array in arrays.items()], path)


def load(path: str) -> dict[str, np.ndarray[Any, Any]]:
    """Reads what `save` wrote."""
    if path.endswith(".safetensors"):
        try:
            content: dict[str, np.ndarray[Any, Any]] = _safetensors().numpy.load_file(path)
        except _safetensors().SafetensorError as error:
            raise ValueError(f"{path!r}: {error}") from error
        return content
    return {name: parameter.asnumpy() for name, parameter in ms.load_checkpoint(path).items()}


def size_of(cell: nn.Cell) -> int:
    """The bytes of a cell's parameters."""
    return sum(one.nbytes for one in named_parameters(cell).values())


def first_nonfinite(cell: nn.Cell, besides: Collection[str] = ()) -> Optional[str]:
    """The name of the first parameter that holds NaN or an infinity; `None` where all are finite.

    Parameters named in `besides` may hold them, as a mask of minus infinities does.
    """
    return next((name for name in nonfinite(cell) if name not in besides), None)


def nonfinite(cell: nn.Cell) -> Iterator[str]:
    """The names of the parameters that hold NaN or an infinity, in the cell's order."""
    for name, array in _floats(cell):
        if not np.isfinite(array).all():
            yield name


def _floats(cell: nn.Cell) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for name, parameter in named_parameters(cell).items():
        array = parameter.asnumpy()
        if np.issubdtype(array.dtype, np.floating):
            yield name, array


def _assign(parameters: dict[str, Parameter], arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    for name, parameter in parameters.items():
        # Both write into the memory that is there; the newer one, absent in MindSpore 2.0, does not copy twice.
        write_into = getattr(parameter, "copy_", None) or functools.partial(ops.assign, parameter)
        write_into(_as_tensor(arrays[name]))


def _as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """The array as a tensor, which reads it where it is: copying takes as long as writing, and holds up other threads.

    An array of bfloat16, whose type is not NumPy's own, is copied.
    """
    return Tensor.from_numpy(array) if array.dtype.isbuiltin == 1 else Tensor(array)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "a filepath that ends in '.safetensors' needs the package safetensors: "
            "pip install 'ms-callbacks[safetensors]'"
        ) from error
    return safetensors
