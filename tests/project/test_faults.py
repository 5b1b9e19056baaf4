"""Faults on purpose: after each, the last good file is whole and loads, and whoever runs it is told."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Callable

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback
from training import (
    Recorder,
    Script,
    assert_same_weights,
    compiled_model,
    dataset,
    make_model,
    valid_dataset,
    wait_for_writes,
    weights,
)

from ms_callbacks import (
    BestCheckpoint,
    CSVLogger,
    EarlyStopping,
    ExportBest,
    GracefulStop,
    LossMonitor,
    LRStepDecay,
    TrainingState,
    Validate,
)
from ms_callbacks.checkpointing import training_state
from ms_callbacks.checkpointing._states import State
from ms_callbacks.core import atomic_files, checkpoint_io
from ms_callbacks.core.mindspore_compat import metrics_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits and signals of POSIX")

CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")
ROOT = pathlib.Path(__file__).parents[2]


class At(Callback):
    """Calls something at the beginning of an epoch, when all saves of those before are done."""

    def __init__(self, epoch: int, what: Callable[[], Any]) -> None:
        self.epoch, self.what = epoch, what

    def on_train_epoch_begin(self, run_context: Any) -> None:
        if run_context.original_args()["cur_epoch_num"] == self.epoch:
            self.what()


class Number(Callback):
    """The network's weight is the epoch's number."""

    def on_train_step_end(self, run_context: Any) -> None:
        args = run_context.original_args()
        args["network"].weight.set_data(ms.Tensor([[float(args["cur_epoch_num"])]], ms.float32))


def scripted(*callbacks: Callback, epochs: int = 3, value: float = 0.0) -> None:
    """Every epoch's `x` is better than the last one's; a CSVLogger, which has no column for it, sees none."""
    is_evaluated = not any(isinstance(each, CSVLogger) for each in callbacks)
    results = [{"x": value - epoch} if is_evaluated else None for epoch in range(1, epochs + 1)]
    Script().run([Number(), *callbacks], results)


def best_at(path: pathlib.Path, **arguments: Any) -> BestCheckpoint:
    return BestCheckpoint(str(path), **{"monitor": "x", "mode": "min", "verbose": 0, **arguments})


def loaded(best: BestCheckpoint) -> int:
    """The epoch that a fresh network gets the weights of; that of the record, or the test fails."""
    network = nn.Dense(1, 1)
    record = best.load_into(network)
    epoch = int(network.weight.asnumpy().item())
    assert (record["epoch"], record["value"]) == (epoch, -epoch)
    return epoch


def outcome(best: BestCheckpoint) -> int | str:
    """The epoch that is loaded, or that the file is refused by name."""
    try:
        return loaded(best)
    except ValueError as error:
        if "refused: '" in str(error) and "damaged or incomplete" in str(error):
            return "refused"
        raise


def resumed(folder: pathlib.Path) -> int:
    """The epoch that a run goes on after; with that epoch's weights, or the test fails."""
    network = nn.Dense(1, 1)
    epoch = TrainingState(str(folder)).resume(ms.Model(network), dataset(1, 1))
    assert network.weight.asnumpy().item() == epoch or epoch == 0
    return epoch


def assert_nothing_half_written(folder: pathlib.Path) -> None:
    assert [path for path in folder.rglob("*") if path.name.startswith((".partial-", "tmp"))] == []


# A disk that is full


