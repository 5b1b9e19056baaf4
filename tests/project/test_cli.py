"""The commands `show` and `runs`: what they say of real files, of damaged ones, and of files made to mislead them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import mindspore as ms
import pytest
from messages import entry, safetensors, zeros
from training import FailAt, dataset, make_model, valid_dataset

from ms_callbacks import BestCheckpoint, EarlyStopping, TrainingState, __main__
from ms_callbacks.core import atomic_files

KEYS = {"path", "kind", "format", "bytes", "whole", "problems", "verified_by", "record", "parameters", "values"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """What a finished run, an interrupted one and MindSpore itself have left in a folder."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "below").mkdir()
    ms.set_context(mode=ms.PYNATIVE_MODE)
    model = make_model()
    best = BestCheckpoint(folder / "below" / "{epoch}.ckpt", monitor="acc", save_top_k=2, verbose=0)
    stopping = EarlyStopping("acc", patience=5, verbose=0)
    with pytest.raises(InterruptedError):
        callbacks = [TrainingState(folder / "state"), best, stopping, FailAt(10)]
        model.fit(3, dataset(), valid_dataset(), callbacks=callbacks)
    model = make_model()
    best = BestCheckpoint(folder / "best.ckpt", monitor="acc", save_optimizer=True, verbose=0)
    stopping = EarlyStopping("acc", patience=1, min_delta=2.0, verbose=0)
    model.fit(4, dataset(), valid_dataset(), callbacks=[TrainingState(folder / "done"), best, stopping])
    ms.save_checkpoint(model.train_network, str(folder / "plain.ckpt"))
    return folder


@pytest.fixture
def left(trained, tmp_path, monkeypatch):
    """A copy, which a test may damage, as the working directory."""
    shutil.copytree(trained, tmp_path / "left")
    os.chmod(tmp_path / "left" / "plain.ckpt", 0o644)
    monkeypatch.chdir(tmp_path / "left")
    return tmp_path / "left"


@pytest.fixture
def run(capsys):
    """Call the command; return its exit status and what it prints, as an object if it is JSON."""

    def call(*arguments):
        try:
            status = __main__.main([str(each) for each in arguments])
        except SystemExit as error:
            status = error.code
        printed, errors = capsys.readouterr()
        if "--json" in arguments:
            return status, json.loads(printed, parse_constant=pytest.fail)
        return status, printed + errors

    return call


def damage(path, place=-20):
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# show


def test_show_prints_a_checkpoint_with_its_record(left, run):
    """The parameters as in the file, with the value and the epoch that it was kept for."""
    status, printed = run("show", "below/2.ckpt")
    lines = printed.splitlines()
    assert status == 0
    assert lines[0] == f"below/2.ckpt: checkpoint, {(left / 'below' / '2.ckpt').stat().st_size} bytes"
    assert lines[1] == "Whole:       yes, verified by the SHA-256 in its record"
    record = json.loads((left / "below" / "2.ckpt.json").read_text())
    assert lines[2] == f"Monitor:     acc (max): {record['value']:.6g}"
    assert lines[3].startswith("Saved:       in epoch 2, 20")
    assert lines[3].endswith(f", with MindSpore {ms.__version__}")
    assert lines[4:6] == ["Optimizer:   not included", "Parameters:  7 with 78 values, 312 bytes"]
    assert lines[6].split() == ["name", "shape", "dtype", "values"]
    assert lines[8].split(maxsplit=1) == ["hidden.weight", "(3, 1, 3, 3)  float32      27"]


def test_show_json_is_one_strict_object(left, run):
    """With the same facts, and every parameter."""
    status, facts = run("show", "best.ckpt", "--json")
    assert status == 0
    assert set(facts) == KEYS
    assert facts["whole"]
    assert facts["problems"] == []
    assert (facts["record"]["monitor"], facts["record"]["with_optimizer"]) == ("acc", True)
    weights = {one["name"]: one["shape"] for one in facts["parameters"]}
    loaded = ms.load_checkpoint(str(left / "best.ckpt"))
    assert weights == {name: list(one.shape) for name, one in loaded.items()}


