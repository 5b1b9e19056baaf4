"""ProgressBar: one bar on a terminal, plain lines in a file."""

from __future__ import annotations

import copy
import fcntl
import io
import os
import pickle
import pty
import re
import struct
import subprocess
import sys
import termios
import threading

import pytest
from mindspore.train import Callback
from training import dataset, make_model, valid_dataset

from ms_callbacks import LossMonitor, Validate
from ms_callbacks.core import console
from ms_callbacks.core.console import SafeStream
from ms_callbacks.monitoring._bar import Bar, Clock
from ms_callbacks.monitoring.progress_bar import ProgressBar


@pytest.mark.usefixtures("graph")
def test_plain_lines_in_a_file():
    """With epoch, step, loss, rate, time left, and the latest validation, after what the first step compiles."""
    file = io.StringIO()
    model = make_model(learning_rate=0.01)
    model.train(2, dataset(), callbacks=[ProgressBar(file=file, interval=0), Validate(model, valid_dataset())])
    first, *compiling = file.getvalue().splitlines()[:-11]
    compiled, *lines = file.getvalue().splitlines()[-11:]
    assert first == "Epoch 1/2: compiling"
    assert all(re.fullmatch(r"Epoch 1/2: compiling, \d+ s", line) for line in compiling)
    assert re.fullmatch(r"Epoch 1/2: compiled, \d+\.\d s with the first step", compiled)
    pattern = (
        r"Epoch (\d)/2, step (\d)/4, loss \d\.\d{4}, lr 0.01(, acc \d\.\d{4}, eval_loss \d\.\d{4})?, \d\d:\d\d left"
    )
    found = [re.fullmatch(pattern, line) for line in lines]
    assert [(each[1], each[2]) for each in found] == [(e, s) for e in "12" for s in "12344"]
    assert [bool(each[3]) for each in found] == [False] * 4 + [True] * 6


def test_an_interval_keeps_the_file_short(mode):
    """Within it there are only the epochs' lines, and nothing of compiling where nothing is compiled."""
    model = make_model()
    for is_compiled in (mode == "pynative", True):
        file = io.StringIO()
        model.train(3, dataset(), callbacks=[ProgressBar(file=file, interval=3600)])
        lines = file.getvalue().splitlines()
        assert ["compil" in line for line in lines] == [True, True][2 * is_compiled :] + [False] * 3


