"""RunReport: one page about a run, whatever ended it, that holds what a user has named as text and nothing else."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shutil
import signal
import sys

import numpy as np
import pytest
from mindspore.train import Callback
from training import FailAt, Interrupt, dataset, make_model, train_interrupted, valid_dataset

from ms_callbacks import (
    CallbackProfiler,
    ConfusionMatrix,
    EarlyStopping,
    FigureArtifact,
    GracefulStop,
    GradientMonitor,
    HardExamples,
    History,
    LRStepDecay,
    RunReport,
    ShapeInspector,
    TableArtifact,
    TextArtifact,
    TrainCallback,
    TrainingState,
    Validate,
)
from ms_callbacks.core import distributed
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.monitoring import _secrets as secrets
from ms_callbacks.monitoring._report_html import texts
from ms_callbacks.testing import ScriptedRun

NASTY = "</script><img src=x onerror=alert(1)>'\"&$'{{data}}\\u2028\u2028<!--\u202e\u05e9\u05dc\u05d5\u05dd\U0001f600"
NASTY += "n" * 300


class Page:
    """A report as a reader without JavaScript, and page.js, find it."""

    def __init__(self, path):
        self.bytes = path.read_bytes()
        self.source = self.bytes.decode()
        written = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.source, re.DOTALL)[1]
        self.json = written
        self.data = json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no strict JSON"))
        self.body = re.sub(r"<(script|style)\b.*?</\1>", "", self.source, flags=re.DOTALL)

    def text(self, language="en"):
        other = {"en": "zh", "zh": "en"}[language]
        bare = re.sub(rf'<span class="{other}".*?</span>', "", self.body)
        words = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare)))
        return re.sub(r" ([.,:])", r"\1", words)

    def rows(self, label):
        found = re.search(rf'aria-labelledby="{label}"><table[^>]*>(.*?)</table>', self.source, re.DOTALL)[1]
        lines = re.findall(r"<tr>(.*?)(?:</tr>|\n)", found, re.DOTALL)
        return [[_bare(cell) for cell in re.split(r"<t[hd]\b[^>]*>", line)[1:]] for line in lines]

    def series(self, name):
        return next(one for panel in self.data["panels"] for one in panel["series"] if one["name"] == name)


def _bare(cell):
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r'<span class="zh".*?</span>', "", cell)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "report.html"


def scripted(path, results, callbacks=(), losses=None, report=None, **arguments):
    """The report of a scripted run."""
    ScriptedRun(results, losses, **arguments).play([*callbacks, report or RunReport(path)])
    return Page(path)


def test_the_whole_page_of_a_real_run(mode, path):
    """What happened, the numbers, the curves, what was run, and what the callbacks have to show, in this order."""
    model, history = make_model(), History()
    callbacks = [
        RunReport(path),
        CallbackProfiler(verbose=0),
        Validate(model, valid_dataset(), every_n_steps=2),
        history,
        LRStepDecay(1, 0.5),
        ConfusionMatrix(class_names=["cat", "dog", "owl"], verbose=0),
        HardExamples(3, verbose=0),
        GradientMonitor(2, verbose=0),
        ShapeInspector(show_values_at=()),
        EarlyStopping("acc", patience=9, verbose=0),
    ]
    model.train(3, dataset(), callbacks=callbacks)
    page, text = Page(path), Page(path).text()
    order = [
        "Finished Trained 3 of 3 epochs.",
        "Key numbers",
        "Curves",
        "What if the run had stopped earlier?",
        "What was run, and where",
        "Callbacks",
        "Layers",
        "Confusion matrix",
        "Hardest examples",
        "Gradients in the last measured step",
        "Time per callback",
    ]
    places = [text.find(each) for each in order]
    assert -1 not in places
    assert places == sorted(places)
    assert page.series("loss")["y"] == [pytest.approx(value, rel=1e-6) for value in history.history["loss"]]
    acc = page.series("acc")
    places = [[0.5, 1, 2], [1, 1, 0], [1.5, 2, 6], [2, 2, 0], [2.5, 3, 10], [3, 3, 0]]
    assert page.data["points"] == places
    observed = zip([row["acc"] for row in history.evaluations_], history.history["acc"])
    assert acc["y"] == pytest.approx([value for pair in observed for value in pair], rel=1e-6)
    best = acc["y"].index(max(acc["y"]))
    _, epoch, step = places[best]
    assert acc["best"] == best
    where = f"in epoch {epoch}, at step {step}." if step else f"in epoch {epoch}."
    assert f"Best acc: {max(acc['y']):.6g}, {where}" in text
    assert page.rows("epochs")[0][:3] == ["Epoch", "loss", "acc"]
    assert [row[0] for row in page.rows("epochs")[1:]] == ["1", "2", "3"]
    assert [row[0] for row in page.rows("evaluations")[1:]] == ["2", "6", "10"]
    assert f"{mode.upper()}_MODE on CPU" in text
    for word in ("Network", "78", "SoftmaxCrossEntropyWithLogits", "Adam", "samples per epoch: 48; steps: 4", "NumPy"):
        assert word in text
    assert "EarlyStopping(monitor='acc', patience=9, verbose=0)" in text
    assert page.source.count('src="data:image/png;base64,') == 3
    assert "could not show" not in text
    assert "owl" in text
    assert len(page.bytes) < 300_000


def test_the_page_is_the_same_run_in_chinese(path):
    """Every text of ours has both languages; the switch of the page shows one."""
    page = scripted(
        path,
        [{"acc": 0.5}, {"acc": 0.4}],
        [EarlyStopping("acc", patience=1, verbose=0)],
        report=RunReport(path, language="zh", title="Lauf"),
    )
    assert '<html lang="zh-CN">' in page.source
    chinese = page.text("zh")
    for words in (
        "已停止",
        "由 EarlyStopping 停止",
        "acc 有 1 次未优于 0.5（第 1 个 epoch）",
        "关键数字",
        "如果早些停止会怎样？",
    ):
        assert words in re.sub(r" +", " ", chinese).replace("  ", " "), words
    assert "Trained" not in chinese
    assert "Trained 2 of 2 epochs, then EarlyStopping stopped the run" in page.text("en")


def test_both_languages_have_the_same_texts():
    """With the same values in each."""
    english, chinese = texts()["en"], texts()["zh"]
    assert english.keys() == chinese.keys()
    for key in english:
        assert sorted(re.findall(r"{\w+}", english[key])) == sorted(re.findall(r"{\w+}", chinese[key])), key


@pytest.mark.parametrize("monitor", ["acc", "loss", None])
def test_the_what_if_table_has_the_numbers_of_history(path, monitor):
    """Equal rows one after the other are one."""
    history = History()
    results = [{"acc": acc} for acc in (0.5, 0.7, 0.6, 0.65, 0.8, 0.7, 0.7, 0.7)]
    losses = [[3.0], [2.0], [2.5], [2.4], [1.9], [2.0], [1.95], [1.8]]
    page = scripted(path, results, [history], losses, RunReport(path, monitor=monitor))
    expected = {row.patience: row for row in history.what_if(monitor or "acc")}
    rows = page.rows("what-if")[1:]
    seen = []
    for patience, stops, best, where, worse, epochs, _ in rows:
        first, _, last = patience.partition("–")
        for each in range(int(first), int(last or first) + 1):
            seen.append(each)
            row = expected[each]
            assert stops == (f"epoch {row.stopped_epoch}" if row.stopped_epoch else "would not stop")
            assert (best, where) == (f"{row.best:.6g}", f"epoch {row.best_epoch}")
            assert (worse, epochs) == (f"{row.worse_by:.3g}", str(row.epochs))
    assert seen == list(range(1, 10))


def test_the_monitor_is_that_of_the_first_callback_that_has_one(path):
    """With its direction, even where the name tells nothing."""
    results = [{"depth": 3.0, "acc": 0.5}, {"depth": 2.0, "acc": 0.9}]
    page = scripted(path, results, [EarlyStopping("depth", mode="min", verbose=0)])
    assert "Best depth: 2, in epoch 2" in page.text()
    assert page.series("depth")["best"] == 1


def test_a_direction_that_nothing_tells_must_be_told_by_a_callback(path):
    """One that watches the same value."""
    results = [{"depth": 3.0}, {"depth": 2.0}]
    with pytest.raises(ValueError, match=r"nothing says whether .* 'depth' is better; .* EarlyStopping\('depth', "):
        scripted(path, results, report=RunReport(path, monitor="depth"))
    others = [EarlyStopping("loss", verbose=0), EarlyStopping("depth", mode="min", verbose=0)]
    page = scripted(path, results, others, report=RunReport(path, monitor="depth"))
    assert "Best depth: 2, in epoch 2" in page.text()


def test_values_that_are_not_finite_are_gaps_with_marks(path):
    """In strict JSON they are their names; an epoch without an evaluation has no point, and is no gap."""
    results = [{"acc": 0.5}, None, {"acc": float("nan")}, {"acc": float("inf"), "late": -float("inf")}]
    page = scripted(path, results, losses=[[1.0], [float("nan")], [float("inf")], [2.0]])
    assert page.series("loss")["y"] == [1.0, "NaN", "Infinity", 2.0]
    acc = page.series("acc")
    assert (acc["at"], acc["y"]) == ([0, 2, 3], [0.5, "NaN", "Infinity"])
    assert page.series("late")["y"] == [None, None, "-Infinity"]
    assert [row[1] for row in page.rows("epochs")[1:]] == ["1", "NaN", "∞", "2"]
    assert "marks a value that is NaN or infinite" in page.text()


def test_an_accuracy_of_logits_that_are_nan_is_not_plotted(path):
    """MindSpore's metrics make a plausible number of them; only the loss is NaN."""
    page = scripted(path, [{"acc": 0.3, "eval_loss": float("nan")}, {"acc": 0.4, "eval_loss": 1.0}])
    assert page.series("acc")["y"] == ["NaN", 0.4]


