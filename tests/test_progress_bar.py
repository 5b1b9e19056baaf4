"""ProgressBar: one bar on a terminal, plain lines in a file."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from training import dataset, make_model, valid_dataset

from ms_callbacks import LossMonitor, Validate
from ms_callbacks.core import _output
from ms_callbacks.watch.progress_bar import ProgressBar


def test_plain_lines_in_a_file():
    """With epoch, step, loss, rate, time left, and the latest validation."""
    file = io.StringIO()
    model = make_model(learning_rate=0.01)
    model.train(2, dataset(), callbacks=[ProgressBar(file=file, interval=0), Validate(model, valid_dataset())])
    lines = file.getvalue().splitlines()
    assert len(lines) == 10
    pattern = (
        r"Epoch (\d)/2, step (\d)/4, loss \d\.\d{4}, lr 0.01(, acc \d\.\d{4}, eval_loss \d\.\d{4})?, \d\d:\d\d left"
    )
    found = [re.fullmatch(pattern, line) for line in lines]
    assert [(each[1], each[2]) for each in found] == [(e, s) for e in "12" for s in "12344"]
    assert [bool(each[3]) for each in found] == [False] * 4 + [True] * 6


def test_an_interval_keeps_the_file_short():
    """Within it there are only the epochs' lines."""
    file = io.StringIO()
    make_model().train(3, dataset(), callbacks=[ProgressBar(file=file, interval=3600)])
    assert len(file.getvalue().splitlines()) == 3


CHILD = """
import sys
sys.path[:0] = [{tests!r}]
import conftest
from training import dataset, make_model, valid_dataset
from ms_callbacks import LossMonitor, Validate
from ms_callbacks.watch.progress_bar import ProgressBar
model = make_model()
callbacks = [ProgressBar(refresh=0), LossMonitor(per_print_times=2), Validate(model, valid_dataset())]
model.train(3, dataset(), callbacks=callbacks)
print("after")
"""


def test_lines_appear_above_the_bar_unbroken_on_a_terminal(tmp_path):
    """What a terminal shows at the end: LossMonitor's lines whole, and the finished bar below them."""
    pyte = pytest.importorskip("pyte")
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    code = CHILD.format(tests=os.path.dirname(__file__))
    environment = {**os.environ, "COLUMNS": "160", "LINES": "40", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=follower, stdout=follower, stderr=follower, env=environment
    ) as child:
        os.close(follower)
        output = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            output += piece
        assert child.wait(60) == 0, output.decode()
    screen = pyte.Screen(160, 40)
    pyte.ByteStream(screen).feed(output)
    shown = [line.rstrip() for line in screen.display if line.strip()]
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


def test_an_exception_takes_the_bar_down(monkeypatch):
    """Lines are printed as they were before."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class Fail(ProgressBar.__mro__[2]):
        def on_train_step_end(self, run_context):
            raise RuntimeError("mine")

    printer = _output._printer
    bar = ProgressBar(file=Terminal())
    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(1, dataset(), callbacks=[bar, LossMonitor(), Fail()])
    assert _output._printer is printer
    assert bar._bar is None


@pytest.mark.parametrize("arguments", [{"interval": -1}, {"refresh": float("nan")}, {"interval": "fast"}])
def test_wrong_arguments_are_refused_where_it_is_made(arguments):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match="ProgressBar: (interval|refresh) must be"):
        ProgressBar(**arguments)
