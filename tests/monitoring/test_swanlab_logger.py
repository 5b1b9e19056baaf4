"""What SwanLab has written into its own files of an offline run."""

from __future__ import annotations

import glob
import math
import sys

import pytest
from training import FailAt, Interrupt, Script, dataset, make_model, valid_dataset

from ms_callbacks import ConfusionMatrix, SwanLabLogger, TrainCallback, TrainingState, Validate
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN

swanlab = pytest.importorskip("swanlab")
stores = pytest.importorskip("swanlab.sdk.internal.core_python.store")
records = pytest.importorskip("swanlab.proto.swanlab.record.v1.record_pb2")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWANLAB_LOG_DIR", str(tmp_path / "swanlog"))


def files(tmp_path, run_id):
    """Of a run, in order."""
    return sorted(glob.glob(f"{tmp_path}/**/run-{run_id}.swanlab", recursive=True))


def read(path):
    """The records of a file, by SwanLab's own reader."""
    reader = stores.DataStoreReader()
    reader.open(path)
    for data in reader:
        record = records.Record()
        record.ParseFromString(data)
        yield record.WhichOneof("record_type"), record
    reader.close()


def history(path):
    """{name: [(step, value)]} of a file."""
    found = {}
    for kind, record in read(path):
        if kind == "scalar":
            found.setdefault(record.scalar.key, []).append((record.scalar.step, record.scalar.value.number))
        elif kind == "media":
            found.setdefault(record.media.key, []).append((record.media.step, None))
    return found


def states(path):
    """The names of the states with which a file ends."""
    names = records.Record.DESCRIPTOR.fields_by_name["finish"].message_type.fields_by_name["state"].enum_type
    return [names.values_by_number[record.finish.state].name for kind, record in read(path) if kind == "finish"]


def test_swanlab_has_what_a_run_has_logged(tmp_path):
    """Numbers, a distribution in numbers, a text and a figure."""
    model = make_model()
    logger = SwanLabLogger("p", mode="offline", every_n_steps=2, histograms=1, config={"none": None, "a": {"b": 1}})
    model.train(2, dataset(), callbacks=[logger, Validate(model, valid_dataset()), ConfusionMatrix(verbose=0)])
    (path,) = files(tmp_path, logger.id_)
    found = history(path)
    assert [step for step, _ in found["train/loss"]] == [2, 4, 6, 8]
    assert [step for step, _ in found["epoch/loss"]] == [step for step, _ in found["eval/acc"]] == [4, 8]
    assert found["epoch"] == [(2, 1), (4, 1), (6, 2), (8, 2)]
    assert [step for step, _ in found["weights/head.weight/std"]] == [4, 8]
    assert [step for step, _ in found["texts/confusion_matrix"]] == [4, 8]
    assert [step for step, _ in found["figures/confusion_matrix"]] == [8]
    assert not swanlab.has_run()
    assert logger.lost_ == 0


@pytest.mark.parametrize(("other", "state"), [(Interrupt(2), "ABORTED"), (FailAt(2), "CRASHED")])
def test_a_run_is_closed_whatever_ends_it(other, state, tmp_path):
    """Once, and a second run of the same logger is another one."""
    logger = SwanLabLogger("p", mode="offline", every_n_steps=1)
    try:
        Script().run([logger, other], [{"acc": math.nan}], steps=4)
    except InterruptedError:
        assert state == "CRASHED"
    (path,) = files(tmp_path, logger.id_)
    (found,) = states(path)
    assert found.endswith(state)
    first = logger.id_
    Script().run([logger], [{"acc": math.nan, "a@b [%]": 1.0}])
    assert logger.id_ != first
    (path,) = files(tmp_path, logger.id_)
    assert states(path)[0].endswith(("SUCCESS", "FINISHED"))
    assert "eval/a@b [%]" in history(path)


def test_a_run_of_the_users_own_is_not_mixed_with_ours(tmp_path):
    """SwanLab has one in a process."""
    own = swanlab.init(project="own", mode="offline", log_dir=str(tmp_path))
    with pytest.raises(RuntimeError, match="SwanLab has only one run in a process.*swanlab.finish"):
        Script().run([SwanLabLogger("p", mode="offline")], [None])
    assert own.alive
    swanlab.finish()


def test_an_error_that_python_only_prints_does_not_end_the_run(tmp_path):
    """SwanLab's hook for uncaught exceptions takes any for the end of the training."""
    hook, hooks = sys.excepthook, []

    class Look(TrainCallback):
        def after_epoch(self, run, summary):
            hooks.append(sys.excepthook)

    Script().run([SwanLabLogger("p", mode="offline", every_n_steps=1), Look()], [None])
    assert [*hooks, sys.excepthook] == [hook, hook]


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin within an epoch")
def test_a_resume_continues_the_id_without_missing_steps(tmp_path):
    """Offline, in a second folder; what both have is equal."""
    state = TrainingState(tmp_path / "state", every_n_steps=3)
    logger = SwanLabLogger("p", mode="offline", every_n_steps=1)
    with pytest.raises(InterruptedError):
        make_model().train(3, dataset(), callbacks=[logger, state, FailAt(7)])
    model, data, state = make_model(), dataset(), TrainingState(tmp_path / "state")
    second = SwanLabLogger("p", mode="offline", every_n_steps=1)
    begun = state.resume(model, data, epochs=3)
    model.train(3, data, callbacks=[second, state], initial_epoch=begun)
    assert second.id_ == logger.id_
    one, other = (dict(history(path)["train/loss"]) for path in files(tmp_path, logger.id_))
    assert list(one) == [1, 2, 3, 4, 5, 6, 7]
    assert list(other) == list(range(min(other), 13))
    assert {step: value for step, value in one.items() if step in other}.items() <= other.items()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"project": ""}, ValueError, "project must not be empty"),
        ({"name": 3}, TypeError, "name must be a string"),
        ({"mode": "cloud"}, ValueError, "mode must be one of 'online', 'local', 'offline', 'disabled', None"),
    ],
)
def test_bad_input(arguments, error, message):
    """At once."""
    with pytest.raises(error, match=f"SwanLabLogger: {message}"):
        SwanLabLogger(**arguments)
