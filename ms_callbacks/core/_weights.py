"""Parameters read and written safely, in memory and on disk. Never through pickle.

`Parameter.asnumpy()` is a live view of the weights, so whatever is kept is copied. In PYNATIVE mode of MindSpore 2.8
and newer, `set_data` and `load_param_into_net` detach a parameter from an optimizer that has stepped: the weights then
freeze without a word. `copy_` and `ops.assign` do not, so every write here goes through them.
"""

from __future__ import annotations

import errno
import functools
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train.checkpoint_pb2 import Checkpoint, TensorProto

from . import _files, _mindspore_compat, _ranks
from ._model_parts import named_parameters, optimizers_of
from ._rates import Rates
from ._tensors import as_array, is_finite

__all__ = [
    "MUCH",
    "Arrays",
    "Snapshot",
    "aligned",
    "check_format",
    "check_parameters",
    "first_nonfinite",
    "flaw_in",
    "is_same",
    "load",
    "nonfinite",
    "save",
    "size_of",
    "views",
    "with_optimizer",
    "without_optimizer",
    "write",
]

Arrays = dict[str, np.ndarray[Any, Any]]

FORMATS = (".ckpt", ".safetensors")
_PIECE = 1 << 29  # bytes: a message must stay below 2 GB, and MindSpore cuts there
_SAFETENSORS_KINDS = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    "complex64": "C64",
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}
_COMPLEX = "/real and imaginary"  # a `.ckpt` holds no complex numbers: MindSpore writes such a file and cannot read it
# What an optimizer, a loss scale or a checkpoint of MindSpore's has besides a moment for each weight.
_STATES = frozenset(
    "global_step learning_rate beta1_power beta2_power weight_decay scale_sense current_iterator_step "
    "last_overflow_iterator_step epoch_num step_num".split()
)
_PART = 1 << 20  # bytes
MUCH = 1 << 23  # bytes that two threads copy in half the time of one, and less would not be worth the threads


class Snapshot:
    """A copy of parameters that can be taken again and again into the same memory."""

    def __init__(self, parameters: dict[str, Parameter], arrays: Optional[Arrays] = None) -> None:
        self._parameters = parameters
        self.arrays = arrays or {}

    def take(self) -> None:
        """Copies the parameters as they are now."""
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
        """The parameters that are no longer what they were, bit for bit, NaN and the sign of zero included."""
        now = views(self._parameters)
        return {name: self._parameters[name] for name, array in self.arrays.items() if not is_same(array, now[name])}

    def restore(self, *, together: bool = True) -> None:
        """Writes the copy back, so that training can go on from it; `together`, the first rank's on every rank."""
        if together:
            self.arrays = {name: _ranks.from_first(array) for name, array in self.arrays.items()}
        _assign(self._parameters, self.arrays)