def test_show_says_that_nothing_was_verified_without_a_record(left, run):
    """As of MindSpore's own files, and of one whose record was lost."""
    os.remove("best.ckpt.json")
    for name in ("plain.ckpt", "best.ckpt"):
        status, printed = run("show", name)
        assert status == 0
        assert "Whole:       as far as its format shows; it has no record and no checksum" in printed


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (damage, "damaged or incomplete, its SHA-256 is not the one in its record"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cut short or no checkpoint"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: damage(path.parent / "best.ckpt.json", -60), "its record cannot be read"),
        (lambda path: (path.parent / "best.ckpt.json").write_text("{" * 99999), "its record cannot be read"),
    ],
    ids=["byte", "cut", "empty", "record", "nesting"],
)
def test_show_of_a_damaged_checkpoint_fails_with_the_reason(harm, reason, left, run):
    """Exit status 1, in both forms."""
    harm(left / "best.ckpt")
    status, printed = run("show", "best.ckpt")
    assert status == 1
    assert "Damaged: " in printed
    assert reason in printed
    status, facts = run("show", "best.ckpt", "--json")
    assert (status, facts["whole"]) == (1, False)
    assert any(reason in problem for problem in facts["problems"])


def test_show_of_an_interrupted_run_says_where_it_would_continue(left, run):
    """The states' folder shows the newest whole one, and names the others."""
    status, printed = run("show", "state")
    assert status == 0
    assert printed.startswith("state: 2 states\nAlso there:  state-00000001, can be resumed in epoch 2 of 3\n")
    assert "state/state-00000002: state, " in printed
    assert "\nRun:         can be resumed in epoch 3 of 3\n" in printed
    assert "\nCallbacks:   BestCheckpoint('acc'), EarlyStopping('acc')\n" in printed
    damage(left / "state" / "state-00000002" / "weights.ckpt")
    status, printed = run("show", "state")
    assert status == 1
    assert "Also there:  state-00000002, damaged: damaged or incomplete, the SHA-256 of weights.ckpt" in printed
    assert "state/state-00000001: state, " in printed


@pytest.mark.parametrize(("folder", "path"), [(".", "state/state-00000002/"), ("state/state-00000002", ".")])
def test_a_state_need_not_be_named_by_its_name(folder, path, left, run, monkeypatch):
    """With the slash that a shell completes, and from within."""
    monkeypatch.chdir(left / folder)
    status, printed = run("show", path)
    assert (status, printed.startswith(f"{path}: state, ")) == (0, True)


def test_a_folder_that_cannot_be_read_is_a_mistake_of_the_call(left, run, monkeypatch):
    """Instead of a traceback."""

    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, refuse)
    for command in ("show", "runs"):
        status, printed = run(command, "state")
        assert (status, "the folder 'state' cannot be read: Permission denied" in printed) == (2, True)


def test_show_of_a_finished_run_says_what_ended_it(left, run):
    """A callback here; its last epoch otherwise."""
    status, printed = run("show", "done")
    assert status == 0
    assert "Run:         finished: EarlyStopping stopped it after 2 of 4 epochs" in printed
    status, facts = run("show", "done", "--json")
    assert status == 0
    newest = facts["states"][-1]
    assert newest["path"] == facts["newest"]
    assert (newest["finished"], newest["finished_by"], newest["epoch"], newest["epochs"]) == (
        True,
        "EarlyStopping",
        2,
        4,
    )
    assert newest["best"]["monitor"] == "acc"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nothing", "'nothing' does not exist"),
        ("below", "holds no state of TrainingState; for what is in the folders below it, use 'ms-callbacks runs'"),
        ("best.ckpt.json", "show 'best.ckpt', whose record it is"),
        ("state/state-00000001/state.json", "is not a file of weights, which ends in one of"),
        ("a\x1b[2J.ckpt", r"'a\\x1b[2J.ckpt' does not exist"),
    ],
)
def test_show_of_something_else_is_a_mistake_of_the_call(path, text, left, run):
    """Exit status 2, and what to do."""
    status, printed = run("show", path)
    assert status == 2
    assert text.replace("\\\\", "\\") in printed or text in printed


