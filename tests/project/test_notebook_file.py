"""The quickstart notebooks: one and the same in two languages, small, of no machine, and with current outputs."""

from __future__ import annotations

import json
import pathlib
import re
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
NOTEBOOKS = ("quickstart.ipynb", "quickstart.zh-CN.ipynb")


def read(name):
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))


def sources(name, kind):
    return ["".join(cell["source"]) for cell in read(name)["cells"] if cell["cell_type"] == kind]


def test_both_have_the_same_code():
    """And as many texts, each with a heading where the other has one."""
    english, chinese = ([sources(name, kind) for kind in ("code", "markdown")] for name in NOTEBOOKS)
    assert english[0] == chinese[0]
    heads = [[text.startswith("#") for text in texts] for _, texts in (english, chinese)]
    assert heads[0] == heads[1]
    assert 8 <= len(english[0]) <= 13


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_nothing_in_it_is_of_one_machine(name):
    """No path, no time, no version; the outputs are there, and none is an error."""
    notebook = read(name)
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert not re.search(r"/(root|home|work|tmp)/", text)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["metadata"] == {} for cell in cells)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {each["output_type"] for each in outputs} == {"stream", "execute_result"}
    kinds = {kind for each in outputs for kind in each.get("data", {})}
    assert kinds == {"text/plain", "text/html", "image/png"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_links_lead_somewhere(name):
    """Within the repository."""
    links = re.findall(r"\]\(([^)#:]+)\)", "\n".join(sources(name, "markdown")))
    assert len(links) >= 3
    assert not [link for link in links if not (EXAMPLES / link).exists()]


@pytest.fixture
def notebooks(monkeypatch):
    """The script that runs them."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "run_notebooks", raising=False)
    import run_notebooks

    return run_notebooks


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data):
    kinds = {kind.replace("_", "/"): content for kind, content in data.items()}
    return {"output_type": "execute_result", "data": kinds, "metadata": {}, "execution_count": 1}


def notebook(*outputs_of_cells):
    """A notebook of cells without code, each with its outputs."""
    import nbformat

    cells = [
        {"cell_type": "code", "source": "", "metadata": {}, "execution_count": 1, "outputs": list(outputs)}
        for outputs in outputs_of_cells
    ]
    return nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (stream("epoch 3: acc 0.97\n"), stream("epoch 12: acc 0.9\n")),
        (shown(text_html="<tr><td style='a'>1</td></tr>"), shown(text_html="<tr><td style='a'>2e-05</td></tr>")),
        (shown(image_png="AAAA"), shown(image_png="BBBB")),
        (
            shown(text_html='<tr><td style="background: x">1</td></tr>'),
            shown(text_html='<tr><td style="y">1</td></tr>'),
        ),
    ],
)
def test_numbers_and_pictures_may_differ(notebooks, before, after):
    """As from machine to machine."""
    assert notebooks.differences(notebook([before]), notebook([after])) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([stream("epoch 3\n")], [stream("epoch 3\nwarning\n")]),
        ([stream("epoch 3\n")], []),
        ([shown(image_png="AAAA")], [shown(text_plain="a figure")]),
        ([shown(text_html="<th>acc</th>")], [shown(text_html="<th>accuracy</th>")]),
    ],
)
def test_everything_else_is_named_with_its_cell(notebooks, before, after):
    """As a difference of two texts."""
    found = notebooks.differences(notebook([], before), notebook([], after))
    assert found[:2] == ["--- cell 2\n", "+++ cell 2, run now\n"]


def test_bars_warnings_and_what_tells_of_the_machine_are_not_stored(notebooks):
    """Nor is the metadata of whoever has run it."""
    bar = {"output_type": "display_data", "data": {notebooks.WIDGET: {}, "text/plain": "0%"}, "metadata": {}}
    ran = notebook([stream("careful", "stderr"), bar, stream("fine")])
    ran.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    ran.cells[0].metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
    kept = notebooks.cleaned(ran)
    assert [output.text for output in kept.cells[0].outputs] == ["fine"]
    assert kept.metadata == notebooks.METADATA
    assert kept.cells[0].metadata == {}


@pytest.mark.slow  # by default the outputs are compared by their form alone, and the callbacks are tried elsewhere
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_outputs_are_current(notebooks, name):
    """Run from the first cell to the last in a fresh kernel, on a copy."""
    import nbformat

    pytest.importorskip("mindvision")
    pytest.importorskip("ipywidgets")
    stored = nbformat.read(EXAMPLES / name, as_version=4)
    assert notebooks.differences(stored, notebooks.run(EXAMPLES / name)) == []
