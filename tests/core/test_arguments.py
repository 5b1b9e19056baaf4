"""Arguments are checked when a callback is made: what is taken, and what an error says."""

from __future__ import annotations

import io
import os
import pathlib
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from mindspore import nn
from training import dataset

from ms_callbacks.core.arguments import (
    check_bool,
    check_cell,
    check_choice,
    check_dataset,
    check_file,
    check_int,
    check_number,
    check_path,
    check_text,
    nearest,
    quoted,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "minimum", "expected"),
    [
        (0, 0, 0),
        (3, 1, 3),
        (-1, -1, -1),
        (np.int64(3), 1, 3),
        (10**30, 1, 10**30),
        (0, 1, "Owner: n must be at least 1, but got 0"),
        (-1, 0, "Owner: n must be at least 0, but got -1"),
        (3.0, 1, "Owner: n must be a whole number, but got 3.0 (float)"),
        (True, 0, "Owner: n must be a whole number, but got True (bool)"),
        ("3", 1, "Owner: n must be a whole number, but got '3' (str)"),
        (None, 1, "Owner: n must be a whole number, but got None (NoneType)"),
        (np.array(3), 1, "Owner: n must be a whole number, but got array(3) (ndarray)"),
    ],
)
def test_whole_numbers(value, minimum, expected):
    """Of any kind, NumPy's too, but no bool; what comes back is an `int`."""
    if isinstance(expected, str):
        with pytest.raises(ValueError if "at least" in expected else TypeError) as caught:
            check_int("Owner", "n", value, minimum)
        assert str(caught.value) == expected
    else:
        found = check_int("Owner", "n", value, minimum)
        assert (found, type(found)) == (expected, int)


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (0, {}, 0.0),
        (-1.5, {}, -1.5),
        (np.float32(0.5), {}, 0.5),
        (Fraction(1, 2), {}, 0.5),
        (0, {"minimum": 0}, 0.0),
        (0.5, {"above": 0, "below": 1}, 0.5),
        (NAN, {}, "x must be finite, but got nan"),
        (INF, {"minimum": 0}, "x must be finite and at least 0, but got inf"),
        (-1e-9, {"minimum": 0}, "x must be finite and at least 0, but got -1e-09"),
        (0, {"above": 0}, "x must be finite and above 0, but got 0"),
        (1.0, {"above": 0, "below": 1}, "x must be finite and above 0 and below 1, but got 1.0"),
        (NAN, {"minimum": 0, "below": 1}, "x must be finite and at least 0 and below 1, but got nan"),
        (True, {}, "x must be a number, but got True (bool)"),
        ("0.5", {}, "x must be a number, but got '0.5' (str)"),
        (None, {}, "x must be a number, but got None (NoneType)"),
        (1j, {}, "x must be a number, but got 1j (complex)"),
        (Decimal("0.5"), {}, "x must be a number, but got Decimal('0.5') (Decimal)"),
    ],
)
def test_numbers(value, bounds, expected):
    """Real, finite, and within the bounds that there are; what comes back is a `float`."""
    if isinstance(expected, str):
        with pytest.raises(ValueError if "must be finite" in expected else TypeError) as caught:
            check_number("Owner", "x", value, **bounds)
        assert str(caught.value) == f"Owner: {expected}"
    else:
        found = check_number("Owner", "x", value, **bounds)
        assert (found, type(found)) == (expected, float)


@pytest.mark.parametrize("value", [True, False])
def test_yes_or_no(value):
    """As it was given."""
    assert check_bool("Owner", "flag", value) is value


@pytest.mark.parametrize("value", [1, 0, None, "yes", np.bool_(True)])
def test_nothing_stands_for_yes_or_no(value):
    """Not even what is true or false."""
    with pytest.raises(TypeError, match=f"Owner: flag must be True or False, but got {re.escape(repr(value))}"):
        check_bool("Owner", "flag", value)