# runs


def test_runs_lists_what_is_below_a_folder(left, run):
    """Path, kind, epoch, value, and what can be done with it."""
    status, printed = run("runs", left)
    assert status == 0
    rows = [line.split(maxsplit=2) for line in printed.splitlines()[2:-1]]
    assert [row[:2] for row in rows] == [
        ["best.ckpt", "checkpoint"],
        ["plain.ckpt", "checkpoint"],
        ["below/1.ckpt", "checkpoint"],
        ["below/2.ckpt", "checkpoint"],
        ["done/state-00000001", "state"],
        ["done/state-00000002", "state"],
        ["state/state-00000001", "state"],
        ["state/state-00000002", "state"],
    ]
    conditions = ["whole", "no record", "whole", "whole", "older than the state that is used"]
    conditions += ["finished: EarlyStopping stopped it after 2 of 4 epochs", "older than the state that is used"]
    conditions += ["can be resumed in epoch 3 of 3"]
    assert all(row[2].endswith(condition) for row, condition in zip(rows, conditions))


def test_runs_names_what_is_damaged(left, run):
    """Exit status 1; the older state is then the one that a resume would use."""
    damage(left / "state" / "state-00000002" / "weights.ckpt")
    damage(left / "below" / "2.ckpt")
    status, facts = run("runs", "--json")
    assert (status, facts["damaged"], facts["folder"]) == (1, 2, ".")
    found = {os.path.relpath(each["path"]): each for each in facts["found"]}
    assert found["state/state-00000001"]["is_used"]
    assert not found["state/state-00000002"]["is_used"]
    assert found["below/2.ckpt"]["problems"] == ["damaged or incomplete, its SHA-256 is not the one in its record"]
    assert found["best.ckpt"]["parameters"] == 20
    status, facts = run("runs", "--json", "--quick")  # compares sizes, which one byte does not change
    assert (status, facts["damaged"]) == (0, 0)
    (left / "below" / "2.ckpt").write_bytes((left / "below" / "2.ckpt").read_bytes()[:-1])
    status, facts = run("runs", "--json", "--quick")
    assert (status, facts["damaged"]) == (1, 1)


def test_runs_searches_as_deep_as_asked(left, run):
    """And says that there is more; hidden folders are not searched."""
    (left / ".hidden").mkdir()
    shutil.copy("plain.ckpt", ".hidden/x.ckpt")
    status, printed = run("runs", "--depth", 0)
    assert status == 0
    assert "below/" not in printed
    assert "hidden" not in printed
    assert printed.endswith("Not searched: 3 folders below level 0; use --depth\n")
    status, printed = run("runs", left / ".hidden")
    assert (status, "x.ckpt" in printed) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["runs", "best.ckpt"], "'best.ckpt' is not a folder"),
        (["runs", "--depth", "-1"], "must be a whole number from 0 to 100, but got '-1'"),
        (["runs", "--depth", "1e9"], "must be a whole number from 0 to 100, but got '1e9'"),
        ([], "required: command"),
        (["burn"], "invalid choice: 'burn'"),
    ],
)
def test_a_command_that_is_not_understood_has_status_2(arguments, text, left, run):
    """With the reason."""
    status, printed = run(*arguments)
    assert status == 2
    assert text in printed


def test_runs_of_an_empty_folder_finds_nothing(tmp_path, run):
    """That is no error."""
    assert run("runs", tmp_path) == (0, f"No checkpoint and no state in {str(tmp_path)!r}\n")


