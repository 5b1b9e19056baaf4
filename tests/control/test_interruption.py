"""A run that is killed or told to stop goes on, in a new process, to the very end that it would have come to."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pty
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
from mindspore.train import Callback
from training import assert_same_weights, dataset, make_model, valid_dataset, weights

from ms_callbacks import EarlyStopping, GracefulStop, History, TrainingState, Validate
from ms_callbacks.core import signals

KILLS = int(os.environ.get("MS_CALLBACKS_KILLS", "2"))
CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")
ROOT = os.path.dirname(os.path.dirname(interrupted_run.__file__))
SECONDS = 120  # for a child that hangs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Child:
    """The run in a process of its own, which hears and speaks by pipes or at a terminal of its own."""

    def __init__(self, folder: Path, terminal: bool = False, **arguments: Any) -> None:
        self.folder = folder
        command = [interrupted_run.__file__, json.dumps({"folder": str(folder), **arguments})]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])}
        self.leader, follower = pty.openpty() if terminal else (-1, subprocess.PIPE)
        self.process = subprocess.Popen(
            [sys.executable, *(["-c", AT_TERMINAL] if terminal else []), *command],
            stdin=follower,
            stdout=follower,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=terminal,
        )
        if terminal:
            os.close(follower)
            self.process.stdout = open(self.leader, errors="replace", closefd=False)
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

    def press_ctrl_c(self) -> int:
        """Types Ctrl-C until it ends, as somebody does who has had enough; returns how the process exited."""
        until = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < until:
            os.write(self.leader, b"\x03")
            time.sleep(0.05)
        return self.process.wait(0)

    def end(self) -> int:
        """Waits for the end; returns how the process exited."""
        if self.leader >= 0:
            with contextlib.suppress(OSError):  # as a terminal ends
                for each in self.process.stdout or ():
                    self.lines.append(each.rstrip())
            return self.process.wait(SECONDS)
        if self.process.returncode is None:
            rest, _ = self.process.communicate(timeout=SECONDS)
            self.lines += rest.splitlines()
        return self.process.returncode

    def outcome(self) -> Any:
        return json.loads((self.folder / "outcome.json").read_text())


def has_state(folder: Path) -> bool:
    """Whether a state is there, which is written behind the run, as soon as it can be."""
    until = time.monotonic() + SECONDS
    while not list((folder / "state").glob("state-*")) and time.monotonic() < until:
        time.sleep(0.05)
    return bool(list((folder / "state").glob("state-*")))


@pytest.fixture(autouse=True)
def _signals_of_a_terminal() -> Any:
    """A shell ignores SIGINT for what it starts in the background, and so would these tests."""
    numbers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _no_child_is_left(monkeypatch: pytest.MonkeyPatch) -> Any:
    children = []
    original = Child.__init__

    def keep(self: Child, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        children.append(self)

    monkeypatch.setattr(Child, "__init__", keep)
    yield
    for child in children:
        child.process.kill()
        child.process.wait()
        for stream in filter(None, [child.process.stdin, child.process.stdout]):
            stream.close()
        if child.leader >= 0:
            os.close(child.leader)


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


@pytest.mark.slow  # by default one of two processes is killed, in test_distributed.py
def test_killed_at_random_moments_it_ends_where_it_would_have_ended() -> None:
    """Parameters, moments, rates, early stop, best files, history and rows, to the last bit; see `kills.py`."""
    done = subprocess.run(
        [sys.executable, os.path.join(os.path.dirname(os.path.dirname(__file__)), "kills.py"), str(KILLS)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=60 * KILLS,
    )
    assert done.returncode == 0, done.stderr
    assert f"{KILLS} kills in" in done.stdout


@pytest.mark.parametrize(
    ("which", "exit_with", "status"),
    # A loaded kernel may give what MindSpore makes of a SIGINT to another thread, where it cannot be told.
    [
        ("SIGTERM", None, [0]),
        pytest.param("SIGTERM", "signal", [143], marks=pytest.mark.slow),
        ("SIGINT", "signal", [130, 143]),
        ("SIGINT", 0, [0]),
    ],
)
def test_a_signal_ends_the_run_in_good_order(
    uninterrupted: Any, tmp_path: Path, which: str, exit_with: Any, status: list[int]
) -> None:
    """The step ends, the state is kept, the process exits as asked, and a new one goes on to the same end."""
    arguments = {"mode": "graph", "shuffle": False, "every_n_steps": None}
    folder = tmp_path / "run"
    folder.mkdir()
    is_typed = (which, exit_with) == ("SIGINT", 0)
    child = Child(folder, terminal=is_typed, exit_with=exit_with, **arguments)
    assert child.until("step", 11), child.lines  # in the second of the eight steps of the second epoch
    if is_typed:
        os.write(child.leader, b"\x03")
    else:
        child.process.send_signal(signal.Signals[which])
    assert child.end() in status, child.lines
    said = [f"GracefulStop: stopped by {name} in epoch" for name in {which, "SIGTERM"}]  # a terminal echoes ^C before
    assert any(each in line for line in child.lines for each in said), child.lines
    if exit_with is None:
        again = Child(folder, **arguments)
        assert again.end() == 0, again.lines
        assert any("continues after epoch" in line for line in again.lines)
        assert again.outcome() == uninterrupted("graph", False)


class Send(Callback):
    """Sends this process signals in the second step, where MindSpore's own handler is set."""

    def __init__(self, *signals: int) -> None:
        self.signals = signals

    def on_train_step_end(self, run_context: Any) -> None:
        if run_context.original_args()["cur_step_num"] == 2:
            for number in self.signals:
                os.kill(os.getpid(), number)
                for _ in range(10):  # the handler runs
                    pass