@contextlib.contextmanager
def no_file_above(limit: int) -> Iterator[None]:
    """Any write that would make a file larger fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(params=["limit", "tmpfs"])
def small_disk(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[tuple[pathlib.Path, Any]]:
    """A folder, what fills its disk up, and what lets others write elsewhere again."""
    with contextlib.ExitStack() as stack:
        if request.param == "limit":
            yield tmp_path, lambda: stack.enter_context(no_file_above(20)), stack.close
            return
        folder = tmp_path / "disk"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        if os.geteuid() or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("a disk of one's own cannot be mounted here")
        stack.callback(subprocess.run, ["umount", str(folder)], check=True)

        def fill() -> None:
            with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)

        yield folder, fill, lambda: None


@pytest.mark.parametrize(("ending", "background"), [("ckpt", True), ("ckpt", False), ("safetensors", True)])
def test_full_disk_best_checkpoint(small_disk, ending, background):
    """The save raises, and the best before it loads, in the same object and in a new one."""
    folder, fill, relieve = small_disk
    path = folder / f"best.{ending}"
    best = best_at(path, background=background)
    with pytest.raises(OSError, match="BestCheckpoint: could not save .* in epoch 3: .*an earlier file there is untou"):
        scripted(best, At(3, lambda: [best.flush(), fill()]))
    relieve()
    assert loaded(best) == loaded(best_at(path)) == 2
    assert_nothing_half_written(folder)


@pytest.mark.parametrize("background", [True, False])
def test_full_disk_training_state(small_disk, background):
    """The save raises, and the state before it is what a run continues from."""
    folder, fill, relieve = small_disk
    state = TrainingState(str(folder / "state"), background=background)
    with pytest.raises(OSError, match=r"TrainingState: could not save .* after epoch 2 .*earlier states are untouched"):
        scripted(At(3, lambda: [wait_for_writes(state), fill()]), state, epochs=4)
    relieve()
    assert resumed(folder / "state") == 1
    assert_nothing_half_written(folder)


def test_full_disk_csv_logger(tmp_path):
    """A row that has no room is not there at all; the rows before it are whole."""
    with contextlib.ExitStack() as stack:
        full = At(3, lambda: stack.enter_context(no_file_above((tmp_path / "log.csv").stat().st_size + 9)))
        with pytest.raises(OSError, match=r"CSVLogger: could not write a row to '.*log.csv': only a part of the row"):
            scripted(full, CSVLogger(str(tmp_path / "log.csv")))
    text = (tmp_path / "log.csv").read_text()
    assert text.endswith("\n")
    assert [line.split(",")[0] for line in text.splitlines()] == ["epoch", "1", "2"]


@pytest.mark.parametrize("fault", ["full disk", "fsync", "replace"])
def test_an_export_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch, fault):
    """To the last byte; the network has its final weights all the same."""
    path = tmp_path / "best.mindir"
    exporting = ExportBest(str(path), monitor="loss", verbose=0, inputs=ms.Tensor(np.ones((2, 1, 4, 4), np.float32)))
    model = make_model()
    model.train(1, dataset(), callbacks=[exporting])
    earlier, recorder = path.read_bytes(), Recorder()

    def fail(*args: Any) -> None:
        raise OSError("disk")

    with contextlib.ExitStack() as stack:

        def break_it() -> None:
            if fault == "full disk":
                stack.enter_context(no_file_above(100))
            else:
                monkeypatch.setattr(os, fault, fail)

        with pytest.raises((OSError, RuntimeError), match="ExportBest: "):
            model.train(3, dataset(), callbacks=[exporting, recorder, At(3, break_it)])
    assert path.read_bytes() == earlier
    assert_same_weights(weights(model.predict_network), recorder.weights[-1])
    assert_nothing_half_written(tmp_path)


# A disk that refuses


@pytest.mark.parametrize(("function", "nth"), [*[("fsync", n) for n in (1, 2, 3, 4)], ("replace", 1), ("replace", 2)])
@pytest.mark.parametrize("background", [True, False])
def test_best_checkpoint_whatever_call_fails(tmp_path, monkeypatch, function, nth, background):
    """The object and a new one load the same whole file: the one before, or the new one where it was there already."""
    best = best_at(tmp_path / "best.ckpt", background=background)
    with pytest.raises(OSError, match="could not save .* in epoch 3: disk"):
        scripted(best, At(3, lambda: [best.flush(), fail_at(monkeypatch, function, nth)]))
    monkeypatch.undo()
    assert loaded(best) == loaded(best_at(tmp_path / "best.ckpt")) == (3 if (function, nth) == ("fsync", 4) else 2)
    assert_nothing_half_written(tmp_path)
    scripted(best)  # and a new run saves again
    assert loaded(best) == 3


@pytest.mark.parametrize(
    ("function", "nth"), [("fsync", 1), ("fsync", 2), ("fsync", 3), ("fsync", 4), ("fsync", 5), ("rename", 1)]
)
@pytest.mark.parametrize("background", [True, False])
def test_training_state_whatever_call_fails(tmp_path, monkeypatch, function, nth, background):
    """A run continues from a whole state: the one before, or the new one where it was there already."""
    state = TrainingState(str(tmp_path), background=background)
    with pytest.raises(OSError, match="TrainingState: could not save the state after epoch 2 in .*: disk"):
        scripted(At(3, lambda: [wait_for_writes(state), fail_at(monkeypatch, function, nth)]), state, epochs=4)
    monkeypatch.undo()
    assert resumed(tmp_path) == (2 if (function, nth) == ("fsync", 5) else 1)
    assert_nothing_half_written(tmp_path)


def fail_at(monkeypatch: pytest.MonkeyPatch, function: str, nth: int) -> None:
    """Lets the n-th call from now on fail."""
    calls, original = [], getattr(os, function)

    def sometimes(*args: Any, **kwargs: Any) -> Any:
        if function != "rename" or os.path.isdir(args[0]):  # MindSpore renames files of its own
            calls.append(args)
        if len(calls) == nth:
            raise OSError("disk")
        return original(*args, **kwargs)

    monkeypatch.setattr(os, function, sometimes)


def test_training_state_where_the_last_cannot_be_saved(tmp_path, monkeypatch):
    """An error, and the run is not taken for finished."""
    state = TrainingState(str(tmp_path))

    class AtTheEnd(Callback):
        def on_train_epoch_end(self, run_context):
            wait_for_writes(state)
            if run_context.original_args()["cur_epoch_num"] == 3:
                fail_at(monkeypatch, "rename", 1)

    with pytest.raises(OSError, match="TrainingState: could not save the state after epoch 3 in .*: disk"):
        scripted(AtTheEnd(), state)
    monkeypatch.undo()
    assert not state.finished_
    assert resumed(tmp_path) == 2


def test_csv_logger_where_a_flush_fails(tmp_path, monkeypatch):
    """An error that names the file; every row in it is whole."""
    with pytest.raises(OSError, match=r"CSVLogger: could not write a row to '.*log.csv': disk"):
        scripted(At(3, lambda: fail_at(monkeypatch, "fsync", 1)), CSVLogger(str(tmp_path / "log.csv")))
    assert (tmp_path / "log.csv").read_text().endswith("\n")


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: best_at(folder / "best.ckpt"),
        lambda folder: TrainingState(str(folder / "state")),
        lambda folder: CSVLogger(str(folder / "log.csv")),
    ],
    ids=["BestCheckpoint", "TrainingState", "CSVLogger"],
)
def test_a_folder_that_is_removed_while_training(tmp_path, make):
    """An error that names what cannot be written, not silence; made again, the folder takes a new run."""
    folder = tmp_path / "output"
    folder.mkdir()

    def remove():
        while folder.exists():  # a file that is being written behind the run may come while others go
            shutil.rmtree(folder, ignore_errors=True)

    callback = make(folder)
    with pytest.raises(OSError, match=rf"{type(callback).__name__}: .*output"):
        scripted(At(2, remove), callback, epochs=4)
    folder.mkdir(exist_ok=True)
    scripted(make(folder), epochs=4)
    assert_nothing_half_written(tmp_path)


AS_NOBODY = """
import os, pathlib, shutil, sys, tempfile
folder = sys.argv[1]
sys.path[:0] = sys.argv[2:]
import conftest
from test_faults import At, best_at, loaded, resumed, scripted, wait_for_writes
from ms_callbacks import CSVLogger, ExportBest, TrainingState

