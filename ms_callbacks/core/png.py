"""Encode small pictures as PNG without a library, so that tables can show them where matplotlib is not installed."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np

__all__ = ["data_uri", "encode_png", "thumbnail"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT, _GREY, _RGB = 8, 0, 2


def encode_png(picture: np.ndarray[Any, Any]) -> bytes:
    """Return a picture of shape (h, w, 3), RGB in [0, 1], as a PNG with 8 bits per channel; a grey one has one channel.

    NaN is black.
    """
    values = np.rint(np.clip(np.nan_to_num(picture), 0.0, 1.0) * 255).astype(np.uint8)
    is_grey = bool((values == values[..., :1]).all())
    values = values[..., :1] if is_grey else values
    height, width, channels = values.shape
    lines = np.zeros((height, 1 + channels * width), np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = values.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, _EIGHT_BIT, _GREY if is_grey else _RGB, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)


def thumbnail(picture: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """Return a picture of shape (h, w, 3) with at most `side` pixels each way: the means of blocks of pixels."""
    block = -(-max(picture.shape[:2]) // side)
    if block == 1:
        return picture
    for axis in (0, 1):
        begins = np.arange(0, picture.shape[axis], block)
        sizes = np.diff([*begins, picture.shape[axis]])
        picture = np.add.reduceat(picture, begins, axis=axis) / np.expand_dims(sizes, (1, 2) if axis == 0 else (0, 2))
    return picture


def data_uri(content: bytes) -> str:
    """Return a PNG as a `data:` address for HTML."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
