"""Two processes that train together decide together: through MindSpore's own engine, on loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import distributed_run
import mindspore as ms
import numpy as np
import pytest
from training import make_model

from ms_callbacks import BestCheckpoint

MSRUN = shutil.which("msrun", path=os.path.dirname(sys.executable)) or shutil.which("msrun")
SECONDS = 150
ROOT = Path(__file__).parent.parent
RANKS = int(os.environ.get("MS_CALLBACKS_RANKS", "2"))

pytestmark = pytest.mark.skipif(MSRUN is None, reason="this MindSpore has no msrun, which starts several processes")


def launch(folder: Path, mode: str = "graph", die_at: int = 0, signal_at: int = 0, rank: int = 1) -> int:
    """Runs `distributed_run` on every rank; returns msrun's exit status, once every process is gone."""
    folder.mkdir(exist_ok=True)
    return start(folder, distributed_run.__file__, str(folder), mode, str(die_at), str(signal_at), str(rank))


def start(folder: Path, script: str, *arguments: str) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
    }
    command = [
        *(MSRUN, f"--worker_num={RANKS}", f"--local_worker_num={RANKS}", "--master_addr=127.0.0.1"),
        *(f"--master_port={port}", "--join=True", f"--log_dir={folder / 'logs'}", script, *arguments),
    ]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **silent) as child:
        try:
            return child.wait(SECONDS)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


def logs(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace")[-3000:] for path in (folder / "logs").glob("worker_*.log"))


def outcomes(folder: Path) -> list[dict[str, Any]]:
    found = [folder / f"outcome-{rank}.json" for rank in range(RANKS)]
    assert all(path.exists() for path in found), logs(folder)
    return [json.loads(path.read_text()) for path in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts, in GRAPH mode."""
    folder = tmp_path_factory.mktemp("whole")
    assert launch(folder) == 0, logs(folder)
    return folder


@pytest.mark.parametrize("mode", ["graph", "pynative"])
def test_all_ranks_decide_alike(request: pytest.FixtureRequest, tmp_path: Path, mode: str) -> None:
    """They stop in one epoch, lower the rate alike, keep and restore the same weights; the first writes and prints."""
    folder = request.getfixturevalue("whole") if mode == "graph" else tmp_path
    assert mode == "graph" or launch(folder, mode) == 0, logs(folder)
    first, *others = outcomes(folder)
    for other in others:
        for name in ("stopped", "best", "rates", "acc", "eval_loss", "loss", "matrix", "weights", "best_weights"):
            assert first[name] == other[name], name
        assert [each["acc"] for each in first["own"]] != [each["acc"] for each in other["own"]]
    assert 0 < first["stopped"][0] < 20, "the run was meant to be stopped early"
    assert first["rates"][-1] < first["rates"][0], "the rate was meant to be lowered"
    # What is decided upon is the mean over all samples, however they are spread.
    samples = [each["samples"] for each in (first, *others)]
    for epoch, acc in enumerate(first["acc"]):
        own = [each["own"][epoch]["acc"] for each in (first, *others)]
        assert acc == pytest.approx(sum(a * n for a, n in zip(own, samples)) / sum(samples), abs=1e-6)
    assert first["matrix"] == sum(samples)
    for each in (first, *others):
        assert each["trained"] == pytest.approx([240 // RANKS * RANKS] * first["stopped"][0])
    assert [len(rows) for rows in [(folder / "log.csv").read_text().splitlines()]] == [first["stopped"][0] + 1]
    printed = [path.read_text(errors="replace") for path in sorted((folder / "logs").glob("worker_*.log"))]
    assert [text.count("EarlyStopping: stopped") for text in printed] == [1] + [0] * (RANKS - 1)
    assert [text.count("avg loss") for text in printed] == [first["stopped"][0]] + [0] * (RANKS - 1)


def test_a_rank_that_dies_leaves_whole_files_and_the_run_goes_on(whole: Path, tmp_path: Path) -> None:
    """SIGKILL of one process ends the job; the best file is whole, and the next start goes on to the same end."""
    folder = tmp_path / "run"
    assert launch(folder, die_at=37) != 0
    assert BestCheckpoint(str(folder / "best.ckpt")).load_into(distributed_run.make_network())["epoch"] >= 1
    assert launch(folder) == 0, logs(folder)
    resumed, uninterrupted = outcomes(folder)[0], outcomes(whole)[0]
    # Not to the last bit: MindSpore's kernels on a CPU divide their work as was fastest in a process's first steps.
    for name in ("stopped", "best"):
        assert resumed[name] == pytest.approx(uninterrupted[name], rel=1e-5), name
    for name, array in uninterrupted["weights"].items():
        np.testing.assert_allclose(resumed["weights"][name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path: Path) -> None:
    """None waits for the other, all name it, and the state that is kept is the same for all."""
    folder = tmp_path / "run"
    assert launch(folder, signal_at=13) == 0, logs(folder)
    assert [each["signal"] for each in outcomes(folder)] == [signal.SIGINT] * RANKS
    assert list((folder / "state").glob("state-*"))
    assert outcomes(folder)[0]["stopped"][0] == 0


def test_the_example_prints_what_its_readme_shows(
    tmp_path: Path, few_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process ends with the same weights, to the last digit, and no warning stands in the logs."""
    pytest.importorskip("mindvision")
    monkeypatch.delenv("GLOG_v", raising=False)
    options = ("--epochs", "1", "--data-dir", str(few_digits))
    assert start(tmp_path, str(ROOT / "examples" / "train_distributed.py"), *options) == 0, logs(tmp_path)
    told = re.findall(rf"Process \d of {RANKS}: (best epoch 1, sum of all weights .*)", logs(tmp_path))
    assert len(told) == RANKS
    assert len(set(told)) == 1
    assert not [path for path in (tmp_path / "logs").iterdir() if "[WARNING]" in path.read_text(errors="replace")]


def test_fit_alone_is_refused_on_several_processes(graph: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its evaluation is each rank's own; Validate beside it makes it one."""
    from training import dataset, valid_dataset

    from ms_callbacks import EarlyStopping
    from ms_callbacks.core import _ranks

    monkeypatch.setattr(_ranks, "count", lambda: 2)
    with pytest.raises(ValueError, match=r"2 processes together.*add Validate\(model, valid_dataset\)"):
        make_model().fit(1, dataset(), valid_dataset(), callbacks=[EarlyStopping("acc")])
    assert ms.get_context("mode") == ms.GRAPH_MODE
