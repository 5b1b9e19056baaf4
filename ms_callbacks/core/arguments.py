"""Argument checks, so that a wrong argument fails when a callback is created and all errors read alike.

Each message says what was received, what was expected and, if possible, how to fix it.
"""

from __future__ import annotations

import difflib
import math
import numbers
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Optional

__all__ = [
    "check_bool",
    "check_cell",
    "check_choice",
    "check_dataset",
    "check_file",
    "check_int",
    "check_number",
    "check_path",
    "check_text",
    "nearest",
    "quoted",
]


def check_int(owner: str, name: str, value: Any, minimum: int) -> int:
    """Return `value` as an `int`; raise unless it is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{owner}: {name} must be a whole number, but got {value!r} ({type(value).__name__})")
    if value < minimum:
        raise ValueError(f"{owner}: {name} must be at least {minimum}, but got {value}")
    return int(value)


def check_number(
    owner: str,
    name: str,
    value: Any,
    *,
    minimum: Optional[float] = None,
    above: Optional[float] = None,
    below: Optional[float] = None,
) -> float:
    """Return `value` as a `float`; raise unless it is finite and within the given bounds."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{owner}: {name} must be a number, but got {value!r} ({type(value).__name__})")
    number = float(value)
    bounds = []
    if minimum is not None:
        bounds.append((number >= minimum, f"at least {minimum:g}"))
    if above is not None:
        bounds.append((number > above, f"above {above:g}"))
    if below is not None:
        bounds.append((number < below, f"below {below:g}"))
    if not math.isfinite(number) or not all(holds for holds, _ in bounds):
        expected = " and ".join(["finite"] + [text for _, text in bounds])
        raise ValueError(f"{owner}: {name} must be {expected}, but got {value}")
    return number


def check_bool(owner: str, name: str, value: Any) -> bool:
    """Return `value`; raise unless it is `True` or `False`."""
    if not isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be True or False, but got {value!r} ({type(value).__name__})")
    return value


def check_choice(owner: str, name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Return `value`; raise unless it is one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"{owner}: {name} must be one of {quoted(choices)}, but got {value!r}{nearest(value, choices)}"
        )
    return value


def check_text(owner: str, name: str, value: Any) -> str:
    """Return `value`; raise unless it is a non-empty string."""
    if not isinstance(value, str):
        raise TypeError(f"{owner}: {name} must be a string, but got {value!r} ({type(value).__name__})")
    if not value:
        raise ValueError(f"{owner}: {name} must not be empty")
    return value


def check_path(owner: str, name: str, value: Any) -> str:
    """Return the absolute path; raise unless `value` is a non-empty string or a path object.

    An absolute path still means the same file after the working directory changes; `~` is the user's home. Links are
    not resolved.
    """
    given = check_text(owner, name, os.fspath(value) if isinstance(value, os.PathLike) else value)
    if "\0" in given:
        raise ValueError(f"{owner}: {name} must not hold a zero byte, but got {given!r}")
    return str(pathlib.Path(os.path.expanduser(given)).absolute())


def check_cell(owner: str, name: str, value: Any) -> Any:
    """Return `value`; raise unless it is a cell or `None`."""
    if value is not None and not hasattr(value, "cells_and_names"):
        raise TypeError(f"{owner}: {name} must be a network (nn.Cell), but got {value!r} ({type(value).__name__})")
    return value


def check_file(owner: str, value: Any) -> Any:
    """Return `value`; raise unless it can be printed to, or is `None`."""
    if value is not None and not hasattr(value, "write"):
        raise TypeError(f"{owner}: file must be something to print to, such as an open file, but got {value!r}")
    return value


def check_dataset(owner: str, value: Any) -> Any:
    """Return `value`; raise unless it is a dataset, with a hint if calling `run()` on it returns one."""
    if not hasattr(value, "get_dataset_size"):
        hint = "; call its run() for one" if hasattr(value, "run") else ""
        raise TypeError(f"{owner}: dataset must be a MindSpore dataset, but got {type(value).__name__}{hint}")
    return value


def nearest(name: Any, options: Iterable[Any]) -> str:
    """Return `"; did you mean 'acc'?"` for the option most like `name`, ignoring case; `""` if there is none."""
    by_lower = {str(option).lower(): option for option in options}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {str(by_lower[close[0]])!r}?" if close else ""


def quoted(names: Iterable[Any]) -> str:
    """Return the names in order, as they would be typed: `'acc', 'eval_loss'`."""
    return ", ".join(repr(name) for name in names)
