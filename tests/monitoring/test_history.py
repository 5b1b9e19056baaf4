"""History, CSVLogger and plot_history: the record of a run."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from sinking import sinking_model
from training import FailAt, Recorder, Script, dataset, make_model, train_interrupted, valid_dataset

from ms_callbacks import LossMonitor, LRStepDecay, Validate, plot_history
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.monitoring.csv_logger import CSVLogger
from ms_callbacks.monitoring.history import History
from ms_callbacks.testing import ScriptedRun

COLUMNS = ["epoch", "loss", "acc", "eval_loss", "learning_rate", "seconds", "samples_per_second"]


within_an_epoch = pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin within an epoch")


def tensor(value):
    return Tensor(np.array(value, np.float32))


def test_one_value_per_epoch_and_key(mode):
    """Means and rates are those of the run; what an epoch does not have is None, and the lists are of one length."""
    model, history, recorder = make_model(learning_rate=0.1), History(), Recorder()
    validate = Validate(model, valid_dataset(), every_n_epochs=2)
    model.train(3, dataset(), callbacks=[history, validate, LRStepDecay(1, 0.5), recorder])
    kept = history.history
    assert history.epoch == [1, 2, 3]
    assert sorted(kept) == sorted(COLUMNS[1:])
    assert {len(values) for values in kept.values()} == {3}
    assert kept["loss"] == pytest.approx([np.mean(recorder.losses[at : at + 4]) for at in (0, 4, 8)], rel=1e-6)
    assert kept["learning_rate"] == [0.1, 0.05, 0.025]
    assert [value is None for value in kept["acc"]] == [True, False, False]
    assert (kept["acc"][2], kept["eval_loss"][2]) == (validate.results_["acc"], validate.results_["eval_loss"])
    for seconds, rate in zip(kept["seconds"], kept["samples_per_second"]):
        assert rate == pytest.approx(48 / seconds)


def test_a_second_run_begins_anew():
    """MindSpore's own keeps an earlier run's values."""
    history, model = History(), make_model()
    for epochs in (3, 2):
        model.train(epochs, dataset(), callbacks=[history])
        assert history.epoch == list(range(1, epochs + 1))
        assert len(history.history["loss"]) == epochs


def test_values_that_are_no_numbers_are_left_out():
    """A matrix has no place in a list of numbers."""
    history = History()
    Script().run([history], [{"acc": np.float32(0.5), "matrix": np.eye(2)}])
    assert history.history["acc"] == [0.5]
    assert "matrix" not in history.history


def test_a_key_that_comes_late_stands_where_its_epoch_stands():
    """As where the names of an evaluation cannot be seen before it."""
    history = History()
    Script().run([history], [None, {"acc": 0.5}, None])
    assert history.history["acc"] == [None, 0.5, None]


def rows(path, separator=","):
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter=separator))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_row_an_epoch(tmp_path, separator):
    """The values are those that History keeps; an epoch without evaluation has empty cells."""
    path = tmp_path / "log.csv"
    model, history = make_model(), History()
    validate = Validate(model, valid_dataset(), every_n_epochs=2, on_last=False)
    model.train(3, dataset(), callbacks=[CSVLogger(str(path), separator), validate, history])
    header, *lines = rows(path, separator)
    assert header == COLUMNS
    assert [line[0] for line in lines] == ["1", "2", "3"]
    for column, name in enumerate(COLUMNS[1:], 1):
        assert [float(line[column]) if line[column] else None for line in lines] == history.history[name]


def test_append_goes_on_and_otherwise_it_begins_anew(tmp_path):
    """With the same columns; other columns are refused before the first step, and the file stays as it is."""
    path = str(tmp_path / "log.csv")
    model = make_model()
    for append, expected in ((False, 2), (True, 4), (True, 6), (False, 2)):
        model.train(2, dataset(), callbacks=[CSVLogger(path, append=append)])
        assert len(rows(path)) == 1 + expected
    before = rows(path)
    with pytest.raises(ValueError, match=r"CSVLogger: .* has other columns \(epoch,loss,learning_rate,.*append=False"):
        model.fit(1, dataset(), valid_dataset(), callbacks=[CSVLogger(path, append=True)])
    assert rows(path) == before


def test_a_torn_last_line_is_removed(tmp_path):
    """What a crash left of a row is no row."""
    path = tmp_path / "log.csv"
    model = make_model()
    model.train(2, dataset(), callbacks=[CSVLogger(str(path))])
    whole = path.read_bytes()
    path.write_bytes(whole + b"3,0.5,")
    model.train(1, dataset(), callbacks=[CSVLogger(str(path), append=True)])
    assert path.read_bytes().startswith(whole)
    assert [len(row) for row in rows(path)] == [5] * 4


BOM = b"\xef\xbb\xbf"
ROWS = b"epoch,loss,learning_rate,seconds,samples_per_second\n1,1.5,0.1,2.0,3.0\n2,1.25,0.1,2.0,\n"


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (ROWS, ROWS),
        (ROWS.replace(b"\n", b"\r\n"), ROWS.replace(b"\n", b"\r\n")),  # as Windows has it
        (BOM + ROWS, BOM + ROWS),  # as Excel saves it
        (BOM + ROWS.replace(b"\n", b"\r\n"), BOM + ROWS.replace(b"\n", b"\r\n")),
        (ROWS[:-1], ROWS),  # as some editors leave it: all cells are there, the last one empty
        (ROWS.replace(b"\n", b"\r\n")[:-2], ROWS.replace(b"\n", b"\r\n")),
        (ROWS.replace(b"\n", b"\r\n")[:-1], ROWS.replace(b"\n", b"\r\n")),
        (ROWS[: ROWS.index(b"2,1.25") - 1], ROWS[: ROWS.index(b"2,1.25")]),
        (ROWS[:-2], ROWS[: ROWS.index(b"2,1.25")]),  # torn before the last cell
        (ROWS + b"3", ROWS),
        (ROWS + b'"3', ROWS),  # within quotes
        (ROWS.replace(b"\n", b"\r\n") + b"3,1.0", ROWS.replace(b"\n", b"\r\n")),
        (ROWS.partition(b"\n")[0], ROWS.partition(b"\n")[0] + b"\n"),  # a header alone
        (ROWS.partition(b"\n")[0] + b"\r", ROWS.partition(b"\n")[0] + b"\r\n"),
        (ROWS[:20], ROWS.partition(b"\n")[0] + b"\n"),  # the header itself torn
        (b"", ROWS.partition(b"\n")[0] + b"\n"),
        (BOM, ROWS.partition(b"\n")[0] + b"\n"),
        (ROWS.replace(b"epoch,loss", b'"epoch","loss"'), ROWS.replace(b"epoch,loss", b'"epoch","loss"')),
    ],
)
def test_what_is_appended_to_keeps_what_is_whole(tmp_path, found, kept):
    """Line ends and the mark of Windows too; a row without a line end where it has all its cells."""
    path = tmp_path / "log.csv"
    path.write_bytes(found)
    for _ in range(2):
        Script().run([CSVLogger(path, append=True)], [None])
    content = path.read_bytes()
    assert content.startswith(kept)
    line_end = b"\r\n" if b"\r\n" in kept else b"\n"
    added = content[len(kept) :].splitlines(keepends=True)
    assert [line.split(b",")[0] for line in added] == [b"1", b"1"]
    assert all(line.endswith(b"," + line_end) for line in added)


@pytest.mark.parametrize(
    "found",
    [
        b"epoch,accuracy",
        b"a\n1\n",
        b"\n",
        b"x" * 10,
        ROWS.replace(b",", b";"),
        ROWS.decode().encode("utf-16"),
        b"a\0b\n",
    ],
)
def test_another_file_is_not_appended_to(tmp_path, found):
    """Nor replaced, whatever it lacks at its end."""
    path = tmp_path / "log.csv"
    path.write_bytes(found)
    with pytest.raises(ValueError, match=r"CSVLogger: '.*log.csv' (has other columns|is not a CSV file)"):
        Script().run([CSVLogger(path, append=True)], [None])
    assert path.read_bytes() == found


def test_a_file_of_windows_keeps_its_ways_when_a_column_is_added(tmp_path):
    """In all its rows; and one that is to be replaced is known as a log too."""
    path = tmp_path / "log.csv"
    path.write_bytes(BOM + ROWS.replace(b"\n", b"\r\n"))
    Script().run([CSVLogger(path, append=True)], [{"a": 1}])
    content = path.read_bytes()
    assert content.startswith(BOM + b"epoch,loss,a,learning_rate,seconds,samples_per_second\r\n1,1.5,,0.1,2.0,3.0\r\n")
    assert content.count(b"\n") == content.count(b"\r\n") == 4
    Script().run([CSVLogger(path)], [None])
    assert path.read_bytes().startswith(b"epoch,loss,")


def test_a_value_that_comes_late_gets_a_column(tmp_path):
    """The rows before have an empty cell; a column that has never had a value goes, and the file stays appendable."""
    path = tmp_path / "log.csv"
    results = [{"a": 1}, None, {"a": 2, "c": 3}, {"b": 4}]
    Script().run([CSVLogger(str(path))], results)
    header, *lines = rows(path)
    assert header == ["epoch", "loss", "a", "b", "c", *COLUMNS[4:]]
    assert [line[:5] for line in lines] == [
        ["1", "1.0", "1.0", "", ""],
        ["2", "1.0", "", "", ""],
        ["3", "1.0", "2.0", "", "3.0"],
        ["4", "1.0", "", "4.0", ""],
    ]
    Script().run([CSVLogger(str(path), append=True)], [{"d": 5}])
    assert rows(path)[0] == ["epoch", "loss", "a", "b", "c", "d", *COLUMNS[4:]]
    assert [line[:6] for line in rows(path)[4:]] == [["4", "1.0", "", "4.0", "", ""], ["1", "1.0", "", "", "", "5.0"]]
    assert os.listdir(tmp_path) == ["log.csv"]


def test_a_run_killed_while_a_column_is_added_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    """It is replaced in one piece; and the rows that a state knows of are those that a resumed run keeps."""
    path = str(tmp_path / "log.csv")
    logger, states = CSVLogger(path), []

    class Keep(ms.train.Callback):
        def on_train_epoch_end(self, run_context):
            states.append(logger.state_dict())

    def killed(*paths):
        raise OSError("killed here")

    Script().run([logger, Keep()], [{"a": 1}, {"a": 2}, {"a": 3}])
    before = rows(path)
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(OSError, match="killed here"):
        Script().run([CSVLogger(path, append=True)], [{"b": 1}])
    monkeypatch.undo()
    assert rows(path) == before
    Script().run([CSVLogger(path, append=True)], [{"b": 1}])
    resumed = CSVLogger(path)
    resumed.load_state_dict(states[1])
    Script().run([resumed], [{"a": 9}])
    assert [line[:4] for line in rows(path)[1:]] == [
        ["1", "1.0", "1.0", ""],
        ["2", "1.0", "2.0", ""],
        ["1", "1.0", "9.0", ""],
    ]


CHILD = """
import sys
sys.path[:0] = [{tests!r}]
import conftest, mindspore as ms
from training import Script
from ms_callbacks.monitoring.csv_logger import CSVLogger

