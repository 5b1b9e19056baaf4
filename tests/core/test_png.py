"""Small pictures as PNG: every pixel comes back in another decoder."""

from __future__ import annotations

import base64
import io
import struct

import numpy as np
import pytest

from ms_callbacks.core.png import data_uri, encode_png, thumbnail


def decoded(content):
    image = pytest.importorskip("matplotlib.image")
    return image.imread(io.BytesIO(content), format="png")[..., :3]


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (32, 32, 3)])
def test_the_pixels_come_back(shape):
    """To the last of 256 levels, red, green and blue in their places."""
    picture = np.random.RandomState(0).rand(*shape)
    np.testing.assert_allclose(decoded(encode_png(picture)), picture, atol=0.5 / 255 + 1e-6)


def test_values_beyond_the_range_are_cut_off():
    """They do not wrap around."""
    np.testing.assert_array_equal(decoded(encode_png(np.array([[[-1.0, 0.0, 2.0]]]))), [[[0, 0, 1]]])


def test_the_size_stands_in_the_header():
    """Width before height."""
    assert struct.unpack(">II", encode_png(np.zeros((2, 9, 3)))[16:24]) == (9, 2)


def test_an_address_holds_the_whole_picture():
    """And nothing that HTML would have to escape."""
    picture = np.full((3, 3, 3), 0.5)
    kind, _, content = data_uri(encode_png(picture)).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == encode_png(picture)
    assert not set(data_uri(encode_png(picture))) & set("<>&\"'")


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [((4, 4), 4, (4, 4)), ((5, 3), 4, (3, 2)), ((300, 1), 96, (75, 1)), ((100, 200), 96, (34, 67))],
)
def test_a_large_picture_becomes_a_small_one(shape, side, expected):
    """Each pixel is the mean of a block; at the edges, of what is left of one."""
    picture = np.random.RandomState(0).rand(*shape, 3)
    small = thumbnail(picture, side)
    assert small.shape == (*expected, 3)
    block = -(-max(shape) // side)
    np.testing.assert_allclose(small[0, 0], picture[:block, :block].mean(axis=(0, 1)))
    last = tuple((size - 1) // block * block for size in shape)
    np.testing.assert_allclose(small[-1, -1], picture[last[0] :, last[1] :].mean(axis=(0, 1)))
