"""Print lines for the user: logged to `ms_callbacks` and printed, above the progress bar if there is one.

`logging.getLogger("ms_callbacks")` is an ordinary logger of level INFO. It has one handler, which prints the bare lines
to the current `sys.stdout`, and it does not propagate, so nothing is shown twice whatever `logging.basicConfig` has set
up. A handler that is added receives the lines too; `setLevel(logging.WARNING)` silences them; `handlers.clear()` and
`propagate = True` pass them to the application's own logging. If the logger already has a handler when this package is
imported, no other is added.

A failing stream never ends a run: characters that it cannot encode are escaped, and text that it does not accept is
lost.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from typing import Any, Callable, Optional

__all__ = [
    "SafeStream",
    "counted",
    "duration",
    "in_a_row",
    "known",
    "log_line",
    "print_line",
    "printable",
    "set_printer",
]

_logger = logging.getLogger("ms_callbacks")


class SafeStream:
    """A wrapper around a stream whose `write` and `flush` never raise."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.kind = type(stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._stream == other)

    __hash__ = None  # type: ignore[assignment]

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        with contextlib.suppress(AttributeError, ValueError):  # no stream at all, or a closed one
            return bool(self._stream.isatty())
        return False

    def write(self, text: str) -> None:
        """Write as much of a text as possible."""
        self._try(lambda: self._write(text))

    def flush(self) -> None:
        """Flush, if possible."""
        self._try(lambda: self._stream.flush())

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except OSError as error:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._drop_pending(is_for_good=error.errno == errno.EPIPE)
        except Exception:  # an arbitrary stream: closed, absent, or broken in its own way
            pass

    def _drop_pending(self, is_for_good: bool) -> None:
        """Discard what the stream still holds; otherwise Python would fail to write it at exit, with status 120."""
        number = self._stream.fileno()
        kept, nothing = os.dup(number), os.open(os.devnull, os.O_WRONLY)
        is_inheritable = os.get_inheritable(number)
        try:
            os.dup2(nothing, number, is_inheritable)
            self._stream.flush()
        finally:
            if not is_for_good:  # a full disk may be temporary
                os.dup2(kept, number, is_inheritable)
            os.close(kept)
            os.close(nothing)


def print_line(line: str, file: Any = None) -> None:
    """Print a line like `print`, but never raise."""
    stream = SafeStream(sys.stdout if file is None else file)
    stream.write(f"{line}\n")
    stream.flush()


def printable(text: str) -> str:
    """Return a text with escapes for what a terminal would obey or hide, such as control characters in a name."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


_printer: Callable[[str], None] = print_line


class _Printer(logging.Handler):
    """A handler that prints the lines, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line."""
        try:
            _printer(record.getMessage())
        except Exception:
            self.handleError(record)


if not _logger.handlers:
    _logger.addHandler(_Printer())
    _logger.propagate = False
if _logger.level == logging.NOTSET:
    _logger.setLevel(logging.INFO)


def log_line(line: str, file: Any = None) -> None:
    """Log a line, or print it to `file` if given; with several processes, only the first does."""
    from . import distributed  # imports MindSpore, which a command that only answers --help does not need

    if not distributed.is_first():
        return
    if file is None:
        _logger.info(line)
    else:
        print_line(line, file)


def set_printer(printer: Callable[[str], None] = print_line) -> None:
    """Have another function print the lines; without an argument, use `print_line` again."""
    global _printer
    _printer = printer


def known(number: Optional[int]) -> str:
    """Return the number as text, or a dash if it is unknown."""
    return "-" if number is None else str(number)


def counted(number: int, noun: str) -> str:
    """Return the number with its noun: `1 epoch`, `3 epochs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_a_row(number: int) -> str:
    """Return how often something has happened in a row: `once`, `3 times in a row`."""
    return "once" if number == 1 else f"{number} times in a row"


def duration(seconds: float) -> str:
    """Return a time with its two largest units: `3 h 50 min`, `2 min 5 s`, `7.5 s`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if whole < 3600 else f"{minutes // 60} h {minutes % 60} min"
