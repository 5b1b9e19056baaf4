"""What a file of weights holds is what was saved into it, and a file that is not whole is refused with the reason."""

from __future__ import annotations

import os

import mindspore as ms
import pytest
from messages import entry, field, safetensors, varint, zeros
from training import Network, seeded

from ms_callbacks import save_int8_weights
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.core.weight_files import opened, read

NEW = pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="MindSpore 2.0 has neither checksums nor safetensors")
SAFETENSORS = {"format": "safetensors"}
KINDS = [
    pytest.param(".ckpt", {}, None, id="ckpt"),
    pytest.param(".ckpt", {"crc_check": True}, "the CRC-32 in it", id="ckpt-crc", marks=NEW),
    pytest.param(".safetensors", {"format": "safetensors"}, None, id="safetensors", marks=NEW),
    pytest.param(
        ".safetensors",
        {"format": "safetensors", "crc_check": True},
        "the CRC-32 in it",
        id="safetensors-crc",
        marks=NEW,
    ),
    pytest.param(".int8", None, "the SHA-256 in it", id="int8"),
]


def save(folder, ending, arguments):
    """Save a network by MindSpore's own function, or in 8 bits."""
    if ending == ".safetensors":
        pytest.importorskip("safetensors")
    path, network = str(folder / f"file{ending}"), seeded(Network())
    if arguments is None:
        save_int8_weights(network, path)
    else:
        ms.save_checkpoint(network, path, **arguments)
        os.chmod(path, 0o644)
    return path, network


@pytest.mark.parametrize(("ending", "arguments", "verified_by"), KINDS)
def test_it_lists_what_was_saved(ending, arguments, verified_by, tmp_path):
    """Names, shapes and types of the network's parameters."""
    path, network = save(tmp_path, ending, arguments)
    found = read(path)
    assert {one.name: (one.shape, one.dtype) for one in found.arrays} == {
        one.name: (tuple(one.shape), str(one.dtype).lower()) for one in network.get_parameters()
    }
    assert found.verified_by == verified_by
    assert read(path, verify=False) == (found.arrays, None)


@pytest.mark.parametrize(("ending", "arguments", "verified_by"), KINDS)
def test_a_file_that_was_cut_is_refused(ending, arguments, verified_by, tmp_path):
    """By any number of bytes, down to none at all."""
    path, _ = save(tmp_path, ending, arguments)
    content = (tmp_path / f"file{ending}").read_bytes()
    for length in (len(content) - 1, len(content) // 2, 9, 3, 0):
        with open(path, "wb") as file:
            file.write(content[:length])
        with pytest.raises(ValueError, match="cut short|damaged|empty"):
            read(path)


@pytest.mark.parametrize(("ending", "arguments", "verified_by"), [kind for kind in KINDS if kind.values[2]])
def test_a_changed_byte_is_noticed_where_there_is_a_checksum(ending, arguments, verified_by, tmp_path):
    """In the last array, where nothing else would show it."""
    path, _ = save(tmp_path, ending, arguments)
    content = bytearray((tmp_path / f"file{ending}").read_bytes())
    content[-20] ^= 1
    (tmp_path / f"file{ending}").write_bytes(content)
    with pytest.raises(ValueError, match="is not the one in it"):
        read(path)
    assert read(path, verify=False).arrays


A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ((1 << 62).to_bytes(8, "little"), "its header is longer than the file"),
        (safetensors(b"[" * 100_000), "its header is not JSON"),
        (safetensors(b"\xff\xff"), "its header is not JSON"),
        (safetensors([1]), "its header does not list arrays"),
        (safetensors({"a": 1}), "its header is not readable at 'a'"),
        (safetensors({"a": {**A, "shape": [-2]}}, bytes(8)), "not readable at 'a'"),
        (safetensors({"a": {**A, "shape": [True, 2]}}, bytes(8)), "not readable at 'a'"),
        (safetensors({"a": {**A, "shape": "22"}}, bytes(8)), "not readable at 'a'"),
        (safetensors({"a": {**A, "shape": [3]}}, bytes(8)), "has 8 bytes, and should have 12"),
        (safetensors({"a": {**A, "shape": [1 << 64] * 9}}, bytes(8)), "a shape that no array has"),
        (safetensors({"a": {**A, "shape": [1] * 100_000}}, bytes(8)), "a shape that no array has"),
        (safetensors({"a": A, "b": A}, bytes(8)), "does not begin where the array before it ends"),
        (safetensors({"a": A}, bytes(9)), "8 bytes of arrays are expected, 9 there"),
        (safetensors({"a": A, "__metadata__": {"crc_num": "1"}}, bytes(8)), "CRC-32 is not the one in it"),
    ],
)
def test_a_safetensors_file_that_lies_is_refused(content, text, tmp_path):
    """Whatever sizes it names, nothing of those sizes is read."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=text):
        read(str(path))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"ms-int8\n" + (1 << 31).to_bytes(4, "little") + bytes(40), "its header is longer than the file"),
        (b"ms-int8\n" + (2).to_bytes(4, "little") + b"{}" + bytes(32), "its header does not list arrays"),
        (b"ms-int8\n" + (3).to_bytes(4, "little") + b"[1]" + bytes(32), "its header is not readable"),
        (b"not ms-int8" * 10, "not a file that save_int8_weights wrote"),
    ],
)
def test_an_int8_file_that_lies_is_refused(content, text, tmp_path):
    """As other files are."""
    path = tmp_path / "a.int8"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=text):
        read(str(path))


def test_a_header_that_is_too_large_is_not_read(tmp_path):
    """A file may be large without taking room on the disk; it must not take room in memory either."""
    path = tmp_path / "a.safetensors"
    with open(path, "wb") as file:
        file.write((1 << 30).to_bytes(8, "little"))
        file.truncate(1 << 31)
    with pytest.raises(ValueError, match="its header of 1073741824 bytes is larger than that of any file of weights"):
        read(str(path))


def test_a_large_checkpoint_is_read_without_its_arrays(tmp_path):
    """Two gigabytes, of which only the messages around them are read."""
    path, size = tmp_path / "a.ckpt", 1 << 31
    tensor = varint(1 << 3) + varint(size) + field(2, b"Int8") + varint(3 << 3 | 2) + varint(size)
    value = field(1, b"a") + varint(2 << 3 | 2) + varint(len(tensor) + size) + tensor
    with open(path, "wb") as file:
        file.write(varint(1 << 3 | 2) + varint(len(value) + size) + value)
        file.truncate(file.tell() + size)  # zeros, which take no room on the disk
    assert read(str(path)).arrays == [("a", "int8", (size,), size)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    """Opening one to read it waits for a writer, which may never come."""
    path = str(tmp_path / "a.ckpt")
    os.mkfifo(path)
    with pytest.raises(ValueError, match="not a regular file"):
        opened(path)


def test_zero_dimensional_and_empty_arrays_are_arrays(tmp_path):
    """A rate is the one, an empty buffer the other."""
    path = tmp_path / "a.ckpt"
    path.write_bytes(entry("rate", (), content=zeros(1)) + entry("none", (0, 3), content=b""))
    assert [(each.shape, each.values) for each in read(str(path)).arrays] == [((), 1), ((0, 3), 0)]
