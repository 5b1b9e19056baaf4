"""Check what a callback saves in a state: plain values and arrays of numbers; anything else is refused by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..core.parameters import Arrays

__all__ = ["checked_arrays", "plain_state"]


def checked_arrays(owner: str, name: str, callback: Any) -> Arrays:
    """Return the result of a callback's `state_arrays`, if it has that method; raise if it cannot be saved."""
    arrays: Arrays = callback.state_arrays() if hasattr(callback, "state_arrays") else {}
    for key, array in arrays.items():
        kind = array.dtype if isinstance(array, np.ndarray) else None
        if kind is None or not kind.isnative or not (kind.kind in "biufc" or kind.name == "bfloat16"):
            raise TypeError(
                f"{owner}: state_arrays of {name} must hold NumPy arrays of numbers, but {key!r} is a "
                f"{type(array).__name__}" + ("" if kind is None else f" of {kind}")
            )
    return arrays


def plain_state(owner: str, name: str, state: Any) -> Any:
    """Return the result of a callback's `state_dict` as JSON gives it back; raise if it cannot be saved."""
    try:
        plain = json.loads(json.dumps(state))
        _check_keys(state)
        return plain
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{owner}: state_dict of {name} must hold plain numbers, strings, lists, dictionaries and None: {error}"
        ) from error


def _check_keys(state: Any) -> None:
    """Raise if a dictionary has keys that JSON would turn into strings."""
    if isinstance(state, dict):
        for key in state:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not a string")
    if isinstance(state, (dict, list, tuple)):
        for each in state.values() if isinstance(state, dict) else state:
            _check_keys(each)