def test_an_exception_is_told_and_stays_the_one_that_is_raised(path):
    """The report says where, and the message in full."""
    model = make_model()
    with pytest.raises(InterruptedError, match="died here"):
        model.train(3, dataset(), callbacks=[RunReport(path), FailAt(6)])
    text = Page(path).text()
    assert "Failed An exception ended the run in epoch 2, in step 2 of 4; 1 of 3 epochs are complete." in text
    assert "InterruptedError: died here" in text


class Raise(TrainCallback):
    """Ends the first epoch with an exception, or removes a folder and does so."""

    def __init__(self, error, folder=None):
        super().__init__()
        self.error, self.folder = error, folder

    def after_epoch(self, run, summary):
        if self.folder is not None:
            shutil.rmtree(self.folder)
        if self.error is not None:
            raise self.error


def test_a_message_of_many_lines_is_folded(path):
    """Its first line is shown, all of it is there."""
    error = ValueError("\n----\nshapes differ\n\n----\n- C++ call stack\nops.cc:131")
    with pytest.raises(ValueError, match="shapes"):
        scripted(path, [None], [Raise(error)])
    page = Page(path)
    assert "<code><bdi>ValueError: shapes differ</bdi></code>" in page.source
    assert "ops.cc:131" in page.text()


def test_ctrl_c_is_told_too(path):
    """It is no `Exception`."""
    with pytest.raises(KeyboardInterrupt):
        scripted(path, [None, None], [Raise(KeyboardInterrupt())])
    assert "KeyboardInterrupt" in Page(path).text()


