"""What of MindSpore is private, or differs between its versions, is known in one place."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "ms_callbacks"
COMPAT = "mindspore_compat.py"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != COMPAT and "vision" not in path.parts)
MINDSPORES = ("ms", "mindspore", "nn", "ops", "ds", "train", "Tensor", "Parameter", "mint")
OF_EVERYBODY = ("_replace", "_fields", "_asdict", "_repr_html_", "_repr_png_")  # of NamedTuples, and for notebooks


def name_of(node):
    return node.id if isinstance(node, ast.Name) else None


def found_in(source):
    """Private attributes of other objects, MindSpore's version, and names that it may lack, by line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            is_private = node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in OF_EVERYBODY
            of_super = isinstance(node.value, ast.Call) and name_of(node.value.func) == "super"
            if is_private and not of_super and name_of(node.value) not in ("self", "cls"):
                yield node.lineno, ast.unparse(node)
            if node.attr == "__version__" and name_of(node.value) in ("ms", "mindspore"):
                yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.Call) and name_of(node.func) in ("hasattr", "getattr") and node.args:
            of = node.args[0]
            while isinstance(of, ast.Attribute):
                of = of.value
            if name_of(of) in MINDSPORES and not isinstance(node.args[0], ast.Attribute):
                yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.Attribute) and node.attr in ("f_locals", "f_back"):
            yield node.lineno, ast.unparse(node)


def test_nothing_else_knows_of_it():
    """And no object reads what is private to another."""
    found = {str(path.relative_to(PACKAGE)): list(found_in(path.read_text(encoding="utf-8"))) for path in FILES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source", ["model._network", "ms.__version__", 'hasattr(nn, "LARS")', "getattr(Tensor, 'data')", "frame.f_locals"]
)
def test_it_would_be_seen(source):
    """In whatever place it stands."""
    assert list(found_in(f"def f():\n    return [{source}]"))


def test_each_function_there_says_why():
    """In its docstring, and when it can go; all of them are used."""
    tree = ast.parse((PACKAGE / "core" / COMPAT).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert [node.name for node in functions if not re.search(r"Remove\s+(with|when)\b", ast.get_docstring(node))] == []
    used = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name != COMPAT)
    assert [node.name for node in functions if node.name not in used] == []
