"""The examples in docstrings and READMEs run and print what they say."""

from __future__ import annotations

import contextlib
import csv
import doctest
import inspect
import io
import os
import pathlib
import re
import sys

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn
from training import Samples, dataset

import ms_callbacks
from ms_callbacks import cpu

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import build_site  # noqa: E402
import run_blocks  # noqa: E402

CLIENTS = {  # that need not be installed
    "MLflowLogger": "mlflow",
    "SwanLabLogger": "swanlab",
    "TensorBoardLogger": "tensorboardX",
    "WandbLogger": "wandb",
}
DOCUMENTED = [*(getattr(ms_callbacks, name) for name in ms_callbacks.__all__), cpu.fast_cpu]


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda each: each.__name__)
def test_docstring_examples_run(documented, tmp_path, monkeypatch):
    """With a small model, four steps an epoch, at hand under the names that the examples use."""
    if documented is ms_callbacks.OptunaPruning:
        pytest.importorskip("optuna").logging.set_verbosity(30)
    if documented.__name__ in CLIENTS:
        pytest.importorskip(CLIENTS[documented.__name__])
        monkeypatch.chdir(tmp_path)  # MLflow writes artifacts of a local database into the working directory
    if documented is ms_callbacks.ExportBest:
        ms.set_context(mode=ms.GRAPH_MODE)  # MindSpore 2.0 runs an nn.GraphCell in no other
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
    optimizer = nn.Momentum(network.trainable_params(), 0.01, 0.9)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    small = nn.SequentialCell(nn.Dense(4, 5), nn.Dense(5, 3))
    names = {
        **{name: getattr(ms_callbacks, name) for name in ms_callbacks.__all__},
        "csv": csv,
        "fast_cpu": cpu.fast_cpu,
        "loss_fn": loss_fn,
        "ms": ms,
        "os": os,
        "nn": nn,
        "np": np,
        "Tensor": Tensor,
        "network": small if documented is ms_callbacks.ShapeInspector else network,
        "optimizer": optimizer,
        "model": ms.Model(network, loss_fn, optimizer, metrics={"acc"}),
        "train_dataset": _plain_dataset(),
        "valid_dataset": dataset(seed=1),
        "folder": str(tmp_path),
    }
    examples = 0
    for test in doctest.DocTestFinder().find(documented, documented.__name__, globs=names):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        output = []
        result = runner.run(test, out=output.append, clear_globs=False)
        examples += result.attempted
        assert result.failed == 0, "".join(output)
    assert examples, inspect.getdoc(documented)


def _plain_dataset():
    """Of MindSpore 2.0 a source in Python would have a line about resumes printed."""
    if not ms.__version__.startswith("2.0"):
        return dataset()
    samples = Samples(48, 0)
    source = ds.NumpySlicesDataset((samples.images, samples.labels), ["images", "labels"], shuffle=False)
    return source.batch(12)


READMES = ["README.md", "README.zh-CN.md"]


def blocks(readme, language):
    """The code blocks of a README in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("readme", READMES)
def test_the_readmes_python_runs(readme, tmp_path, monkeypatch):
    """With a Model, its network and two datasets, which the reader has."""
    monkeypatch.chdir(tmp_path)
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    model = ms.Model(network, loss_fn, nn.Momentum(network.trainable_params(), 0.01, 0.9), metrics={"acc"})
    names = {"model": model, "network": network, "train_dataset": dataset(), "valid_dataset": dataset(seed=1)}
    (snippet,) = blocks(readme, "python")
    exec(compile(snippet, readme, "exec"), names)
    assert model.eval(dataset(seed=1))["acc"] == names["best"].best_


def test_the_readmes_error_is_the_real_one():
    """To the letter."""
    with pytest.raises(ValueError, match="did you mean") as error:
        network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
        loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
        model = ms.Model(network, loss_fn, nn.SGD(network.trainable_params(), 0.01), metrics={"acc"})
        model.fit(1, dataset(), dataset(seed=1), callbacks=[ms_callbacks.EarlyStopping("accuracy", mode="max")])
    for readme in READMES:
        assert blocks(readme, "console") == [f"{error.value}\n"]


@pytest.mark.parametrize("readme", READMES)
def test_the_readmes_commands_are_those_that_are_run(readme):
    """The continuous integration runs each of them as printed, in an environment that nothing else has touched."""
    setup = "python3 -m venv .venv && .venv/bin/pip install "
    assert blocks(readme, "sh") == [
        f'{setup}".[examples]" && .venv/bin/python examples/train_lenet.py\n',
        f'{setup}".[test]" && .venv/bin/pytest\n',
    ]


def test_the_readmes_say_the_same():
    """Blocks but for comments, tables row by row, and every name in code, in the same order."""
    english, chinese = ((ROOT / readme).read_text(encoding="utf-8") for readme in READMES)
    code = [re.sub(r" *#.*", "", "".join(re.findall(r"```.*?```", text, re.DOTALL))) for text in (english, chinese)]
    assert code[0] == code[1]
    rows = [[line.count("|") for line in text.splitlines() if line.startswith("|")] for text in (english, chinese)]
    assert rows[0] == rows[1]
    names = [sorted(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)) for text in (english, chinese)]
    assert names[0] == names[1]
    headings = [[line.split()[0] for line in text.splitlines() if line.startswith("#")] for text in (english, chinese)]
    assert headings[0] == headings[1]


PAGES = sorted((ROOT / "docs" / "en").rglob("*.md"))
PAIRS = [(page, twin) for page in PAGES if (twin := run_blocks.twin(page)) is not None]
ENGLISH_ONLY = {"architecture.md"}
BY_DEFAULT = {"write_a_callback.md", "early_stopping.md"}  # of the pages that run


def page_id(each):
    return str(each.relative_to(ROOT / "docs" / "en"))


def test_every_page_is_in_both_languages():
    """But for what only people who change the package read."""
    english, chinese = (
        {page.relative_to(ROOT / "docs" / tongue) for page in (ROOT / "docs" / tongue).rglob("*.md")}
        for tongue in ("en", "zh")
    )
    assert {str(page) for page in english - chinese} == ENGLISH_ONLY
    assert chinese <= english


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: page_id(pair[0]))
def test_the_pages_say_the_same(pair):
    """Blocks but for comments and docstrings, tables row by row, and headings."""
    assert run_blocks.same_code(pair[0]) is None
    texts = [page.read_text(encoding="utf-8") for page in pair]
    if pair[0].name != "api.md":  # the reference is English
        rows = [[line.count("|") for line in text.splitlines() if line.startswith("|")] for text in texts]
        assert rows[0] == rows[1]
    prose = [re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE) for text in texts]
    headings = [[line.split()[0] for line in text.splitlines() if line.startswith("#")] for text in prose]
    assert headings[0] == headings[1]


def test_every_public_name_has_a_reference():
    """On exactly one English page."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    documented = re.findall(r"^\.\. auto(?:class|function):: ms_callbacks\.(\w+)$", text, re.MULTILINE)
    assert sorted(documented) == sorted(ms_callbacks.__all__)


