"""Lines for the user to read, printed at once and above a progress bar where there is one."""

from __future__ import annotations

from typing import Any, Callable, Optional

from . import _ranks

__all__ = ["counted", "emit", "in_a_row", "known", "set_printer"]


def _print(line: str) -> None:
    print(line, flush=True)


_printer: Callable[[str], None] = _print


def emit(line: str, file: Any = None) -> None:
    """Prints a line, to `file` where one is given; of several processes, the first alone."""
    if not _ranks.is_first():
        return
    if file is None:
        _printer(line)
    else:
        print(line, file=file, flush=True)


def set_printer(printer: Callable[[str], None] = _print) -> None:
    """Lets something else print the lines; without an argument, `print` again."""
    global _printer
    _printer = printer


def known(number: Optional[int]) -> str:
    """The number, or a dash where it is not known."""
    return "-" if number is None else str(number)


def counted(number: int, noun: str) -> str:
    """The number with its noun: `1 epoch`, `3 epochs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def in_a_row(number: int) -> str:
    """How often something has happened without a break: `once`, `3 times in a row`."""
    return "once" if number == 1 else f"{number:,} times in a row"