class Tell(ms.train.Callback):
    def on_train_epoch_begin(self, run_context):
        print(run_context.original_args()["cur_epoch_num"], flush=True)

Script().run([Tell(), CSVLogger({path!r})], [{{"x": 0.5}}] * 100_000)
"""


def test_a_killed_run_leaves_whole_rows(tmp_path):
    """Every row that was written is there, and none in part."""
    path = str(tmp_path / "log.csv")
    code = CHILD.format(tests=os.path.dirname(os.path.dirname(__file__)), path=path).replace('[{"x": 0.5}]', "[None]")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) == 50:
                break
        child.kill()
        begun = max([50, *(int(line) for line in child.stdout)])
    with open(path, "rb") as file:
        assert file.read().endswith(b"\n")
    written = rows(path)[1:]
    assert [int(row[0]) for row in written] == list(range(1, len(written) + 1))
    assert begun - 1 <= len(written) <= begun


def test_a_full_disk_raises_and_leaves_whole_rows(tmp_path, monkeypatch):
    """A piece of a row is taken away again."""
    path = str(tmp_path / "log.csv")
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line if b"loss" in line else line[:5]))
    with pytest.raises(OSError, match="could not write a row to .*: only a part of the row could be writ"):
        Script().run([CSVLogger(path)], [None])
    monkeypatch.undo()
    assert len(rows(path)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filename": ""}, "filename must not be empty"),
        ({"filename": "x.csv", "separator": ";;"}, "separator must be one character"),
        ({"filename": "x.csv", "separator": "\n"}, "separator must be one character"),
        ({"filename": "x.csv", "separator": ""}, "separator must not be empty"),
        ({"filename": "x.csv", "append": 1}, "append must be True or False"),
    ],
)
def test_wrong_arguments_are_refused_where_it_is_made(arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"CSVLogger: {message}"):
        CSVLogger(**arguments)


def test_a_folder_that_is_not_there_is_refused_before_the_first_step(tmp_path):
    """And nothing is made in its place."""
    with pytest.raises(FileNotFoundError, match="CSVLogger: the folder .*missing' of .* does not exist"):
        make_model().train(1, dataset(), callbacks=[CSVLogger(str(tmp_path / "missing" / "log.csv"))])
    assert not os.listdir(tmp_path)


# Every step


def test_the_loss_of_every_step(mode):
    """As float32, 4 bytes each; by default there is none."""
    recorder, history, bare = Recorder(), History(per_step=True), History()
    for _ in range(2):  # a second run begins anew
        recorder.losses.clear()
        make_model().train(2, dataset(), callbacks=[history, recorder, bare])
        assert history.step_losses_.dtype == np.float32
        assert history.step_losses_.tolist() == recorder.losses
        assert history.steps_.tolist() == list(range(1, 9))
    assert (bare.step_losses_.size, bare.steps_.size, bare.state_arrays()) == (0, 0, {})
    assert "steps" not in bare.state_dict()


def test_many_steps_cost_four_bytes_each():
    """And their numbers nothing, in memory and in the state, however the run was divided."""
    history = History(per_step=True)
    Script().run([history], [None] * 3, losses=[[1.0] * 2500] * 3, steps=2500)
    assert history.step_losses_.nbytes == 4 * 7500
    assert history.state_dict()["steps"] == [[1, 7500]]


def test_a_dropped_step_is_nan_in_the_history_and_an_empty_cell_in_the_file(tmp_path):
    """A loss that is NaN is `nan` there."""
    history, logger = History(per_step=True), CSVLogger(tmp_path / "log.csv", per_step=True)
    outputs = [(tensor(2.0), Tensor(False)), (tensor(9.0), Tensor(True)), (tensor(np.nan), Tensor(False))]
    Script().run([history, logger], [None], losses=[outputs], steps=3)
    np.testing.assert_array_equal(history.step_losses_, np.array([2.0, np.nan, np.nan], np.float32))
    assert [row[:3] for row in rows(tmp_path / "log.csv")[1:4]] == [
        ["1", "1", "2.0"],
        ["1", "2", ""],
        ["1", "3", "nan"],
    ]


@pytest.mark.parametrize("initial_epoch", [0, 4])
def test_a_run_that_begins_later_counts_its_steps_on(initial_epoch):
    """As the epochs are counted."""
    history = History(per_step=True)
    make_model().train(initial_epoch + 1, dataset(), callbacks=[history], initial_epoch=initial_epoch)
    assert history.steps_.tolist() == [4 * initial_epoch + step for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("counts", [False, True])
def test_a_loop_of_runs_keeps_the_losses_of_all(counts):
    """Whether or not `initial_epoch` counts them."""
    model, history = make_model(), History(reset_on_train_begin=False, per_step=True)
    for epoch in range(3):
        begun = epoch if counts else 0
        model.train(begun + 1, dataset(), callbacks=[history], initial_epoch=begun)
    assert history.epoch == [1, 2, 3]
    assert history.steps_.tolist() == list(range(1, 13))
    assert history.step_losses_.size == 12


@within_an_epoch
@pytest.mark.parametrize("at", [5, 7, 8, 11])
def test_no_loss_is_doubled_or_missing_after_a_resume_within_an_epoch(tmp_path, at):
    """In the history and in the file, which the dead run had written further than its state says."""
    whole = [History(per_step=True), CSVLogger(tmp_path / "whole.csv", per_step=True)]
    make_model().train(3, dataset(), callbacks=whole)
    made = lambda: [History(per_step=True), CSVLogger(tmp_path / "log.csv", per_step=True), LossMonitor()]  # noqa: E731
    history, _, _ = train_interrupted(made, tmp_path / "state", at)
    assert history.steps_.tolist() == list(range(1, 13))
    np.testing.assert_array_equal(history.step_losses_, whole[0].step_losses_)
    columns = slice(0, 3)
    assert [row[columns] for row in rows(tmp_path / "log.csv")] == [
        row[columns] for row in rows(tmp_path / "whole.csv")
    ]
    assert len(rows(tmp_path / "log.csv")) == 1 + 12 + 3


def test_a_state_without_its_array_has_the_steps_and_no_losses():
    """As where a user keeps `state_dict` alone; one without `per_step` has neither."""
    first, second, bare = History(per_step=True), History(per_step=True), History()
    Script().run([first], [None], steps=3)
    for each in (second, bare):
        each.load_state_dict(first.state_dict())
    assert second.steps_.tolist() == [1, 2, 3]
    assert np.isnan(second.step_losses_).all()
    assert bare.steps_.size == 0


def test_a_row_a_step_and_a_row_an_epoch(tmp_path):
    """Only the latter has a time; evaluations between steps stand where they were made."""
    path, model, history = tmp_path / "log.csv", make_model(), History(per_step=True)
    logger = CSVLogger(path, per_step=True)
    model.train(2, dataset(), callbacks=[logger, Validate(model, valid_dataset(), every_n_steps=3), history])
    header, *lines = rows(path)
    assert header == ["epoch", "step", *COLUMNS[1:]]
    of_steps = [line for line in lines if not line[header.index("seconds")]]
    assert [(int(line[0]), int(line[1])) for line in of_steps] == [((step + 3) // 4, step) for step in range(1, 9)]
    assert np.array([line[2] for line in of_steps], np.float32).tolist() == history.step_losses_.tolist()
    assert {cell for line in of_steps for cell in line[3:]} == {""}
    others = [(int(line[0]), int(line[1])) for line in lines if line not in of_steps]
    assert others == [(1, 3), (1, 4), (2, 6), (2, 8)]
    assert [int(line[1]) for line in lines] == sorted(int(line[1]) for line in lines)
    assert [float(line[2]) for line in lines if line[1] in "48" and line not in of_steps] == history.history["loss"]


def test_the_rows_of_many_steps_are_written_and_flushed_together(tmp_path, monkeypatch):
    """Once in a thousand steps, and at the end of the epoch; with reads at every step, once a second."""
    calls = {"write": 0, "fsync": 0}

    def counting(name, call):
        def count(*arguments):
            calls[name] += 1
            return call(*arguments)

        return count

    for name in calls:
        monkeypatch.setattr(os, name, counting(name, getattr(os, name)))
    Script().run([CSVLogger(tmp_path / "log.csv", per_step=True)], [None], steps=2500)
    assert calls["write"] <= 6  # a header, three pieces, the epoch's row, and the line end that an old file may lack
    assert len(rows(tmp_path / "log.csv")) == 1 + 2500 + 1
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    calls["fsync"] = 0
    Script().run([CSVLogger(tmp_path / "log.csv", per_step=True), LossMonitor()], [None], steps=200)
    assert calls["fsync"] <= 3


def test_steps_are_on_disk_before_the_state_that_counts_them(tmp_path, monkeypatch):
    """Otherwise a power cut would leave a state of rows that do not exist."""
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    logger, flushed = CSVLogger(tmp_path / "log.csv", per_step=True), []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))

    class Look(ms.train.Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 3:
                logger.run.losses.read()
                size = os.path.getsize(tmp_path / "log.csv")
                assert flushed[-1] < size
                assert logger.state_dict() == {"lines": 4}
                assert flushed[-1] == size

    Script().run([logger, Look()], [None], steps=4)


def test_rows_of_steps_are_there_after_an_exception(tmp_path):
    """As far as the losses were read."""
    logger = CSVLogger(tmp_path / "log.csv", per_step=True)
    with pytest.raises(InterruptedError):
        make_model().train(1, dataset(), callbacks=[logger, LossMonitor(), FailAt(3)])
    assert [row[1] for row in rows(tmp_path / "log.csv")[1:]] == ["1", "2", "3"]


def test_a_column_that_comes_late_keeps_the_rows_of_steps(tmp_path):
    """The file is replaced by one that has them too; and a file without the column `step` is not appended to."""
    path = tmp_path / "log.csv"
    Script().run([CSVLogger(path, per_step=True)], [None, {"a": 1}], steps=2)
    assert [row[:4] for row in rows(path)] == [
        ["epoch", "step", "loss", "a"],
        ["1", "1", "1.0", ""],
        ["1", "2", "1.0", ""],
        ["1", "2", "1.0", ""],
        ["2", "3", "1.0", ""],
        ["2", "4", "1.0", ""],
        ["2", "4", "1.0", "1.0"],
    ]
    Script().run([CSVLogger(path, append=True, per_step=True)], [{"a": 2}], steps=1)
    assert [row[:3] for row in rows(path)[-2:]] == [["1", "1", "1.0"], ["1", "1", "1.0"]]
    path.write_bytes(ROWS)
    with pytest.raises(ValueError, match="has other columns"):
        Script().run([CSVLogger(path, append=True, per_step=True)], [None])


@pytest.mark.parametrize("make", [History, lambda **named: CSVLogger("log.csv", **named)], ids=["History", "CSVLogger"])
def test_losses_of_steps_are_refused_where_the_device_keeps_them(make, graph, tmp_path, monkeypatch):
    """In sink mode it returns one a sink."""
    monkeypatch.chdir(tmp_path)
    model = sinking_model()
    with pytest.raises(ValueError, match=r"in sink mode .* or leave out per_step=True"):
        model.train(1, dataset(), callbacks=[make(per_step=True)], dataset_sink_mode=True, sink_size=2)
    with pytest.raises(TypeError, match="per_step must be True or False, but got 1"):
        make(per_step=1)


# In a notebook


def test_a_notebook_shows_a_row_for_each_epoch():
    """A value that an epoch has not is a dash."""
    history = History()
    assert history._repr_html_() == "<div>History: no epochs yet</div>"
    ScriptedRun([None, {"acc": 0.98765}], losses=[[1.0], [0.5]], steps_per_epoch=1).play([history])
    rows = re.findall(r"<tr>(.*?)</tr>", history._repr_html_())
    cells = [[re.sub("<.*?>", "", each) for each in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]
    assert cells[0][:2] == ["epoch", "loss"]
    column = cells[0].index("acc")
    assert [[*row[:2], row[column]] for row in cells[1:]] == [["1", "1", "-"], ["2", "0.5", "0.9877"]]


def test_of_a_long_run_a_notebook_shows_the_last_epochs():
    """And says of how many."""
    history = History()
    ScriptedRun([None] * 40).play([history])
    assert history._repr_html_().count("<tr>") == 1 + 30
    assert '<th scope="row" style="text-align: right; white-space: nowrap">11</th>' in history._repr_html_()
    assert "<div>the last 30 of 40 epochs</div>" in history._repr_html_()


# plot_history


def test_without_a_path_there_is_a_picture_for_a_notebook(tmp_path, monkeypatch):
    """And no file."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    content, size = plot_history({"loss": [2.0, 1.0]})._repr_png_()
    assert content.startswith(b"\x89PNG")
    assert size["width"] == 672
    assert os.listdir(tmp_path) == []


