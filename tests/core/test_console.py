"""Where the lines go: to a logger that prints them, on streams that fail as on those that do not."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import broken_output
import pytest
from training import assert_same_weights, dataset, make_model, weights

from ms_callbacks import History, LossMonitor, ProgressBar
from ms_callbacks.core import console
from ms_callbacks.core.console import duration, log_line, print_line, printable

LOGGER = logging.getLogger("ms_callbacks")
TEXT = "acc 准确率 — 🙂"


class Records(logging.Handler):
    """A handler as an application has it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.name} {record.getMessage()}")


@pytest.fixture(autouse=True)
def _as_it_was() -> Any:
    """The logger, and the root's, as they were."""
    root = logging.getLogger()
    before = [(each, each.level, each.propagate, each.handlers[:]) for each in (LOGGER, root)]
    yield
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate, logger.handlers[:] = propagate, handlers


@pytest.fixture
def root() -> Records:
    """What `logging.basicConfig(level=logging.INFO)` sets up."""
    kept = Records()
    logging.getLogger().addHandler(kept)
    logging.getLogger().setLevel(logging.INFO)
    return kept


def test_by_default_lines_are_printed_once_and_bare(capsys, root):
    """To `sys.stdout` as it is at that moment, between the lines of others, whatever basicConfig has set up."""
    print("before")
    log_line("100% {} %s")
    print("after")
    with contextlib.redirect_stdout(io.StringIO()) as redirected:
        log_line("elsewhere")
    assert capsys.readouterr() == ("before\n100% {} %s\nafter\n", "")
    assert (redirected.getvalue(), root.lines) == ("elsewhere\n", [])


def test_a_level_silences_them(capsys):
    """As any logger's."""
    LOGGER.setLevel(logging.WARNING)
    make_model().train(1, dataset(), callbacks=[LossMonitor()])
    assert capsys.readouterr().out == ""


def test_a_handler_of_the_users_gets_them_too(capsys, root):
    """At level INFO, without propagating to the root."""
    kept = Records()
    LOGGER.addHandler(kept)
    log_line("line")
    assert (kept.lines, capsys.readouterr().out, root.lines) == (["INFO ms_callbacks line"], "line\n", [])


def test_an_application_can_take_them_over(capsys, root):
    """They come to the root's handlers and are printed no more."""
    LOGGER.handlers.clear()
    LOGGER.propagate = True
    log_line("line")
    assert (root.lines, capsys.readouterr().out) == (["INFO ms_callbacks line"], "")


@pytest.mark.parametrize("is_configured", [False, True])
def test_a_repeated_import_changes_nothing(capsys, is_configured):
    """One handler stays one handler; where the application has set one before the import, that one."""
    kept = Records()
    if is_configured:
        LOGGER.handlers[:] = [kept]
    LOGGER.setLevel(logging.ERROR)
    handlers = LOGGER.handlers[:]
    spec = importlib.util.find_spec(console.__name__)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert (LOGGER.handlers, LOGGER.level) == (handlers, logging.ERROR)
    LOGGER.setLevel(logging.INFO)
    log_line("line")
    assert (capsys.readouterr().out, kept.lines) == (
        ("", ["INFO ms_callbacks line"]) if is_configured else ("line\n", [])
    )


def test_what_fast_cpu_logs_is_not_printed(capsys, root):
    """It comes to the root's handlers, as it always has."""
    logging.getLogger("ms_callbacks.cpu").info("done")
    assert (capsys.readouterr().out, root.lines) == ("", ["INFO ms_callbacks.cpu done"])


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", TEXT),
        ("ascii", r"acc \u51c6\u786e\u7387 \u2014 \U0001f642"),
        ("cp936", r"acc 准确率 — \U0001f642"),
        ("cp1252", r"acc \u51c6\u786e\u7387 — \U0001f642"),
        ("utf-16", TEXT),
    ],
)
def test_what_a_stream_cannot_encode_is_escaped(monkeypatch, encoding, written):
    """And the rest stays as it is; `file=` and the standard output alike."""
    for is_given in (False, True):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
        monkeypatch.setattr(sys, "stdout", stream)
        log_line(TEXT, stream if is_given else None)
        assert raw.getvalue().decode(encoding) == f"{written}\n"


class Failing(io.StringIO):
    """A stream that fails as it is told to, once or always."""

    def __init__(self, error: Exception, times: float = float("inf")) -> None:
        super().__init__()
        self.error, self.times = error, times

    def write(self, text: str) -> int:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return super().write(text)


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


BROKEN = {
    "closed pipe": Failing(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "full disk": Failing(OSError(errno.ENOSPC, "No space left on device")),
    "error of its own": Failing(RuntimeError("mine")),
    "closed": closed(),
    "none": None,
    "no stream at all": object(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_stream_that_fails_is_no_error(monkeypatch, name):
    """Whatever is wrong with it."""
    stream = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", BROKEN[name])
        print_line("lost")
        patch.setattr(sys, "stdout", stream)
        print_line("line")
    assert stream.getvalue() == "line\n"


@pytest.mark.parametrize("name", ["none", "error of its own"])
def test_a_run_without_a_stream_that_works(monkeypatch, name):
    """As under pythonw, which has none; with a bar, too."""
    plain, model, history = make_model(), make_model(), History()
    plain.train(1, dataset())
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", BROKEN[name])
        patch.setattr(sys, "stderr", BROKEN[name])
        model.train(1, dataset(), callbacks=[LossMonitor(), ProgressBar(interval=0, refresh=0), history])
    assert history.epoch == [1]
    assert_same_weights(weights(model.predict_network), weights(plain.predict_network))


def test_a_disk_that_was_full_for_a_while_gets_the_later_lines(monkeypatch):
    """One line is lost, and not the run's last hour of them."""
    stream = Failing(OSError(errno.ENOSPC, "No space left on device"), times=1)
    print_line("lost", stream)
    print_line("line", stream)
    assert stream.getvalue() == "line\n"


def test_interrupting_a_print_interrupts():
    """Ctrl-C is no failure of the stream."""
    with pytest.raises(KeyboardInterrupt):
        print_line("line", Failing(KeyboardInterrupt()))  # type: ignore[arg-type]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full device is Linux's")
def test_a_process_whose_output_fails_ends_as_others_do(tmp_path: Path) -> None:
    """Exit status 0 and the same weights, where the reader leaves after a line and the errors go to a full disk."""
    root = os.path.dirname(os.path.dirname(broken_output.__file__))
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, broken_output.__file__, str(tmp_path / "outcome")]
    with open("/dev/full", "w") as full:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=full, env=environment)
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        child.stdout.close()
        expected = broken_output.run()
        assert child.wait(100) == 0
    finally:
        child.kill()
        child.wait()
    assert json.loads((tmp_path / "outcome").read_text()) == expected


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (7.5, "7.5 s"), (59.96, "60 s"), (60, "1 min 0 s"), (125.4, "2 min 5 s"), (13_800, "3 h 50 min")],
)
def test_a_time_is_told_in_two_units(seconds, told):
    """The largest that it has."""
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("conv1.weight", "conv1.weight"),
        ("权重 é", "权重 é"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\nb\r\t", "a\\nb\\r\\t"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
        ("\x9b31m\u2028", "\\x9b31m\\u2028"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, printed):
    """Control characters, marks of direction, and bytes of a file name that are no text."""
    assert printable(text) == printed
