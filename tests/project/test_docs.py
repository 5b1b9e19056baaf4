"""The examples in docstrings and READMEs run and print what they say."""

from __future__ import annotations

import csv
import doctest
import inspect
import os
import pathlib
import re

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn
from training import Samples, assert_same_weights, dataset, weights

import ms_callbacks
from ms_callbacks import cpu

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTED = [*(getattr(ms_callbacks, name) for name in ms_callbacks.__all__), cpu.fast_cpu]


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda each: each.__name__)
def test_docstring_examples_run(documented, tmp_path):
    """With a small model, four steps an epoch, at hand under the names that the examples use."""
    if documented is ms_callbacks.OptunaPruning:
        pytest.importorskip("optuna").logging.set_verbosity(30)
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
    first, second = blocks(readme, "python")
    exec(compile(first, readme, "exec"), names)
    assert model.eval(dataset(seed=1))["acc"] == names["best"].best_
    exec(compile(second, readme, "exec"), names)
    trained = weights(network)
    exec(compile(second, readme, "exec"), names)  # a finished run is left as it is
    assert names["state"].finished_
    assert_same_weights(weights(network), trained)


def test_the_readmes_error_is_the_real_one():
    """To the letter."""
    with pytest.raises(ValueError, match="did you mean") as error:
        network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
        loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
        model = ms.Model(network, loss_fn, nn.SGD(network.trainable_params(), 0.01), metrics={"acc"})
        model.fit(1, dataset(), dataset(seed=1), callbacks=[ms_callbacks.EarlyStopping("accuracy", mode="max")])
    for readme in READMES:
        assert blocks(readme, "text")[-1] == f"{error.value}\n"


@pytest.mark.parametrize("readme", READMES)
def test_the_readmes_commands_are_those_that_are_run(readme):
    """The continuous integration runs each of them as printed, in an environment that nothing else has touched."""
    setup = "python3 -m venv .venv && .venv/bin/pip install "
    assert blocks(readme, "sh") == [
        f'{setup}".[examples]" && .venv/bin/python examples/train_lenet.py\n',
        f'{setup}".[test]" && .venv/bin/pytest\n',
        ". .venv/bin/activate && msrun --worker_num=2 --local_worker_num=2 --join=True --log_dir=output/logs"
        " examples/train_distributed.py\n",
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


GUIDES = ["docs/write_a_callback.md", "docs/write_a_callback.zh-CN.md"]


def test_the_guides_code_runs_and_prints_what_it_says(capsys):
    """Block by block, each with what the ones before have defined, as a reader types them."""
    model = ms.Model(
        network := nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3)),
        nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"),
        nn.Momentum(network.trainable_params(), 0.01, 0.9),
        metrics={"acc"},
    )
    names = {"model": model, "train_dataset": _plain_dataset(), "valid_dataset": dataset(seed=1)}
    text = (ROOT / GUIDES[0]).read_text(encoding="utf-8")
    expected = ""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for language, block in [*re.findall(r"```(python|text)\n(.*?)```", text, re.DOTALL), ("python", "")]:
        if language == "text":
            expected = block
            continue
        printed, wanted, expected = capsys.readouterr().out, expected, ""
        assert doctest.OutputChecker().check_output(wanted, printed, flags), (wanted, printed)
        exec(compile(block, GUIDES[0], "exec"), names)


def test_the_guides_say_the_same():
    """Blocks but for comments and docstrings, and tables row by row."""
    english, chinese = ((ROOT / guide).read_text(encoding="utf-8") for guide in GUIDES)
    code = [re.findall(r"```.*?```", text, re.DOTALL) for text in (english, chinese)]
    bare = [[re.sub(r' *#.*|""".*?"""', "", block, flags=re.DOTALL) for block in blocks] for blocks in code]
    assert bare[0] == bare[1]
    rows = [[line.count("|") for line in text.splitlines() if line.startswith("|")] for text in (english, chinese)]
    assert rows[0] == rows[1]
