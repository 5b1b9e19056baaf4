"""Write files of weights byte by byte, as MindSpore and safetensors do, so that a test can write wrong ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


def varint(number: int) -> bytes:
    """A number, 7 bits a byte."""
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def field(number: int, content: bytes) -> bytes:
    """A field with a content, after its length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(name: Any, dims: Any, kind: str = "Float32", content: bytes = b"") -> bytes:
    """One array of a `.ckpt`; more than one with the same name are pieces."""
    shape = b"".join(varint(1 << 3) + varint(each) for each in dims)
    tensor = shape + field(2, kind.encode()) + field(3, content)
    return field(1, field(1, name if isinstance(name, bytes) else name.encode()) + field(2, tensor))


def zeros(*shape: int, kind: type = np.float32) -> bytes:
    """The content of an array."""
    return np.zeros(shape, kind).tobytes()


def safetensors(header: Any, body: bytes = b"") -> bytes:
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body
