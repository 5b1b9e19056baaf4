"""Lines for the user to read, printed at once and above a progress bar where there is one."""

from __future__ import annotations

from typing import Callable

__all__ = ["emit", "set_printer"]


def _print(line: str) -> None:
    print(line, flush=True)


_printer: Callable[[str], None] = _print


def emit(line: str) -> None:
    """Prints a line."""
    _printer(line)


def set_printer(printer: Callable[[str], None] = _print) -> None:
    """Lets something else print the lines; without an argument, `print` again."""
    global _printer
    _printer = printer
