"""Pictures: names in any script, in fonts that have them, and no warnings where none has."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from ms_callbacks.core.plotting import Picture, as_picture, figure, save


def titled(*titles):
    drawn = figure(4, 2)
    for axes, title in zip(drawn.subplots(1, len(titles), squeeze=False).flat, titles):
        axes.set_title(title)
    return drawn


@pytest.mark.parametrize("name", ["$5-$10", "$x$", r"$\nonsense$", "$"])
def test_a_dollar_sign_in_a_name_is_one(tmp_path, name):
    """And begins no formula, which might be none that can be read."""
    drawn = titled(name)
    save(drawn, str(tmp_path / "x.png"))
    assert drawn.axes[0].title.get_text() == name
    assert not drawn.axes[0].title.get_parse_math()


def test_images_are_shown_from_their_darkest_to_their_brightest():
    """Channels stay together, grey becomes three equal channels, and what is not finite is black."""
    colour = as_picture("", np.array([[[-1.0, 0.0]], [[1.0, 0.0]], [[3.0, np.nan]]]))
    np.testing.assert_allclose(colour, [[[0, 0.5, 1], [0.25, 0.25, 0]]])
    np.testing.assert_allclose(as_picture("", np.array([[[2, 4]]], np.uint8)), [[[0, 0, 0], [1, 1, 1]]])
    np.testing.assert_array_equal(as_picture("", np.full((2, 2), 7.0)), np.zeros((2, 2, 3)))


def test_a_picture_is_what_a_notebook_shows():
    """A PNG with the size that it is to have there; a screen with more dots has them."""
    content, size = Picture(titled("x"))._repr_png_()
    assert content.startswith(b"\x89PNG")
    assert size == {"width": 384, "height": 192}
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (480, 240)
