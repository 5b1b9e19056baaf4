"""Weights in files: what other libraries read, and nothing that a format cannot hold."""

from __future__ import annotations

import errno
import os

import mindspore as ms
import numpy as np
import pytest

from ms_callbacks.core import atomic_files, checkpoint_io

ARRAYS = {
    "weight": np.random.RandomState(0).randn(70, 30).astype(np.float32),
    "half": np.array([[2.5], [-0.0]], np.float16),
    "double": np.array([np.inf, 1e300]),
    "mask": np.array([True, False]),
    "counts": np.arange(6, dtype=np.int64).reshape(2, 3),
    "byte": np.array([[[200]]], np.uint8),
    "turned": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "n" * 300: np.zeros((3, 200), np.int8),
}


def test_a_checkpoint_is_what_mindspore_writes(tmp_path, monkeypatch):
    """Byte for byte; and in pieces, as a large array is written, read as the same."""
    path = str(tmp_path / "ours.ckpt")
    atomic_files.written(path, lambda file: checkpoint_io.save(file, ARRAYS))
    tensors = [{"name": name, "data": ms.Tensor(np.ascontiguousarray(array))} for name, array in ARRAYS.items()]
    ms.save_checkpoint(tensors, str(tmp_path / "theirs.ckpt"))
    assert (tmp_path / "ours.ckpt").read_bytes() == (tmp_path / "theirs.ckpt").read_bytes()
    monkeypatch.setattr(checkpoint_io, "_PIECE", 1 << 10)
    atomic_files.written(path, lambda file: checkpoint_io.save(file, ARRAYS))
    assert os.path.getsize(path) > os.path.getsize(tmp_path / "theirs.ckpt")
    assert_loads(path, ARRAYS)


@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
def test_scalars_come_back_as_scalars(tmp_path, ending):
    """Of each kind, and whatever else there is; by the libraries' own loading."""
    arrays = {**ARRAYS, "scalar": np.array(1.5, np.float32), "step": np.array(7, np.int32), "flag": np.array(True)}
    atomic_files.written(str(tmp_path / f"x{ending}"), lambda file: checkpoint_io.save(file, arrays, ending))
    assert_loads(str(tmp_path / f"x{ending}"), arrays)


def assert_loads(path, arrays):
    loaded = checkpoint_io.load(path)
    assert sorted(loaded) == sorted(arrays)
    for name, array in arrays.items():
        assert (loaded[name].shape, loaded[name].dtype) == (array.shape, array.dtype), name
        np.testing.assert_array_equal(loaded[name], array)


def test_what_a_format_cannot_hold_is_told(tmp_path):
    """With the format that can."""
    with pytest.raises(OSError, match="'z' is of complex128, which a safetensors file cannot hold; save a '.ckpt'"):
        atomic_files.written(
            str(tmp_path / "x"), lambda file: checkpoint_io.save(file, {"z": np.zeros(1, complex)}, ".safetensors")
        )


@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
def test_a_full_disk_is_told_with_what_is_needed_and_what_was_free(tmp_path, monkeypatch, ending):
    """In units that are read easily."""

    class Full:
        room = 3000

        def write(self, block):
            if memoryview(block).nbytes > self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= memoryview(block).nbytes

        def tell(self):
            return 3000 - self.room

    with pytest.raises(OSError, match=r"No space left on device: 20\.0 kB are needed, and \d+ bytes were free"):
        checkpoint_io.save(Full(), {"a": np.zeros(10, np.float32), "w": np.zeros(4990, np.float32)}, ending)
