"""The package as others install and import it."""

from __future__ import annotations

import pathlib
import pickle
import subprocess
import sys

import pytest

import ms_callbacks
from ms_callbacks import _api

PACKAGE = pathlib.Path(ms_callbacks.__file__).parent

FIRST_USE = """
import sys
import ms_callbacks
early = {name.partition(".")[0] for name in sys.modules} & {"mindspore", "numpy"}
assert not early, early
import mindspore
before = set(sys.modules)
ms_callbacks.cpu.fast_cpu()
ms_callbacks.EarlyStopping("acc")
from ms_callbacks import *
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(loaded - set(sys.stdlib_module_names if hasattr(sys, "stdlib_module_names") else [])))
sys.modules["mindvision"] = None  # as where the extra is not installed
assert "vision" in dir(ms_callbacks) and not hasattr(ms_callbacks, "vision")
for use, error in [("ms_callbacks.vision", AttributeError), ("from ms_callbacks import vision", ImportError)]:
    try:
        exec(use)
    except error as raised:
        assert "pip install" in str(raised), raised
    else:
        raise AssertionError(use)
import pydoc
assert "class EarlyStopping(" in pydoc.plain(pydoc.render_doc(ms_callbacks))
"""


def test_one_import_is_enough_and_needs_mindspore_and_numpy_alone():
    """They come with the first use, and nothing else that is not Python's own comes with them."""
    command = [sys.executable, "-c", FIRST_USE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ms_callbacks" in loaded
    heavy = {"mindvision", "matplotlib", "safetensors", "tensorboardX", "tqdm", "cv2", "sklearn", "hypothesis", "torch"}
    assert not loaded & heavy  # of these MindSpore itself has imported some before


def test_what_is_exported_is_what_is_imported():
    """The list of the package, the imports behind it, and what `dir` shows are one."""
    exported = {name for name in vars(_api) if not name.startswith("_")}
    assert exported == set(ms_callbacks.__all__)
    assert sorted(ms_callbacks.__all__) == ms_callbacks.__all__
    assert {*ms_callbacks.__all__, "cpu", "vision"} <= set(dir(ms_callbacks))
    with pytest.raises(AttributeError, match="module 'ms_callbacks' has no attribute 'EarlyStoping'"):
        ms_callbacks.EarlyStoping  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'EarlyStoping'"):
        exec("from ms_callbacks import EarlyStoping")


def test_what_is_exported_is_pickled_as_itself():
    """Loaded late, a class is the same object under every name."""
    for name in ms_callbacks.__all__:
        exported = getattr(ms_callbacks, name)
        assert pickle.loads(pickle.dumps(exported)) is exported
        assert exported.__module__.startswith("ms_callbacks.")


def test_vision_is_there_after_one_import():
    """Where its extra is installed."""
    pytest.importorskip("mindvision")
    assert ms_callbacks.vision.Mnist.__name__ == "Mnist"
    assert callable(ms_callbacks.vision.lenet)


def test_it_is_typed():
    """Type checkers look at the package's own annotations."""
    assert (PACKAGE / "py.typed").exists()


def test_the_versions_agree():
    """The package says what its metadata say."""
    setup = (pathlib.Path(__file__).parents[2] / "setup.cfg").read_text(encoding="utf-8")
    assert f"version = {ms_callbacks.__version__}\n" in setup
