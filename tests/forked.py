"""Programs in processes of their own that need not import MindSpore: forked from one that has done that and no more.

What a program prints goes to files, so that it can be killed at any moment; at its end no `atexit` function runs. Where
the import, the beginning or the end of a process is the point, a test starts an interpreter instead.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import Optional, Union

if "forkserver" in multiprocessing.get_all_start_methods():
    _context = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload(["mindspore.train", "mindspore.dataset", "matplotlib.figure"])
else:
    _context = multiprocessing.get_context("spawn")  # Windows: as slow as an interpreter of its own


def _run(
    path: str, arguments: Sequence[str], folder: str, environment: Mapping[str, str], streams: Sequence[str]
) -> None:
    gc.freeze()  # else MindSpore looks for garbage among all that was imported, before each compilation
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(folder)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(path))
    runpy.run_path(path, run_name="__main__")


def start(
    program: Union[str, pathlib.Path],
    *arguments: str,
    folder: pathlib.Path,
    environment: Optional[Mapping[str, str]] = None,
) -> BaseProcess:
    """Begins a program, a file or its text, in a folder; what it prints goes to `stdout` and `stderr` there."""
    if isinstance(program, str):
        program, text = folder / "program.py", program
        program.write_text(text, encoding="utf-8")
    streams = [str(folder / name) for name in ("stdout", "stderr")]
    for stream in streams:
        pathlib.Path(stream).write_bytes(b"")
    environment = os.environ if environment is None else environment
    process = _context.Process(target=_run, args=(str(program), arguments, str(folder), dict(environment), streams))
    process.start()
    return process


def run(
    program: Union[str, pathlib.Path],
    *arguments: str,
    folder: pathlib.Path,
    environment: Optional[Mapping[str, str]] = None,
) -> subprocess.CompletedProcess[str]:
    """A program's status and all that it has printed, once it has ended."""
    process = start(program, *arguments, folder=folder, environment=environment)
    process.join(300)
    if process.exitcode is None:
        process.kill()
        process.join()
    printed = [(folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    assert process.exitcode is not None
    return subprocess.CompletedProcess([str(program), *arguments], process.exitcode, *printed)
