"""What W&B has written into its own files of an offline run."""

from __future__ import annotations

import glob
import json
import struct

import pytest
from training import FailAt, Interrupt, Script, dataset, make_model, valid_dataset

from ms_callbacks import ConfusionMatrix, TrainingState, Validate, WandbLogger
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.core.tracker import TrackedRun
from ms_callbacks.monitoring.wandb_logger import _Wandb

wandb = pytest.importorskip("wandb")
records = pytest.importorskip("wandb.proto.wandb_internal_pb2")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))


def read(path):
    """The records of a file: blocks of 32 kB, as LevelDB writes a log, after a header of seven bytes."""
    with open(path, "rb") as file:
        data = file.read()
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = 2**15 - place % 2**15
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            record = records.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def files(tmp_path, run_id):
    """Of a run, in order, once W&B's own process has written them."""
    wandb.teardown()
    return sorted(glob.glob(f"{tmp_path}/wandb/offline-run-*-{run_id}/*.wandb"))


def history(path):
    """{name: [(step, value)]} of a file."""
    found = {}
    for record in read(path):
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                found.setdefault(name, []).append((record.history.step.num, json.loads(item.value_json)))
    return found


def exit_codes(path):
    return [record.exit.exit_code for record in read(path) if record.WhichOneof("record_type") == "exit"]


def test_wandb_has_what_a_run_has_logged(tmp_path):
    """Numbers, the distribution of weights, a text, a figure; each row is whole, also the last of an epoch."""
    model = make_model()
    logger = WandbLogger("p", mode="offline", every_n_steps=2, histograms=1, config={"none": None, "a": {"b": 1}})
    model.train(2, dataset(), callbacks=[logger, Validate(model, valid_dataset()), ConfusionMatrix(verbose=0)])
    (path,) = files(tmp_path, logger.id_)
    found = history(path)
    assert [step for step, _ in found["train/loss"]] == [2, 4, 6, 8]
    assert [step for step, _ in found["epoch/loss"]] == [step for step, _ in found["eval/acc"]] == [4, 8]
    assert found["epoch"] == [(2, 1), (4, 1), (6, 2), (8, 2)]
    assert [step for step, _ in found["weights/head.weight/_type"]] == [4, 8]
    assert ("texts/confusion_matrix/_type", [(4, "html-file"), (9, "html-file")]) in found.items()
    assert [value for _, value in found["figures/confusion_matrix/_type"]] == ["image-file"]
    config = {
        item.key: json.loads(item.value_json)
        for record in read(path)
        if record.WhichOneof("record_type") == "config"
        for item in record.config.update
    }
    assert (config["epochs"], config["none"], config["a"]) == (2, None, {"b": 1})
    assert exit_codes(path) == [0]
    assert wandb.run is None


@pytest.mark.parametrize(("other", "code"), [(Interrupt(2), 255), (FailAt(2), 1)])
def test_a_run_is_closed_whatever_ends_it(other, code, tmp_path):
    """Once; and a run of the user's own stays open."""
    own = wandb.init(project="own", mode="offline")
    logger = WandbLogger("p", mode="offline", every_n_steps=1)
    try:
        Script().run([logger, other], [None], steps=4)
    except InterruptedError:
        assert code == 1
    assert wandb.run is own
    assert logger.experiment is None
    own.finish()
    (path,) = files(tmp_path, logger.id_)
    assert exit_codes(path) == [code]


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin within an epoch")
def test_a_resume_continues_the_id_without_missing_steps(tmp_path):
    """Offline, in a second folder; what both have is equal."""
    state = TrainingState(tmp_path / "state", every_n_steps=3)
    logger = WandbLogger("p", mode="offline", every_n_steps=1)
    with pytest.raises(InterruptedError):
        make_model().train(3, dataset(), callbacks=[logger, state, FailAt(7)])
    model, data, state = make_model(), dataset(), TrainingState(tmp_path / "state")
    second = WandbLogger("p", mode="offline", every_n_steps=1)
    begun = state.resume(model, data, epochs=3)
    model.train(3, data, callbacks=[second, state], initial_epoch=begun)
    assert second.id_ == logger.id_
    one, other = (dict(history(path)["train/loss"]) for path in files(tmp_path, logger.id_))
    assert list(one) == [1, 2, 3, 4, 5, 6, 7]
    assert list(other) == list(range(min(other), 13))
    assert {step: value for step, value in one.items() if step in other}.items() <= other.items()
    assert 1 < min(other) <= 7  # what was not flushed when the state was saved, of the epoch or of step 6, comes again


class Client:
    """Stands in for a run of W&B's server, which has steps up to 7 already."""

    id, step, config = "abc", 8, type("Config", (), {"update": lambda self, *args, **kwargs: None})()

    def __init__(self):
        self.rows = []

    def log(self, values, step, commit=None):
        self.rows.append((step, sorted(values), commit))

    def finish(self, exit_code):
        self.rows.append(("finish", exit_code))


def test_steps_that_the_server_has_are_left_out(monkeypatch):
    """It would refuse them one by one, with a warning each."""
    client, asked = Client(), {}
    monkeypatch.setattr(wandb, "init", lambda **arguments: asked.update(arguments) or client)
    tracker = _Wandb("p", "name", None)
    assert tracker.start(TrackedRun("run", {}, id="abc", step=5)) == "abc"
    for step in range(6, 10):
        tracker.log({"a": 1.0}, step)
        tracker.flush()
    tracker.log_text("late", "text", 9)
    tracker.log_text("later", "text", 9)
    tracker.close("stopped")
    assert client.rows == [
        (8, ["a"], None),
        (8, [], True),
        (9, ["a"], None),
        (9, [], True),
        (10, ["late"], None),
        (10, ["later"], None),
        ("finish", 0),
    ]
    assert (asked["id"], asked["resume"], asked["name"]) == ("abc", "allow", None)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"project": ""}, ValueError, "project must not be empty"),
        ({"name": 3}, TypeError, "name must be a string"),
        ({"mode": "shared"}, ValueError, "mode must be one of 'online', 'offline', 'disabled', None"),
    ],
)
def test_bad_input(arguments, error, message):
    """At once."""
    with pytest.raises(error, match=f"WandbLogger: {message}"):
        WandbLogger(**arguments)
