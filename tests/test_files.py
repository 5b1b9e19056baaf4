"""Whole files or none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ms_callbacks.core import _files


def put(text):
    def write(path):
        with open(path, "w") as file:
            file.write(text)

    return write


def test_the_new_stands_where_the_old_stood_only_when_it_is_whole(tmp_path):
    """Until the block ends, the old file is there; after it, the new one, and nothing else."""
    path = str(tmp_path / "file.txt")
    with _files.staged(path, put("old")):
        assert not os.path.exists(path)
    with _files.staged(path, put("new")) as digest:
        assert open(path).read() == "old"
    assert open(path).read() == "new"
    assert _files.sha256(path) == digest
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("moment", ["while writing", "while flushing", "before renaming", "while renaming"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, moment):
    """Whatever fails, the error comes out and the old content stays."""
    path = str(tmp_path / "file.txt")
    with _files.staged(path, put("old")):
        pass

    def fail(*args):
        raise OSError("disk")

    if moment == "while flushing":
        monkeypatch.setattr(os, "fsync", fail)
    if moment == "while renaming":
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        with _files.staged(path, fail if moment == "while writing" else put("new")):
            if moment == "before renaming":
                fail()
    assert open(path).read() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_files_get_ordinary_permissions(tmp_path):
    """Those that any new file gets, whatever the writer set."""

    def write(path):
        put("x")(path)
        os.chmod(path, 0o400)

    path = str(tmp_path / "file.txt")
    with _files.staged(path, write):
        pass
    put("x")(str(tmp_path / "other"))
    assert os.stat(path).st_mode == os.stat(tmp_path / "other").st_mode
    with _files.staged_folder(str(tmp_path / "folder")) as folder:
        write(os.path.join(folder, "file.txt"))
    assert os.stat(tmp_path / "folder" / "file.txt").st_mode == os.stat(tmp_path / "other").st_mode


def test_orphans_of_dead_processes_are_removed_and_no_others(tmp_path):
    """What a killed process was writing goes; what a living one writes, and whatever else is there, stays."""
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    names = [
        f"{_files._OURS}{dead.stdout.strip()}-best.ckpt",
        f"{_files._OURS}{os.getpid()}-best.ckpt",
        f".partial-another.host-{dead.stdout.strip()}-best.ckpt",
        "best.ckpt",
    ]
    for name in names:
        (tmp_path / name).mkdir()
        put("x")(str(tmp_path / name / "best.ckpt"))
    _files.remove_orphans(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(names[1:])


def test_check_folder(tmp_path):
    """A folder that is not there, or is a file, or a path that is a folder: each its own error."""
    _files.check_folder("T", str(tmp_path / "file.txt"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="T: the folder .*missing.* does not exist; make it first"):
        _files.check_folder("T", str(tmp_path / "missing" / "file.txt"))
    with pytest.raises(IsADirectoryError, match="is a folder; pass the path of a file"):
        _files.check_folder("T", str(tmp_path))
    with pytest.raises(PermissionError, match="T: cannot write in the folder '/proc'"):
        _files.check_folder("T", "/proc/file.txt")


def test_records(tmp_path):
    """A record comes back as it was; what is not a record is refused."""
    path = str(tmp_path / "record.json")
    _files.write_json(path, {"value": 0.5, "none": None})
    assert _files.read_json(path) == {"value": 0.5, "none": None}
    with pytest.raises(ValueError, match="Out of range float"):
        _files.write_json(path, {"value": float("nan")})
    assert _files.read_json(path)["value"] == 0.5
    put("[1, 2]")(path)
    with pytest.raises(ValueError, match="does not hold a JSON object"):
        _files.read_json(path)
    put("x" * (2 << 20))(path)
    with pytest.raises(ValueError, match="is larger than any that is written here"):
        _files.read_json(path)


def test_files_of_a_folder_get_ordinary_permissions(tmp_path):
    """Those that any new file gets, whatever the writer set: else only root could flush them to the disk."""
    with _files.staged_folder(str(tmp_path / "folder")) as folder:
        put("x")(os.path.join(folder, "file.txt"))
        os.chmod(os.path.join(folder, "file.txt"), 0o400)
    put("x")(str(tmp_path / "other"))
    assert os.stat(tmp_path / "folder" / "file.txt").st_mode == os.stat(tmp_path / "other").st_mode