@pytest.mark.parametrize(
    ("value", "choices", "message"),
    [
        ("min", ("min", "max"), None),
        (None, ("min", None), None),
        ("Max", ("min", "max"), r"must be one of 'min', 'max', but got 'Max'; did you mean 'max'\?"),
        ("epoc", ("epoch", "step"), r"but got 'epoc'; did you mean 'epoch'\?"),
        ("zzz", ("min", "max"), "but got 'zzz'$"),
        (3, ("min", "max"), "but got 3$"),
        (None, ("min", "max"), "but got None$"),
    ],
)
def test_one_of_several(value, choices, message):
    """With the nearest."""
    if message is None:
        assert check_choice("Owner", "mode", value, choices) == value
    else:
        with pytest.raises(ValueError, match=f"^Owner: mode .*{message}"):
            check_choice("Owner", "mode", value, choices)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1, TypeError, r"Owner: monitor must be a string, but got 1 \(int\)"),
        (b"acc", TypeError, r"must be a string, but got b'acc' \(bytes\)"),
        (None, TypeError, "must be a string, but got None"),
        ("", ValueError, "Owner: monitor must not be empty"),
    ],
)
def test_texts(value, error, message):
    """Not empty."""
    assert check_text("Owner", "monitor", " a ") == " a "
    with pytest.raises(error, match=message):
        check_text("Owner", "monitor", value)


def test_paths_mean_the_same_file_wherever_the_process_goes(tmp_path, monkeypatch):
    """Absolute, with the user's home; dots and links are left to the system, and nothing need exist."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for value, expected in [
        ("x.ckpt", tmp_path / "x.ckpt"),
        (pathlib.Path("a") / "x.ckpt", tmp_path / "a" / "x.ckpt"),
        ("./x.ckpt", tmp_path / "x.ckpt"),
        ("~/x.ckpt", tmp_path / "home" / "x.ckpt"),
        (str(tmp_path / "x.ckpt"), tmp_path / "x.ckpt"),
        (os.path.join("..", "x.ckpt"), tmp_path / ".." / "x.ckpt"),
    ]:
        assert check_path("Owner", "filepath", value) == str(expected)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1, TypeError, "Owner: filepath must be a string, but got 1"),
        (None, TypeError, "Owner: filepath must be a string, but got None"),
        (b"x.ckpt", TypeError, "Owner: filepath must be a string"),
        ("", ValueError, "Owner: filepath must not be empty"),
        ("x\0.ckpt", ValueError, r"Owner: filepath must not hold a zero byte, but got 'x\\x00.ckpt'"),
    ],
)
def test_what_is_no_path(value, error, message):
    """It is found out when the callback is made, and not when it first writes."""
    with pytest.raises(error, match=message):
        check_path("Owner", "filepath", value)


def test_networks_files_and_datasets():
    """By what can be done with them; a network and a file may be left out."""
    cell, data, file = nn.Dense(1, 1), dataset(), io.StringIO()
    assert check_cell("Owner", "network", cell) is cell
    assert check_dataset("Owner", data) is data
    assert check_file("Owner", file) is file
    assert check_cell("Owner", "network", None) is None
    assert check_file("Owner", None) is None
    with pytest.raises(TypeError, match=r"Owner: network must be a network \(nn.Cell\), but got 3 \(int\)"):
        check_cell("Owner", "network", 3)
    with pytest.raises(TypeError, match="Owner: file must be something to print to, such as an open file, but got 'x'"):
        check_file("Owner", "x")


class Maker:
    """Gives a dataset when it is run, as mindvision's."""

    def run(self):
        return dataset()


@pytest.mark.parametrize(
    ("value", "message"),
    [(Maker(), "Maker; call its run"), ([1], "list$"), (None, "NoneType$")],
)
def test_what_is_no_dataset(value, message):
    """With the way to one, where there is one."""
    with pytest.raises(TypeError, match=f"Owner: dataset must be a MindSpore dataset, but got {message}"):
        check_dataset("Owner", value)


@pytest.mark.parametrize(
    ("name", "options", "meant"),
    [
        ("acuracy", ["accuracy", "loss"], "accuracy"),
        ("ACCURACY", ["accuracy"], "accuracy"),
        ("accuracy", ["Accuracy"], "Accuracy"),
        ("x", ["accuracy"], None),
        ("", ["accuracy"], None),
        ("accuracy", [], None),
        (None, ["none"], "none"),
        ("0", [0, 1], "0"),
    ],
)
def test_the_nearest(name, options, meant):
    """Whatever its case; none where none is near."""
    assert nearest(name, options) == (f"; did you mean {meant!r}?" if meant else "")


@pytest.mark.parametrize(("names", "text"), [(["acc", "loss"], "'acc', 'loss'"), ([0, None], "0, None"), ([], "")])
def test_names_as_they_would_be_typed(names, text):
    """In their order."""
    assert quoted(names) == text
