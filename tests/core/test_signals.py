"""Signals are told as the user sent them, and handlers come back; without MindSpore, whose handler is played here."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading

import pytest

from ms_callbacks.core import signals

linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="MindSpore installs its handler, and signals can be told apart, on Linux alone",
)
BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _handlers_come_back():
    """Whatever a test sets."""
    before = {number: signal.getsignal(number) for number in BOTH}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def session(monkeypatch):
    """What tells a notebook, IPython and Python's prompt from a script."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)


def send_as_mindspore():
    """Send a SIGTERM as MindSpore's handler of SIGINT does: while SIGINT is blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def send():
    """Send a SIGTERM as somebody else does."""
    os.kill(os.getpid(), signal.SIGTERM)


@linux
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ([send_as_mindspore], [signal.SIGINT]),
        ([send], [signal.SIGTERM]),
        ([send, send_as_mindspore, send], [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]),
    ],
)
def test_a_ctrl_c_that_came_as_a_sigterm_is_told(sent, told):
    """Each by itself, whatever came before."""
    found = []
    signals.handle(signal.SIGTERM, lambda number, frame: found.append(signals.as_sent(number)))
    for each in sent:
        each()
    assert found == told


@linux
def test_a_signal_is_read_once():
    """What a second reading finds is no Ctrl-C."""
    found = []
    signals.handle(signal.SIGTERM, lambda number, frame: found.extend(signals.as_sent(number) for _ in range(2)))
    send_as_mindspore()
    assert found == [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGFPE])
def test_other_signals_are_what_they_are(number):
    """MindSpore makes nothing else of them."""
    assert signals.as_sent(number) == number


@pytest.mark.parametrize("number", BOTH)
def test_a_handler_is_set_as_pythons_own_and_the_earlier_one_returned(number):
    """So that it can be set again."""
    before, came = signal.getsignal(number), []

    def own(number, frame):
        came.append(number)

    assert signals.handle(number, own) is before
    assert signal.getsignal(number) is own
    signal.raise_signal(number)
    assert came == [number]
    assert signals.handle(number, before) is own


@pytest.mark.usefixtures("session")
@linux
def test_in_a_session_ctrl_c_interrupts_while_it_is_guarded():
    """As Python has it; the end of the guard gives the handler of SIGTERM back."""
    end = signals.guard()
    with pytest.raises(KeyboardInterrupt):
        send_as_mindspore()
    end()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("session")
@linux
def test_in_a_session_a_sigterm_is_one_while_it_is_guarded(monkeypatch):
    """The process ends by it."""
    died_of = []
    monkeypatch.setattr(signals, "die_of", died_of.append)
    end = signals.guard()
    send()
    end()
    assert died_of == [signal.SIGTERM]


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("number", BOTH)
def test_a_handler_of_the_users_is_left_alone(number):
    """Whichever of the two they have set: the guard sets none."""
    own = [lambda number, frame: None, lambda number, frame: None]
    signal.signal(number, own[0])
    terminates = signal.getsignal(signal.SIGTERM)
    end = signals.guard()
    assert signal.getsignal(signal.SIGTERM) is terminates
    end()
    assert signal.getsignal(number) is own[0]


@pytest.mark.usefixtures("session")
def test_a_handler_that_is_set_during_the_guard_stays():
    """It is the user's."""
    end = signals.guard()

    def own(number, frame):
        """Nothing."""

    signal.signal(signal.SIGTERM, own)
    end()
    assert signal.getsignal(signal.SIGTERM) is own


def test_in_a_script_nothing_is_set():
    """MindSpore means a script to die of Ctrl-C; afterwards it is Python's again."""
    before = [signal.getsignal(number) for number in BOTH]
    end = signals.guard()
    assert [signal.getsignal(number) for number in BOTH] == before
    end()
    assert [signal.getsignal(number) for number in BOTH] == before


@pytest.mark.usefixtures("session")
def test_in_another_thread_nothing_is_set():
    """Python lets only the main thread set handlers."""
    before, ended = [signal.getsignal(number) for number in BOTH], []
    thread = threading.Thread(target=lambda: ended.append(signals.guard()()))
    thread.start()
    thread.join()
    assert ended == [None]
    assert [signal.getsignal(number) for number in BOTH] == before


@pytest.mark.parametrize(("is_session", "handler"), [(True, signal.default_int_handler), (False, signal.SIG_DFL)])
def test_the_next_ctrl_c_ends_it(monkeypatch, is_session, handler):
    """A session keeps its process."""
    if is_session:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    signals.let_next_ctrl_c_end_it()
    assert signal.getsignal(signal.SIGINT) == handler


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", BOTH)
def test_a_process_dies_of_a_signal_whatever_it_has_set(number):
    """So that who waits for it sees what it died of."""
    code = (
        "import signal, sys\n"
        "from ms_callbacks.core import signals\n"
        f"signal.signal({int(number)}, lambda number, frame: print('handled'))\n"
        f"signals.die_of({int(number)})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (-number, "")