def with_optimizer(cell: nn.Cell, weights: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The weights, and what else a training cell holds: the state of optimizers without their learning rates.

    The rates are parameters of their own; loading them would override a new schedule without a word.
    """
    optimizers = [one for one in optimizers_of(cell) if isinstance(one, nn.Optimizer)]
    known = {id(one) for optimizer in optimizers for one in Rates(optimizer).parameters}
    known.update(id(one) for one in weights.values())
    state = {name: one for name, one in named_parameters(cell).items() if id(one) not in known}
    return {**weights, **state}


def write(
    owner: str, parameters: dict[str, Parameter], arrays: Arrays, source: str, *, besides: Optional[Iterable[str]] = ()
) -> None:
    """Writes `arrays` into `parameters`: all of them, or none and an error.

    Entries that there is no parameter for are an error too, but for those named in `besides`; `None` leaves all out.
    """
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
    """The arrays by the names of the parameters that they are for, and which are of something beside these.

    A cell around a network puts a prefix before its names, `backbone.conv.weight` for `conv.weight`, and a file may
    have been saved with or without one. Where a part of the arrays has the names behind a prefix, the others are of
    something beside; where the names have one that the arrays have not, it is put before.
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
    """The arrays without those that look like the state of an optimizer: a step, or a moment named after a weight."""

    def is_state(name: str) -> bool:
        parts = name.split(".")
        return parts[-1] in _STATES or any(".".join(parts[place:]) in arrays for place in range(1, len(parts)))

    return {name: array for name, array in arrays.items() if not is_state(name)}


def views(parameters: Mapping[str, Parameter]) -> Arrays:
    """Live views of parameters."""
    return {name: parameter.asnumpy() for name, parameter in parameters.items()}


def check_parameters(owner: str, parameters: Mapping[str, Parameter]) -> None:
    """Raises where parameters could be read but not written back."""
    if ms.get_context("device_target") != "CPU":
        return
    for name, parameter in parameters.items():
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


def save(file: Any, arrays: Arrays, ending: str = ".ckpt") -> None:
    """Writes `arrays` into a binary file, in the format that `ending` names, from the memory where they are."""
    write = _write_safetensors if ending == ".safetensors" else _write_checkpoint
    try:
        write(file, arrays)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        needed = sum(array.nbytes for array in arrays.values())
        raise OSError(
            error.errno,
            f"{error.strerror}: {_files.in_words(needed)} are needed, and {_files.in_words(file.tell())} were free",
        ) from error


def _write_checkpoint(file: Any, arrays: Arrays) -> None:
    """Writes byte for byte what `mindspore.save_checkpoint` writes, which takes no file and leaves it at mode 0400.

    A file is a sequence of messages, each of which ends with the content of an array: so that is written from where it
    is. Those of one name in a row are one array.
    """
    for name, array in (_as_floats(*each) if each[1].dtype.kind == "c" else each for each in arrays.items()):
        kind = str(_as_tensor(np.zeros(1, array.dtype)).dtype)
        tag = Checkpoint.Value(tag=name).SerializePartialToString()
        tensor = TensorProto(dims=array.shape, tensor_type=kind).SerializePartialToString()
        content = _bytes_of(array)
        for start in range(0, max(content.size, 1), _PIECE):
            piece = content[start : start + _PIECE]
            head = b""
            for before, field in ((tensor, 3), (tag, 2), (b"", 1)):  # from the inside to the outside
                head = before + bytes([field << 3 | 2]) + _varint(len(head) + piece.size) + head
            file.write(head)
            file.write(piece)


def _varint(number: int) -> bytes:
    """A number as Protocol Buffers write a length: 7 bits a byte, the last ones first."""
    return bytes([number & 127 | 128]) + _varint(number >> 7) if number > 127 else bytes([number])


def _write_safetensors(file: Any, arrays: Arrays) -> None:
    """Writes the format of the package safetensors, which takes no file.

    The length of a header as 8 bytes, the header as JSON, and the arrays, the largest elements first, so that each is
    aligned. https://github.com/huggingface/safetensors
    """
    header, end = {}, 0
    ordered = sorted(arrays.items(), key=lambda each: (-each[1].itemsize, each[0]))
    for name, array in ordered:
        if array.dtype.name not in _SAFETENSORS_KINDS:
            raise OSError(f"{name!r} is of {array.dtype}, which a file of safetensors cannot hold; save a '.ckpt'")
        offsets = end, (end := end + array.nbytes)
        header[name] = {
            "dtype": _SAFETENSORS_KINDS[array.dtype.name], "shape": array.shape, "data_offsets": offsets,
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, array in ordered:
        file.write(_bytes_of(array))


def _bytes_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bytes of an array, where they are if they lie in a row there."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def load(path: str) -> Arrays:
    """Reads what `save` wrote."""
    if path.endswith(".safetensors"):
        try:
            content: Arrays = _safetensors().numpy.load_file(path)
        except _safetensors().SafetensorError as error:
            raise ValueError(f"{path!r}: {error}") from error
        return content
    return dict(_as_saved(name, parameter.asnumpy()) for name, parameter in ms.load_checkpoint(path).items())


def size_of(parameters: Mapping[str, Parameter]) -> int:
    """The bytes of parameters."""
    return sum(one.nbytes for one in parameters.values())


def first_nonfinite(parameters: Mapping[str, Parameter], besides: Collection[str] = ()) -> Optional[str]:
    """The name of the first parameter that holds NaN or an infinity; `None` where all are finite.

    Parameters named in `besides` may hold them, as a mask of minus infinities does.
    """
    present = {name: one for name, one in parameters.items() if not _mindspore_compat.is_uninitialised(one)}
    return next((name for name in nonfinite(views(present)) if name not in besides), None)


def nonfinite(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Iterator[str]:
    """The names of the arrays that hold NaN or an infinity, in their order."""
    for name, array in arrays.items():
        if not is_finite(array):
            yield name


def is_same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays of one kind are the same, bit for bit, NaN and the sign of zero included."""
    bits, others = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (one, other))
    # In parts: what compares them takes as much memory as they have.
    parts = range(0, bits.size, _PART)
    return all(np.array_equal(bits[start : start + _PART], others[start : start + _PART]) for start in parts)


def flaw_in(parameters: Mapping[str, Parameter]) -> Optional[str]:
    """What makes weights useless, whatever a metric says of them: NaN, or an infinity in what is learnt."""
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
        if np.isfinite(array.sum()):  # in a sixth of the time of asking every element
            return None
    if np.isnan(array).any():
        return "NaN"
    return "an infinity" if parameter.requires_grad and np.isinf(array).any() else None  # a mask may hold one


def _assign(parameters: Mapping[str, Parameter], arrays: Arrays) -> None:
    if not parameters:
        return
    tensors = {name: _as_tensor(arrays[name]) for name in parameters}  # before the first is written
    _mindspore_compat.stop_recording()
    for name, parameter in parameters.items():
        if _mindspore_compat.is_uninitialised(parameter):  # so that there is no memory yet to write into
            parameter.set_data(Tensor(arrays[name].copy()))
            continue
        # Both write into the memory that is there; the newer one, absent in MindSpore 2.0, does not copy twice.
        write_into = getattr(parameter, "copy_", None) or functools.partial(ops.assign, parameter)
        write_into(tensors[name])
    _mindspore_compat.finish_pending()


def _as_floats(name: str, array: np.ndarray[Any, Any]) -> tuple[str, np.ndarray[Any, Any]]:
    return name + _COMPLEX, np.stack((array.real, array.imag), axis=-1)


def _as_saved(name: str, array: np.ndarray[Any, Any]) -> tuple[str, np.ndarray[Any, Any]]:
    if not name.endswith(_COMPLEX):
        return name, array
    kind = np.complex64 if array.dtype == np.float32 else np.complex128
    return name[: -len(_COMPLEX)], np.ascontiguousarray(array).view(kind)[..., 0]


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
