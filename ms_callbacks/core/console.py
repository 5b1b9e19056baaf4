"""Lines for the user to read: logged to `ms_callbacks`, and printed, above a progress bar where there is one.

`logging.getLogger("ms_callbacks")` is an ordinary logger of level INFO. It comes with one handler, which prints the
bare lines to `sys.stdout` as it is at that moment, and does not propagate, so that nothing is shown twice whatever
`logging.basicConfig` has set up. A handler that is added gets the lines too; `setLevel(logging.WARNING)` silences them;
`handlers.clear()` and `propagate = True` hand them over to the application's own logging. Where the logger has a
handler before this package is imported, that one stays the only one.

A stream that fails never ends a run: what it cannot encode is escaped, and what it does not take is lost.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from typing import Any, Callable, Optional

__all__ = ["SafeStream", "counted", "emit", "in_a_row", "known", "print_line", "set_printer"]

_logger = logging.getLogger("ms_callbacks")


class SafeStream:
    """A stream that `write` and `flush` never raise on; else the one that it is made with."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.kind = type(stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._stream == other)

    __hash__ = None  # type: ignore[assignment]

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with contextlib.suppress(AttributeError, ValueError):  # no stream at all, or one that is closed
            return bool(self._stream.isatty())
        return False

    def write(self, text: str) -> None:
        """Writes what can be written of a text."""
        self._try(lambda: self._write(text))

    def flush(self) -> None:
        """Flushes, where that is possible."""
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
        except Exception:  # a stream of anybody's: closed, absent, or broken in a way of its own
            pass

    def _drop_pending(self, is_for_good: bool) -> None:
        """Discards what the stream still holds, else Python would fail to write it at exit, with status 120."""
        number = self._stream.fileno()
        kept, nothing = os.dup(number), os.open(os.devnull, os.O_WRONLY)
        is_inheritable = os.get_inheritable(number)
        try:
            os.dup2(nothing, number, is_inheritable)
            self._stream.flush()
        finally:
            if not is_for_good:  # a disk may be full for a while
                os.dup2(kept, number, is_inheritable)
            os.close(kept)
            os.close(nothing)


def print_line(line: str, file: Any = None) -> None:
    """Prints a line as `print` does, and raises nothing where that fails."""
    stream = SafeStream(sys.stdout if file is None else file)
    stream.write(f"{line}\n")
    stream.flush()


_printer: Callable[[str], None] = print_line


class _Printer(logging.Handler):
    """Prints the lines, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a line."""
        try:
            _printer(record.getMessage())
        except Exception:
            self.handleError(record)


if not _logger.handlers:
    _logger.addHandler(_Printer())
    _logger.propagate = False
if _logger.level == logging.NOTSET:
    _logger.setLevel(logging.INFO)


def emit(line: str, file: Any = None) -> None:
    """Logs a line, or prints it to `file` where one is given; of several processes, the first alone."""
    from . import distributed  # which imports MindSpore: a command that only answers --help does without

    if not distributed.is_first():
        return
    if file is None:
        _logger.info(line)
    else:
        print_line(line, file)


def set_printer(printer: Callable[[str], None] = print_line) -> None:
    """Lets something else print the lines; without an argument, `print_line` again."""
    global _printer
    _printer = printer


def known(number: Optional[int]) -> str:
    """The number, or a dash where it is not known."""
    return "-" if number is None else str(number)


def counted(number: int, noun: str) -> str:
    """The number with its noun: `1 epoch`, `3 epochs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_a_row(number: int) -> str:
    """How often something has happened without a break: `once`, `3 times in a row`."""
    return "once" if number == 1 else f"{number} times in a row"