def test_a_report_that_cannot_be_written_does_not_hide_the_runs_exception(tmp_path):
    """It is a note; in a run that has ended well, it is raised."""
    folder = tmp_path / "gone"
    for error in (ValueError("mine"), None):
        folder.mkdir()
        with pytest.raises(ValueError if error else FileNotFoundError) as raised:
            scripted(folder / "report.html", [None], [Raise(error, folder)])
        assert (raised.value is error) is (error is not None)
    assert any("RunReport.teardown raised FileNotFoundError" in note for note in raised_notes(tmp_path))


def raised_notes(tmp_path):
    folder, error = tmp_path / "gone", ValueError("mine")
    folder.mkdir()
    with pytest.raises(ValueError, match="mine"):
        scripted(folder / "report.html", [None], [Raise(error, folder)])
    return error.__notes__


def test_an_interruption_names_who_has_asked_for_it(path, tmp_path):
    """And the epoch that was cut short is not counted."""
    make_model().train(3, dataset(), callbacks=[RunReport(path), TrainingState(tmp_path / "state"), Interrupt(6)])
    text = Page(path).text()
    assert (
        "Interrupted Interrupt interrupted the run in epoch 2, after step 2 of 4; 1 of 3 epochs are complete." in text
    )


@pytest.mark.parametrize("exit_with", [None, "signal"])
def test_a_signal_is_named(path, exit_with):
    """The report is that of an interruption, also where GracefulStop then ends the process."""

    class Kill(TrainCallback):
        def before_train(self, run):
            run.step_hooks.on_step_end(self, lambda run: run.step == 6 and os.kill(os.getpid(), signal.SIGTERM))

    with contextlib.suppress(SystemExit):
        make_model().train(3, dataset(), callbacks=[RunReport(path), GracefulStop(exit_with=exit_with), Kill()])
    assert "Interrupted GracefulStop interrupted the run in epoch 2, after step" in Page(path).text()


