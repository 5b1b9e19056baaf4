"""A run that is killed or told to stop goes on, in a new process, to the very end that it would have come to."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import interrupted_run
import mindspore.dataset as ds
import pytest
from training import dataset, make_model, valid_dataset

from ms_callbacks import EarlyStopping, GracefulStop

KILLS = int(os.environ.get("MS_CALLBACKS_KILLS", "2"))
CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")
SECONDS = 120  # for a child that hangs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


class Child:
    """The run in a process of its own."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        self.folder = folder
        command = [sys.executable, interrupted_run.__file__, json.dumps({"folder": str(folder), **arguments})]
        root = os.path.dirname(os.path.dirname(interrupted_run.__file__))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []

    def until(self, line: str, count: int = 1) -> bool:
        """Reads on until a line has come so often; whether it has."""
        assert self.process.stdout is not None
        for each in self.process.stdout:
            self.lines.append(each.rstrip())
            count -= each.rstrip() == line
            if count == 0:
                return True
        return False

    def go_on(self) -> None:
        """Lets it go on where it waits."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Waits for the end; returns how the process exited."""
        if self.process.returncode is None:
            rest, _ = self.process.communicate(timeout=SECONDS)
            self.lines += rest.splitlines()
        return self.process.returncode

    def outcome(self) -> Any:
        return json.loads((self.folder / "outcome.json").read_text())


