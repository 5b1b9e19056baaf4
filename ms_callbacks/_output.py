"""What the commands print as JSON."""

from __future__ import annotations

import json
from typing import Any

from .core.console import print_line

__all__ = ["print_json"]


def print_json(content: dict[str, Any]) -> None:
    """Print one strict JSON object: no NaN, and bytes of a name that are not UTF-8 as escapes."""
    print_line(json.dumps(_strict(content), indent=2, allow_nan=False))


def _strict(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_strict(key): _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    return value
