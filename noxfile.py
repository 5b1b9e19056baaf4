"""Run the whole suite, and the built wheel, on every MindSpore of the README, with the interpreters that are installed.

Tests that do not depend on the mode run in GRAPH mode here; plain `pytest` runs them in PYNATIVE mode, which is faster.

`nox` runs all sessions, `nox -l` lists them, `nox -s "tests(2.8.0, python 3.10)"` runs one.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys

import nox

nox.options.error_on_missing_interpreters = False
nox.options.default_venv_backend = "venv"

# MindSpore, Python, and additional requirements: the oldest and newest compatible combinations.
CELLS = [
    ("2.0.0", "3.9", "numpy<1.25 pillow<10"),
    ("2.8.0", "3.10", "numpy<2"),
    ("2.9.0", "3.11", "numpy<2"),
    ("2.10.0", "3.10", "numpy<2"),
    ("2.10.0", "3.11", "numpy>=2"),
    ("2.10.0", "3.12", "numpy>=2"),
]


def interpreter(version: str) -> str:
    """Return the path of a working Python, on the PATH or from pyenv; the version itself if there is none."""
    installed = glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python"))
    for path in filter(None, [shutil.which(f"python{version}"), *sorted(installed)]):
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return version


in_each_cell = nox.parametrize(
    ("python", "mindspore", "others"),
    [nox.param(interpreter(python), ms, others, id=f"{ms}, python {python}") for ms, python, others in CELLS],
)


@nox.session
@in_each_cell
def tests(session: nox.Session, mindspore: str, others: str) -> None:
    """Run the tests."""
    session.install("-q", f"mindspore=={mindspore}", ".[test]")
    session.install("-q", *others.split())  # including NumPy 2, which the package supports but does not install
    session.run(
        "python", "-c", "import sys, mindspore, numpy; print(sys.version, mindspore.__version__, numpy.__version__)"
    )
    session.run("pytest", "--graph", *session.posargs)


@nox.session
@in_each_cell
def wheel(session: nox.Session, mindspore: str, others: str) -> None:
    """Install the wheel, as a user does, and train a small network with it outside the source tree."""
    folder = session.create_tmp()
    shutil.rmtree("build", ignore_errors=True)  # of an earlier build, whose modules may be gone by now
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder, ".")
    (built,) = glob.glob(os.path.join(folder, "*.whl"))
    session.install("-q", f"mindspore=={mindspore}", built)
    session.install("-q", *others.split())
    smoke = os.path.abspath("tests/outside/smoke.py")
    session.chdir(folder)
    session.run("python", "-I", smoke)
    session.run("ms-callbacks", "doctor", "--quick")
    os.remove(built)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation and check its links, with the Python that runs nox; needs the extra `docs`."""
    session.run(sys.executable, "docs/build_site.py", external=True)


@nox.session(python=interpreter("3.11"))
def trackers(session: nox.Session) -> None:
    """Run the tests of the loggers with the clients of MLflow, W&B and SwanLab."""
    session.install("-q", "mindspore==2.10.0", ".[test,mlflow,wandb]")
    # SwanLab asks for a protobuf that MindSpore 2.10 does not accept, but works with the newer one too.
    session.install("-q", "swanlab")
    session.install("-q", "protobuf>=7.34.1")
    files = session.posargs or sorted(glob.glob("tests/monitoring/test_*_logger.py"))
    session.run("pytest", "-m", "slow or not slow", *files)