def test_only_the_first_process_writes(path, monkeypatch):
    """The others record what it does, as their states are to be the same."""
    report = RunReport(path)
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    ScriptedRun([{"acc": 0.5}]).play([report])
    assert not path.exists()
    assert report.state_dict()["epochs"][0]["values"]["acc"] == 0.5


def test_a_resumed_run_is_reported_as_a_whole(path, tmp_path):
    """All epochs and evaluations, as without the interruption, and the time of both parts."""
    whole, parts = tmp_path / "whole.html", path

    def make(file):
        return lambda: [RunReport(file), EarlyStopping("loss", patience=9, verbose=0)]

    make_model().train(3, dataset(), callbacks=make(whole)())
    train_interrupted(make(parts), tmp_path / "state", 6, every_n_steps=3 if CAN_BEGIN_WITHIN else None)
    one, other = Page(whole), Page(parts)
    assert one.data == other.data
    assert "resumed 1×" in other.text()
    assert "resumed 1×" not in one.text()
    assert [row[:2] for row in one.rows("epochs")] == [row[:2] for row in other.rows("epochs")]


def test_a_second_run_has_a_report_of_its_own(path):
    """It replaces the first; the state of a run is plain."""
    report = RunReport(path)
    for epochs in (3, 2):
        page = scripted(path, [{"acc": 0.5}] * epochs, report=report)
        assert len(page.rows("epochs")) == 1 + epochs
        assert len(page.series("acc")["y"]) == epochs
        json.dumps(report.state_dict(), allow_nan=False)


def test_a_run_of_no_epoch_fails_with_a_report(path):
    """There are no curves, and no section for them."""
    with pytest.raises(InterruptedError):
        make_model().train(1, dataset(), callbacks=[RunReport(path), FailAt(1)])
    page = Page(path)
    assert "in epoch 1, in step 1 of 4" in page.text()
    assert 'id="curves"' not in page.source
    assert page.data["panels"] == []


def test_no_report_of_a_run_that_was_refused(path):
    """Nothing has been run."""

    class Refuse(TrainCallback):
        def check(self, run):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        scripted(path, [None], [Refuse()])
    assert not path.exists()


class Shows(TrainCallback):
    """Has these artifacts, or raises this error."""

    def __init__(self, *shown, word=""):
        super().__init__()
        self.shown, self.word = shown, word

    def artifacts(self):
        if isinstance(self.shown[0], Exception):
            raise self.shown[0]
        return list(self.shown)


def test_what_a_user_has_named_is_text(path):
    """Titles, names, values, messages: no tag, no end of a script, no placeholder is taken for one."""
    error = type("Odd<b>Error", (Exception,), {})(NASTY)
    artifacts = [
        TextArtifact("text", NASTY, NASTY),
        TableArtifact("table", NASTY, [NASTY, "b"], [[NASTY, NASTY]], note=NASTY),
        TableArtifact("images", NASTY, [NASTY], [[NASTY]], images=[np.zeros((2, 2, 3))]),
    ]
    shows = Shows(*artifacts, word=NASTY)
    run = ScriptedRun([{NASTY: 0.5}])
    run.network.__class__ = type("Net</script>", (type(run.network),), {})
    with pytest.raises(type(error)):
        run.play([shows, Raise(error), RunReport(path, title=NASTY)])
    page = Page(path)
    assert page.source.count("</script>") == 2
    assert "<img src=x" not in page.source
    assert "<!--" not in page.source
    assert "\u2028" not in page.json
    for name in ("<", ">", "&"):
        assert name not in page.json
    assert NASTY in html.unescape(page.body)
    assert set(re.findall(r"{{\w+}}", page.body)) == {"{{data}}"}  # the user's


