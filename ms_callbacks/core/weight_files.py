"""What a file of weights holds, read without MindSpore, without its arrays, and without trusting the file.

The formats are MindSpore's `.ckpt`, `.safetensors`, and the `.int8` of `save_int8_weights`. Only names, types and sizes
are read into memory. Every length in a file is compared with the size of the file before it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import zlib
from typing import IO, Any, NamedTuple, Optional

from .checkpoint_messages import BITS, MOST_ARRAYS, Stored, arrays_in, checked

__all__ = ["ENDINGS", "WeightFile", "opened", "read"]

ENDINGS = (".ckpt", ".safetensors", ".int8")

_MOST_HEADER_BYTES = 1 << 25  # room for 300,000 arrays
_SAFETENSORS_KINDS = {"BOOL": "bool", "BF16": "bfloat16", "C64": "complex64"}
_SAFETENSORS_KINDS.update({f"F{bits}": f"float{bits}" for bits in (16, 32, 64)})
_SAFETENSORS_KINDS.update({f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)})
_SAFETENSORS_KINDS.update({f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)})
_CRC = b"crc_num"  # and 10 bytes: what MindSpore's `crc_check=True` puts at the end of a `.ckpt`
_CRC_BYTES = 10
_BY_CRC, _WRONG_CRC = "the CRC-32 in it", "it is damaged: its CRC-32 is not the one in it"
_BLOCK = 1 << 20  # bytes
_INT8, _INT8_LENGTH, _INT8_DIGEST = b"ms-int8\n", 4, 32


class WeightFile(NamedTuple):
    """The arrays in a file, and the checksum in the file with which all of it was verified, if it has one."""

    arrays: list[Stored]
    verified_by: Optional[str]


def read(path: str, *, verify: bool = True) -> WeightFile:
    """Return what a file holds; raise `ValueError` that says what is wrong if it is damaged.

    Args:
        path: the file; its ending names the format.
        verify: whether to read the whole file if it has a checksum of its own. Default: True.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ValueError("it is empty")
        ending = os.path.splitext(path)[1]
        if ending == ".safetensors":
            return _read_safetensors(file, size, verify)
        return (_read_int8 if ending == ".int8" else _read_checkpoint)(file, size, verify)


def opened(path: str) -> IO[bytes]:
    """Open a file to read it; raise `ValueError` for anything else, such as a pipe, which could wait forever."""
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is not a regular file")
    return file


# .ckpt


def _read_checkpoint(file: IO[bytes], size: int, verify: bool) -> WeightFile:
    end, checksum = size, None
    tail = len(_CRC) + _CRC_BYTES
    if size > tail:
        file.seek(size - tail)
        trailer = file.read(tail)
        if trailer.startswith(_CRC):
            end, checksum = size - tail, int.from_bytes(trailer[len(_CRC) :], "big")
    arrays = arrays_in(file, end)
    if checksum is None or not verify:
        return WeightFile(arrays, None)
    if _crc32(file, 0, end) != checksum:
        raise ValueError(_WRONG_CRC)
    return WeightFile(arrays, _BY_CRC)


def _crc32(file: IO[bytes], begin: int, end: int, before: int = 0) -> int:
    """Return the CRC-32 of a part of a file, continued from that of what is `before` it."""
    checksum = before
    file.seek(begin)
    for start in range(begin, end, _BLOCK):
        checksum = zlib.crc32(file.read(min(_BLOCK, end - start)), checksum)
    return checksum


# .safetensors: the length of the header, the header as JSON, and the arrays. https://github.com/huggingface/safetensors


def _read_safetensors(file: IO[bytes], size: int, verify: bool) -> WeightFile:
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise ValueError("it is cut short or no safetensors file: its header is longer than the file")
    entries = _json(file, length, dict, "safetensors")
    metadata = entries.pop("__metadata__", {})
    found = []
    for name, entry in entries.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            if not isinstance(dtype, str) or any(type(each) is not int or each < 0 for each in (*shape, begin, end)):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"it is damaged: its header is not readable at {name[:80]!r}") from None
        found.append((begin, end, Stored(name, _SAFETENSORS_KINDS.get(dtype, dtype.lower()), shape, end - begin)))
    found.sort(key=lambda each: each[:2])
    place = 0
    for begin, end, stored in found:
        checked(stored)
        if begin != place:
            raise ValueError(f"it is damaged: {stored.name!r} does not begin where the array before it ends")
        place = end
    if place != size - 8 - length:
        raise ValueError(f"it is cut short or damaged: {place} bytes of arrays are expected, {size - 8 - length} there")
    arrays = [stored for _, _, stored in found]
    checksum = metadata.get("crc_num") if isinstance(metadata, dict) else None
    if not verify or not isinstance(checksum, str):  # MindSpore's `crc_check=True` puts one into it
        return WeightFile(arrays, None)
    computed = 0
    for begin, end, stored in sorted(found, key=lambda each: each[2].name):
        computed = zlib.crc32(stored.name.encode("utf-8", "backslashreplace"), computed)
        computed = _crc32(file, 8 + length + begin, 8 + length + end, computed)
    if str(computed) != checksum:
        raise ValueError(_WRONG_CRC)
    return WeightFile(arrays, _BY_CRC)


# .int8: see checkpointing/quantized_weights.py


def _read_int8(file: IO[bytes], size: int, verify: bool) -> WeightFile:
    if file.read(len(_INT8)) != _INT8 or size < len(_INT8) + _INT8_LENGTH + _INT8_DIGEST:
        raise ValueError("it is cut short, or not a file that save_int8_weights wrote")
    length = int.from_bytes(file.read(_INT8_LENGTH), "little")
    if length > size - file.tell() - _INT8_DIGEST:
        raise ValueError("it is cut short or damaged: its header is longer than the file")
    arrays = []
    for entry in _json(file, length, list, "int8"):
        try:
            name, dtype, shape = entry
            if not isinstance(name, str) or any(type(each) is not int or each < 0 for each in shape):
                raise ValueError
            is_rounded = len(shape) > 1 and dtype in ("float16", "float32", "float64")
            bits = 8 if is_rounded else BITS[dtype]
        except (KeyError, TypeError, ValueError):
            raise ValueError("it is damaged: its header is not readable") from None
        scales = 4 * shape[0] if is_rounded else 0
        arrays.append(Stored(name, dtype, tuple(shape), math.prod(shape) * bits // 8 + scales))
    if (content := sum(each.size for each in arrays)) != size - file.tell() - _INT8_DIGEST:
        raise ValueError(f"it is cut short or damaged: {content} bytes of arrays are expected")
    if not verify:
        return WeightFile(arrays, None)
    digest, left = hashlib.sha256(), size - _INT8_DIGEST
    file.seek(0)
    while left and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    if file.read(_INT8_DIGEST) != digest.digest():
        raise ValueError("it is damaged: its SHA-256 is not the one in it")
    return WeightFile(arrays, "the SHA-256 in it")


def _json(file: IO[bytes], length: int, kind: type[Any], format: str) -> Any:
    """Return a header, which must be JSON of one kind."""
    if length > _MOST_HEADER_BYTES:
        raise ValueError(f"its header of {length} bytes is larger than that of any file of weights")
    header: Any
    try:
        header = json.loads(file.read(length).decode())
    except (RecursionError, ValueError):
        raise ValueError(f"it is damaged or no {format} file: its header is not JSON") from None
    if not isinstance(header, kind) or len(header) > MOST_ARRAYS:
        raise ValueError(f"it is damaged or no {format} file: its header does not list arrays")
    return header