def all_of_it(output):
    scripted(CSVLogger(str(output / "log.csv")))
    scripted(best_at(output / "best.ckpt"), TrainingState(str(output / "state")), epochs=3)
    loaded(best_at(output / "best.ckpt"))
    shutil.rmtree(output / "state" / "state-00000003")
    resumed(output / "state")

with tempfile.TemporaryDirectory() as other:
    all_of_it(pathlib.Path(other))  # what is imported on the way may be readable by root alone
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
output = pathlib.Path(folder) / "output"
output.mkdir()
all_of_it(output)
best = best_at(output / "best.ckpt")
print("saved", loaded(best), sorted(path.name for path in output.rglob("*")))
def forbid():
    best.flush()
    wait_for_writes(state)
    for path in (output, *output.glob("other")):
        os.chmod(path, 0o555)

state = TrainingState(str(output / "other"))
for what in (best, state):
    try:
        scripted(At(3, forbid), what, epochs=4)
    except OSError as error:
        print("OSError", error)
    os.chmod(output, 0o755)
print("after", loaded(best), loaded(best_at(output / "best.ckpt")), resumed(output / "other"))
os.chmod(output, 0o555)
for what in (best, CSVLogger(str(output / "new.csv")), TrainingState(str(output / "new"))):
    try:
        scripted(At(1, lambda: print("an epoch began")), what)
    except OSError as error:
        print(type(error).__name__, error)