def test_the_page_may_load_and_run_nothing_else(path):
    """Its style and its script are allowed by what they are, and nothing else is."""
    import base64
    import hashlib

    page = scripted(path, [{"acc": 0.5}])
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page.source)[1])
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page.source, re.DOTALL)[1]
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in policy
    assert not re.search(r"<[^>]+\s(style|on\w+)=", page.body)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.source)
    assert all(each.startswith(("data:", "#")) for each in addresses)


def test_a_long_run_stays_small(path):
    """Beyond a thousand epochs every n-th is shown, with the last and the extremes; the best is among them."""
    random = np.random.RandomState(0)
    accs = random.rand(1500).astype(float)
    page = scripted(path, [{"acc": acc, "eval_loss": 1 - acc} for acc in accs], losses=[[acc] for acc in accs])
    best = int(accs.argmax()) + 1
    shown = [epoch for _, epoch, _ in page.data["points"]]
    assert best in shown
    assert shown[-1] == 1500
    assert len(shown) < 1010
    assert len(page.bytes) < 300_000
    assert "Table of epochs: one in 2, the last, and those with an extreme value" in page.text()
    assert page.series("acc")["best"] == shown.index(best)


def test_an_artifact_that_fails_costs_nothing_but_itself(path):
    """The report says so."""
    ok = TextArtifact("ok", "Fine", "still here")
    page = scripted(path, [None], [Shows(ValueError("broken")), Shows(ok)])
    text = page.text()
    assert "could not show its results: ValueError: broken" in text
    assert "still here" in text