# Files from elsewhere


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_out_of_the_folder_are_not_followed(left, run, tmp_path):
    """Neither to folders nor to files, nor to the files of a state; those within the folder are."""
    outside = tmp_path / "outside"
    shutil.copytree(left / "state", outside)
    shutil.copy("best.ckpt", outside)
    (left / "folder").symlink_to(outside)
    (left / "loop").symlink_to(left)
    (left / "secret.ckpt").symlink_to(outside / "best.ckpt")
    (left / "same.ckpt").symlink_to(left / "plain.ckpt")
    weights = left / "state" / "state-00000002" / "weights.ckpt"
    weights.unlink()
    weights.symlink_to(outside / "state-00000002" / "weights.ckpt")
    status, facts = run("runs", "--json")
    problems = {os.path.relpath(each["path"]): each["problems"] for each in facts["found"] if each["problems"]}
    assert status == 1
    assert problems == {
        "secret.ckpt": ["secret.ckpt is a link that leads out of the folder"],
        "state/state-00000002": ["weights.ckpt is a link that leads out of the folder"],
    }
    assert facts["notes"] == ["Not followed: 2 links to folders"]
    assert "same.ckpt" in {os.path.relpath(each["path"]) for each in facts["found"]}
    assert run("show", "secret.ckpt")[0] == 0  # it was asked for by name
    assert run("show", "state/state-00000002")[0] == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(left, run):
    """Instead of a checkpoint, a record or a file of a state."""
    os.mkfifo("pipe.ckpt")
    os.remove("best.ckpt.json")
    os.mkfifo("best.ckpt.json")
    for name in ("state.json", "weights.ckpt"):
        path = left / ("done/state-00000001" if name == "state.json" else "done/state-00000002") / name
        path.unlink()
        os.mkfifo(path)
    status, facts = run("runs", "--json")
    assert (status, facts["damaged"]) == (1, 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_with_the_record_of_a_checkpoint_is_not_waited_for(left, run):
    """Its SHA-256 would have to be computed."""
    os.remove("best.ckpt")
    os.mkfifo("best.ckpt")
    status, facts = run("show", "best.ckpt", "--json")
    assert (status, facts["problems"]) == (1, ["it is not a regular file"])


def test_names_cannot_write_to_the_terminal(tmp_path, run, monkeypatch):
    """Names of files, of parameters and of what a record says are escaped when they are printed."""
    monkeypatch.chdir(tmp_path)
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\n"
    (tmp_path / f"a{evil}.ckpt").write_bytes(entry(f"w{evil}", (1,), content=zeros(1)))
    record = {"sha256": atomic_files.sha256(f"a{evil}.ckpt"), "monitor": evil, "mode": evil, "value": 1.0, "epoch": 1}
    (tmp_path / f"a{evil}.ckpt.json").write_text(json.dumps({**record, "versions": {"mindspore": evil}}))
    for arguments in (["show", f"a{evil}.ckpt"], ["runs"]):
        status, printed = run(*arguments)
        assert status == 0
        assert printed.count("\\x1b[2J") >= 2
        assert all(one.isprintable() or one == "\n" for one in printed)
    status, facts = run("show", f"a{evil}.ckpt", "--json")
    assert facts["record"]["monitor"] == evil  # whoever reads JSON gets the name


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not have such names")
def test_a_name_that_is_no_text_is_shown(tmp_path, run):
    """Bytes that are not UTF-8, in the table and as JSON."""
    (tmp_path / os.fsdecode(b"\xff.ckpt")).write_bytes(entry(b"\xfe", (1,), content=zeros(1)))
    status, printed = run("runs", tmp_path)
    assert (status, "\\udcff.ckpt" in printed) == (0, True)
    status, facts = run("runs", tmp_path, "--json")
    assert facts["found"][0]["path"] == os.path.join(str(tmp_path), "\\udcff.ckpt")


WEIGHTS = entry("network/w", (1,), content=zeros(1))
CONTENT = {
    "format": 3,
    "run": "r",
    "epoch": 1,
    "epochs": 2,
    "step_in_epoch": 0,
    "steps_per_epoch": 4,
    "finished_by": "",
    "callbacks": [],
    "saved_at": 1e9,
    "versions": {"mindspore": "2.10.0"},
}


@pytest.mark.parametrize(
    ("changes", "is_whole"),
    [
        ({}, True),
        ({"saved_at": 1e300}, True),
        ({"saved_at": "yesterday", "run": [1]}, True),
        ({"step_in_epoch": 1 << 70}, True),
        ({"epoch": float("nan")}, False),
        ({"epoch": "1"}, False),
        ({"epochs": -1}, False),
        ({"callbacks": [1]}, False),
        ({"callbacks": [{"name": "A", "arguments": [], "state": {}}]}, False),
        ({"callbacks": {"a": 1}}, False),
        ({"callbacks": [{"name": 1, "arguments": {"monitor": {}}, "state": 7}]}, True),
        ({"callbacks": [{"name": "A", "arguments": {"monitor": "x"}, "state": {"best": float("nan")}}]}, True),
        ({"versions": None}, False),
        ({"format": 99}, False),
        ({"format": "3"}, False),
    ],
)
def test_a_state_that_lies_with_a_right_checksum_is_shown_or_refused(changes, is_whole, tmp_path, run):
    """Whatever its content is, the answer is JSON and the status says whether it can be used."""
    folder = tmp_path / "state-00000001"
    folder.mkdir()
    (folder / "weights.ckpt").write_bytes(WEIGHTS)
    of_weights = {"sha256": atomic_files.sha256(folder / "weights.ckpt"), "bytes": len(WEIGHTS)}
    content = {**CONTENT, "weights": of_weights, **changes}
    (folder / "state.json").write_text(json.dumps({"sha256": atomic_files.digest_of(content), "content": content}))
    status, facts = run("show", folder, "--json")
    assert (status, facts["whole"]) == ((0, True) if is_whole else (1, False))
    assert run("show", folder)[0] == run("runs", tmp_path)[0] == status


@pytest.mark.parametrize(
    "record",
    [
        {"value": float("nan")},
        {"value": 10**400},
        {"saved_at": -1e99},
        {"epoch": 1.5},
        {"monitor": None},
        {"versions": 3},
    ],
)
def test_a_record_that_lies_is_shown_without_what_is_no_value(record, tmp_path, run):
    """It never breaks the JSON."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, zeros(1)))
    content = {"sha256": atomic_files.sha256(path), "monitor": "acc", "mode": "max", "epoch": 1, **record}
    (tmp_path / "a.safetensors.json").write_text(json.dumps(content))
    status, facts = run("show", path, "--json")
    assert (status, facts["whole"]) == (0, True)
    assert facts["record"][next(iter(record))] is None if record.keys() != {"versions"} else True
    assert run("show", path)[0] == 0


# As processes

WITHOUT_MINDSPORE = """
import sys
sys.modules["mindspore"] = sys.modules["numpy"] = None
from ms_callbacks.__main__ import main
for arguments in (["show", "best.ckpt"], ["show", "state"], ["runs"]):
    status = main(arguments)
    assert status == 0, arguments
"""


def test_they_need_neither_mindspore_nor_numpy(left):
    """So that they answer at once, on any machine."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_MINDSPORE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "can be resumed in epoch 3 of 3" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="pipes are different there")
def test_a_reader_that_leaves_is_no_error(left):
    """As `head` does, while more than a pipe holds is to be printed."""
    (left / "large.ckpt").write_bytes(b"".join(entry(f"w{i}", (1,), content=zeros(1)) for i in range(3000)))
    for arguments in (["show", "large.ckpt"], ["show", "large.ckpt", "--json"]):
        command = [sys.executable, "-m", "ms_callbacks", *arguments]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 0
        child.stderr.close()


def test_help_names_the_exit_statuses(run):
    """Of the command and of each of its commands."""
    for arguments in ([], ["show"], ["runs"], ["doctor"]):
        status, printed = run(*arguments, "--help")
        assert status == 0
        assert "Exit status:" in " ".join(printed.split())
