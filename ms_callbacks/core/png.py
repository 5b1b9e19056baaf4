"""Small pictures as PNG, encoded without a library, so that a table can show them where matplotlib is not installed."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np

__all__ = ["data_uri", "encode_png", "thumbnail"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT, _RGB = 8, 2


def encode_png(picture: np.ndarray[Any, Any]) -> bytes:
    """Return an RGB picture of shape (h, w, 3), with values in [0, 1], as a PNG with 8 bits per channel."""
    height, width, _ = picture.shape
    values = np.round(np.clip(picture, 0.0, 1.0) * 255).astype(np.uint8)
    lines = np.zeros((height, 1 + 3 * width), np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = values.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, _EIGHT_BIT, _RGB, 0, 0, 0)
    return (
        _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + _chunk(b"IEND", b"")
    )


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


def data_uri(picture: np.ndarray[Any, Any]) -> str:
    """Return an RGB picture of shape (h, w, 3), with values in [0, 1], as a `data:` address for HTML."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(picture)).decode('ascii')}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
