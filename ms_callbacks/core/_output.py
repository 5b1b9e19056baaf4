"""Lines for the user to read, printed at once and above a progress bar where there is one."""

from __future__ import annotations

from typing import Any, Callable, Optional

from . import _ranks

__all__ = ["emit", "known", "set_printer"]


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
