"""Write small pictures as PNG with Python's own `zlib`, for pages that hold their pictures."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from typing import Any

import numpy as np

__all__ = ["data_uri", "png", "shrunk"]

_GREY, _RGB = 0, 2  # the colour types of the format


def data_uri(content: bytes) -> str:
    """Return a PNG as an address that holds the whole picture."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def png(image: np.ndarray[Any, Any]) -> bytes:
    """Return an image of shape (h, w, 3), from 0 to 1, as a PNG of 8 bits for each channel; a grey one has only one."""
    values = np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    is_grey = bool((values == values[..., :1]).all())
    values = values[..., :1] if is_grey else values
    height, width = values.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), values.reshape(height, -1)], axis=1)  # each begins with 0
    head = struct.pack(">IIBBBBB", width, height, 8, _GREY if is_grey else _RGB, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def shrunk(image: np.ndarray[Any, Any], most: int) -> np.ndarray[Any, Any]:
    """Return an image of shape (h, w, 3) with at most `most` pixels on a side, each the mean of a square of pixels."""
    factor = math.ceil(max(image.shape[:2]) / most)
    if factor <= 1:
        return image
    room = [(0, -size % factor) for size in image.shape[:2]]
    padded = np.pad(image, (*room, (0, 0)), mode="edge")
    height, width = padded.shape[0] // factor, padded.shape[1] // factor
    return padded.reshape(height, factor, width, factor, -1).mean(axis=(1, 3))
