"""Downloading, against a server on this machine that misbehaves in every way we know of."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import http.server
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from ms_callbacks.vision import _download

NAME = "t10k-images-idx3-ubyte"
RAW = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
ARCHIVE = gzip.compress(RAW, mtime=0)
CUT = 200_000


class Mirror(http.server.ThreadingHTTPServer):
    """Serves one file; `cuts` are the lengths after which the first answers break off."""

    daemon_threads = True

    def __init__(self, data: bytes | None, ranges: bool = True, cuts: tuple[int, ...] = (), shift: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.ranges = ranges
        self.cuts = list(cuts)
        self.shift = shift  # how far from the asked place it resumes
        self.silent = False
        self.waited_for_nothing = False
        self.closing = threading.Event()
        self.asked: list[str | None] = []  # the Range of each request
        self.url = f"http://127.0.0.1:{self.server_address[1]}/mnist/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        mirror = self.server
        mirror.asked.append(self.headers["Range"])
        if mirror.silent:
            mirror.waited_for_nothing = not mirror.closing.wait(20)
            return
        if mirror.data is None or self.path != f"/mnist/{NAME}.gz":
            self.send_error(404, "Not Found")
            return
        body = mirror.data
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if asked and mirror.ranges:
            start = int(asked[1]) + mirror.shift
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: mirror.cuts.pop(0)] if mirror.cuts else body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Mirror]]:
    """Starts mirrors; the last started is the last that is tried."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_download, "MIRRORS", ())
    monkeypatch.setattr(_download, "TIMEOUT", 10.0)
    monkeypatch.setitem(_download.MD5, f"{NAME}.gz", hashlib.md5(ARCHIVE).hexdigest())
    mirrors = []

    def start(data: bytes | None = ARCHIVE, **options: Any) -> Mirror:
        mirror = Mirror(data, **options)
        threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        mirrors.append(mirror)
        monkeypatch.setattr(_download, "MIRRORS", (*_download.MIRRORS, mirror.url))
        return mirror

    yield start
    for mirror in mirrors:
        mirror.closing.set()
        mirror.shutdown()
        mirror.server_close()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_whole(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    """A file is fetched into a new folder, unpacked, and nothing else is left."""
    mirror = serve()
    _download.download(tmp_path / "new" / "test", NAME)
    assert files(tmp_path / "new" / "test") == {NAME: RAW}
    assert mirror.asked == [None]


def test_resumes(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    """When the connection breaks off, only the rest is asked for."""
    mirror = serve(cuts=(CUT, 50_000))
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert mirror.asked == [None, f"bytes={CUT}-", f"bytes={CUT + 50_000}-"]


def test_begins_anew_without_ranges(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    """A server that cannot resume sends all of it again, and the file is right."""
    mirror = serve(ranges=False, cuts=(CUT,))
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert mirror.asked == [None, f"bytes={CUT}-"]


def test_next_mirror_has_the_rest(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    """What a mirror gave before it failed for good is not fetched again from the next."""
    first, second = serve(cuts=(CUT, 0, 0)), serve()
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert len(first.asked) == 3
    assert second.asked == [f"bytes={CUT}-"]


def test_takes_up_an_earlier_part(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    """A part file of an earlier process is resumed."""
    mirror = serve()
    (tmp_path / f"{NAME}.gz.part").write_bytes(ARCHIVE[:CUT])
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert mirror.asked == [f"bytes={CUT}-"]


def test_whole_part_needs_no_server(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    """A part file that is whole is unpacked without asking anybody."""
    mirror = serve()
    (tmp_path / f"{NAME}.gz.part").write_bytes(ARCHIVE)
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert mirror.asked == []


@pytest.mark.parametrize(
    "part",
    [b"<html>log in to this network</html>", ARCHIVE + b"more", b"\0" * len(ARCHIVE)],
    ids=["rubbish", "longer", "as-long"],
)
def test_bad_part(serve: Callable[..., Mirror], tmp_path: Path, part: bytes) -> None:
    """A part file that is not the beginning of the file is thrown away, and the same mirror asked again."""
    mirror = serve()
    (tmp_path / f"{NAME}.gz.part").write_bytes(part)
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert mirror.asked == [f"bytes={len(part)}-", None]


def test_resumed_elsewhere(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    """A server that resumes at another place than asked is asked for all of it."""
    mirror = serve(cuts=(CUT,), shift=1000)
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert mirror.asked == [None, f"bytes={CUT}-", None]


def test_wrong_file(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    """A file with another MD5 is thrown away and the next mirror used from the start."""
    first, second = serve(gzip.compress(b"another file")), serve()
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert (first.asked, second.asked) == ([None], [None])


def test_not_found(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    """A mirror without the file is asked once, then the next one."""
    first, second = serve(None), serve()
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert (first.asked, second.asked) == ([None], [None])


def test_silent(serve: Callable[..., Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that says nothing is given up after the timeout."""
    monkeypatch.setattr(_download, "TIMEOUT", 0.2)
    first = serve()
    first.silent = True
    serve()
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert first.asked == [None]
    assert not first.waited_for_nothing


def test_all_fail(serve: Callable[..., Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no mirror has it, the error gives each address with its reason, and what to do by hand."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refusing = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    missing, wrong, broken = serve(None), serve(b"another file"), serve(cuts=(10, 0, 0))
    monkeypatch.setattr(_download, "MIRRORS", (refusing, *_download.MIRRORS))
    with pytest.raises(OSError, match="no address gave") as error:
        _download.download(tmp_path, NAME)
    lines = str(error.value).splitlines()
    assert re.search(f"{refusing}{NAME}.gz: .*refused", lines[1])
    assert lines[2] == f"  {missing.url}{NAME}.gz: HTTP 404 Not Found"
    md5 = hashlib.md5(b"another file").hexdigest()
    assert lines[3] == f"  {wrong.url}{NAME}.gz: its MD5 is {md5}, expected {_download.MD5[f'{NAME}.gz']}"
    assert lines[4] == f"  {broken.url}{NAME}.gz: broke off after 0 of {len(ARCHIVE) - 10} bytes"
    assert lines[5].endswith(f"download {NAME}.gz by hand and put it into {tmp_path}")
    assert list(files(tmp_path)) == [f"{NAME}.gz.part"]


def test_stopped_while_receiving(serve: Callable[..., Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends in the middle of the transfer leaves a part file only, from which the next one goes on."""
    mirror = serve()
    read = http.client.HTTPResponse.read
    chunks = []

    def interrupted(response: http.client.HTTPResponse, amount: int) -> bytes:
        if chunks:
            raise KeyboardInterrupt
        chunks.append(read(response, amount))
        return chunks[0]

    with monkeypatch.context() as patch:
        patch.setattr(http.client.HTTPResponse, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _download.download(tmp_path, NAME)
    assert files(tmp_path) == {f"{NAME}.gz.part": chunks[0]}
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert mirror.asked == [None, f"bytes={len(chunks[0])}-"]


def test_stopped_while_unpacking(serve: Callable[..., Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends before the file has its final name leaves an older file of that name as it was."""
    mirror = serve()
    (tmp_path / NAME).write_bytes(b"an older file")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _download.download(tmp_path, NAME)
    left = files(tmp_path)
    assert left.pop(NAME) == b"an older file"
    assert all(name.endswith(".part") for name in left)
    _download.download(tmp_path, NAME)
    assert files(tmp_path) == {NAME: RAW}
    assert mirror.asked == [None]


def test_real_addresses() -> None:
    """There is more than one mirror, each encrypted, each ending in the slash that the file's name is put after."""
    assert len(set(_download.MIRRORS)) >= 3
    assert all(re.fullmatch(r"https://[a-z0-9.-]+/([a-z-]+/)+", mirror) for mirror in _download.MIRRORS)
