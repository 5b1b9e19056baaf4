"""Whole files or none."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
import time

import numpy as np
import pytest

from ms_callbacks.core import atomic_files

posix = pytest.mark.skipif(sys.platform == "win32", reason="calls of POSIX")


def put(text):
    return lambda file: file.write(text.encode())


def save(path, text):
    with atomic_files.staged(str(path), put(text)):
        pass


def test_the_new_stands_where_the_old_stood_only_when_it_is_whole(tmp_path):
    """Until the block ends, the old file is there; after it, the new one, and nothing else."""
    path = str(tmp_path / "file.txt")
    with atomic_files.staged(path, put("old")):
        assert not os.path.exists(path)
    with atomic_files.staged(path, put("new")) as digest:
        assert open(path).read() == "old"
    assert open(path).read() == "new"
    assert atomic_files.sha256(path) == digest
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("blocks", [[], [b""], [b"x"], [bytes([n]) * n for n in range(200)], [b"y" * (1 << 22)] * 3])
def test_the_digest_is_that_of_all_that_was_written(tmp_path, blocks):
    """In order, whatever the pieces; what is not bytes but lies in memory as such counts too."""
    arrays = [np.arange(5), np.zeros((0, 3)), np.ones((2, 2))[:, :1].copy()]
    digest = atomic_files.written(
        str(tmp_path / "file"), lambda file: [file.write(each) for each in [*blocks, *arrays]]
    )
    content = b"".join([*blocks, *(array.tobytes() for array in arrays)])
    assert (tmp_path / "file").read_bytes() == content
    assert digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("moment", ["while writing", "while flushing", "before renaming", "while renaming"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, moment):
    """Whatever fails, the error comes out and the old content stays."""
    path = str(tmp_path / "file.txt")
    save(path, "old")

    def fail(*args):
        raise OSError("disk")

    if moment == "while flushing":
        monkeypatch.setattr(os, "fsync", fail)
    if moment == "while renaming":
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        with atomic_files.staged(path, fail if moment == "while writing" else put("new")):
            if moment == "before renaming":
                fail()
    assert open(path).read() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_files_get_ordinary_permissions(tmp_path):
    """Those that any new file gets, alone or in a folder, whatever the folder is that they are written in."""
    save(tmp_path / "file.txt", "x")
    with atomic_files.staged_folder(str(tmp_path / "folder")) as folder:
        atomic_files.written(os.path.join(folder, "file.txt"), put("x"))
    (tmp_path / "other").write_text("x")
    (tmp_path / "another").mkdir()
    modes = {each: stat.S_IMODE((tmp_path / each).stat().st_mode) for each in ("other", "another")}
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == modes["other"]
    assert stat.S_IMODE((tmp_path / "folder" / "file.txt").stat().st_mode) == modes["other"]
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == modes["another"]


def test_two_that_save_to_one_name_at_once_do_not_meet(tmp_path):
    """Neither dies, and the last to be renamed stands, whole."""
    path = str(tmp_path / "file.txt")
    with atomic_files.staged(path, put("one")):
        save(path, "other")
        assert open(path).read() == "other"
    assert open(path).read() == "one"
    assert os.listdir(tmp_path) == ["file.txt"]


# What was left behind


def make_old(folder):
    """Its last change was when the clock of the machine began to count."""
    for root, _, names in os.walk(folder):
        for name in names:
            os.utime(os.path.join(root, name), (0, 0))
        os.utime(root, (0, 0))


def make_workshop(folder, name, age=None, lock=True):
    workshop = folder / name
    (workshop / "folder").mkdir(parents=True)
    for each in ["folder/file", "lock"] if lock else ["folder/file"]:
        (workshop / each).write_bytes(b"half")
    now = time.time()
    for path in [*workshop.rglob("*"), workshop]:
        os.utime(path, (now - age, now - age))


@posix
def test_what_nobody_writes_any_more_is_removed_and_nothing_else(tmp_path):
    """By lock and age, whatever the names of the machine and the numbers of its processes."""
    stays = {"best.ckpt": {}, ".partial-other": {}, ".partial-another.host-12-best.ckpt": {}}
    stays[f"{atomic_files._PREFIX}justnow_"] = {"age": 200}  # another machine's, perhaps, whose locks are not seen here
    stays[f"{atomic_files._PREFIX}nolock__"] = {"age": 80000, "lock": False}
    goes = {
        f"{atomic_files._PREFIX}old_____": {"age": 400},
        f"{atomic_files._PREFIX}nolock_2": {"age": 90000, "lock": False},
    }
    for name, how in {**stays, **goes}.items():
        make_workshop(tmp_path, name, **{"age": 1e9, **how})
    (tmp_path / f"{atomic_files._PREFIX}linked__").symlink_to(tmp_path / "best.ckpt")
    with atomic_files.staged(str(tmp_path / "file"), put("x")):
        (own,) = {path.name for path in tmp_path.iterdir()} - {*stays, *goes, f"{atomic_files._PREFIX}linked__"}
        make_old(tmp_path / own)
        atomic_files.remove_orphans(str(tmp_path))
        assert {path.name for path in tmp_path.iterdir()} == {*stays, own, f"{atomic_files._PREFIX}linked__"}


@posix
def test_a_process_of_another_container_is_not_taken_for_dead(tmp_path):
    """Its number is unknown here, and the name of its machine the same; killed, what it was writing goes."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    read, write = os.pipe()
    inside = os.fork()
    if inside == 0:
        with contextlib.suppress(BaseException):
            if libc.unshare(0x20000000):  # CLONE_NEWPID, for the children
                os.write(write, f"-{ctypes.get_errno()}\n".encode())
                os._exit(0)
            first = os.fork()
            if first:
                os.write(write, f"{first}\n".encode())
                os.waitpid(first, 0)
                os._exit(0)
            with atomic_files.staged(str(tmp_path / "file"), put("x")):
                os.write(write, f"0 {os.getpid()}\n".encode())
                time.sleep(60)
        os._exit(1)
    os.close(write)
    with open(read) as lines:
        told = [lines.readline().split()]
        if int(told[0][0]) < 0:
            os.waitpid(inside, 0)
            pytest.skip(f"a namespace of one's own cannot be made here: {os.strerror(-int(told[0][0]))}")
        told.append(lines.readline().split())
        ((writer,), (_, number)) = sorted(told, key=len)
        try:
            assert number == "1"
            (workshop,) = tmp_path.iterdir()
            make_old(workshop)
            atomic_files.remove_orphans(str(tmp_path))
            assert list(tmp_path.iterdir()) == [workshop]
            assert (workshop / "file").exists()
        finally:
            os.kill(int(writer), 9)
            os.waitpid(inside, 0)
    atomic_files.remove_orphans(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_there_are_no_locks_age_alone_tells(tmp_path, monkeypatch, number):
    """Files are written all the same, and what was left there is removed after a day."""
    import fcntl

    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    save(tmp_path / "file", "x")
    make_workshop(tmp_path, f"{atomic_files._PREFIX}today___", 80000)
    make_workshop(tmp_path, f"{atomic_files._PREFIX}before__", 90000)
    atomic_files.remove_orphans(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [f"{atomic_files._PREFIX}today___", "file"]


# A folder, as a save finds it


def test_check_folder(tmp_path):
    """A folder that is not there, or is a file, or a path that is a folder: each its own error."""
    atomic_files.check_folder("T", str(tmp_path / "file.txt"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="T: the folder .*missing.* does not exist; create it first"):
        atomic_files.check_folder("T", str(tmp_path / "missing" / "file.txt"))
    with pytest.raises(IsADirectoryError, match="is a folder; pass the path of a file"):
        atomic_files.check_folder("T", str(tmp_path))
    with pytest.raises(OSError, match="T: cannot write in the folder '/proc'"):
        atomic_files.check_folder("T", "/proc/file.txt")


def is_folder(path_or_descriptor):
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(os.stat(path_or_descriptor).st_mode)
    return False


def forget_disks(monkeypatch):
    """Nothing is known of any file system."""
    for known in ("_flushing", "_told_of"):
        monkeypatch.setattr(atomic_files, known, set())


def refuse(monkeypatch, function, number, folders):
    """Lets a call fail on folders, or on files, as on a file system that does not have it."""
    original = getattr(os, function)

    def sometimes(first, *args, **kwargs):
        if is_folder(first) == folders:
            raise OSError(number, os.strerror(number))
        return original(first, *args, **kwargs)

    monkeypatch.setattr(os, function, sometimes)


@posix
@pytest.mark.parametrize(
    ("function", "number"),
    [("fsync", errno.EINVAL), ("fsync", errno.ENOTSUP), ("fsync", errno.EPERM), ("fsync", errno.EBADF),
     ("fsync", errno.ENOSYS), ("open", errno.EACCES), ("open", errno.EISDIR)],
)  # fmt: skip
def test_a_file_system_that_flushes_no_folders_is_told_of_once(tmp_path, monkeypatch, capsys, function, number):
    """What is weaker then, in one line; files are saved, and so are folders of files."""
    forget_disks(monkeypatch)
    refuse(monkeypatch, function, number, folders=True)
    for _ in range(2):
        atomic_files.check_folder("T", str(tmp_path / "file"))
        save(tmp_path / "file", "x")
    with atomic_files.staged_folder(str(tmp_path / "folder")) as folder:
        atomic_files.written(os.path.join(folder, "file"), put("y"))
    monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "x"
    assert (tmp_path / "folder" / "file").read_text() == "y"
    assert capsys.readouterr().out == (
        f"ms_callbacks: the file system of {str(tmp_path)!r} does not flush folders ({os.strerror(number)}): a power "
        f"failure may bring back the file before the last that was saved there; a crash of the run does not\n"
    )


@posix
@pytest.mark.parametrize(
    ("function", "number", "folders"),
    [
        ("fsync", errno.EINVAL, False),
        ("fsync", errno.EIO, True),
        ("replace", errno.EOPNOTSUPP, False),
        ("replace", errno.EXDEV, False),
        ("rename", errno.EXDEV, True),
        ("rename", errno.ENOSYS, True),
    ],
)
def test_a_file_system_that_cannot_keep_the_promise_is_refused(tmp_path, monkeypatch, function, number, folders):
    """Before the first step, with what a save needs; nothing is left there."""
    forget_disks(monkeypatch)
    refuse(monkeypatch, function, number, folders)
    message = f"T: cannot write in the folder '{tmp_path}' of .*{os.strerror(number)}"
    message += "" if number == errno.EIO else ".*; a file is written next to its place, .* must support all three$"
    with pytest.raises(OSError, match=message):
        atomic_files.check_folder("T", str(tmp_path / "file"))
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


@posix
def test_no_permissions_are_set(tmp_path, monkeypatch):
    """Some file systems let nobody set any, as CIFS does."""

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, refuse)
    atomic_files.check_folder("T", str(tmp_path / "file"))
    save(tmp_path / "file", "x")
    with atomic_files.staged_folder(str(tmp_path / "folder")) as folder:
        atomic_files.written(os.path.join(folder, "file"), put("y"))
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@posix
def test_a_disk_that_reads_otherwise_than_was_written_is_refused(tmp_path, monkeypatch):
    """As one that is worn out does."""
    monkeypatch.setattr(os, "replace", lambda source, target: shutil.copyfile(os.devnull, target))
    with pytest.raises(OSError, match="a file just written there has different content when read"):
        atomic_files.check_folder("T", str(tmp_path / "file"))


def test_a_name_that_is_too_long_is_told_with_the_limit(tmp_path):
    """In bytes, whatever the letters; the longest that the file system takes is saved."""
    limit = os.pathconf(tmp_path, "PC_NAME_MAX")
    for name in ("x" * limit, "é" * (limit // 2) + "x" * (limit % 2)):
        atomic_files.check_folder("T", str(tmp_path / name))
        save(tmp_path / name, "x")
        assert os.listdir(tmp_path) == [name]
        os.remove(tmp_path / name)
        with pytest.raises(OSError, match=f"T: the name '{name}y' has {limit + 1} bytes, .* takes {limit} at most"):
            atomic_files.check_folder("T", str(tmp_path / (name + "y")))
        with pytest.raises(OSError, match=f"has {limit + 1} bytes"):
            atomic_files.check_folder("T", str(tmp_path / "x"), name + "y")


def test_a_folder_that_is_gone_is_named(tmp_path):
    """And none is made in its place."""
    with pytest.raises(FileNotFoundError, match=f"the folder '{tmp_path}/gone' no longer exists"):
        save(tmp_path / "gone" / "file", "x")
    assert os.listdir(tmp_path) == []


# Links


@posix
@pytest.mark.parametrize("target", ["file", "missing", "link", "over a folder"])
def test_a_link_stays_and_its_target_is_replaced(tmp_path, target):
    """Or made, where there was none; a link to a link too, and a linked folder."""
    for folder in ("real", "links"):
        (tmp_path / folder).mkdir()
    link, real = tmp_path / "links" / "file", tmp_path / "real" / "file"
    if target != "missing":
        real.write_text("old")
    if target == "over a folder":
        (tmp_path / "links" / "folder").symlink_to(tmp_path / "real")
        link = tmp_path / "links" / "folder" / "file"
    elif target == "link":
        (tmp_path / "links" / "other").symlink_to("../real/file")
        link.symlink_to("other")
    else:
        link.symlink_to("../real/file")
    before = os.readlink(link) if link.is_symlink() else None
    atomic_files.check_folder("T", str(link))
    save(link, "new")
    assert (os.readlink(link) if link.is_symlink() else None) == before
    assert real.read_text() == link.read_text() == "new"
    assert os.listdir(tmp_path / "real") == ["file"]


@posix
def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    """Its target's folder is not there, it is a folder, or it leads back to itself."""
    for name, target in (("lost", "gone/file"), ("folder", "."), ("one", "other"), ("other", "one")):
        (tmp_path / name).symlink_to(target)
    with pytest.raises(FileNotFoundError, match="T: '.*lost' is a link to '.*gone/file', whose folder does not exist"):
        atomic_files.check_folder("T", str(tmp_path / "lost"))
    with pytest.raises(IsADirectoryError, match="T: '.*folder' is a folder"):
        atomic_files.check_folder("T", str(tmp_path / "folder"))
    with pytest.raises(OSError, match="T: '.*one' is a link that leads back to itself"):
        atomic_files.check_folder("T", str(tmp_path / "one"))


# What is written


def test_records(tmp_path):
    """A record comes back as it was; what is not a record is refused."""
    path = str(tmp_path / "record.json")
    atomic_files.write_json(path, {"value": 0.5, "none": None})
    assert atomic_files.read_json(path) == {"value": 0.5, "none": None}
    with pytest.raises(ValueError, match="Out of range float"):
        atomic_files.write_json(path, {"value": float("nan")})
    assert atomic_files.read_json(path)["value"] == 0.5
    save(path, "[1, 2]")
    with pytest.raises(ValueError, match="does not hold a JSON object"):
        atomic_files.read_json(path)
    save(path, "x" * (2 << 20))
    with pytest.raises(ValueError, match="is larger than any file written by ms_callbacks"):
        atomic_files.read_json(path)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (1_000_000, "1.0 MB"),
        (1_234_500_000, "1,234.5 MB"),
    ],
)
def test_a_size_in_words(size, text):
    """The smaller, the finer."""
    assert atomic_files.in_words(size) == text
