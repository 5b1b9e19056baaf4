"""Write complete files or none: a file under its final name is always complete, whatever is killed and whenever.

A file is written next to its destination, in a folder of its own, flushed to the disk, and only then renamed over the
old file; then the folder is flushed. The rename is atomic on every POSIX file system and on NTFS.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Callable, Optional

from .console import log_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "check_folder",
    "digest_of",
    "in_words",
    "read_json",
    "remove_orphans",
    "sha256",
    "shown",
    "staged",
    "staged_folder",
    "write_json",
    "written",
]

Write = Callable[[Any], object]  # receives a binary file to write into

# Errors with which a file system refuses a call that it lacks or permits to nobody; none of them is a disk error.
_NOT_OFFERED = {
    getattr(errno, name) for name in "EINVAL ENOTSUP EOPNOTSUPP ENOSYS EPERM EACCES EBADF EISDIR ENOTTY".split()
}
_NEEDED = "; a file is written next to its place, flushed and renamed, and the file system must support all three"
_flushing: set[int] = set()  # file systems that are known to flush what is written
_told_of: set[int] = set()  # file systems whose limits have been reported


def check_folder(owner: str, path: str, name: Optional[str] = None) -> None:
    """Raise unless a file can be saved at `path` now, tested by doing everything that a save does with a tiny file.

    Args:
        owner: the name for error messages.
        path: the destination. If it is a link, the link stays and its target is replaced.
        name: the longest name among the accompanying files. Default: None, that of `path`.
    """
    place = os.path.realpath(path)
    folder, name = os.path.dirname(place), name or os.path.basename(place)
    if not os.path.isdir(folder):
        if os.path.islink(path):
            raise FileNotFoundError(f"{owner}: {path!r} is a link to {place!r}, whose folder does not exist")
        raise FileNotFoundError(
            f"{owner}: the folder {os.path.dirname(path)!r} of {path!r} does not exist; create it first"
        )
    if os.path.isdir(place):
        raise IsADirectoryError(f"{owner}: {path!r} is a folder; pass the path of a file")
    if os.path.islink(place):
        raise OSError(f"{owner}: {path!r} is a link that leads back to itself; remove it")
    try:
        with _workshop(folder) as workshop:
            one, other = os.path.join(workshop, "one"), os.path.join(workshop, "other")
            os.mkdir(one)
            os.mkdir(other)
            for content in (b"old", b"new"):
                with open(os.path.join(one, "file"), "wb") as file:
                    file.write(content)
                os.replace(os.path.join(one, "file"), os.path.join(other, name))
            os.rename(one, os.path.join(workshop, "renamed"))
            with open(os.path.join(other, name), "rb+") as file:
                if file.read() != b"new":
                    raise OSError("a file just written there has different content when read")
                disk = os.fstat(file.fileno()).st_dev
                if disk not in _flushing:  # the slowest check, whose result does not change
                    os.fsync(file.fileno())
                    _flush_folder(folder)
                    _flushing.add(disk)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OSError(
                f"{owner}: the name {name!r} has {len(os.fsencode(name))} bytes, and the file system of {folder!r} "
                f"takes {os.pathconf(folder, 'PC_NAME_MAX')} at most; choose a shorter one"
            ) from error
        is_lacking = error.errno in _NOT_OFFERED | {errno.EXDEV}
        raise type(error)(
            f"{owner}: cannot write in the folder {folder!r} of {path!r}: {error}{_NEEDED if is_lacking else ''}"
        ) from error


@contextlib.contextmanager
def staged(path: str, write: Write) -> Iterator[str]:
    """Write a file next to `path` and rename it to `path` when the block ends without an error.

    Args:
        path: the destination. If it is a link, the link stays and its target is replaced.
        write: writes the whole file into the binary file that it is given, from beginning to end.

    Yields:
        The SHA-256 of the file, in hexadecimal. By then the file is on the disk, but not yet under its name.
    """
    path = os.path.realpath(path)
    with _workshop(os.path.dirname(path)) as workshop:
        temporary = os.path.join(workshop, "file")
        yield written(temporary, write)
        os.replace(temporary, path)
        _flush_folder(os.path.dirname(path))


@contextlib.contextmanager
def staged_folder(path: str) -> Iterator[str]:
    """Create a folder next to `path` and rename it to `path` when the block ends without an error; `path` must be free.

    Yields:
        The folder to write the files into.
    """
    with _workshop(os.path.dirname(path)) as workshop:
        temporary = os.path.join(workshop, "folder")
        os.mkdir(temporary)
        yield temporary
        for name in os.listdir(temporary):
            with open(os.path.join(temporary, name), "rb+") as file:
                os.fsync(file.fileno())
        _flush_folder(temporary)
        os.rename(temporary, path)
        _flush_folder(os.path.dirname(path))


def written(path: str, write: Write) -> str:
    """Write a file and flush it to the disk; return its SHA-256, computed during writing, in hexadecimal."""
    with open(path, "wb") as file, _Digested(file) as digested:
        write(digested)
        file.flush()
        os.fsync(file.fileno())
        return digested.hexdigest()


class _Digested(io.RawIOBase):
    """A binary file that is written from beginning to end and computes its SHA-256 in the meantime.

    The digest is computed in a thread that may lag behind the writing and catches up while the disk flushes. The data
    that is written must not change before the end.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self._thread.submit(self._digest.update, block)
        return self._file.write(block)

    def tell(self) -> int:
        return self._file.tell()

    def hexdigest(self) -> str:
        self._thread.shutdown()
        return self._digest.hexdigest()

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        super().close()


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write `content` as a complete JSON file, or not at all."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with staged(path, lambda file: file.write(text.encode())):
        pass