def test_the_picture_of_a_run(tmp_path, monkeypatch):
    """A panel each for losses, metrics and rate; a key without a value is left out, and so is an epoch without one."""
    from matplotlib.image import imread

    drawn = []
    save = plot_history.__globals__["save"]
    monkeypatch.setitem(
        plot_history.__globals__, "save", lambda figure, path: (drawn.append(figure), save(figure, path))
    )
    given = {"loss": [2.0, 1.0], "acc": [None, 0.5], "top5": [None, None], "learning_rate": [None, None]}
    plot_history(given, tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").shape[1] > 300
    curves = {line.get_label(): line.get_xydata().tolist() for axes in drawn[0].axes for line in axes.lines}
    assert curves == {"loss": [[1, 2], [2, 1]], "acc": [[2, 0.5]]}
    plot_history({**given, "learning_rate": [0.1, 0.05]}, str(tmp_path / "curves.png"))
    assert [axes.get_ylabel() for axes in drawn[1].axes] == ["loss", "metric", "learning rate"]
    assert all(axes.get_legend() is not None for axes in drawn[1].axes)
    # A rate holds until the next; a loss is on its way to it.
    styles = [line.get_drawstyle() for axes in drawn[1].axes for line in axes.lines]
    assert styles == ["default", "default", "steps-post"]
    assert os.listdir(tmp_path) == ["curves.png"]


@pytest.mark.parametrize("reader", [csv.DictReader, "pandas"])
def test_the_picture_of_a_csv_file(tmp_path, monkeypatch, reader):
    """Its epochs are the axis, its text is numbers, an empty cell is no value, and its times are no metrics."""
    drawn = []
    monkeypatch.setitem(plot_history.__globals__, "save", lambda figure, path: drawn.append(figure))
    model, log = make_model(), CSVLogger(str(tmp_path / "log.csv"))
    validate = Validate(model, valid_dataset(), every_n_epochs=2)
    model.train(6, dataset(), callbacks=[validate, log], initial_epoch=3)
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    given = {key: [row[key] for row in rows] for key in rows[0]}
    if reader == "pandas":  # which reads numbers, and NaN for an empty cell
        given = {key: [float(value or "nan") for value in values] for key, values in given.items()}
    plot_history({**given, "step": [1] * len(rows), "val_loss": given["loss"]}, tmp_path / "curves.png")
    lines = {line.get_label(): line.get_xdata() for axes in drawn[0].axes for line in axes.lines}
    assert list(lines) == ["loss", "eval_loss", "val_loss", "acc", "learning_rate"]
    assert list(lines["loss"]) == [float(row["epoch"]) for row in rows]
    assert list(lines["acc"]) == [float(row["epoch"]) for row in rows if row["acc"]]


@pytest.mark.parametrize(
    ("history", "error", "message"),
    [
        (
            {"loss": [1.0], "acc": ["high"]},
            ValueError,
            "the history needs numbers, or None, but has 'high' under 'acc'",
        ),
        ({"loss": [[1.0]]}, ValueError, r"the history needs numbers, or None, but has \[1.0\] under 'loss'"),
        (History, ValueError, "the history holds no epoch; pass one of a run that has finished an epoch"),
        ({}, ValueError, "the history holds no epoch"),
        ({"loss": []}, ValueError, "the history holds no epoch"),
        (
            {"loss": [None], "acc": [None]},
            ValueError,
            "the history needs a value of a loss.*, but has none under 'loss', 'acc'",
        ),
        ({"seconds": [1.0]}, ValueError, "the history needs a value of a loss.*, but has none under 'seconds'"),
        ([1.0], TypeError, "history must be a History, or a dictionary of lists .*, but got list"),
        ({"loss": 1.0}, TypeError, "history must be a History, or a dictionary of lists"),
    ],
)
def test_a_history_with_nothing_to_draw_is_refused(tmp_path, history, error, message):
    """And no file is made."""
    history = history() if history is History else history
    with pytest.raises(error, match=f"plot_history: {message}"):
        plot_history(history, str(tmp_path / "curves.png"))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("missing/curves.png", FileNotFoundError, "the folder '.*missing' of .* does not exist; create it first"),
        ("folder.png", IsADirectoryError, "'.*folder.png' is a folder; pass the path of a file"),
        ("curves.jpg", ValueError, "path must end in '.png', but got 'curves.jpg'"),
        ("", ValueError, "path must end in '.png', but got ''"),
        (3, TypeError, "path must be the path of a PNG file, but got 3"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(tmp_path, monkeypatch, path, error, message):
    """With what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(error, match=f"plot_history: {message}"):
        plot_history({"loss": [1.0]}, path)


def test_a_folder_that_takes_no_picture_is_refused(tmp_path, monkeypatch):
    """Found by making a file there."""

    def refuse(path, *rest):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(PermissionError, match="plot_history: cannot write in the folder"):
        plot_history({"loss": [1.0]}, str(tmp_path / "curves.png"))
