"""The package as others install and import it."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import ms_callbacks

IMPORTS = """
import sys
import mindspore
before = set(sys.modules)
import ms_callbacks, ms_callbacks.cpu
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(loaded - set(sys.stdlib_module_names if hasattr(sys, "stdlib_module_names") else [])))
"""


def test_importing_needs_mindspore_and_numpy_alone():
    """Nothing else that is not Python's own is imported with it."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ms_callbacks" in loaded
    heavy = {"mindvision", "matplotlib", "safetensors", "tensorboardX", "tqdm", "cv2", "sklearn", "hypothesis", "torch"}
    assert not loaded & heavy  # of these MindSpore itself has imported some before


def test_it_is_typed():
    """Type checkers look at the package's own annotations."""
    assert (pathlib.Path(ms_callbacks.__file__).parent / "py.typed").exists()


def test_callbacks_do_not_import_each_other():
    """The layers: a callback knows the core and nothing above or beside it; the core knows none of them."""
    package = pathlib.Path(ms_callbacks.__file__).parent
    for path in package.rglob("*.py"):
        layer = path.parent.name
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("from .")]
        for line in lines:
            source = line.split()[1]
            if layer == "core":
                assert source.startswith("._") or line.startswith("from . import _"), (path, line)
            elif layer in ("control", "explain", "keep", "watch"):
                assert source.startswith(("..core", "._")), (path, line)


def test_the_versions_agree():
    """The package says what its metadata say."""
    setup = (pathlib.Path(__file__).parent.parent / "setup.cfg").read_text(encoding="utf-8")
    assert f"version = {ms_callbacks.__version__}\n" in setup
