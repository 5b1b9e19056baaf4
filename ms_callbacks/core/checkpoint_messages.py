"""Read which arrays a `.ckpt` holds from its messages: Protocol Buffers, as in MindSpore's `checkpoint.proto`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import IO, NamedTuple, Optional

__all__ = ["BITS", "MOST_ARRAYS", "Stored", "arrays_in", "checked"]

MOST_ARRAYS = 1_000_000
_MOST_NAME_BYTES = 4096
_MOST_DIMENSIONS = 64
_MOST_FIELDS = 1000  # of an entry; MindSpore writes one for each dimension, and four others
BITS = {
    "bool": 8,
    "bfloat16": 16,
    "complex64": 64,
    "complex128": 128,
    **{f"float{bits}": bits for bits in (16, 32, 64)},
    **{f"{sign}int{bits}": bits for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class Stored(NamedTuple):
    """One array in a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int  # bytes

    @property
    def values(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def arrays_in(file: IO[bytes], end: int) -> list[Stored]:
    """Return the arrays in the first `end` bytes of a file; raise `ValueError` that says what is wrong with them."""
    file.seek(0)
    arrays: list[Stored] = []
    for number, _, value in _Message(file, end).fields(MOST_ARRAYS + 1):
        if number != 1 or value.length == 0:
            raise ValueError(f"it is damaged or no checkpoint, at byte {file.tell()}")
        stored = _stored(value)
        if arrays and arrays[-1][:3] == stored[:3] and stored.size < _expected(stored):
            # Large arrays are stored in pieces, each with the name and shape of the whole.
            arrays[-1] = stored._replace(size=arrays[-1].size + stored.size)
        else:
            arrays.append(stored)
        if len(arrays) > MOST_ARRAYS:
            raise ValueError(f"it holds more than {MOST_ARRAYS:,} arrays")
    return [checked(each) for each in arrays]


def checked(stored: Stored) -> Stored:
    """Return an array; raise if it cannot have the size that it has."""
    if len(stored.shape) > _MOST_DIMENSIONS or any(each >= 1 << 63 for each in stored.shape):
        raise ValueError(f"it is damaged: {stored.name[:80]!r} has a shape that no array has")
    if stored.size != _expected(stored):
        raise ValueError(
            f"it is damaged: {stored.name[:80]!r} of shape {stored.shape} and type {stored.dtype[:20]} has "
            f"{stored.size} bytes, and should have {_expected(stored)}"
        )
    return stored


def _expected(stored: Stored) -> int:
    """Return how many bytes an array should have; as many as it has if that is not known of its type."""
    bits = BITS.get(stored.dtype)
    return stored.size if bits is None else stored.values * bits // 8


class _Message:
    """A part of a file that is read as a message: pairs of a field's number and its value or length."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file, self._end = file, end

    def fields(self, most: int) -> Iterator[tuple[int, Optional[int], _Message]]:
        """Yield each field's number, its value if it is a number, and its content if it has one."""
        count = 0
        while (start := self._file.tell()) < self._end:
            count += 1
            if count > most:
                raise ValueError(f"it is damaged or no checkpoint: there are more than {most:,} fields at byte {start}")
            key = self._varint()
            if key & 7 == 0:
                yield key >> 3, self._varint(), self
            elif key & 7 == 2:
                length = self._varint()
                end = self._file.tell() + length
                if end > self._end:
                    raise ValueError(
                        f"it is cut short or no checkpoint: {length} bytes should follow byte {end - length}, and "
                        f"{self._end - end + length} do"
                    )
                yield key >> 3, None, _Message(self._file, end)
                self._file.seek(end)
            else:
                raise ValueError(f"it is damaged or no checkpoint, from byte {start} on")

    def content(self, most: int) -> bytes:
        """Return the content; raise if there is more than expected."""
        if self.length > most:
            raise ValueError(f"it is damaged or no checkpoint: a text at byte {self._file.tell()} is too long")
        return self._file.read(self.length)

    @property
    def length(self) -> int:
        """How many bytes are left."""
        return self._end - self._file.tell()

    def numbers(self) -> list[int]:
        """Return the content as numbers, one after the other."""
        found: list[int] = []
        while self.length and len(found) <= _MOST_DIMENSIONS:
            found.append(self._varint())
        return found

    def _varint(self) -> int:
        number = 0
        for place in range(10):
            byte = self._file.read(1) if self._file.tell() < self._end else b""
            if not byte:
                raise ValueError(f"it is cut short or no checkpoint: it ends within a number, at byte {self._end}")
            number |= (byte[0] & 127) << 7 * place
            if byte[0] < 128:
                return number
        raise ValueError(f"it is damaged or no checkpoint: a number before byte {self._file.tell()} is too long")


def _stored(value: _Message) -> Stored:
    name: Optional[str] = None
    dtype: Optional[str] = None
    shape: list[int] = []
    size: Optional[int] = None
    for number, _, field in value.fields(_MOST_FIELDS):
        if number == 1:
            name = _text(field.content(_MOST_NAME_BYTES))
        elif number == 2:
            for inner, dimension, content in field.fields(_MOST_FIELDS):
                if inner == 1:
                    shape += content.numbers() if dimension is None else [dimension]
                elif inner == 2:
                    dtype = _text(content.content(_MOST_NAME_BYTES)).lower()
                elif inner == 3:
                    size = content.length
                if len(shape) > _MOST_DIMENSIONS:
                    raise ValueError(f"it is damaged or no checkpoint: {name!r} has too many dimensions")
        elif number == 3:  # a table of an embedding, which grows
            dtype, size = "map", field.length
    if name is None or dtype is None or size is None:
        raise ValueError("it is damaged or no checkpoint: an entry lacks its name, type or content")
    if shape == [0] and 8 * size == BITS.get(dtype):
        shape = []  # as MindSpore 2.0 writes a single number
    return Stored(name, dtype, tuple(shape), size)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")