os.chmod(output, 0o755)
"""


def test_without_permission(tmp_path):
    """An ordinary user saves and loads; what may not be written is refused, and what was saved stays."""
    folder = pathlib.Path(tempfile.mkdtemp())  # pytest's own is closed to others
    try:
        folder.chmod(0o777)
        command = [
            sys.executable,
            "-B",
            "-c",
            AS_NOBODY,
            str(folder),
            str(ROOT),
            str(ROOT / "tests"),
            str(ROOT / "tests" / "project"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        told = (
            *(f"TrainingState: {each}" for each in ("continues", "the run", "draws", "not the same")),
            "BestCheckpoint: '",
        )
        lines = [line for line in done.stdout.splitlines() if not line.startswith(told)]
        assert lines, done.stderr
        assert len(lines) == 7, done.stdout + done.stderr
        assert lines[0].startswith("saved 3 ["), lines
        assert "state-00000002" in lines[0]
        assert lines[1].startswith("OSError BestCheckpoint: could not save"), lines
        assert lines[2].startswith("OSError TrainingState: could not save"), lines
        assert lines[3] == "after 3 3 1", lines
        for line, name in zip(
            lines[4:], ("BestCheckpoint: cannot write", "CSVLogger: cannot write", "TrainingState: cannot make")
        ):
            assert line.startswith(f"PermissionError {name}"), lines
    finally:
        shutil.rmtree(folder)


# Damage


def test_a_checkpoint_cut_anywhere_is_refused(tmp_path):
    """At the edge of every record, where MindSpore loads what is left without a word, and at every 97th byte."""
    model = make_model()
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", save_optimizer=True, verbose=0)
    model.train(1, dataset(), callbacks=[best])
    path = tmp_path / "best.ckpt"
    whole, edges, at = path.read_bytes(), [], 0
    while at < len(whole):  # records of protocol buffers: a tag, the length in groups of seven bits, the content
        length, shift, at = 0, 0, at + 1
        while True:
            length |= (whole[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if whole[at - 1] < 128:
                break
        at += length
        edges.append(at)
    assert len(edges) >= 20
    assert at == len(whole)
    network, before = make_model().train_network, None
    before = weights(network)
    for length in sorted({0, *edges[:-1], *range(0, len(whole), 97)}):
        path.write_bytes(whole[:length])
        for each in (best, BestCheckpoint(str(path))):
            with pytest.raises(ValueError, match="no whole checkpoint is left; refused: .*damaged or incomplete"):
                each.load_into(network)
    assert_same_weights(weights(network), before)


def flips(content: bytes, seed: int) -> Iterator[bytes]:
    """The content with one bit of each byte flipped, in turn."""
    rng = random.Random(seed)
    for index in range(len(content)):
        yield content[:index] + bytes([content[index] ^ (1 << rng.randrange(8))]) + content[index + 1 :]


def test_every_byte_of_a_checkpoint_flipped(tmp_path):
    """Each is refused."""
    scripted(best_at(tmp_path / "best.ckpt"))
    path, best = tmp_path / "best.ckpt", best_at(tmp_path / "best.ckpt")
    for content in flips(path.read_bytes(), 1):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no whole checkpoint is left; refused"):
            loaded(best)


@pytest.mark.parametrize("template", [False, True])
def test_every_byte_of_a_record_flipped(tmp_path, template, capsys):
    """Each is refused by name, or the very same is loaded; with a template, another only after the refusal."""
    name = "{epoch}.ckpt" if template else "best.ckpt"
    scripted(best_at(tmp_path / name, save_top_k=2 if template else 1))
    best, network = best_at(tmp_path / name), nn.Dense(1, 1)
    path = tmp_path / ("3.ckpt.json" if template else "best.ckpt.json")
    whole = best.load_into(network)
    capsys.readouterr()
    refused = 0
    for content in flips(path.read_bytes(), 2):
        path.write_bytes(content)
        try:
            record = best.load_into(network)
        except ValueError as error:
            record, message = None, str(error)
        if record is None:
            assert "best.ckpt" in message
            assert not template
            refused += 1
        elif "refused" in capsys.readouterr().out:
            assert record["epoch"] == 2
            refused += 1
        else:  # a blank, or the name of the record's own digest
            assert {name: value for name, value in record.items() if name in whole} == whole, content
            assert network.weight.asnumpy().item() == 3
    assert refused > 0.9 * len(content) - 100  # the blanks of its indentation


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["weights.ckpt", "state.json"])
def test_every_byte_of_a_state_flipped(tmp_path, monkeypatch, name, step):
    """Each, by default every seventh, is refused, or the very same is read."""
    monkeypatch.setattr(training_state, "seeds", lambda: {})  # thousands of numbers, like each other
    scripted(TrainingState(str(tmp_path)), best_at(tmp_path / "best.ckpt"))
    folder = tmp_path / "state-00000002"
    whole = State(str(folder))
    refused, contents = 0, list(flips((folder / name).read_bytes(), 9))[::step]
    for content in contents:
        (folder / name).write_bytes(content)
        try:
            state = State(str(folder))
        except (OSError, ValueError, KeyError, TypeError):  # what TrainingState refuses by name
            refused += 1
            continue
        assert state.content == whole.content, content
        assert_same_weights(state.parameters, whole.parameters)
    assert refused > 0.85 * len(contents)


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_a_state_that_is_cut_is_refused(tmp_path, cut):
    """Whichever of its files."""
    scripted(TrainingState(str(tmp_path)))
    for name in ("weights.ckpt", "state.json"):
        shutil.copytree(tmp_path / "state-00000002", tmp_path / "state-00000003", dirs_exist_ok=True)
        os.truncate(tmp_path / "state-00000003" / name, cut % (tmp_path / "state-00000003" / name).stat().st_size)
        assert resumed(tmp_path) == 2


# A clock that jumps


def test_a_clock_that_is_set_back_changes_nothing(tmp_path, monkeypatch):
    """The best of a run, the latest of two runs, the newest state: none of them goes by the clock."""
    monkeypatch.setattr(time, "time", iter(range(10**6, 0, -1000)).__next__)
    name = "{epoch}-{x:.0f}.ckpt"
    scripted(best_at(tmp_path / name, save_top_k=2), value=-10)
    again = best_at(tmp_path / name, save_top_k=2)
    scripted(again, TrainingState(str(tmp_path / "state")), epochs=2)
    assert loaded(again) == loaded(best_at(tmp_path / name)) == 2
    assert resumed(tmp_path / "state") == 2


def test_the_best_of_a_run_that_was_taken_up_is_found(tmp_path):
    """A new process loads the best of both parts, not that of what was saved last."""
    path = str(tmp_path / "{epoch}.ckpt")
    model = make_model()
    model.train(2, dataset(), callbacks=[BestCheckpoint(path, monitor="loss", mode="max", save_top_k=2, verbose=0)])
    os.remove(tmp_path / "2.ckpt")
    second = BestCheckpoint(path, monitor="loss", mode="max", save_top_k=2, verbose=0)
    model.train(3, dataset(), callbacks=[second], initial_epoch=2)
    assert second.best_epoch_ == BestCheckpoint(path).load_into(model.predict_network)["epoch"] == 1


# Two runs with one path


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6])
def test_two_runs_that_save_to_one_path(tmp_path, monkeypatch, nth, ending):
    """Never a torn file. A save of another process in the middle of one's own leaves the file of either, and who
    loads gets what a record tells of, or an error that names the file: where both had written their records first.
    """
    path = tmp_path / f"best.{ending}"
    calls, replace, getpid = [], os.replace, os.getpid

    def interleaved(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) == nth:
            with monkeypatch.context() as other:
                other.setattr(os, "getpid", lambda: getpid() + 1)
                other.setattr(os, "replace", replace)
                scripted(best_at(path), epochs=1)
        replace(source, target)

    mine = best_at(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interleaved)
        scripted(mine)
    assert loaded(mine) == 3
    for each in (best_at(path), best_at(path)):
        assert outcome(each) in ((3, "refused") if nth % 2 == 0 else (3,))
    assert_nothing_half_written(tmp_path)
    was_whole = outcome(best_at(path)) == 3
    scripted(best_at(path), epochs=2)  # the next run replaces it, unless it is whole and better
    assert loaded(best_at(path)) == (3 if was_whole else 2)


def test_who_loads_while_another_saves_gets_one_whole_file(tmp_path, monkeypatch):
    """The record and the weights of the same epoch, though the file is replaced between any two steps of loading."""
    path = tmp_path / "best.ckpt"

    def save_between(original: Callable[..., Any]) -> Callable[..., Any]:
        def first_save(*args: Any) -> Any:
            if "best.ckpt" in str(args[0]) and ".partial-" not in str(args[0]):
                monkeypatch.undo()
                scripted(best_at(path), epochs=3)
            return original(*args)

        return first_save

    for module, name in ((atomic_files, "sha256"), (checkpoint_io, "load")):
        scripted(best_at(path), epochs=1)
        monkeypatch.setattr(module, name, save_between(getattr(module, name)))
        assert outcome(best_at(path)) in (1, 3, "refused")  # the last where the record was another run's
        monkeypatch.undo()


def test_two_runs_that_save_their_states_to_one_directory(tmp_path):
    """Each state stays whole, and the newest of either is what is found; a directory is for one run alone."""
    one, other = TrainingState(str(tmp_path)), TrainingState(str(tmp_path))
    with pytest.raises(ValueError, match="holds the state of a run; to continue it"):
        scripted(one, At(2, lambda: None), At(3, lambda: scripted(other)), epochs=4)
    assert resumed(tmp_path) == 2


# A user's callback that raises


class Fail(Callback):
    """Raises in one hook, where one falls into the second epoch or an evaluation."""

    def __init__(self, hook: str) -> None:
        self.calls, self.at = 0, 1 if hook in ("on_train_begin", "on_train_end") else 6 if "step" in hook else 2
        setattr(self, hook, self.fail)

    def fail(self, run_context: Any) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise RuntimeError("mine")


HOOKS = [
    *[f"on_train_{when}" for when in ("begin", "epoch_begin", "step_begin", "step_end", "epoch_end", "end")],
    *[f"on_eval_{when}" for when in ("begin", "step_begin", "step_end", "end")],
]


@pytest.mark.parametrize(("is_first", "hook"), [(index % 2 == 0, hook) for index, hook in enumerate(HOOKS)])
def test_a_users_callback_that_raises_leaves_everything_in_order(graph, tmp_path, hook, is_first):
    """Every callback is left, handlers, mode and best weights come back, no file is torn, and the next run works."""
    model, recorder, stop = compiled_model(), Recorder(), GracefulStop(exit_with=0)
    stopping = EarlyStopping("loss", patience=9, mode="max", restore_best_weights=True, verbose=0)
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", mode="max", verbose=0)
    ours = [best, stopping, stop, TrainingState(str(tmp_path / "state"))]
    ours += [CSVLogger(str(tmp_path / "log.csv")), LRStepDecay(1, 0.5), LossMonitor(per_print_times=0)]
    fail = Fail(hook)
    callbacks = [fail, recorder, *ours] if is_first else [recorder, *ours, fail]
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    with pytest.raises(RuntimeError, match="mine"):
        model.fit(2, dataset(), valid_dataset(), callbacks=callbacks)
    assert {each: signal.getsignal(each) for each in handlers} == handlers
    assert not any(callback.in_run for callback in ours)
    assert ms.get_context("mode") == ms.GRAPH_MODE
    assert_nothing_half_written(tmp_path)
    if stopping.best_epoch_:
        assert_same_weights(weights(model.predict_network), recorder.weights[stopping.best_epoch_ - 1])
    if best.best_epoch_:
        assert best.load_into(make_model().predict_network)["epoch"] == best.best_epoch_
    assert (tmp_path / "log.csv").read_bytes()[-1:] in (b"\n", b"") if (tmp_path / "log.csv").exists() else True


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="in the middle of an epoch, this MindSpore keeps no state")
@pytest.mark.parametrize("exit_with", [0, "signal"])
def test_a_state_that_cannot_be_saved_on_a_signal_is_seen(tmp_path, monkeypatch, exit_with):
    """The error comes out, not the exit that was asked for the end of a run in good order."""

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(os, "rename", lambda *paths: (_ for _ in ()).throw(OSError("disk")))

    model = make_model()
    callbacks = [TrainingState(str(tmp_path)), GracefulStop(exit_with=exit_with), At(2, stop)]
    with pytest.raises(OSError, match="TrainingState: could not save .*: disk"):
        model.train(3, dataset(), callbacks=callbacks)
    monkeypatch.undo()
    with pytest.raises(SystemExit):
        callbacks = [TrainingState(str(tmp_path / "new")), GracefulStop(exit_with=exit_with)]
        model.train(3, dataset(), callbacks=[*callbacks, At(2, lambda: os.kill(os.getpid(), signal.SIGTERM))])
    assert json.loads((tmp_path / "new" / "state-00000002" / "state.json").read_text())["content"]["epoch"] in (1, 2)


def test_an_evaluation_that_raises_leaves_the_last_best(tmp_path):
    """The metric of a user's own, in an epoch after the first."""
    model = make_model()
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc", verbose=0)
    validate = Validate(model, valid_dataset())

    def fail() -> None:
        metrics_of(model)["acc"].update = None

    with pytest.raises(TypeError):
        model.train(3, dataset(), callbacks=[best, validate, At(2, fail)])
    assert best.load_into(make_model().predict_network)["epoch"] == 1
