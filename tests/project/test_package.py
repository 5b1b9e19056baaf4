"""The package as others install and import it."""

from __future__ import annotations

import pathlib
import pickle
import re
import subprocess
import sys

import pytest

import ms_callbacks

PACKAGE = pathlib.Path(ms_callbacks.__file__).parent
ROOT = pathlib.Path(__file__).parents[2]

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


ONE_NAME = """
import sys
from ms_callbacks import EarlyStopping
import ms_callbacks
assert vars(ms_callbacks).keys() & set(ms_callbacks.__all__) == {"EarlyStopping"}
print(*sorted(name for name in sys.modules if name.startswith("ms_callbacks.") and ".core" not in name))
"""


def test_a_name_is_imported_with_what_it_needs_alone():
    """One callback does not bring the others."""
    done = subprocess.run([sys.executable, "-c", ONE_NAME], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ms_callbacks.control", "ms_callbacks.control.early_stopping"]


def test_what_is_exported_is_what_is_imported():
    """The list of the package, where it finds each name, what type checkers read, and what `dir` shows are one."""
    text = (PACKAGE / "_api.py").read_text(encoding="utf-8")
    for_checkers = {name: module for module, name, _ in re.findall(r"from \.(\S+) import (\w+) as (\2)\n", text)}
    assert text.count("import") - text.split('"""')[1].count("import") == len(for_checkers)
    missing = "\n".join(f'    "{name}": "{module}",' for name, module in sorted(for_checkers.items()))
    assert for_checkers == ms_callbacks._MODULE_OF, f"_MODULE_OF in __init__.py must be, as _api.py says:\n{missing}"
    assert set(for_checkers) == set(ms_callbacks.__all__), "_api.py and __all__ in __init__.py differ"
    for name, module in for_checkers.items():
        assert getattr(ms_callbacks, name).__module__ == f"ms_callbacks.{module}", f"{name} is not where it is defined"
    assert list(ms_callbacks._MODULE_OF) == sorted(ms_callbacks.__all__) == ms_callbacks.__all__
    assert {*ms_callbacks.__all__, "cpu", "testing", "vision"} <= set(dir(ms_callbacks))
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
    """The package says what its metadata, its citation and the newest entry of the changelog say."""
    version = ms_callbacks.__version__
    assert f"version = {version}\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in citation
    released = re.search(r'date-released: "(.*)"', citation).group(1)
    changes = re.findall(r"^## \[(.*?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    newest = next(change for change in changes if change[0] != "Unreleased")
    assert newest == (version, f" - {released}")


def test_the_workflow_runs_the_cells_of_nox():
    """Each with the wheel and with the tests."""
    workflow = ROOT / ".github" / "workflows" / "tests.yml"
    if not workflow.exists():
        pytest.skip("the sdist has no workflow")
    text = workflow.read_text(encoding="utf-8")
    cells = re.findall(r'^    \("(\d\S+)", "(\S+)", ', (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r'- \{ mindspore: "(\S+)", python: "(\S+)" \}', text) == cells
    assert cells


def test_the_image_is_made_from_what_the_repository_has():
    """Each path that the Dockerfile copies exists and is let through by .dockerignore; what it runs is among them."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [path for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for path in line.split()]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert all((ROOT / path).exists() for path in copied)
    assert sorted(f"!{path}" for path in copied) == sorted(line for line in ignored if line.startswith("!"))
    assert (ROOT / re.search(r'^CMD \["python", "(.*)"\]$', text, re.MULTILINE).group(1)).exists()
