"""Imports run downwards: a callback knows the core and its own helpers, the core no callback, and nothing is a circle.

`python tests/project/test_architecture.py` prints what each module imports, the lowest first.
"""

from __future__ import annotations

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[2] / "ms_callbacks"
FOLDERS = ("checkpointing", "control", "diagnostics", "interpretation", "lr_schedules", "monitoring")
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py", "_api.py") and "vision" not in path.parts
}


def is_for_types_alone(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def statements(tree):
    """All of a module that runs, or may."""
    for node in ast.iter_child_nodes(tree):
        if not is_for_types_alone(node):
            yield node
            yield from statements(node)


def imports_of(name):
    """The modules of the package that a module imports, by their dotted names."""
    package = name.split(".")[:-1]
    for node in statements(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for alias in node.names:
                for found in (".".join([*base, alias.name]), ".".join(base)):
                    if found in MODULES:
                        yield found
                        break


GRAPH = {name: sorted(set(imports_of(name))) for name in MODULES}


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
    """No callback imports another, and the core imports none."""
    for name, imports in GRAPH.items():
        folder = name.rpartition(".")[0]
        assert folder in (*FOLDERS, "core", ""), name
        for each in imports:
            of, _, imported = each.rpartition(".")
            assert of == "core" or (of == folder and imported.startswith("_")) or folder == "", (name, each)


def test_nothing_is_a_circle():
    """Whoever reads from below has read all that a module needs."""
    assert len(in_order()) == len(MODULES)


if __name__ == "__main__":
    for name in in_order():
        print(f"{name}: {', '.join(GRAPH[name]) or '-'}")
