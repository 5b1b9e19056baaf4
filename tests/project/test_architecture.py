"""Imports run downwards: a callback knows the core and its own helpers, the core no callback, and nothing is a circle.

`python tests/project/test_architecture.py` prints what each module imports, the lowest first.
"""

from __future__ import annotations

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "ms_callbacks"
TESTS = pathlib.Path(__file__).parents[1]
FOLDERS = ("checkpointing", "control", "diagnostics", "interpretation", "lr_schedules", "monitoring")
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py", "_api.py") and "vision" not in path.parts
}

# The test of a module where it has another name than the module, for it covers several or a way of use.
COVERED_BY = {
    "control.graceful_stop": "control/test_interruption.py",
    "cpu": "project/test_cpu.py",
    "lr_schedules.dynamic_lr": "lr_schedules/test_schedules.py",
    "lr_schedules.lr_cosine_annealing": "lr_schedules/test_schedules.py",
    "lr_schedules.lr_cosine_warm_restarts": "lr_schedules/test_torch_schedules.py",
    "lr_schedules.lr_cyclic": "lr_schedules/test_torch_schedules.py",
    "lr_schedules.lr_exponential": "lr_schedules/test_torch_schedules.py",
    "lr_schedules.lr_lambda": "lr_schedules/test_torch_schedules.py",
    "lr_schedules.lr_multi_step": "lr_schedules/test_torch_schedules.py",
    "lr_schedules.lr_polynomial": "lr_schedules/test_torch_schedules.py",
    "lr_schedules.lr_step_decay": "lr_schedules/test_schedules.py",
    "lr_schedules.lr_warmup": "lr_schedules/test_schedules.py",
    "monitoring.csv_logger": "monitoring/test_history.py",
    "monitoring.plot_history": "monitoring/test_history.py",
    "monitoring.step_outputs": "core/test_step_outputs.py",
    "testing": "project/test_testing.py",
}


def imports_of(name, source):
    """The modules of the package that a module imports, for types alone or late too, by their dotted names."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                for found in (".".join([*base, alias.name]), ".".join(base)):
                    if found in MODULES:
                        yield found
                        break


GRAPH = {name: sorted(set(imports_of(name, path.read_text(encoding="utf-8")))) for name, path in MODULES.items()}


def in_order():
    """The modules, each after all that it imports; raises where they go round in a circle."""
    done, under_way = [], []

    def visit(name):
        if name in under_way:
            raise AssertionError(" imports ".join([*under_way[under_way.index(name) :], name]))
        if name not in done:
            under_way.append(name)
            for each in GRAPH[name]:
                visit(each)
            done.append(under_way.pop())

    for name in GRAPH:
        visit(name)
    return done


def test_each_module_imports_what_lies_below_it():
    """No callback imports another, and the core imports none; not for a type either."""
    for name, imports in GRAPH.items():
        folder = name.rpartition(".")[0]
        assert folder in (*FOLDERS, "core", ""), name
        for each in imports:
            of, _, imported = each.rpartition(".")
            assert of == "core" or (of == folder and imported.startswith("_")) or folder == "", (name, each)


def test_nothing_is_a_circle():
    """Whoever reads from below has read all that a module needs."""
    assert len(in_order()) == len(MODULES)


@pytest.mark.parametrize(
    "source",
    [
        "from .run import Run",
        "from . import run",
        "from ..core.run import Run",
        "if TYPE_CHECKING:\n    from .run import Run",
        "def late():\n    from .run import Run",
    ],
)
def test_every_import_is_seen(source):
    """Wherever it stands, and however it is written."""
    assert list(imports_of("core.phases", source)) == ["core.run"]


def test_every_module_of_the_core_has_a_test_of_its_own():
    """Named after it; the files there test nothing else."""
    modules = {name.rpartition(".")[2] for name in MODULES if name.startswith("core.")}
    assert {path.stem[len("test_") :] for path in (TESTS / "core").glob("test_*.py")} == modules


def test_every_public_module_has_a_test():
    """Beside those of its folder, named after it, or the one that covers several."""
    public = {name for name in MODULES if not name.rpartition(".")[2].startswith("_") and not name.startswith("core.")}
    usual = {name: "/test_".join(name.split(".")) + ".py" if "." in name else "" for name in public}
    missing = {name for name in public if not (TESTS / COVERED_BY.get(name, usual[name])).is_file()}
    assert not missing
    assert set(COVERED_BY) <= public, "an exception for what there is no more"
    assert not [name for name in COVERED_BY if usual[name] and (TESTS / usual[name]).is_file()], "no exception any more"


if __name__ == "__main__":
    for name in in_order():
        print(f"{name}: {', '.join(GRAPH[name]) or '-'}")
