"""The `repr` of a callback: its class and the arguments that it was given, as they would be typed."""

from __future__ import annotations

import inspect
import numbers
import os
import reprlib
from collections.abc import Collection, Iterator
from typing import Any

__all__ = ["arguments_of", "configuration", "configuration_without", "parameters_of"]


class _Short(reprlib.Repr):
    """Show values in a few characters without reading their content: datasets by class, tensors with their shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 100

    def repr_instance(self, x: Any, level: int) -> str:
        """Show numbers, paths, callbacks and functions as they would be typed, and anything else by its class."""
        try:
            if x is None or isinstance(x, (bytes, numbers.Number, os.PathLike)) or hasattr(type(x), "on_train_begin"):
                return super().repr_instance(x.item() if hasattr(x, "item") else x, level)
            shape = f" {tuple(x.shape)}" if hasattr(x, "shape") else ""
            return str(getattr(x, "__qualname__", f"<{type(x).__name__}{shape}>"))
        except Exception:  # the object's attributes raise
            return f"<{type(x).__name__}>"


_SHORT = _Short()


@reprlib.recursive_repr()
def configuration(owner: Any) -> str:
    """Return `EarlyStopping(monitor='acc', patience=3)`: the arguments that differ from their defaults, in order."""
    return configuration_without(owner, ())


def configuration_without(owner: Any, left_out: Collection[str]) -> str:
    """Return the configuration without some of the arguments, by name."""
    shown = [f"{name}={text}" for name, text in _given(owner).items() if name not in left_out]
    return f"{type(owner).__name__}({', '.join(shown)})"


def arguments_of(owner: Any) -> dict[str, Any]:
    """Return the arguments that differ from their defaults, by name, as plain values.

    Numbers, strings and `None` are returned as they are, and anything else as the text that the `repr` shows.
    """
    texts = _given(owner)
    plain = (str, int, float, bool, type(None))
    return {
        name: value if type(value := getattr(owner, name)) in plain else text  # not a subclass, such as an enumeration
        for name, text in texts.items()
    }


def _given(owner: Any) -> dict[str, str]:
    """Return the arguments that differ from their defaults, by name, as they would be typed."""
    shown: dict[str, str] = {}
    for parameter in parameters_of(type(owner)):
        try:
            value = getattr(owner, parameter.name)
        except Exception:  # a user's class need not keep an argument under its name
            continue
        if parameter.name not in shown and not _is_same(value, parameter.default):
            shown[parameter.name] = _SHORT.repr(value)
    return shown


def parameters_of(cls: type) -> Iterator[inspect.Parameter]:
    """Return a class's named parameters; if it takes `**kwargs`, those of its base class too."""
    for each in cls.__mro__:
        if "__init__" not in vars(each):
            continue
        parameters = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
        yield from (one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))
        if not any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters):
            return


def _is_same(value: Any, default: Any) -> bool:
    try:
        if isinstance(default, str) and isinstance(value, str) and os.path.isabs(value):
            return value == os.path.abspath(default)  # a path, which is stored as an absolute path
        return value is default or bool(value == default)
    except Exception:  # for example an array, which compares element by element
        return False