def test_a_figure_is_drawn_unless_a_table_shows_the_same(path):
    """A title that two callbacks share is told apart by their names."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn = []

    def draw():
        drawn.append(1)
        return Figure(figsize=(1, 1))

    table = TableArtifact("one", "Same", ["a"], [["1"]])
    alike, other = FigureArtifact("one", "Same", draw), FigureArtifact("two", "Same", draw)
    page = scripted(path, [None], [Shows(table, alike), Shows(other)])
    assert len(drawn) == 1
    assert page.source.count('class="picture"') == 1
    assert "Same ( Shows" in page.text()


def test_images_are_made_small(path):
    """A picture of 512 by 256 has at most 128 pixels on a side; one of a few pixels keeps them."""
    table = TableArtifact(
        "images", "Pictures", ["a"], [["1"], ["2"]], images=[np.ones((512, 256, 3)), np.ones((3, 5, 3))]
    )
    page = scripted(path, [None], [Shows(table)])
    assert re.findall(r'width="(\d+)" height="(\d+)"', page.source) == [("64", "128"), ("5", "3")]


def test_a_table_that_cannot_be_shown_is_reported(path):
    """Its cells are no text, or its shades have another shape; the report has all else."""
    tables = [
        TableArtifact("a", "A", ["x", "y"], [[1, 2]]),
        TableArtifact("b", "B", ["x", "y"], [["1", "2"]], shades=np.ones(1)),
        TableArtifact("c", "C", ["x"], [["1"]], images=[np.ones((4, 4))]),
        TableArtifact("d", "D", ["x"], [["whole"]]),
    ]
    page = scripted(path, [None], [Shows(*tables)])
    assert page.source.count(" could not show its results: ") == 3
    assert "whole" in page.text()


def test_two_reports_cannot_be_one_file(path):
    """Also if one path is a link to the other."""
    link = path.with_name("link.html")
    link.symlink_to(path)
    with pytest.raises(ValueError, match="RunReport and RunReport both write"):
        scripted(path, [None], [RunReport(link)])


def test_secrets_are_hidden(path, monkeypatch):
    """In the command line and in the arguments of callbacks; other words that look like them are not."""
    monkeypatch.setenv("MY_TOKEN", "from-environment")
    monkeypatch.setattr(
        sys, "argv", "train.py --lr 0.1 --api-key s1 --hf_token=s2 --tokens 16 http://me:s3@host/x".split()
    )
    assert secrets.command() == "python train.py --lr 0.1 --api-key *** --hf_token=*** --tokens 16 http://me:***@host/x"
    assert secrets.hidden("A(api_key='s4', tokens=16, author='x', password=s5)") == (
        "A(api_key=***, tokens=16, author='x', password=***)"
    )
    assert "from-environment" not in scripted(path, [None]).source


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--password=my secret)"], "--password=***"),
        (["a.b.api_key=x,y"], "a.b.api_key=***"),
        (["--config", '{"api_key": "x y", "n": 1}'], """--config '{"api_key": ***, "n": 1}'"""),
        (["--author=me", "--token", "x"], "--author=me --token ***"),
    ],
)
def test_whole_secrets_are_hidden(words, shown, monkeypatch):
    """With spaces and commas in them, and in dictionaries."""
    monkeypatch.setattr(sys, "argv", words)
    assert secrets.command() == f"python {shown}"


def test_secrets_are_hidden_in_dictionaries_and_exceptions(path):
    """Clients quote the address that they could not reach."""
    assert secrets.hidden("A(config={'api_key': 's', 'n': 1})") == "A(config={'api_key': ***, 'n': 1})"

    class Fail(Callback):
        def on_train_step_end(self, run_context):
            raise OSError("no answer from http://x/?token=mine")

    with pytest.raises(OSError, match="token=mine"):
        scripted(path, [None], [Fail()])
    assert "token=mine" not in Page(path).source


@pytest.mark.parametrize("text", ["a_" * 5000, "-" * 9000, "a-" * 5000, "://" * 3000, "api_key='" + "\\" * 9000])
def test_a_search_for_secrets_ends(text):
    """A path with many underscores took hours."""
    assert secrets.hidden(text)[:5] == text[:5]


def test_warnings_of_the_checks_are_in_the_report(path):
    """As they were printed."""
    make_model().fit(1, dataset(), valid_dataset(), callbacks=[RunReport(path)])
    assert "its eval_loss is the loss of the last validation batch only" in Page(path).text()


def test_other_numbers_of_the_steps_have_charts_too(path):
    """Those of a callback that gives each epoch some; parts of one name share a chart."""

    class Gives(TrainCallback):
        def summary_names(self, run):
            return (*(f"norm/{number}" for number in range(9)), "speed")

        def summary_values(self, run):
            return {name: float(place) for place, name in enumerate(self.summary_names(run))}

    page = scripted(path, [None, None], [Gives()])
    training = [panel for panel in page.data["panels"] if panel["kind"] == "training"]
    norms = [f"norm/{number}" for number in range(6)]
    assert [[one["name"] for one in panel["series"]] for panel in training] == [norms, ["speed"]]
    assert "Training The first 6 of 9 values." in page.text()


class MindsporesOwn(Callback):
    """Not one of ours."""


def test_callbacks_that_are_not_ours_are_listed(path):
    """By their names."""
    assert "MindsporesOwn()" in scripted(path, [None], [MindsporesOwn()]).text()


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"filepath": "report.pdf"}, ValueError, "must end in '.html', but got 'report.pdf'"),
        ({"filepath": 3}, TypeError, "filepath must be a string"),
        ({"title": ""}, ValueError, "title must not be empty"),
        ({"title": 3}, TypeError, "title must be a string"),
        ({"language": "de"}, ValueError, "language must be one of 'en', 'zh', but got 'de'"),
        ({"monitor": 3}, TypeError, "monitor must be a string"),
    ],
)
def test_a_wrong_argument_is_refused(arguments, error, told):
    with pytest.raises(error, match=f"RunReport: .*{re.escape(told)}"):
        RunReport(**arguments)


def test_what_cannot_work_is_refused_before_the_first_step(path, tmp_path):
    """An unknown monitor, a folder that is not there, and a file that is no report."""
    model = make_model()
    cases = [
        (RunReport(path, monitor="accuracy"), ValueError, "did you mean 'acc'"),
        (RunReport(tmp_path / "no" / "report.html"), FileNotFoundError, "does not exist; create it first"),
    ]
    other = tmp_path / "index.html"
    other.write_text("<!DOCTYPE html><title>My page</title>")
    cases.append((RunReport(other), ValueError, "is not a report of RunReport, and would be replaced"))
    for report, error, told in cases:
        with pytest.raises(error, match=told):
            model.train(1, dataset(), callbacks=[report, Validate(model, valid_dataset()), FailAt(1)])
    with pytest.raises(ValueError, match=r"RunReport and RunReport both write '.*report.html'; keep one of them"):
        model.train(1, dataset(), callbacks=[RunReport(path), RunReport(path), FailAt(1)])
    assert other.read_text().endswith("My page</title>")
    assert os.listdir(tmp_path) == ["index.html"]