class SendAt(Callback):
    """Sends this process a SIGTERM at the first of such moments."""

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def _come_to(self, moment: str) -> None:
        if moment == self.moment:
            self.moment = ""
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_begin(self, run_context: Any) -> None:
        self._come_to("before the first step")

    def on_eval_step_end(self, run_context: Any) -> None:
        self._come_to("in an evaluation")

    def on_train_end(self, run_context: Any) -> None:
        self._come_to("when the last epoch is over")

    def state_dict(self) -> dict[str, Any]:
        self._come_to("in a save")
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize(
    ("moment", "steps"),
    [
        ("before the first step", 1),  # as long as its graph compiles, too
        ("in an evaluation", 4),
        ("in a save", 5),
        ("when the last epoch is over", 12),
    ],
)
def test_a_signal_at_any_moment_stops_the_run_where_it_can_go_on(tmp_path: Path, moment: str, steps: int) -> None:
    """What is under way ends first: the step, the evaluation with its epoch, or the save; the end is the same."""

    def train(moment: str, folder: Path) -> tuple[GracefulStop, TrainingState, list[int], Any]:
        seen: list[int] = []

        class See(Callback):
            def on_train_step_end(self, run_context: Any) -> None:
                seen.append(run_context.original_args()["cur_step_num"])

        model, train, stop, state = make_model(), dataset(), GracefulStop(), TrainingState(folder)
        initial_epoch = state.resume(model, train, epochs=3)
        if not state.finished_:
            callbacks = [stop, state, Validate(model, valid_dataset()), See(), SendAt(moment)]
            model.train(3, train, callbacks=callbacks, initial_epoch=initial_epoch)
        return stop, state, seen, weights(model.train_network)

    stop, state, seen, _ = train(moment, tmp_path / "run")
    assert (stop.signal_, len(seen), state.finished_) == (signal.SIGTERM, steps, steps == 12)
    _, state, _, resumed = train("", tmp_path / "run")
    assert state.finished_
    assert_same_weights(resumed, train("", tmp_path / "whole")[3])


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells a notebook, IPython and Python's prompt from a script."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)


def test_the_signal_is_named_that_was_sent(capsys: pytest.CaptureFixture[str], mode: str) -> None:
    """A SIGTERM that the process sends itself is none that MindSpore makes of a SIGINT; the first of several counts."""
    model, stop = make_model(), GracefulStop()
    for sent in [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM)]:
        model.train(2, dataset(), callbacks=[Send(*sent), stop])
        assert stop.signal_ == sent[0]
        assert capsys.readouterr().out == f"GracefulStop: stopped by {sent[0].name} in epoch 1, step 2\n"


