"""Jobs of several processes, started by MindSpore's `msrun` as a user or a scheduler starts them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

MSRUN = shutil.which("msrun", path=os.path.dirname(sys.executable)) or shutil.which("msrun")
ROOT = Path(__file__).parent.parent
RANKS = int(os.environ.get("MS_CALLBACKS_RANKS", "2"))
SECONDS = 150  # for a job that hangs
_MARK = "MS_CALLBACKS_JOB"
_SOON = {"MS_RETRY_INTERVAL_LOWER": "1", "MS_RETRY_INTERVAL_UPPER": "1"}  # seconds in which processes find each other


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Job:
    """`msrun` of a script in a folder, or what runs it; nothing of it is left when the context ends."""

    def __init__(
        self,
        folder: Path,
        script: str,
        *arguments: str,
        msrun: Sequence[str] = (str(MSRUN), "--join=True"),
        where: Sequence[str] = (f"--worker_num={RANKS}", f"--local_worker_num={RANKS}", "--master_addr=127.0.0.1"),
        port: int = 0,
        environment: Mapping[str, str] = {},
    ) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self.folder = folder
        self._mark = f"{folder}-{time.monotonic_ns()}"
        settings = {
            **os.environ,
            **_SOON,
            **environment,
            _MARK: self._mark,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
        }
        options = [*where, f"--master_port={port or free_port()}", f"--log_dir={folder / 'logs'}"]
        with open(folder / "msrun.log", "w") as told:
            self.process = subprocess.Popen(
                [*msrun, *options, script, *arguments],
                **{"cwd": folder, "env": settings, "stdout": told, "stderr": subprocess.STDOUT},
                start_new_session=True,
            )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *error: Any) -> None:
        self.kill()

    def wait(self) -> int:
        """Returns the exit status; raises where the job hangs."""
        return self.process.wait(SECONDS)

    def until(self, condition: Callable[[], Any]) -> None:
        """Waits until something is so, or `msrun` has ended; raises where the job hangs."""
        until = time.monotonic() + SECONDS
        while not condition() and self.process.poll() is None:
            assert time.monotonic() < until, logs(self.folder)
            time.sleep(0.1)

    def workers(self) -> list[int]:
        """Those of its processes that train: not `msrun`, and not the one that has them find each other."""
        return self.left("MS_ROLE=MS_WORKER")

    def left(self, setting: str = "") -> list[int]:
        """Which of its processes are alive, those with a setting in their environment."""
        found = []
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                has = Path("/proc", process, "environ").read_text(errors="replace").split("\0")
                if f"{_MARK}={self._mark}" in has and (not setting or setting in has):
                    found.append(int(process))
        return found

    def kill(self) -> None:
        """Kills all that is left of it, as the end of a machine does."""
        while self.left():
            for process in self.left():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.process.poll()
        self.process.wait(SECONDS)


def logs(folder: Path) -> str:
    paths = [folder / "msrun.log", *sorted((folder / "logs").glob("*.log"))]
    return "\n".join(f"{path}:\n{path.read_text(errors='replace')[-3000:]}" for path in paths if path.exists())


def read(*paths: Path) -> list[dict[str, Any]]:
    """What the processes have written."""
    assert all(path.exists() for path in paths), logs(paths[0].parent)
    return [json.loads(path.read_text()) for path in paths]
