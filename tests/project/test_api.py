"""The public names and their arguments are those that were recorded: no release breaks a user's code unnoticed."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import pytest

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"

ADVICE = """
If names were added: run `python tests/golden/make_api_golden.py` and commit api.json.
If something was removed or changed, code of users may break. Keep what they use and deprecate it first: it works for
one more minor release and warns with DeprecationWarning, and CHANGELOG.md names it under "Deprecated". Where that is
done, or where no call breaks (an argument by keyword, with a default, was added), record again."""


@pytest.fixture(scope="module")
def recorder():
    """The script that records."""
    spec = importlib.util.spec_from_file_location("make_api_golden", GOLDEN / "make_api_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flat(api):
    """One line of text for each name, argument list, attribute and member."""
    found = {}
    for name, entry in api.items():
        if isinstance(entry, str):
            found[name] = entry
            continue
        found[name] = entry["signature"]
        found.update({f"{name}.{each}": "attribute" for each in entry["attributes"]})
        found.update({f"{name}.{each}": kind for each, kind in entry["members"].items()})
    return found


def differences(recorded, present):
    """What has been removed, changed and added, as text; empty if nothing has."""
    lines = [f"removed: {name} {recorded[name]}" for name in recorded if name not in present]
    lines += [
        f"changed: {name} was {recorded[name]} and is {present[name]}"
        for name in recorded
        if name in present and recorded[name] != present[name]
    ]
    return "\n".join(lines + [f"added:   {name} {present[name]}" for name in present if name not in recorded])


def test_the_public_names_are_as_recorded(recorder):
    """With their arguments and defaults, and the attributes and methods of classes."""
    present = flat(recorder.api())
    modules = {".".join(name.split(".")[:2]) for name in present}
    recorded = flat(json.loads(recorder.PATH.read_text(encoding="utf-8")))
    if "ms_callbacks.vision" not in modules:  # mindvision is not installed
        recorded = {name: kind for name, kind in recorded.items() if not name.startswith("ms_callbacks.vision.")}
    found = differences(recorded, present)
    assert not found, f"The public API is not as recorded in tests/golden/api.json.\n{found}\n{ADVICE}"


def test_every_kind_of_change_is_seen(recorder):
    """An argument with another default, an attribute that is gone, a method, a new name."""

    class Before:
        """Before.

        Attributes:
            value_ (int): a value.
            `other_`: ignored.
        """

        def __init__(self, first, *, second=1):
            pass

        def method(self, x):
            pass

    class After:
        """After."""

        def __init__(self, first, *, second=2):
            pass

        def method(self, y):
            pass

        prop = property(len)

    for one in (Before, After):
        one.__module__ = "ms_callbacks.test"
    found = [flat({"C": recorder.described(one)}) for one in (Before, After)]
    assert differences(*found).splitlines() == [
        "removed: C.value_ attribute",
        "changed: C was (first, *, second=1) and is (first, *, second=2)",
        "changed: C.method was (self, x) and is (self, y)",
        "added:   C.prop attribute",
    ]
    assert differences(found[0], found[0]) == ""
