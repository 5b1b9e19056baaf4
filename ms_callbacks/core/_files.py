"""Whole files or none: what stands under a final name is always complete, whatever is killed and whenever.

A file is written beside its place under a name of its own, flushed to the disk, and only then renamed over the old
one; the folder is flushed after. The rename is atomic on every POSIX file system and on NTFS.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from typing import Any, Callable

__all__ = ["check_folder", "read_json", "remove_orphans", "sha256", "staged", "staged_folder", "write_json"]


def check_folder(owner: str, path: str) -> None:
    """Raises unless a file can be made beside `path` now: its folder must exist and take files."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{owner}: the folder {folder!r} of {path!r} does not exist; make it first")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{owner}: {path!r} is a folder; pass the path of a file")
    try:
        with _workshop(path):
            pass
    except OSError as error:
        raise PermissionError(f"{owner}: cannot write in the folder {folder!r} of {path!r}: {error}") from error


@contextlib.contextmanager
def staged(path: str, write: Callable[[str], None]) -> Iterator[str]:
    """Writes a file beside `path` and, when the block ends well, renames it there.

    Args:
        path: where the file shall be.
        write: writes the whole file to the path that it is given, whose last part is that of `path`.

    Yields:
        The SHA-256 of the file, in hexadecimal, which is on the disk by then but not yet under its name.
    """
    with _workshop(path) as temporary:
        with open(temporary, "wb") as file:
            mode = os.fstat(file.fileno()).st_mode
        write(temporary)
        os.chmod(temporary, mode)  # MindSpore leaves its checkpoints at mode 0400
        _flush(temporary)
        yield sha256(temporary)
        os.replace(temporary, path)
        _flush_folder(os.path.dirname(path))


@contextlib.contextmanager
def staged_folder(path: str) -> Iterator[str]:
    """Makes a folder of files beside `path` and, when the block ends well, renames it there; `path` must be free.

    Yields:
        The folder to write the files into.
    """
    with _workshop(path) as temporary:
        os.mkdir(temporary)
        yield temporary
        mode = os.stat(temporary).st_mode & 0o666
        for name in os.listdir(temporary):
            file = os.path.join(temporary, name)
            os.chmod(file, mode)  # MindSpore leaves its checkpoints at mode 0400, which only root could flush
            _flush(file)
        _flush_folder(temporary)
        os.rename(temporary, path)
        _flush_folder(os.path.dirname(path))


def write_json(path: str, content: dict[str, Any]) -> None:
    """Writes `content` as a JSON file, whole or not at all."""

    def write(temporary: str) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, allow_nan=False)
            file.write("\n")

    with staged(path, write):
        pass


def read_json(path: str, most_bytes: int = 1 << 20) -> dict[str, Any]:
    """Reads a JSON file that holds one object; raises `ValueError` where it does not, or where it is too large."""
    if os.path.getsize(path) > most_bytes:
        raise ValueError(f"{path!r} is larger than any that is written here ({most_bytes} bytes)")
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    if not isinstance(content, dict):
        raise ValueError(f"{path!r} does not hold a JSON object")
    return content


def sha256(path: str) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def remove_orphans(folder: str) -> None:
    """Removes what processes that are gone were still writing in `folder` when they were killed."""
    for name in os.listdir(folder or "."):
        match = _WORKSHOP.fullmatch(name)
        if match and not _is_alive(int(match["pid"])):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


# Of processes on another machine that shares the disk, nobody here can tell whether they are alive.
_OURS = f".partial-{re.sub('[^A-Za-z0-9.]', '_', platform.node())}-"
_WORKSHOP = re.compile(re.escape(_OURS) + r"(?P<pid>\d+)-.+")


@contextlib.contextmanager
def _workshop(path: str) -> Iterator[str]:
    """A path to write at: in a folder of its own beside `path`, on the same disk, that is gone after.

    A folder, because MindSpore writes other files beside a checkpoint and leaves them there when it fails.
    """
    folder, name = os.path.split(path)
    workshop = os.path.join(folder, f"{_OURS}{os.getpid()}-{name}")
    shutil.rmtree(workshop, ignore_errors=True)
    os.mkdir(workshop)
    try:
        yield os.path.join(workshop, name)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 is Ctrl-C and would reach the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: str) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(path: str) -> None:
    if os.name == "nt":  # Windows cannot open a folder to flush it
        return
    descriptor = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
