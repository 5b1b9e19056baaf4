"""The whole suite on every MindSpore that the README names, with whatever interpreters are there.

Tests whose point is not the mode run in GRAPH mode here; `pytest` alone runs them in PYNATIVE mode, which is faster.

`nox` runs all, `nox -l` lists them, `nox -s "tests(2.8.0, python 3.10)"` runs one.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess

import nox

nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "venv"

# MindSpore, Python, and what it needs beside it; the oldest and the newest of each that go together.
CELLS = [
    ("2.0.0", "3.9", "numpy<1.25 pillow<10"),
    ("2.8.0", "3.10", "numpy<2"),
    ("2.9.0", "3.11", "numpy<2"),
    ("2.10.0", "3.10", "numpy<2"),
    ("2.10.0", "3.11", "numpy>=2"),
    ("2.10.0", "3.12", "numpy>=2"),
]


def interpreter(version: str) -> str:
    """The path of a Python that runs, on the PATH or of pyenv; the version itself where there is none."""
    installed = glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python"))
    for path in filter(None, [shutil.which(f"python{version}"), *sorted(installed)]):
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return version


@nox.session
@nox.parametrize(
    ("python", "mindspore", "others"),
    [nox.param(interpreter(python), ms, others, id=f"{ms}, python {python}") for ms, python, others in CELLS],
)
def tests(session: nox.Session, mindspore: str, others: str) -> None:
    """Runs the tests."""
    session.install("-q", f"mindspore=={mindspore}", ".[test]")
    session.install("-q", *others.split())  # NumPy 2 too, which the package works with but does not ask for
    session.run(
        "python", "-c", "import sys, mindspore, numpy; print(sys.version, mindspore.__version__, numpy.__version__)"
    )
    session.run("pytest", "--graph", *session.posargs)
