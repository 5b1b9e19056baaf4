"""The arrays in a `.ckpt`: what MindSpore writes is read, and what it does not write is refused."""

from __future__ import annotations

import io

import pytest
from messages import entry, field, varint, zeros

from ms_callbacks.core.checkpoint_messages import Stored, arrays_in, checked


def read(content):
    return arrays_in(io.BytesIO(content), len(content))


def test_arrays_have_their_names_shapes_and_types():
    """A number has no dimension; a text has a size but no length that its shape would tell."""
    content = entry("a", (2, 3), "Float32", zeros(2, 3)) + entry("步", (), "Int64", b"8 bytes!")
    content += entry("b", (4,), "BFloat16", b"12345678") + entry("text", (0,), "str", b"any size")
    assert [tuple(each) for each in read(content)] == [
        ("a", "float32", (2, 3), 24),
        ("步", "int64", (), 8),
        ("b", "bfloat16", (4,), 8),
        ("text", "str", (0,), 8),
    ]
    assert [each.values for each in read(content)][:3] == [6, 1, 4]


def test_a_number_of_mindspore_2_0_is_a_number():
    """It writes the dimension 0 for none."""
    assert read(entry("rate", (0,), content=zeros(1))) == [Stored("rate", "float32", (), 4)]
    assert read(entry("none", (0,), content=b"")) == [Stored("none", "float32", (0,), 0)]


def test_pieces_of_a_large_array_are_one():
    """MindSpore splits it at 512 MB; each piece has the shape of the whole."""
    pieces = b"".join(entry("a", (6,), "Float32", part) for part in (bytes(16), bytes(4), bytes(4)))
    assert read(pieces + entry("b", (1,), "Int8", b"1")) == [
        Stored("a", "float32", (6,), 24),
        Stored("b", "int8", (1,), 1),
    ]


def test_dimensions_may_be_packed():
    """As another writer of Protocol Buffers may do it."""
    tensor = field(1, varint(2) + varint(300)) + field(2, b"Int8") + field(3, bytes(600))
    assert read(field(1, field(1, b"a") + field(2, tensor)))[0].shape == (2, 300)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x00", "cut short or no checkpoint: it ends within a number"),
        (b"not a checkpoint", "damaged or no checkpoint, from byte 0"),
        (b"\x0a" + b"\xff" * 11, "a number before byte 11 is too long"),
        (b"\x0a" + varint(1 << 60) + b"x", f"cut short or no checkpoint: {1 << 60} bytes should follow byte 10, and 1"),
        (entry("a", (2,), content=zeros(2))[:-1], "cut short or no checkpoint: "),
        (entry("a", (2,), content=zeros(3)), r"'a' of shape \(2,\) and type float32 has 12 bytes, and should have 8"),
        (entry("a", (4,), content=zeros(2)), "'a' .* has 8 bytes, and should have 16"),
        (entry("a", (1 << 63,)), "'a' has a shape that no array has"),
        (entry("a", (1,) * 65), "'a' has too many dimensions"),
        (entry("x" * 5000, (), content=zeros(1)), "a text at byte .* is too long"),
        (field(1, field(1, b"a")), "an entry lacks its name, type or content"),
        (field(1, b""), "damaged or no checkpoint, at byte 2"),
        (field(2, b"abc"), "damaged or no checkpoint"),
        (field(1, varint(5 << 3 | 2) + varint(100) + b"x"), "100 bytes should follow"),
    ],
)
def test_anything_else_is_refused(content, text):
    """With what is wrong, whatever it pretends to hold."""
    with pytest.raises(ValueError, match=text):
        read(content)


def test_an_entry_with_endless_fields_is_refused_at_once():
    """It would take minutes for each 10 MB."""
    fields = b"\x48\x01" * (1 << 20)
    with pytest.raises(ValueError, match="more than 1,000 fields at byte"):
        read(b"\x0a\x80\x80\x80\x01" + fields)


def test_every_cut_but_those_between_two_arrays_is_noticed():
    """A file that is cut between two arrays is a smaller file; only a checksum shows it."""
    first = entry("a", (2, 2), content=zeros(2, 2))
    content = first + entry("b", (3,), content=zeros(3))
    for length in set(range(1, len(content))) - {len(first)}:
        with pytest.raises(ValueError, match="cut short"):
            read(content[:length])
    assert [each.name for each in read(content[: len(first)])] == ["a"]


def test_the_size_of_an_unknown_type_is_not_judged():
    """A later MindSpore may have more types."""
    assert checked(Stored("a", "float8", (3,), 3)).size == 3
