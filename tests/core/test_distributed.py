"""Two processes that train together decide together: through MindSpore's own engine, on loopback."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import distributed_run
import numpy as np
import pytest
from jobs import MSRUN, RANKS, ROOT, Job, logs, read

from ms_callbacks import BestCheckpoint
from ms_callbacks.checkpointing._states import States

STOPPABLE = ("bash", str(ROOT / "examples" / "run_distributed.sh"))

pytestmark = pytest.mark.skipif(MSRUN is None, reason="this MindSpore has no msrun, which starts several processes")


def train(folder: Path, seconds: int = 30, msrun: Any = (MSRUN, "--join=True"), **options: Any) -> Job:
    """`distributed_run` on every rank; `seconds` until MindSpore gives a lost process up."""
    arguments = json.dumps({"folder": str(folder), **options})
    return Job(folder, distributed_run.__file__, arguments, msrun=msrun, environment={"MS_NODE_TIMEOUT": str(seconds)})


def outcomes(folder: Path) -> list[dict[str, Any]]:
    return read(*(folder / f"outcome-{rank}.json" for rank in range(RANKS)))


def ends(folder: Path) -> list[dict[str, Any]]:
    """Where each process has ended its run."""
    return read(*(folder / f"ended-{rank}.json" for rank in range(RANKS)))


def newest_state(folder: Path) -> dict[str, Any]:
    state = States(str(folder / "state"), 1).newest(pytest.fail)
    assert state is not None, logs(folder)
    return state.content


def done(state: dict[str, Any]) -> int:
    """The steps after which a state was saved."""
    return state["epoch"] * state["steps_per_epoch"] + state["step_in_epoch"]


def of_whole(folder: Path) -> Path:
    """A run that nothing interrupts, of processes that share no folder."""
    with train(folder, apart=True) as job:
        assert job.wait() == 0, logs(folder)
        assert not job.left()
    return folder


def of_killed(folder: Path) -> Path:
    """One rank is killed by SIGKILL; the next start is told to stop before it trains; the third comes to the end."""
    with contextlib.ExitStack() as stack:
        killed = stack.enter_context(train(folder, 10, mode="pynative", die=37))
        killed.until(killed.workers)
        killed.until(lambda: not killed.workers())
        shutil.copytree(folder, folder / "as-killed", ignore=shutil.ignore_patterns("as-killed"))
        stopped = stack.enter_context(train(folder, msrun=STOPPABLE, mode="pynative", hold=3))
        stopped.until(stopped.workers)
        stopped.process.send_signal(signal.SIGTERM)
        assert stopped.wait() == 128 + signal.SIGTERM, logs(folder)
        assert not stopped.left()
        shutil.copytree(folder, folder / "as-stopped", ignore=shutil.ignore_patterns("as-*"))
        resumed = stack.enter_context(train(folder, mode="pynative"))
        assert resumed.wait() == 0, logs(folder)
        assert killed.wait() != 0
        assert not killed.left()
    return folder


def of_signalled(folder: Path) -> Path:
    """One rank gets a signal, and all exit with it."""
    with train(folder, 10, signal=13, exit_with="signal") as job:
        assert job.wait() == 1, logs(folder)  # as msrun has it, for any status but 0
        assert not job.left()
    return folder


def of_example(folder: Path, digits: Path) -> Path:
    options = ("--epochs", "1", "--data-dir", str(digits))
    with Job(folder, str(ROOT / "examples" / "train_distributed.py"), *options, environment={"GLOG_v": "3"}) as job:
        assert job.wait() == 0, logs(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, few_digits: Path) -> Iterator[dict[str, Future[Path]]]:
    """All runs of this module, three at a time: each waits for its own processes half of its time."""
    folder = tmp_path_factory.mktemp("runs")
    with ThreadPoolExecutor(3) as pool:
        yield {
            "killed": pool.submit(of_killed, folder / "killed"),
            "whole": pool.submit(of_whole, folder / "whole"),
            "signalled": pool.submit(of_signalled, folder / "signalled"),
            "example": pool.submit(of_example, folder / "example", few_digits),
        }


@pytest.mark.parametrize("run", ["whole", "killed"])
def test_all_ranks_decide_alike(runs: dict[str, Future[Path]], run: str) -> None:
    """They stop in one epoch, lower the rate alike, keep and restore the same weights; the first writes and prints.

    The run that nothing interrupts is in GRAPH mode, the other in PYNATIVE mode.
    """
    folder = runs[run].result()
    first, *others = outcomes(folder)
    of_all = ["stopped", "best", "rates", "acc", "eval_loss", "loss", "matrix", "weights"]
    if run == "whole":
        assert not [*(folder / "apart").rglob("*.ckpt"), *(folder / "apart").rglob("*.csv")]
    else:
        of_all.append("best_weights")
    for other in others:
        for name in of_all:
            assert first[name] == other[name], name
        assert [each["acc"] for each in first["own"]] != [each["acc"] for each in other["own"]]
    assert 0 < first["stopped"][0] < 20, "the run was meant to be stopped early"
    assert first["rates"][-1] < first["rates"][0], "the rate was meant to be lowered"
    # What is decided upon is the mean over all samples, however they are spread.
    samples = [each["samples"] for each in (first, *others)]
    epochs = len(first["own"])  # since the latest start
    assert (epochs == first["stopped"][0]) == (run == "whole")
    for epoch, acc in enumerate(first["acc"][-epochs:]):
        own = [each["own"][epoch]["acc"] for each in (first, *others)]
        assert acc == pytest.approx(sum(a * n for a, n in zip(own, samples)) / sum(samples), abs=1e-6)
    assert first["matrix"] == sum(samples)
    for each in (first, *others):
        assert each["trained"] == pytest.approx([240 // RANKS * RANKS] * first["stopped"][0])
    assert [len(rows) for rows in [(folder / "log.csv").read_text().splitlines()]] == [first["stopped"][0] + 1]
    printed = [path.read_text(errors="replace") for path in sorted((folder / "logs").glob("worker_*.log"))]
    assert [text.count("EarlyStopping: stopped") for text in printed] == [1] + [0] * (RANKS - 1)
    assert [text.count("avg loss") for text in printed] == [epochs] + [0] * (RANKS - 1)


def test_a_run_that_is_killed_and_then_stopped_comes_to_the_same_end(runs: dict[str, Future[Path]]) -> None:
    """SIGKILL of one process, then SIGTERM to the script that runs msrun: whole files, and nothing is left running."""
    folder = runs["killed"].result()
    best = BestCheckpoint(str(folder / "as-killed" / "best.ckpt"))
    assert best.load_into(distributed_run.make_network())["epoch"] >= 1
    killed, stopped = newest_state(folder / "as-killed"), newest_state(folder / "as-stopped")
    first, *others = ends(folder / "as-stopped")
    assert all(other == first for other in others)
    assert first["signal"] == signal.SIGTERM
    # It was told before its first step, in which the network is compiled; 20 steps pass at most until all agree.
    assert 1 <= first["step"] <= 23
    assert done(stopped) == done(killed) + first["step"]
    resumed, uninterrupted = outcomes(folder)[0], outcomes(runs["whole"].result())[0]
    # Not to the last bit: MindSpore's kernels on a CPU divide their work as was fastest in a process's first steps.
    for name in ("stopped", "best"):
        assert resumed[name] == pytest.approx(uninterrupted[name], rel=1e-5), name
    for name, array in uninterrupted["weights"].items():
        np.testing.assert_allclose(resumed["weights"][name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_signal_to_one_rank_stops_all_after_the_same_step(runs: dict[str, Future[Path]]) -> None:
    """All name it and keep one state; the first, which takes longest, is not killed for another's exit status."""
    folder = runs["signalled"].result()
    first, *others = ends(folder)
    assert all(other == first for other in others)
    assert first["signal"] == signal.SIGINT
    assert 13 <= first["step"] <= 17, "about a second later, and not at the end of the epoch"
    assert done(newest_state(folder)) == first["step"]


def test_the_example_prints_what_its_readme_shows(runs: dict[str, Future[Path]]) -> None:
    """Every process ends with the same weights, to the last digit, and no warning stands in the logs."""
    pytest.importorskip("mindvision")
    folder = runs["example"].result()
    printed = [path.read_text(errors="replace") for path in (folder / "logs").iterdir()]
    told = re.findall(rf"Process \d of {RANKS}: (best epoch 1, sum of all weights .*)", "\n".join(printed))
    assert len(told) == RANKS
    assert len(set(told)) == 1
    assert not [text for text in printed if "[WARNING]" in text]


def test_fit_alone_is_refused_on_several_processes(runs: dict[str, Future[Path]]) -> None:
    """Its evaluation is each rank's own; Validate beside it makes it one."""
    for outcome in outcomes(runs["whole"].result()):
        assert re.search(rf"{RANKS} processes together.*add Validate\(model, valid_dataset\)", outcome["refused"])
