"""Store weights in a quarter of their size, for a network that still computes in floating point.

MindSpore's own tool for this, Golden Stick (`mindspore-gs` 1.4.1), requires one exact version of MindSpore
(2.7.1.post1) and quantises the layers of large language models for Ascend; so this is plain symmetric quantisation in
NumPy.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple, Union

import numpy as np
from mindspore import nn

from ..core import atomic_files
from ..core.arguments import check_path
from ..core.model_parts import take_apart
from ..core.parameters import aligned, load_into, views
from ..core.placement import Needs, check_whole

__all__ = ["load_int8_weights", "save_int8_weights"]

_Array = np.ndarray[Any, Any]

_SAVE, _LOAD = "save_int8_weights", "load_int8_weights"
_ENDING = ".int8"
# The file: magic, length of the header (4 bytes), header (JSON), the arrays in its order, SHA-256 of all before.
# Everything little-endian. A zip of arrays (`.npz`) would cost a small network a tenth more.
_MAGIC = b"ms-int8\n"
_LENGTH = 4
_DIGEST = hashlib.sha256().digest_size
_MOST = 127


def save_int8_weights(network: nn.Cell, filepath: Union[str, os.PathLike[str]]) -> dict[str, Any]:
    """Save a network's weights in 8 bits each.

    The quantisation is symmetric, with one scale per output channel: each floating-point parameter with two or more
    dimensions is stored as integers `q = round(w / scale)` from -127 to 127, rounding half to even, and a float32
    `scale = max|w| / 127` for each index of its first axis (1 for a channel of zeros). A weight is restored as
    `q * scale`, with an error of at most half a scale. Everything else (biases, norms and their statistics, integers)
    is stored unchanged. After Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", and, for the scales per channel, Krishnamoorthi 2018, "Quantizing deep
    convolutional networks for efficient inference: A whitepaper".

    This makes the file small, not the arithmetic fast: `load_int8_weights` writes floating-point weights into the
    network, which then runs as before, on any MindSpore. Saving does not change the network.

    Args:
        network: the network; not a training network, because its optimizer's moments would be rounded too.
        filepath: where to save; must end in `.int8`. The folder must exist. The file is written completely or not at
            all, and contains its own SHA-256. Nothing in it is pickled.

    Returns:
        A record: `"path"`, the absolute path; `"float_bytes"`, the size of the network's floating-point parameters;
        `"file_bytes"`; `"ratio"`, `file_bytes` divided by `float_bytes`; and `"relative_error"`, the largest error of
        a weight divided by the largest weight of its parameter, for the parameter for which that is worst.

    Raises:
        TypeError: `network` is not an `nn.Cell`.
        ValueError: the path has another extension; a parameter holds NaN, infinity or a value beyond float32; or this
            process has only a part of the network.
        OSError: the folder does not exist, or the file cannot be written; an earlier one is untouched.

    Example:
        >>> record = save_int8_weights(network, folder + "/network.int8")
        >>> record["ratio"] < 1, record["relative_error"] <= 0.004
        (True, True)
        >>> load_int8_weights(folder + "/network.int8", network)
    """
    path = _checked(_SAVE, network, filepath)
    atomic_files.check_folder(_SAVE, path)
    arrays = views(take_apart(network).weights)
    stored = [_Stored.of(name, array) for name, array in arrays.items()]
    content = _to_bytes(stored)
    try:
        with atomic_files.staged(path, lambda file: file.write(content)):
            pass
    except OSError as error:
        raise OSError(f"{_SAVE}: could not save {path!r}: {error}; an earlier file there is untouched") from error
    float_bytes = sum(one.nbytes for one in arrays.values() if _is_float(one.dtype))
    return {
        "path": path,
        "float_bytes": float_bytes,
        "file_bytes": len(content),
        "ratio": len(content) / float_bytes if float_bytes else 1.0,
        "relative_error": max((one.relative_error for one in stored), default=0.0),
    }


def load_int8_weights(filepath: Union[str, os.PathLike[str]], network: nn.Cell) -> None:
    """Load what `save_int8_weights` saved, as floating point, so that training can continue from it in both modes.

    Args:
        filepath: the file, verified against the SHA-256 that it contains.
        network: a network with the same parameters, in names, shapes and types. It gets all of them, or none and an
            error is raised.

    Raises:
        TypeError: `network` is not an `nn.Cell`.
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, incomplete or not of this format; or it is of another network. Nothing was
            loaded.

    Example:
        >>> record = save_int8_weights(network, folder + "/network.int8")
        >>> load_int8_weights(record["path"], network)
    """
    path = _checked(_LOAD, network, filepath)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{_LOAD}: there is no file {path!r}; save it with save_int8_weights first")
    with open(path, "rb") as file:
        arrays = {one.name: one.restored() for one in _from_bytes(path, file.read())}
    weights = take_apart(network).weights
    arrays, beside = aligned(_LOAD, weights, arrays, path)
    load_into(_LOAD, weights, arrays, path, besides=beside)


def _checked(owner: str, network: Any, filepath: Any) -> str:
    """Return the absolute path; raise unless there is a network, and the path has the right extension."""
    if not isinstance(network, nn.Cell):
        raise TypeError(f"{owner}: network must be an nn.Cell, but got {type(network).__name__}")
    check_whole(owner, Needs.WEIGHTS, network)
    path = check_path(owner, "filepath", filepath)
    if not path.endswith(_ENDING):
        raise ValueError(f"{owner}: filepath must end in {_ENDING!r}, but got {os.fspath(filepath)!r}")
    return path


class _Stored(NamedTuple):
    """One parameter as it is in the file: its values, or integers with a scale for each channel."""

    name: str
    dtype: np.dtype[Any]
    values: _Array
    scales: _Array  # float32, one for each index of the first axis; empty if the values are unchanged
    relative_error: float = 0.0

    @classmethod
    def of(cls, name: str, array: _Array) -> _Stored:
        """Prepare a parameter for the file."""
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{_SAVE}: {name} is of {array.dtype}, which cannot be stored; convert it to float32")
        if not _is_quantized(array.dtype, array.shape):
            return cls(name, array.dtype, array, np.zeros(0, np.float32))
        scales = _scales(name, array)
        exact = array.astype(np.float64)
        values = np.clip(np.rint(exact / _along_first_axis(scales, array.ndim)), -_MOST, _MOST).astype(np.int8)
        stored = cls(name, array.dtype, values, scales)
        largest = float(np.abs(exact).max(initial=0.0))
        error = float(np.abs(stored.restored().astype(np.float64) - exact).max(initial=0.0))
        return cls(name, array.dtype, values, scales, error / largest if largest else 0.0)

    def restored(self) -> _Array:
        """Return the parameter as it is loaded into the network."""
        if self.values.dtype == self.dtype:
            return self.values
        exact = self.values * _along_first_axis(self.scales.astype(np.float64), self.values.ndim)
        largest = float(np.finfo(self.dtype).max)  # 127 * scale may exceed it by rounding
        return np.clip(exact, -largest, largest).astype(self.dtype)


def _scales(name: str, array: _Array) -> _Array:
    largest = np.abs(array.astype(np.float64)).max(axis=tuple(range(1, array.ndim)), initial=0.0)
    if not np.isfinite(largest).all() or (largest > np.finfo(np.float32).max).any():
        raise ValueError(
            f"{_SAVE}: {name} holds NaN, an infinity or a value beyond float32, which 8 bits cannot represent; "
            f"save the weights of an epoch in which they were finite"
        )
    scales = (largest / _MOST).astype(np.float32)
    # Below the normal range of single precision, rounding the scale could put the largest weight out of range.
    scales = np.where(largest > (_MOST + 0.5) * scales.astype(np.float64), np.nextafter(scales, np.float32(1)), scales)
    return np.where(largest == 0, np.float32(1), scales)


def _along_first_axis(scales: _Array, ndim: int) -> _Array:
    return scales.reshape(-1, *[1] * (ndim - 1))


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f"


def _is_quantized(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    return _is_float(dtype) and len(shape) >= 2


# The file


def _to_bytes(stored: list[_Stored]) -> bytes:
    header = [[one.name, one.dtype.name, list(one.values.shape)] for one in stored]
    text = json.dumps(header, separators=(",", ":")).encode()
    arrays = [array for one in stored for array in (one.scales, one.values)]
    body = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays)
    content = _MAGIC + len(text).to_bytes(_LENGTH, "little") + text + body
    return content + hashlib.sha256(content).digest()


def _from_bytes(path: str, content: bytes) -> list[_Stored]:
    if not content.startswith(_MAGIC):
        raise ValueError(f"{_LOAD}: {path!r} is not a file that save_int8_weights wrote; nothing was loaded")
    kept, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(kept).digest() != digest:
        raise ValueError(
            f"{_LOAD}: {path!r} is damaged or incomplete, its SHA-256 is not the one that it contains; "
            f"nothing was loaded, save it again"
        )
    start = len(_MAGIC) + _LENGTH
    end = start + int.from_bytes(kept[len(_MAGIC) : start], "little")
    try:
        return list(_parsed(json.loads(kept[start:end]), kept[end:]))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{_LOAD}: {path!r} does not match its own header ({error}); nothing was loaded") from error


def _parsed(header: Any, body: bytes) -> Iterator[_Stored]:
    position = 0

    def take(dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Array:
        nonlocal position
        size = math.prod(shape)
        array = np.frombuffer(body, dtype.newbyteorder("<"), size, position).reshape(shape)
        position += array.nbytes
        return array.astype(dtype)

    for name, dtype_name, lengths in header:
        dtype, shape = np.dtype(dtype_name), tuple(lengths)
        known = dtype.name == dtype_name and dtype.kind in "biuf"
        if not known or not isinstance(name, str) or any(type(one) is not int or one < 0 for one in shape):
            raise ValueError(f"{name!r} is of {dtype_name!r} {lengths!r}")
        if _is_quantized(dtype, shape):
            scales = take(np.dtype(np.float32), shape[:1])
            yield _Stored(name, dtype, take(np.dtype(np.int8), shape), scales)
        else:
            yield _Stored(name, dtype, take(dtype, shape), np.zeros(0, np.float32))
    if position != len(body):
        raise ValueError(f"{len(body) - position} bytes are left over")
