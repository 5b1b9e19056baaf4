"""The examples, as a newcomer runs them: from the command line, on the digits that the project carries, or on few."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import subprocess
import sys

import forked
import pytest
from test_docs import READMES, blocks

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def of_few_digits(tmp_path_factory, few_digits):
    """Runs an example on few digits, once for all tests; gives its folder and what it prints."""

    @functools.cache
    def outcome(example, options):
        folder = tmp_path_factory.mktemp(example)
        path = ROOT / "examples" / f"{example}.py"
        done = forked.run(path, "--data-dir", str(few_digits), *options.split(), folder=folder)
        assert done.returncode == 0, done.stderr
        return folder, done.stdout.splitlines()

    return outcome


def masked(line):
    """A line without what differs from machine to machine."""
    return re.sub(r"\s*\d+(\.\d+)?", "#", line)


@pytest.mark.slow  # by default it learns for an epoch; the continuous integration runs it by the README's command too
def test_train_lenet_does_what_the_readme_shows(tmp_path):
    """95 % at least, the same in a fresh network; the rate steps, the run stops early; lines are as in the README."""
    command = [sys.executable, str(ROOT / "examples" / "train_lenet.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    accuracy = re.fullmatch(r"Best epoch (\d+): accuracy (0\.\d{4}); in a fresh network: (0\.\d{4})", printed[-1])
    assert accuracy[2] == accuracy[3]
    assert float(accuracy[2]) >= 0.95
    rates = [line.rpartition("lr:")[2] for line in printed if "lr:" in line]
    assert len(rates) > 5
    assert rates == [f"{0.03 * 0.5 ** (epoch // 5):.5f}" for epoch in range(len(rates))]
    stopped = re.fullmatch(r"EarlyStopping: stopped after epoch (\d+): .* 3 times in a row", printed[-2])
    assert int(stopped[1]) == int(accuracy[1]) + 3 < 20
    kinds = {masked(line) for line in printed}
    for readme in READMES:
        shown = [line for line in blocks(readme, "text")[0].splitlines() if line != "..."]
        assert not [line for line in shown if masked(line) not in kinds]
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == ["best.ckpt", "best.ckpt.json"]


PYNATIVE_LENET = (
    "train_lenet",
    "--mode pynative --epochs 1 --batch-size 82 --learning-rate 0.1 --patience 1 --seed 7 --output-dir other",
)


def test_train_lenet_takes_its_options(of_few_digits):
    """In PYNATIVE mode, with other numbers, into another folder."""
    folder, printed = of_few_digits(*PYNATIVE_LENET)
    assert any(
        line.startswith("Epoch:[  1/  1], step:[   10/   10]") and line.endswith("lr:0.10000") for line in printed
    )
    assert (folder / "other" / "best.ckpt").exists()


def test_train_lenet_says_what_is_missing(tmp_path):
    """A folder without digits is an error that names the file."""
    done = forked.run(ROOT / "examples" / "train_lenet.py", "--data-dir", "nowhere", folder=tmp_path)
    assert done.returncode == 1
    assert re.search(r"Mnist: neither 'train-images-idx3-ubyte' nor .* is in '.*nowhere/train'", done.stderr)


WHOLE_WAY = ("whole_way", "--epochs 1")


@pytest.mark.parametrize(
    ("example", "options"),
    [
        ("early_stopping", "--epochs 1"),
        ("schedules", "--epochs 1 --schedule plateau --batch-norm"),
        ("debugging", "--epochs 1 --batch-size 2"),  # 410 steps, as it shows values at step 401
        WHOLE_WAY,
    ],
)
def test_the_others_print_what_their_readme_shows(of_few_digits, example, options):
    """Run for one epoch; the lines that its README shows come in the same form."""
    kinds = {masked(line) for line in of_few_digits(example, options)[1]}
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    shown = readme.split(f"## {example}.py")[1].split("```text\n")[1].split("```")[0]
    last = [line for line in shown.splitlines() if not line.startswith(("EarlyStopping: stopped", "Epoch:["))]
    schedule = [masked(line.replace("-step", "-plateau")) for line in last]
    assert not [line for line in schedule if line not in kinds]


def test_fine_tuning_begins_with_a_checkpoint(of_few_digits):
    """The convolutions are frozen and named; a checkpoint of another network is refused before training."""
    best = of_few_digits(*WHOLE_WAY)[0] / "output" / "whole_way.ckpt"
    _, printed = of_few_digits("whole_way", f"--epochs 1 --fine-tune-from {best}")
    assert printed[0] == "Frozen: conv1.weight, conv2.weight"
    other = of_few_digits(*PYNATIVE_LENET)[0] / "other" / "best.ckpt"
    with pytest.raises(AssertionError, match="other/best.ckpt' holds the weights of another network"):
        of_few_digits("whole_way", f"--epochs 1 --fine-tune-from {other}")


def test_a_search_can_be_continued(of_few_digits, few_digits):
    """A trial whose process was killed is repeated; those that ended are not."""
    optuna = pytest.importorskip("optuna")
    options = "--epochs 1 --mode pynative --trials"
    folder, printed = of_few_digits("tune", f"{options} 2")
    assert [masked(line) for line in printed] == [
        *["Trial#: trained after epochs:#, accuracy#, learning rate#, batch size#, dropout#"] * 2,
        "Best of# trials: accuracy#",
        "With learning rate#, batch size#, dropout#",
    ]
    study = optuna.load_study(study_name="digits", storage=f"sqlite:///{folder}/output/tune.db")
    killed = study.ask()
    killed.suggest_categorical("batch_size", [32, 64, 128])
    path = ROOT / "examples" / "tune.py"
    done = forked.run(path, "--data-dir", str(few_digits), *f"{options} 3".split(), folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "Trial 2 was interrupted and is repeated"
    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    assert trials[3].params["batch_size"] == killed.params["batch_size"]
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    shown = readme.split("## tune.py")[1].split("```text\n")[1].split("```")[0].splitlines()
    kinds = {masked(line) for line in printed}
    assert not [line for line in shown if masked(line.replace("pruned", "trained")) not in kinds]


@pytest.mark.parametrize(
    "example", ["train_lenet", "early_stopping", "schedules", "debugging", "whole_way", "tune", "train_distributed"]
)
def test_each_begins_with_what_it_shows_and_what_to_look_at(example):
    """A line for `--help`, and the way through its output."""
    source = (ROOT / "examples" / f"{example}.py").read_text(encoding="utf-8")
    first, _, rest = ast.get_docstring(ast.parse(source)).partition("\n\n")
    assert "\n" not in first
    assert re.search(r"\bLook (at|for|in)\b", rest)


def test_the_examples_readmes_say_the_same():
    """Blocks, tables and headings."""
    english, chinese = ((ROOT / "examples" / readme).read_text(encoding="utf-8") for readme in READMES)
    for pattern in (r"```.*?```", r"^## .*?$"):
        assert re.findall(pattern, english, re.DOTALL | re.MULTILINE) == re.findall(
            pattern, chinese, re.DOTALL | re.MULTILINE
        )
    assert english.count("\n|") == chinese.count("\n|")