@pytest.mark.usefixtures("session")
def test_in_a_session_ctrl_c_interrupts_and_ends_no_process(mode: str) -> None:
    """As without MindSpore, whatever callback of ours is in the list; so does the second, where one stops gracefully.

    Then the handlers are as they were, and the model trains on.
    """
    model = make_model()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for callbacks in ([History(), Send(signal.SIGINT)], [GracefulStop(), Send(signal.SIGINT, signal.SIGINT)]):
        with pytest.raises(KeyboardInterrupt):
            model.train(2, dataset(), callbacks=callbacks)
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        with pytest.raises(KeyboardInterrupt):  # MindSpore's handler is gone
            signal.raise_signal(signal.SIGINT)
            time.sleep(60)
        model.train(1, dataset(), callbacks=[History()])


@pytest.mark.usefixtures("session")
def test_in_a_session_a_sigterm_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without MindSpore."""
    died_of: list[int] = []
    monkeypatch.setattr(signals, "die_of", died_of.append)
    make_model().train(1, dataset(), callbacks=[History(), Send(signal.SIGTERM)])
    assert died_of == [signal.SIGTERM]


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_a_session_handlers_of_the_users_stay(number: signal.Signals) -> None:
    """What is set before a run is in force in it, for a SIGTERM, and after it."""
    came: list[int] = []
    before = signal.signal(number, lambda number, frame: came.append(number))
    own, terminates = signal.getsignal(number), signal.getsignal(signal.SIGTERM)

    class See(Callback):
        def on_train_step_end(self, run_context: Any) -> None:
            assert signal.getsignal(signal.SIGTERM) is terminates

    try:
        make_model().train(1, dataset(), callbacks=[History(), See()])
        signal.raise_signal(number)
        assert (signal.getsignal(number), came) == (own, [number])
    finally:
        signal.signal(number, before)


def test_in_a_script_a_sigterm_is_left_alone() -> None:
    """Only GracefulStop sets a handler there; after the run, Ctrl-C is Python's again."""
    seen = []

    class See(Callback):
        def on_train_step_end(self, run_context: Any) -> None:
            seen.append(signal.getsignal(signal.SIGTERM))

    make_model().train(1, dataset(), callbacks=[History(), See()])
    assert set(seen) == {signal.SIG_DFL}
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        time.sleep(60)


def test_a_process_that_the_dataset_forks_can_be_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    """It inherits the handler, which is there for the run's process alone."""
    stop, died_of = GracefulStop(), []
    monkeypatch.setattr(signals, "die_of", died_of.append)

    class Forked(Callback):
        def on_train_step_end(self, run_context: Any) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: -1)
                signal.raise_signal(signal.SIGTERM)

    make_model().train(1, dataset(), callbacks=[stop, Forked()])
    assert set(died_of) == {signal.SIGTERM}


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    """The process dies of it, whatever it was doing."""
    child = Child(tmp_path, mode="graph", shuffle=False, every_n_steps=None, seconds_at_end=20)
    assert child.until("step", 3), child.lines
    child.process.send_signal(signal.SIGINT)
    assert child.until("end"), child.lines
    child.process.send_signal(signal.SIGINT)
    assert child.end() == -signal.SIGINT


def test_ctrl_c_at_a_terminal_ends_even_what_leaves_python_no_word(uninterrupted: Any, tmp_path: Path) -> None:
    """As a long compilation: the second ends it, and a new process goes on from the newest state to the same end."""
    arguments = {"mode": "graph", "shuffle": False, "every_n_steps": None}
    child = Child(tmp_path, terminal=True, busy_in=11, **arguments)
    assert child.until("busy"), child.lines
    assert has_state(tmp_path)
    assert child.press_ctrl_c() in (-signal.SIGTERM, -signal.SIGINT)  # what MindSpore has made of it
    again = Child(tmp_path, **arguments)
    assert again.end() == 0, again.lines
    assert any("continues after epoch 1" in line for line in again.lines)
    assert again.outcome() == uninterrupted("graph", False)


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
    assert not CAN_BEGIN_WITHIN or has_state(folder)
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
