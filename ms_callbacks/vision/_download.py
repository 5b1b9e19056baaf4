"""Download MNIST's files from working addresses, and leave nothing half-written.

The address in mindvision 0.1.0 no longer serves the files, and an interrupted download there leaves a damaged file
under its final name. Here everything is written to a `.part` file next to the target, resumed after an interruption,
verified, and only then renamed.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

__all__ = ["MD5", "MIRRORS", "TIMEOUT", "download"]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",  # PyTorch's
    "https://storage.googleapis.com/cvdf-datasets/mnist/",  # TensorFlow's
    "https://dataset.bj.bcebos.com/mnist/",  # Paddle's, close to users in China
)
"""Addresses of the files, in the order in which they are tried; each ends in a slash."""

MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""MD5 of each compressed file, as mindvision, torchvision and Paddle publish them."""

TIMEOUT = 30.0
"""Seconds after which a server that sends nothing is abandoned, at each step of the transfer."""

_TRIES = 3  # of one mirror, if the connection breaks in the middle
_CHUNK = 1 << 16

_logger = logging.getLogger(__name__)


class _MirrorError(Exception):
    """This mirror does not have the file: try the next one."""


class _BrokenOffError(Exception):
    """The transfer broke off in the middle: ask the same mirror for the rest."""


def download(folder: Path, name: str) -> None:
    """Download `name + ".gz"` from the first mirror that has it and unpack it to `folder / name`.

    An earlier, interrupted call's `name + ".gz.part"` is resumed. Processes that share a folder must not download into
    it at the same time.

    Args:
        folder: The destination folder; created if absent.
        name: The raw file's name, without `.gz`; one of those in `MD5`.

    Raises:
        OSError: If no mirror provided the file (with one reason per address), or the disk refused it.

    Example:
        >>> download(Path("mnist/test"), "t10k-labels-idx1-ubyte")
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.gz.part"
    md5 = MD5[f"{name}.gz"]
    if not (part.exists() and _md5(part) == md5):
        _fetch_from_mirrors(part, f"{name}.gz", md5)
    _unpack(part, folder / name)


def _fetch_from_mirrors(part: Path, filename: str, md5: str) -> None:
    failures = []
    for mirror in MIRRORS:
        url = mirror + filename
        _logger.info("downloading %s", url)
        try:
            return _fetch(url, part, md5)
        except _MirrorError as error:
            _logger.warning("%s: %s", url, error)
            failures.append(f"  {url}: {error}")
    raise OSError(
        "\n".join(
            [
                f"Mnist: no address gave {filename}:",
                *failures,
                f"Try again later, or download {filename} by hand and put it into {part.parent}",
            ]
        )
    )


def _fetch(url: str, part: Path, md5: str) -> None:
    """Download `url` into `part`, requesting the rest again as often as is sensible."""
    reason = ""
    for _ in range(_TRIES):
        resumed = part.exists()
        try:
            _request(url, part)
        except _BrokenOffError as error:
            reason = str(error)
            continue
        found = _md5(part)
        if found == md5:
            return
        part.unlink()
        reason = f"its MD5 is {found}, expected {md5}"
        if not resumed:
            break  # all of it came from here: another request would give the same
    raise _MirrorError(reason)


def _request(url: str, part: Path) -> None:
    """Append what `part` lacks; if the server cannot resume, start over."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "ms-callbacks"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            part.unlink()  # longer than the file itself
            raise _BrokenOffError("the part file did not fit") from error
        raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(str(getattr(error, "reason", error)) or type(error).__name__) from error
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise _BrokenOffError("the server resumed at a different position than requested")
        _receive(response, part, append=resumed)


def _receive(response: http.client.HTTPResponse, part: Path, append: bool) -> None:
    expected = response.headers.get("Content-Length")
    received = 0
    with open(part, "ab" if append else "wb") as file:
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenOffError(f"broke off after {received} bytes: {error or type(error).__name__}") from error
            if not chunk:
                break
            file.write(chunk)
            received += len(chunk)
    if expected is not None and received < int(expected):
        raise _BrokenOffError(f"broke off after {received} of {expected} bytes")


def _unpack(part: Path, target: Path) -> None:
    unpacked = target.with_name(f"{target.name}.part")
    with gzip.open(part, "rb") as source, open(unpacked, "wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unpacked, target)
    part.unlink()


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()