def test_the_pages_show_the_setup_of_their_examples():
    """As it is run."""
    _, code = (ROOT / "docs" / "setups" / "digits.py").read_text(encoding="utf-8").split('"""\n\n', 1)
    text = (ROOT / "docs" / "en" / "callbacks" / "index.md").read_text(encoding="utf-8")
    assert run_blocks.blocks(text)[0].code == code


def _runs(page):
    slow = not (page.name in BY_DEFAULT or page == ROOT / "README.md")
    return pytest.param(page, marks=[pytest.mark.slow] if slow else [], id=str(page.relative_to(ROOT)))


@pytest.mark.skipif(not ms.__version__.startswith("2.10"), reason="the pages show what MindSpore 2.10 prints")
@pytest.mark.parametrize("page", [_runs(page) for page in run_blocks.all_pages()])
def test_the_blocks_of_a_page_run_and_print_what_it_says(page):
    """In a process of its own, as `python docs/run_blocks.py` does."""
    failure, _ = run_blocks.check(page)
    assert not failure, failure


PAGE = """# A page

```python
print("one", 1.25)
```

<!-- decimals vary -->
```text
one 7.5
```

```python
for number in range(3):
    print(number, "of three")
```

```text
0 of three
...
```

```python
raise ValueError("three")
```

```text
ValueError: three
```
"""


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("", "", ""),
        ('"one", 1.25', '"two", 1.25', r"page.md:9: the page says\none 7.5\n\nbut the block prints\ntwo 1.25"),
        ("decimals vary", "decimals", r"page.md:9: "),
        ('print("one", 1.25)', "nonsense", r"(?s)page.md:4: this block raises.*NameError"),
        ('ValueError("three")', 'ValueError("four")', r"page.md:27: .*\nValueError: three\n"),
        ('raise ValueError("three")', "pass", r"page.md:27: "),
    ],
)
def test_a_page_that_says_something_else_fails_with_its_place(old, new, found, tmp_path, monkeypatch):
    """File and line of the block; a page that is right passes."""
    monkeypatch.setattr(run_blocks, "ROOT", tmp_path)
    monkeypatch.setattr(run_blocks, "setup", lambda page: None)
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace(old, new) if old else PAGE, encoding="utf-8")
    printed, failure = run_here(page)
    failure = failure or run_blocks.differences(page, printed)
    assert bool(failure) == bool(found)
    assert not found or re.search(found, failure), failure


def run_here(page):
    """As in a process of its own, but in this one, which is faster."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        printed = run_blocks.execute(page)
    code = run_blocks.steps(page)
    line = code[len(printed)][0].line if len(printed) < len(code) else 0
    return printed, f"page.md:{line}: this block raises\n{errors.getvalue()}" if line else ""


def test_an_update_writes_what_was_printed(tmp_path, monkeypatch):
    """And nothing where the page is right already."""
    monkeypatch.setattr(run_blocks, "ROOT", tmp_path)
    monkeypatch.setattr(run_blocks, "setup", lambda page: None)
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace('"three")\n```\n\n```text', '"four")\n```\n\n```text'), encoding="utf-8")
    run_blocks.update(page, run_here(page)[0])
    assert page.read_text(encoding="utf-8") == PAGE.replace('"three")', '"four")').replace(": three", ": four")


def test_no_link_of_the_repository_is_dead():
    """From one Markdown file to another file."""
    assert build_site.dead_files() == []