def read_json(path: str, most_bytes: int = 1 << 20) -> dict[str, Any]:
    """Read a JSON file that holds one object; raise `ValueError` if it does not or is too large."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path!r} is not a regular file")  # a pipe, for example, which could wait forever
    if os.path.getsize(path) > most_bytes:
        raise ValueError(f"{path!r} is larger than any file written by ms_callbacks ({most_bytes} bytes)")
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except RecursionError as error:
            raise ValueError(f"{path!r} is nested more deeply than any file written by ms_callbacks") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path!r} does not hold a JSON object")
    return content


def sha256(path: str) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def digest_of(content: Any) -> str:
    """Return the SHA-256 of JSON content, independent of its formatting, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def shown(path: str) -> str:
    """Return a path in its most readable form: relative to the working directory if it is below it."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the working directory was removed, or is on another drive on Windows
        return path
    return path if relative.startswith(os.pardir) else relative


def in_words(size: int) -> str:
    """Return a number of bytes in its most readable form: `812 bytes`, `3.2 kB`, `1,234.5 MB`."""
    for unit, name in ((10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size} byte{'' if size == 1 else 's'}"


# A file is written in a folder of its own, on which the writer holds a lock as long as it lives: the system releases
# it when the process dies, even for processes in containers that share neither host name nor process table with ours.
_PREFIX, _LOCK = ".partial-", "lock"
_WORKSHOP = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}")
_PAUSE = 300.0  # seconds: no writer is idle for so long; the only criterion if locks do not reach other machines
_DAY = 86400.0  # seconds: the same if there are no locks at all


@contextlib.contextmanager
def _workshop(folder: str) -> Iterator[str]:
    """Create a folder with a unique name in `folder`, on the same disk, and remove it afterwards."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"the folder {folder!r} no longer exists")
    workshop = tempfile.mkdtemp(prefix=_PREFIX, dir=folder)
    try:
        with open(os.path.join(workshop, _LOCK), "wb") as lock:
            with contextlib.suppress(OSError):  # without locks, its age decides
                _take(lock)
            yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def remove_orphans(folder: str) -> None:
    """Remove what processes left in `folder` that were killed while writing.

    These are folders whose lock nobody holds and that have not changed for five minutes, or for a day if there are no
    locks.
    """
    with os.scandir(folder) as entries:
        found = [each.path for each in entries if _WORKSHOP.fullmatch(each.name) and each.is_dir(follow_symlinks=False)]
    if not found:
        return
    with _workshop(folder) as own:
        now = os.stat(own).st_mtime  # by the clock of the file system, which may be on another machine
    for workshop in found:
        if now - _last_change(workshop) > _rest(workshop):
            shutil.rmtree(workshop, ignore_errors=True)


def _rest(workshop: str) -> float:
    """Return the seconds without a change after which a folder counts as abandoned."""
    try:
        with open(os.path.join(workshop, _LOCK), "rb+") as lock:
            _take(lock)
            return _PAUSE
    except (BlockingIOError, PermissionError):  # a running process's, or another user's
        return float("inf")
    except OSError:
        return _DAY


def _take(lock: IO[bytes]) -> None:
    """Take a lock; raise `BlockingIOError` if another process holds it, another `OSError` if there are no locks."""
    if fcntl is None:
        raise OSError("this system has no known kind of locks")
    fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _last_change(workshop: str) -> float:
    paths = [workshop, *(os.path.join(root, name) for root, _, names in os.walk(workshop) for name in names)]
    times = []
    for path in paths:
        with contextlib.suppress(OSError):  # renamed or removed in the meantime
            times.append(os.lstat(path).st_mtime)
    return max(times, default=float("inf"))


def _flush_folder(folder: str) -> None:
    """Flush the names in a folder to the disk, or report once that this is not possible there."""
    if os.name == "nt":  # Windows cannot open a folder to flush it
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
        disk = os.stat(folder).st_dev
        if disk not in _told_of:
            _told_of.add(disk)
            log_line(
                f"ms_callbacks: the file system of {folder!r} does not flush folders ({error.strerror}): a power "
                f"failure may bring back the file before the last that was saved there; a crash of the run does not"
            )