class Screen:
    """A terminal, and what it shows."""

    def __init__(self, columns):
        pyte = pytest.importorskip("pyte")
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.stream = open(follower, "w", encoding="utf-8")
        self.screen = pyte.Screen(columns, 40)
        self.output = pyte.ByteStream(self.screen)

    def lines(self):
        """The lines with something in them."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def read(self):
        """Shows what has come since; whether there is anything still to come."""
        try:
            output = os.read(self.leader, 65536)
        except OSError:  # the other end is closed
            return False
        self.output.feed(output)
        return bool(output)

    def read_all(self):
        """Shows what was written so far."""
        self.stream.write("\a")
        self.stream.flush()
        output = b""
        while not output.endswith(b"\a"):
            output += os.read(self.leader, 65536)
        self.output.feed(output)


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (
            120,
            "Epoch 2/12:  20%|{bar}| 12/60 [00:00<?], loss 0.8830, lr 0.05, acc 0.5333, eval_loss 1.1069, ?step/s",
        ),
        (99, "Epoch 2/12:  20%|{bar}| 12/60 [00:00<?], loss 0.8830, lr 0.05, acc 0.5333, eval_loss 1.1069"),
        (80, "Epoch 2/12:  20%|{bar}| 12/60 [00:00<?], loss 0.8830, lr 0.05"),
        (60, "Epoch 2/12:  20%|{bar}| 12/60 [00:00<?], loss 0.8830"),
        (50, "Epoch 2/12:  20% 12/60 [00:00<?], loss 0.8830"),
        (40, "Epoch 2/12:  20% 12/60, loss 0.8830"),
        (30, "Epoch 2/12:  20%, loss 0.8830"),
        (24, "2/12 20% loss 0.8830"),
        (17, "2/12 20% loss 0."),
    ],
)
def test_a_terminal_of_any_width_shows_what_matters(columns, shown):
    """Epoch, percentage and loss first; what does not fit is left out whole, and the bar takes what is left."""
    screen = Screen(columns)
    with screen.stream:
        bar = Bar(SafeStream(screen.stream), "1/12", 12, 60, 60)
        bar.show("2/12", ["loss 0.8830", "lr 0.05", "acc 0.5333, eval_loss 1.1069"], 12, 60)
        screen.read_all()
        (line,) = screen.lines()
        bar.close()
    before, is_drawn, after = shown.partition("{bar}")
    assert line.startswith(before)
    assert line.endswith(after)
    assert len(line) == columns - 1 if is_drawn else line == shown  # tqdm leaves the last free


def test_names_with_braces_and_wide_letters():
    """Are text, and take the room that they take."""
    screen = Screen(70)
    with screen.stream:
        bar = Bar(SafeStream(screen.stream), "1/1", 0, 4, 60)
        bar.show("1/1", ["loss 0.5", "lr {0}", "准确率准确率准确率准确率 0.5"], 2, 4)
        screen.read_all()
        bar.close()
    assert screen.lines()[0].endswith("], loss 0.5, lr {0}")


def test_a_clock_ticks_until_it_is_stopped():
    """From a thread of its own, of which nothing is left."""
    ticks, enough = [], threading.Event()

    def tick(seconds):
        ticks.append(seconds)
        if len(ticks) == 3:
            enough.set()

    clock = Clock(0.001, tick)
    assert enough.wait(60)
    assert clock.stop() >= ticks[2] >= ticks[1] >= ticks[0] > 0
    assert "ms_callbacks-clock" not in [thread.name for thread in threading.enumerate()]


CHILD = """
import sys
sys.path[:0] = [{tests!r}]
import conftest, mindspore
mindspore.set_context(mode=mindspore.GRAPH_MODE)
from training import dataset, make_model, valid_dataset
from ms_callbacks import LossMonitor, Validate
from ms_callbacks.monitoring.progress_bar import ProgressBar
model = make_model()
callbacks = [ProgressBar(refresh=0), LossMonitor(per_print_times=2), Validate(model, valid_dataset())]
model.train(3, dataset(), callbacks=callbacks)
print("after")
"""


def test_lines_appear_above_the_bar_unbroken_on_a_terminal():
    """What a terminal shows: first that it compiles; at the end LossMonitor's lines whole, and the bar below them."""
    screen = Screen(160)
    code = CHILD.format(tests=os.path.dirname(os.path.dirname(__file__)))
    environment = {**os.environ, "TERM": "xterm"}
    streams = {"stdin": screen.stream, "stdout": screen.stream, "stderr": screen.stream}
    compiling = []
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **streams) as child:
        screen.stream.close()
        while screen.read():
            compiling += [line for line in screen.lines() if "compiling" in line]
        assert child.wait(60) == 0, screen.lines()
    assert re.fullmatch(r"Epoch 1/3:   0%\|\s+\| 0/12 \[\d\d:\d\d<\?\], compiling, \?step/s", compiling[0])
    shown = screen.lines()
    steps = [line for line in shown if line.startswith("Epoch:[")]
    assert len(steps) == 6
    assert all(
        re.fullmatch(r"Epoch:\[ *\d/ *3\], step:\[ *\d/ *4\], loss:\[\S+/\S+\], time:\S+ ms, lr:0.05000", s)
        for s in steps
    )
    assert sum(line.startswith("Epoch time:") for line in shown) == 3
    (bar,) = [line for line in shown if "%|" in line]
    assert bar.startswith("Epoch 3/3: 100%|")
    assert "12/12" in bar
    assert "loss " in bar
    assert shown.index(bar) == len(shown) - 2
    assert shown[-1] == "after"


def test_a_notebook_has_a_bar_though_it_is_no_terminal(capsys, monkeypatch):
    """As text on its standard output, drawn over itself, with lines above; the widget is seen in test_notebook."""

    class OutStream(io.StringIO):
        pass

    OutStream.__module__ = "ipykernel.iostream"
    stream = OutStream()
    monkeypatch.setattr(sys, "stdout", stream)
    make_model().train(1, dataset(), callbacks=[ProgressBar(refresh=0), LossMonitor(per_print_times=0)])
    monkeypatch.undo()
    shown = [line.rpartition("\r")[2] for line in stream.getvalue().split("\n") if line]
    assert [line.partition(" ")[0] for line in shown] == ["Epoch", "Epoch"]
    assert shown[0].startswith("Epoch time: ")
    assert re.match(r"Epoch 1/1: 100%\|.{10}\| 4/4 \[\d\d:\d\d<00:00\], loss \d\.\d{4}, lr 0.05, ", shown[1])
    assert capsys.readouterr().err == ""


def test_an_exception_takes_the_bar_down(capsys):
    """Lines are printed as they were before."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class Fail(Callback):
        def on_train_step_begin(self, run_context):
            raise RuntimeError("mine")

    bar = ProgressBar(file=Terminal())
    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(1, dataset(), callbacks=[bar, LossMonitor(), Fail()])
    capsys.readouterr()
    console.log_line("after")
    assert capsys.readouterr().out == "after\n", "no bar is in the way any more"
    bar.file = None
    assert pickle.loads(pickle.dumps(copy.deepcopy(bar))).refresh == bar.refresh  # nothing of the run is left
    assert "ms_callbacks-clock" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("arguments", [{"interval": -1}, {"refresh": float("nan")}, {"interval": "fast"}])
def test_wrong_arguments_are_refused_where_it_is_made(arguments):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match="ProgressBar: (interval|refresh) must be"):
        ProgressBar(**arguments)