@pytest.fixture(autouse=True)
def _no_child_is_left(monkeypatch: pytest.MonkeyPatch) -> Any:
    children = []
    original = Child.__init__

    def keep(self: Child, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        children.append(self.process)

    monkeypatch.setattr(Child, "__init__", keep)
    yield
    for child in children:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run comes to that nothing interrupts."""

    @functools.cache
    def outcome(mode: str, shuffle: bool) -> Any:
        folder = tmp_path_factory.mktemp("whole")
        child = Child(folder, mode=mode, shuffle=shuffle, every_n_steps=None)
        assert child.end() == 0, child.lines
        return child.outcome()

    return outcome


KINDS = [
    pytest.param("graph", False, None, id="graph"),
    *(
        [
            pytest.param("graph", True, 3, id="graph-shuffled-within-epochs"),
            pytest.param("pynative", True, 3, id="pynative-shuffled-within-epochs"),
        ]
        if CAN_BEGIN_WITHIN
        else [pytest.param("pynative", False, None, id="pynative")]
    ),
]


@pytest.mark.parametrize(("mode", "shuffle", "every_n_steps"), KINDS)
def test_killed_at_random_moments_it_ends_where_it_would_have_ended(
    uninterrupted: Any, tmp_path: Path, mode: str, shuffle: bool, every_n_steps: int | None
) -> None:
    """Parameters, moments, rates, early stop, best files, history and rows, to the last bit."""
    arguments = {"mode": mode, "shuffle": shuffle, "every_n_steps": every_n_steps}
    expected = uninterrupted(mode, shuffle)
    assert 0 < expected["stopped"][0] < 14, "the run was meant to be stopped early"
    rng = random.Random(f"{mode}{shuffle}")
    kills = in_a_save = rounds = runs = 0
    while kills < KILLS or not runs:
        folder = tmp_path / f"killed-{rounds}"
        folder.mkdir()
        rounds += 1
        while True:
            child = Child(folder, **arguments)
            if kills == KILLS or not child.until("step", rng.randint(1, 25)):
                break
            time.sleep(rng.uniform(0, 0.05))  # a step takes 2 ms, an evaluation 20, a save 5 to 20
            child.process.kill()
            if child.end() == 0:
                break  # it was too late
            kills += 1
            in_a_save += any(any(each.glob(".partial-*")) for each in (folder, folder / "state"))
        assert child.end() == 0, child.lines
        runs += 1
        outcome = child.outcome()
        assert [name for name in expected if outcome[name] != expected[name]] == [], (outcome["history"], child.lines)
    print(f"\n{kills} kills in {runs} runs, {in_a_save} of them in a save; all runs ended alike")


@pytest.mark.parametrize(
    ("which", "exit_with", "status"), [("SIGTERM", None, 0), ("SIGTERM", "signal", None), ("SIGINT", 0, 0)]
)
def test_a_signal_ends_the_run_in_good_order(
    uninterrupted: Any, tmp_path: Path, which: str, exit_with: Any, status: int | None
) -> None:
    """The step ends, the state is kept, the process exits as asked, and a new one goes on to the same end."""
    arguments = {"mode": "graph", "shuffle": False, "every_n_steps": None}
    folder = tmp_path / "run"
    folder.mkdir()
    child = Child(folder, exit_with=exit_with, **arguments)
    assert child.until("step", 11), child.lines  # in the second of the eight steps of the second epoch
    child.process.send_signal(signal.Signals[which])
    expected = {0} if status == 0 else {128 + signal.Signals[which], 128 + signal.SIGTERM}
    assert child.end() in expected, child.lines
    names = (which, "SIGTERM")  # in a step, MindSpore 2.8 and newer turn SIGINT into SIGTERM
    assert any(line.startswith(f"GracefulStop: stopped by {name} in epoch") for line in child.lines for name in names)
    again = Child(folder, **arguments)
    assert again.end() == 0, again.lines
    assert any("continues after epoch" in line for line in again.lines)
    assert again.outcome() == uninterrupted("graph", False)


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    """The process dies of it, whatever it was doing."""
    child = Child(tmp_path, mode="graph", shuffle=False, every_n_steps=None, seconds_at_end=20)
    assert child.until("step", 3), child.lines
    child.process.send_signal(signal.SIGINT)
    assert child.until("end"), child.lines
    child.process.send_signal(signal.SIGINT)
    assert child.end() == -signal.SIGINT


def test_sigusr1_saves_and_goes_on(uninterrupted: Any, tmp_path: Path) -> None:
    """The run comes to its end as if nothing had been asked, and there was one state more."""
    arguments = {"mode": "graph", "shuffle": False, "every_n_steps": None}
    folder = tmp_path / "run"
    folder.mkdir()
    child = Child(folder, waits_in=(3, 6), **arguments)
    assert child.until("step", 3), child.lines  # in the first epoch of eight steps, which has no state yet
    assert not list((folder / "state").glob("state-*"))
    child.process.send_signal(signal.SIGUSR1)
    child.go_on()
    assert child.until("step", 3), child.lines
    if CAN_BEGIN_WITHIN:
        assert list((folder / "state").glob("state-*"))
    child.go_on()
    assert child.end() == 0, child.lines
    assert child.outcome() == uninterrupted("graph", False)


def test_where_signals_cannot_be_set_it_is_said_before_the_first_step() -> None:
    """Python lets only the main thread set them."""
    told: list[str] = []

    def train() -> None:
        try:
            make_model().train(1, dataset(), callbacks=[GracefulStop()])
        except RuntimeError as error:
            told.append(str(error))

    thread = threading.Thread(target=train, name="worker")
    thread.start()
    thread.join()
    assert told == [
        "GracefulStop: signals can be handled in the main thread only, and this run is in 'worker'; call Model.train "
        "from the main thread, or leave GracefulStop out"
    ]


def test_the_earlier_handlers_come_back() -> None:
    """After a run, and after one that an exception ended; a signal that was ignored before is ignored again."""
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.signal(kind, handler) for kind, handler in zip(kinds, (print, signal.SIG_IGN, print))]
    try:
        model = make_model()
        model.train(1, dataset(), callbacks=[GracefulStop()])
        assert [signal.getsignal(kind) for kind in kinds] == [print, signal.SIG_IGN, print]
        with pytest.raises(ValueError, match="did you mean"):
            model.fit(1, dataset(), valid_dataset(), callbacks=[GracefulStop(), EarlyStopping("accuracy")])
        assert [signal.getsignal(kind) for kind in kinds] == [print, signal.SIG_IGN, print]
    finally:
        for kind, handler in zip(kinds, before):
            signal.signal(kind, handler)
