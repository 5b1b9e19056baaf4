"""Record the public names with their signatures, so that a change of the API is a decision and not an accident.

`python tests/golden/make_api_golden.py` writes api.json, with which tests/project/test_api.py compares the package.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pathlib
import re
from typing import Any

import ms_callbacks
from ms_callbacks import MonitorCallback, TrainCallback

PATH = pathlib.Path(__file__).with_name("api.json")
MODULES = ["ms_callbacks", "ms_callbacks.cpu", "ms_callbacks.testing", "ms_callbacks.vision"]


def api() -> dict[str, Any]:
    """What each public name is, by its dotted name; without modules whose extra is not installed."""
    found: dict[str, Any] = {}
    for module in MODULES:
        try:
            names = importlib.import_module(module).__all__
        except ImportError:
            continue
        for name in sorted(names):
            found[f"{module}.{name}"] = described(getattr(importlib.import_module(module), name))
    return found


def described(value: Any) -> Any:
    """How something is called and, of a class, what it has beyond the base classes for callbacks."""
    if not str(getattr(value, "__module__", "")).startswith("ms_callbacks"):
        return "from another package"
    if not inspect.isclass(value):
        return signature(value) if callable(value) else type(value).__name__
    bases = [base for base in (TrainCallback, MonitorCallback) if base is not value and issubclass(value, base)]
    members = {
        name: member_of(value, name)
        for name in sorted({*dir(value), *getattr(value, "__members__", ())})  # of Python 3.10, `dir` lacks Flag(0)
        if not name.startswith("_") and is_ours(value, name) and not any(hasattr(base, name) for base in bases)
    }
    return {"signature": constructor(value), "attributes": attributes(value), "members": members}


def constructor(cls: type) -> str:
    """The signature, where it is the class's own."""
    return signature(cls) if any("__init__" in vars(one) for one in cls.__mro__ if is_inside(one)) else "-"


def is_inside(cls: type) -> bool:
    """Whether a class is of this package."""
    return cls.__module__.startswith("ms_callbacks")


def is_ours(cls: type, name: str) -> bool:
    """Whether a name is defined by this package, and not by MindSpore or Python."""
    return any(name in vars(one) for one in cls.__mro__ if is_inside(one))


def member_of(cls: type, name: str) -> str:
    """A method's signature, or what it is instead."""
    member = inspect.getattr_static(cls, name)
    if isinstance(member, (staticmethod, classmethod)):
        return f"{type(member).__name__} {signature(getattr(cls, name))}"
    return signature(member) if inspect.isfunction(member) else "attribute"


def signature(function: Any) -> str:
    """Names, kinds and defaults of the arguments; annotations differ between versions of Python when printed."""
    found = inspect.signature(function)
    arguments = [one.replace(annotation=one.empty) for one in found.parameters.values()]
    return re.sub(r" at 0x[0-9a-f]+", "", str(found.replace(parameters=arguments, return_annotation=found.empty)))


def attributes(cls: type) -> list[str]:
    """What the docstring names under Attributes."""
    lines = iter((inspect.getdoc(cls) or "").splitlines())
    if "Attributes:" not in lines:
        return []
    found = []
    for line in lines:
        if line and not line.startswith(" "):
            break
        name = re.match(r" {4}(\w+) ?[(:]", line)
        found += [name.group(1)] if name else []
    return sorted(found)


if __name__ == "__main__":
    recorded = api()
    missing = [module for module in MODULES if not any(name.startswith(f"{module}.") for name in recorded)]
    if missing:
        raise SystemExit(f"nothing recorded: {', '.join(missing)} cannot be imported; pip install '.[test]'")
    PATH.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{PATH.name}: {len(recorded)} names of ms_callbacks {ms_callbacks.__version__}")
