"""Weights in files, in the formats of MindSpore and safetensors. Pickle is never used."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

import mindspore as ms
import numpy as np
from mindspore.train.checkpoint_pb2 import Checkpoint, TensorProto

from . import atomic_files
from .parameters import Arrays, as_tensor

__all__ = ["FORMATS", "check_format", "load", "save"]

FORMATS = (".ckpt", ".safetensors")
_PIECE = 1 << 29  # bytes: a message must stay below 2 GB, and MindSpore splits arrays here
_SAFETENSORS_KINDS = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    "complex64": "C64",
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}
_COMPLEX = "/real and imaginary"  # MindSpore writes a `.ckpt` with complex numbers but cannot read it


def check_format(owner: str, path: str) -> None:
    """Raise unless the ending of `path` names a format that can be written here."""
    ending = os.path.splitext(path)[1]
    if ending not in FORMATS:
        raise ValueError(f"{owner}: filepath must end in one of {FORMATS}, but got {path!r}")
    if ending == ".safetensors":
        _safetensors()


def save(file: Any, arrays: Arrays, ending: str = ".ckpt") -> None:
    """Write `arrays` into a binary file, in the format that `ending` names, directly from their memory."""
    write = _write_safetensors if ending == ".safetensors" else _write_checkpoint
    try:
        write(file, arrays)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        needed = atomic_files.in_words(sum(array.nbytes for array in arrays.values()))
        raise OSError(
            error.errno,
            f"{error.strerror}: {needed} are needed, and {atomic_files.in_words(file.tell())} were free",
        ) from error


def _write_checkpoint(file: Any, arrays: Arrays) -> None:
    """Write exactly what `mindspore.save_checkpoint` writes, which cannot write to a file object and leaves mode 0400.

    A file is a sequence of messages. Each ends with the content of an array, which is therefore written from where it
    is. Consecutive messages with the same name form one array.
    """
    for name, array in (_as_floats(*each) if each[1].dtype.kind == "c" else each for each in arrays.items()):
        kind = str(as_tensor(np.zeros(1, array.dtype)).dtype)
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
    """Encode a number as Protocol Buffers encode a length: 7 bits a byte, least significant first."""
    return bytes([number & 127 | 128]) + _varint(number >> 7) if number > 127 else bytes([number])


def _write_safetensors(file: Any, arrays: Arrays) -> None:
    """Write the format of the package safetensors, which cannot write to a file object.

    It consists of the header's length as 8 bytes, the header as JSON, and the arrays, largest elements first so that
    each is aligned. https://github.com/huggingface/safetensors
    """
    header, end = {}, 0
    ordered = sorted(arrays.items(), key=lambda each: (-each[1].itemsize, each[0]))
    for name, array in ordered:
        if array.dtype.name not in _SAFETENSORS_KINDS:
            raise OSError(f"{name!r} is of {array.dtype}, which a safetensors file cannot hold; save a '.ckpt'")
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
    """Return the bytes of an array, without a copy if they are contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def load(path: str) -> Arrays:
    """Read what `save` wrote."""
    if path.endswith(".safetensors"):
        try:
            content: Arrays = _safetensors().numpy.load_file(path)
        except _safetensors().SafetensorError as error:
            raise ValueError(f"{path!r}: {error}") from error
        return content
    return dict(_as_saved(name, parameter.asnumpy()) for name, parameter in ms.load_checkpoint(path).items())


def _as_floats(name: str, array: np.ndarray[Any, Any]) -> tuple[str, np.ndarray[Any, Any]]:
    return name + _COMPLEX, np.stack((array.real, array.imag), axis=-1)


def _as_saved(name: str, array: np.ndarray[Any, Any]) -> tuple[str, np.ndarray[Any, Any]]:
    if not name.endswith(_COMPLEX):
        return name, array
    kind = np.complex64 if array.dtype == np.float32 else np.complex128
    return name[: -len(_COMPLEX)], np.ascontiguousarray(array).view(kind)[..., 0]


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "a filepath that ends in '.safetensors' needs the package safetensors: "
            "pip install 'ms-callbacks[safetensors]'"
        ) from error
    return safetensors
