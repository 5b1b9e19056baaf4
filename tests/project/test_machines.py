"""Two machines that train together, each with a folder of its own: what one does when the other, or the cable, is gone.

The machines are two network namespaces of Linux, joined by a pair of virtual Ethernet devices.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import distributed_run
import numpy as np
import pytest
from jobs import MSRUN, Job, logs, read

from ms_callbacks import BestCheckpoint
from ms_callbacks.checkpointing._states import States

NETWORK = f"10.{os.getpid() % 200 + 20}.77."
SECONDS = 10  # after which MindSpore gives up, in place of its 30


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Machines:
    """Two namespaces: `names`, their addresses, and the device of the first that leads to the second."""

    def __init__(self) -> None:
        own = os.getpid()
        self.names = (f"first-{own}", f"second-{own}")
        self.addresses = (f"{NETWORK}1", f"{NETWORK}2")
        self.devices = (f"va{own}", f"vb{own}")

    def __enter__(self) -> Machines:
        for name in self.names:
            ip("netns", "add", name)
        pair = ["link", "add", self.devices[0], "netns", self.names[0], "type", "veth"]
        ip(*pair, "peer", "name", self.devices[1], "netns", self.names[1])
        for name, address, device in zip(self.names, self.addresses, self.devices):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", "lo", "up")
        self.join_cable()
        return self

    def __exit__(self, *error: object) -> None:
        for name in self.names:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)

    def join_cable(self) -> None:
        for name, device in zip(self.names, self.devices):
            ip("-n", name, "link", "set", device, "up")

    def cut_cable(self) -> None:
        ip("-n", self.names[0], "link", "set", self.devices[0], "down")

    @contextlib.contextmanager
    def training(self, folders: list[Path], seconds: int = 30, **options: object) -> Iterator[list[Job]]:
        """`distributed_run` on both, each with its folder; `seconds` until one gives the other up."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(
                    Job(
                        folder,
                        distributed_run.__file__,
                        json.dumps({"folder": str(folder), **options}),
                        msrun=("ip", "netns", "exec", name, str(MSRUN), "--join=True"),
                        where=(
                            *("--worker_num=2", "--local_worker_num=1", f"--node_rank={rank}"),
                            f"--master_addr={self.addresses[0]}",
                        ),
                        port=8118,
                        environment={"MS_NODE_TIMEOUT": str(seconds)},
                    )
                )
                for rank, (folder, name) in enumerate(zip(folders, self.names))
            ]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    if MSRUN is None:
        pytest.skip("this MindSpore has no msrun, which starts several processes")
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and the command ip")
    try:
        with Machines() as both:
            yield both
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr}")


@pytest.fixture(scope="module")
def uninterrupted(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first machine's folder of a run that nothing interrupts."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    with machines.training(folders) as jobs:
        assert [job.wait() for job in jobs] == [0, 0], logs(folders[0])
    return folders[0]


def raised_in(folder: Path) -> bool:
    """Whether the process that trained has ended by MindSpore's exception."""
    (log,) = (folder / "logs").glob("worker_*.log")
    return "\nRuntimeError: " in log.read_text(errors="replace")


def check_end(job: Job, began: float) -> None:
    """The machine that is left has an error within a minute, and nothing runs on it any more."""
    job.until(lambda: not job.workers())
    # What is set and 3 seconds that MindSpore adds; on a loaded machine, three times as long was seen.
    assert time.monotonic() - began < 60
    assert job.wait() == 1, logs(job.folder)
    assert raised_in(job.folder)
    assert not job.left()


def check_files(first: Path, second: Path) -> None:
    """Those of the first machine are whole; the second has written none."""
    state = States(str(first / "state"), 1).newest(pytest.fail)
    assert state is not None
    assert state.content["epoch"] >= 1
    assert BestCheckpoint(str(first / "best.ckpt")).load_into(distributed_run.make_network())["epoch"] >= 1
    assert not [path for path in second.rglob("*") if path.suffix == ".ckpt" or path.name.startswith("state-")]


def resume(machines: Machines, folders: list[Path], uninterrupted: Path) -> None:
    """With the first machine's folder copied to the second, the next start comes to the same end."""
    shutil.copytree(folders[0] / "state", folders[1] / "state", dirs_exist_ok=True)
    with machines.training(folders) as jobs:
        assert [job.wait() for job in jobs] == [0, 0], logs(folders[0])
    resumed, others, whole = read(
        folders[0] / "outcome-0.json", folders[1] / "outcome-1.json", uninterrupted / "outcome-0.json"
    )
    assert resumed["weights"] == others["weights"]
    for name in ("stopped", "best"):
        assert resumed[name] == pytest.approx(whole[name], rel=1e-5), name
    for name, array in whole["weights"].items():
        np.testing.assert_allclose(resumed["weights"][name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_cut_cable_is_an_error_on_both_machines(machines: Machines, tmp_path: Path) -> None:
    """Soon, and no file is torn."""
    folders = [tmp_path / "first", tmp_path / "second"]
    held = folders[1] / "held"
    with machines.training(folders, SECONDS, hold=37) as jobs:
        jobs[1].until(held.exists)
        machines.cut_cable()
        held.unlink()
        began = time.monotonic()
        try:
            check_end(jobs[0], began)
            assert raised_in(folders[1])  # its process takes another half of a minute to exit
        finally:
            machines.join_cable()
    check_files(*folders)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_killed_machine_is_an_error_on_the_other(
    machines: Machines, uninterrupted: Path, tmp_path: Path, which: int
) -> None:
    """Whichever it is; and the two continue to the same end when it is back."""
    folders = [tmp_path / "first", tmp_path / "second"]
    with machines.training(folders, SECONDS, hold=37) as jobs:
        jobs[1].until((folders[1] / "held").exists)
        jobs[which].kill()
        check_end(jobs[1 - which], time.monotonic())
    check_files(*folders)
    resume(machines, folders, uninterrupted)
