"""Paths: taken once, where a callback is made, whatever the working directory is later."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import shutil
import stat
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback
from training import Script, dataset, make_model, valid_dataset

from ms_callbacks import (
    BestCheckpoint,
    ConfusionMatrix,
    CSVLogger,
    ExportBest,
    HardExamples,
    History,
    NonFiniteGuard,
    ShapeInspector,
    TrainingState,
    Validate,
    load_int8_weights,
    plot_history,
    save_int8_weights,
)
from ms_callbacks.core import atomic_files

posix = pytest.mark.skipif(sys.platform == "win32", reason="calls of POSIX")

# What takes a path: the argument's name, a name of a file, and how it is made.
TAKERS = {
    "BestCheckpoint": ("filepath", "best.ckpt", BestCheckpoint),
    "CSVLogger": ("filename", "log.csv", CSVLogger),
    "ConfusionMatrix": ("picture", "confusion.png", lambda path: ConfusionMatrix(picture=path)),
    "ExportBest": ("filepath", "best.mindir", ExportBest),
    "HardExamples": ("picture", "hard.png", lambda path: HardExamples(4, picture=path)),
    "NonFiniteGuard": ("dump_dir", "dumps", NonFiniteGuard),
    "ShapeInspector": ("picture", "x.png", lambda path: ShapeInspector(show_values_at=(1,), picture=path)),
    "TrainingState": ("directory", "state", TrainingState),
}
every = pytest.mark.parametrize("taker", TAKERS)


@every
def test_a_path_is_kept_in_full(taker, tmp_path, monkeypatch):
    """A string or a path object, from the working directory or the user's home; links and `..` stay as they are."""
    argument, name, make = TAKERS[taker]
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given, meant in (
        (name, name),
        (f"./{name}", name),
        (f"a/{name}", f"a/{name}"),
        (f"link/../{name}", f"link/../{name}"),  # which is not this folder, where the link leads elsewhere
        (f"~/{name}", f"home/{name}"),
        (f"{tmp_path}/link/{name}", f"link/{name}"),
    ):
        for path in (given, pathlib.PurePosixPath(given)) if os.name == "posix" else (given,):
            assert getattr(make(path), argument) == f"{tmp_path}/{meant}"


@every
@pytest.mark.parametrize("nonsense", [7, b"best.ckpt", "", ["best.ckpt"], "best\0.ckpt"])
def test_what_is_no_path_is_refused(taker, nonsense):
    """With the argument's name."""
    argument, _, make = TAKERS[taker]
    with pytest.raises((TypeError, ValueError), match=f"{taker}: {argument} "):
        make(nonsense)


class MoveTo(Callback):
    """Changes the working directory as a run begins, for good."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_begin(self, run_context):
        os.chdir(self.folder)


def made_in(folder, monkeypatch, model):
    """A callback of each kind that writes, made with bare names in a folder."""
    monkeypatch.chdir(folder)
    return [
        Validate(model, valid_dataset()),
        BestCheckpoint("{epoch}.ckpt", monitor="loss", mode="max", save_top_k=2, save_last=True, verbose=0),
        CSVLogger("log.csv"),
        ConfusionMatrix(picture="confusion.png", verbose=0),
        ExportBest("best.mindir", monitor="acc", verbose=0),
        HardExamples(4, picture="hard.png", verbose=0),
        NonFiniteGuard("dumps"),
        ShapeInspector(show_values_at=(3,), picture="{step}.png", file=open(os.devnull, "w")),
        TrainingState("state"),
    ]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_working_directory_that_moves_moves_no_file(tmp_path, monkeypatch):
    """Files are where the callbacks were made; the name of that folder is no template."""
    home, other = tmp_path / "with {braces} and é", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    model = make_model()
    callbacks = made_in(home, monkeypatch, model)
    model.train(2, dataset(), callbacks=[MoveTo(other), *callbacks])
    assert os.getcwd() == str(other)
    assert os.listdir(other) == []
    found = {path.name for path in home.iterdir()}
    files = {"confusion.png", "hard.png", "best.mindir", "3.png", "log.csv", "dumps", "state", "last.ckpt"}
    assert files | {"1.ckpt", "2.ckpt", "1.ckpt.json", "2.ckpt.json", "last.ckpt.json"} == found
    best = callbacks[1]
    assert best.load_into(make_model().predict_network)["path"] == best.best_path_ == str(home / "1.ckpt")


def test_functions_take_path_objects(tmp_path, monkeypatch):
    """From the working directory of the moment, and the user's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    network, other = nn.Dense(2, 2), nn.Dense(2, 2)
    for path in (pathlib.Path("w.int8"), "~/v.int8"):
        record = save_int8_weights(network, path)
        assert record["path"] == str(tmp_path / pathlib.Path(path).name)
        load_int8_weights(path, other)
        np.testing.assert_allclose(other.weight.asnumpy(), network.weight.asnumpy(), atol=0.05)
    history = History()
    Script().run([history], [None])
    for path in (pathlib.Path("curves.png"), "~/more.png"):
        plot_history(history, path)
    assert sorted(os.listdir(tmp_path)) == ["curves.png", "more.png", "v.int8", "w.int8"]


def test_a_project_that_was_moved_goes_on_where_it_is_now(tmp_path, monkeypatch):
    """Its files are found in its new folder, whatever paths a state was saved with; the old one is not needed."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()

    def run(folder, epochs):
        monkeypatch.chdir(folder)
        model, train = make_model(), dataset()
        best = BestCheckpoint("{epoch}.ckpt", monitor="loss", mode="max", save_top_k=2, verbose=0)
        state, logger = TrainingState("state"), CSVLogger("log.csv")
        begin = state.resume(model, train, epochs=epochs)
        model.train(epochs, train, callbacks=[state, best, logger], initial_epoch=begin)
        return best

    run(old, 2)
    old.rename(new)
    best = run(new, 3)
    assert best.best_path_ == str(new / "1.ckpt")
    assert best.load_into(make_model().predict_network)["epoch"] == 1
    assert sorted(path.name for path in new.glob("*.ckpt")) == ["1.ckpt", "2.ckpt"]
    assert [line.split(",")[0] for line in (new / "log.csv").read_text().splitlines()] == ["epoch", "1", "2", "3"]
    assert not old.exists()
    exporting = ExportBest("best.mindir", monitor="loss", mode="max")
    state = {**exporting.state_dict(), "path": str(old / "best.mindir")}
    exporting.load_state_dict(state)
    assert exporting.path_ == str(new / "best.mindir")


# Disks that are not as they should be


class NoStep(Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context):
        raise AssertionError("a step ran")


def writers(folder, model):
    """What keeps files from the end of an epoch on, each alone."""
    kinds = {
        "BestCheckpoint": lambda: BestCheckpoint(folder / "best.ckpt", monitor="loss", verbose=0),
        "BestCheckpoint in the way": lambda: BestCheckpoint(
            folder / "best.ckpt", monitor="loss", background=False, verbose=0
        ),
        "safetensors": lambda: BestCheckpoint(folder / "best.safetensors", monitor="loss", verbose=0),
        "TrainingState": lambda: TrainingState(folder / "state"),
        "ExportBest": lambda: ExportBest(folder / "best.mindir", monitor="loss", verbose=0),
        "CSVLogger": lambda: CSVLogger(folder / "log.csv"),
        "NonFiniteGuard": lambda: NonFiniteGuard(folder / "dumps"),
    }
    return {name: make() for name, make in kinds.items()}


@posix
def test_on_a_file_system_that_lacks_what_is_not_needed_all_is_saved(tmp_path, monkeypatch, capsys):
    """Permissions and the flushing of folders, as with CIFS; one line says what is weaker."""
    monkeypatch.setattr(atomic_files, "_flushing", set())
    monkeypatch.setattr(atomic_files, "_told_of", set())
    fsync = os.fsync

    chmod = os.chmod

    def refuse(path, *args, **kwargs):
        if str(tmp_path) in str(path):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        chmod(path, *args, **kwargs)  # of MindSpore's own, elsewhere

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "fsync", files_only)
    model = make_model()
    made = writers(tmp_path, model)
    del made["BestCheckpoint in the way"]
    model.train(2, dataset(), callbacks=list(made.values()))
    assert capsys.readouterr().out.count("does not flush folders (Invalid argument)") == 1
    for best in (made["BestCheckpoint"], made["safetensors"]):
        assert best.load_into(make_model().predict_network)["epoch"] == 2
    checkpoints = {"best.ckpt", "best.ckpt.json", "best.safetensors", "best.safetensors.json"}
    assert set(os.listdir(tmp_path)) == checkpoints | {"best.mindir", "dumps", "log.csv", "state"}


@posix
@pytest.mark.parametrize("function", ["fsync", "replace", "rename"])
def test_a_file_system_that_lacks_what_is_needed_is_refused_before_the_first_step(tmp_path, monkeypatch, function):
    """For all that keeps files, and nothing is left there."""

    def refuse(*args, **kwargs):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    model = make_model()
    for name, callback in writers(tmp_path, model).items():
        with monkeypatch.context() as patched:
            patched.setattr(atomic_files, "_flushing", set())
            patched.setattr(os, function, refuse)
            message = f"{type(callback).__name__}: cannot write in the folder .*Operation not supported; a file is wri"
            with pytest.raises(OSError, match=message):
                model.train(1, dataset(), callbacks=[callback, NoStep()])
        for folder in ("state", "dumps"):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(tmp_path / folder)
        assert os.listdir(tmp_path) == [], name


def scripted(best, *others, epochs=3):
    """Every epoch is better than the one before, and the weights are its number."""
    script = Script()

    class Number(Callback):
        def on_train_step_end(self, run_context):
            epoch = float(run_context.original_args()["cur_epoch_num"])
            script.network.weight.set_data(ms.Tensor([[epoch]], ms.float32))

    script.run([Number(), best, *others], [{"x": float(epoch)} for epoch in range(1, epochs + 1)])


class At(Callback):
    """Does something when the second epoch begins."""

    def __init__(self, what):
        self.what = what

    def on_train_epoch_begin(self, run_context):
        if run_context.original_args()["cur_epoch_num"] == 2:
            self.what()


@posix
@pytest.mark.parametrize("background", [True, False])
def test_a_folder_that_becomes_read_only_leaves_the_earlier_file(tmp_path, monkeypatch, background):
    """The save raises and names it."""
    best = BestCheckpoint(tmp_path / "best.ckpt", monitor="x", mode="max", background=background, verbose=0)
    mkdir = os.mkdir

    def read_only(path, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system", path)

    def make_it():
        best.flush()
        monkeypatch.setattr(os, "mkdir", read_only)

    with pytest.raises(OSError, match=f"could not save '{tmp_path}/best.ckpt' in epoch 2: .*Read-only file system"):
        scripted(best, At(make_it))
    monkeypatch.setattr(os, "mkdir", mkdir)
    for each in (best, BestCheckpoint(tmp_path / "best.ckpt")):
        assert each.load_into(nn.Dense(1, 1))["epoch"] == 1


@pytest.mark.parametrize("background", [True, False])
def test_a_folder_that_vanishes_is_named(tmp_path, background):
    """And a training state in another folder is whole: the run goes on after the epoch before."""
    folder = tmp_path / "folder"
    folder.mkdir()
    every = {"monitor": "loss", "mode": "max", "save_top_k": -1, "verbose": 0}  # so that the next is saved too
    best = BestCheckpoint(folder / "{epoch}.ckpt", background=background, **every)

    def vanish():
        best.flush()
        shutil.rmtree(folder)

    model, state = make_model(), TrainingState(tmp_path / "state")
    with pytest.raises(OSError, match=f"BestCheckpoint: could not save .*the folder '{folder}' no longer exists"):
        model.train(4, dataset(), callbacks=[state, best, At(vanish)])
    folder.mkdir()
    model, train, state = make_model(), dataset(), TrainingState(tmp_path / "state")
    best = BestCheckpoint(folder / "best.ckpt", monitor="loss", mode="max", verbose=0)
    begin = state.resume(model, train, epochs=4)
    assert begin in (1, 2)
    model.train(4, train, callbacks=[state, best], initial_epoch=begin)
    assert state.finished_


# Links and long names


@posix
@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
@pytest.mark.parametrize("target", ["there", "not there yet"])
def test_a_link_to_a_checkpoint_stays(tmp_path, ending, target):
    """What it points to is replaced; loaded by the link, in the same object and in a new one."""
    (tmp_path / "real").mkdir()
    link, real = tmp_path / f"best.{ending}", tmp_path / "real" / f"model.{ending}"
    link.symlink_to(f"real/model.{ending}")
    if target == "there":
        scripted(BestCheckpoint(link, monitor="x", mode="max", verbose=0), epochs=1)
    best = BestCheckpoint(link, monitor="x", mode="max", verbose=0)
    scripted(best)
    assert os.readlink(link) == f"real/model.{ending}"
    assert os.listdir(tmp_path / "real") == [f"model.{ending}"]
    assert sorted(os.listdir(tmp_path)) == [link.name, f"{link.name}.json", "real"]
    for each in (best, BestCheckpoint(link)):
        network = nn.Dense(1, 1)
        assert each.load_into(network)["epoch"] == network.weight.asnumpy().item() == 3
    assert real.exists()


@posix
def test_two_that_save_to_one_file_by_a_link_are_refused(tmp_path):
    """It is one place by either name."""
    for name in ("best.ckpt", "best.mindir"):
        (tmp_path / f"link-{name}").symlink_to(name)
    for make, name in ((BestCheckpoint, "best.ckpt"), (ExportBest, "best.mindir")):
        two = [make(tmp_path / each, monitor="loss") for each in (name, f"link-{name}")]
        with pytest.raises(ValueError, match=r"two callbacks (save|export) to .*; give each a filepath of its own"):
            make_model().train(1, dataset(), callbacks=[*two, NoStep()])


@posix
def test_a_link_to_an_export_or_a_log_stays(tmp_path):
    """As that to a checkpoint does, also where the log gets another column."""
    (tmp_path / "real").mkdir()
    for name in ("best.mindir", "log.csv"):
        (tmp_path / name).symlink_to(f"real/{name}")
    exporting = ExportBest(tmp_path / "best.mindir", monitor="loss", verbose=0)
    make_model().train(1, dataset(), callbacks=[exporting])
    Script().run([CSVLogger(tmp_path / "log.csv")], [None, {"a": 1}])
    for name in ("best.mindir", "log.csv"):
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "real" / name).stat().st_size
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss,a,")
    assert sorted(os.listdir(tmp_path / "real")) == ["best.mindir", "log.csv"]


@posix
@pytest.mark.parametrize("rest", ["", "-{epoch}", "-{epoch:05d}", "-{x:.3f}", "-{step}"])
def test_a_name_that_becomes_too_long_is_refused_before_the_first_step(tmp_path, rest):
    """With its record beside it, and the values that it will be made of; one byte less is saved."""
    limit = os.pathconf(tmp_path, "PC_NAME_MAX")
    longest = {"": "", "-{epoch}": "-12", "-{epoch:05d}": "-00012", "-{x:.3f}": "-12.000", "-{step}": "-12"}[rest]
    room = limit - len(longest + ".ckpt.json")
    results = [{"x": float(epoch)} for epoch in range(1, 13)]
    best = BestCheckpoint(tmp_path / f"{'b' * room}{rest}.ckpt", monitor="x", mode="max", verbose=0)
    Script().run([best], results)
    assert best.best_epoch_ == 12
    too_long = BestCheckpoint(tmp_path / f"{'b' * (room + 1)}{rest}.ckpt", monitor="x", mode="max", verbose=0)
    message = f"BestCheckpoint: the name 'b*.*json' has {limit + 1} bytes, and .* takes {limit} at most; choose a short"
    with pytest.raises(OSError, match=message):
        Script().run([too_long, NoStep()], results)


# Two that give one name


def kept_by(folder, *callbacks, results):
    Script().run(list(callbacks), results)
    return [best.best_path_ and os.path.basename(best.best_path_) for best in callbacks]


def best_by(folder, monitor, name, **arguments):
    return BestCheckpoint(folder / name, monitor=monitor, mode="max", verbose=0, **arguments)


@pytest.mark.parametrize("background", [True, False])
def test_two_templates_that_give_one_name_keep_a_file_each(tmp_path, background):
    """The later gets `-v1`, whichever epoch it is; each loads its own, in this object and in a new one."""
    names = {"acc": "m-{acc:.2f}.ckpt", "f1": "m-{f1:.2f}.ckpt", "iou": "m-{iou:.2f}.ckpt"}
    results = [
        {"acc": 0.7, "f1": 0.7, "iou": 0.1},  # in one epoch
        {"acc": 0.6, "f1": 0.6, "iou": 0.7},  # in another
        {"acc": 0.704, "f1": 0.5, "iou": 0.5},  # its own name again
    ]
    bests = [best_by(tmp_path, monitor, name, background=background) for monitor, name in names.items()]
    assert kept_by(tmp_path, *bests, results=results) == ["m-0.70.ckpt", "m-0.70-v1.ckpt", "m-0.70-v2.ckpt"]
    expected = {"acc": (3, 0.704), "f1": (1, 0.7), "iou": (2, 0.7)}
    for best, (monitor, name) in zip(bests, names.items()):
        for each in (best, best_by(tmp_path, monitor, name)):
            record = each.load_into(nn.Dense(1, 1))
            assert (record["monitor"], (record["epoch"], record["value"])) == (monitor, expected[monitor])
    assert len(os.listdir(tmp_path)) == 6


def test_of_one_name_each_removes_its_own(tmp_path):
    """Those that are outdone go, and never another's."""
    bests = [best_by(tmp_path, "acc", "{epoch}-{acc:.1f}.ckpt"), best_by(tmp_path, "f1", "{epoch}-{f1:.1f}.ckpt")]
    results = [{"acc": 0.5, "f1": 0.5}, {"acc": 0.6, "f1": 0.6}, {"acc": 0.7, "f1": 0.1}]
    assert kept_by(tmp_path, *bests, results=results) == ["3-0.7.ckpt", "2-0.6-v1.ckpt"]
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["2-0.6-v1.ckpt", "3-0.7.ckpt"]


def test_the_name_of_a_file_without_a_template_is_taken_too(tmp_path):
    """Its own and that of the last one."""
    bests = [
        best_by(tmp_path, "acc", "m-0.70.ckpt", save_last=True),
        best_by(tmp_path, "f1", "m-{f1:.2f}.ckpt"),
    ]
    assert kept_by(tmp_path, *bests, results=[{"acc": 0.1, "f1": 0.7}]) == ["m-0.70.ckpt", "m-0.70-v1.ckpt"]
    assert bests[0].load_into(nn.Dense(1, 1))["value"] == 0.1


def test_a_resumed_run_knows_whose_name_is_whose(tmp_path):
    """By the state of each, or by what is on disk where there is only `initial_epoch`."""
    for resumed in ("state", "initial_epoch"):
        folder = tmp_path / resumed
        folder.mkdir()

        def make(folder=folder):
            return [best_by(folder, name, f"m-{{{name}:.2f}}.ckpt", save_optimizer=False) for name in ("acc", "f1")]

        first, second = make(), make()
        kept_by(folder, *first, results=[{"acc": 0.7, "f1": 0.7}])
        if resumed == "state":
            for one, other in zip(first, second):
                other.load_state_dict(json.loads(json.dumps(one.state_dict())))
        Script().run(second, [{"acc": 0.8, "f1": 0.1}, {"acc": 0.1, "f1": 0.8}], initial_epoch=1)
        assert [os.path.basename(best.best_path_) for best in second] == ["m-0.80.ckpt", "m-0.80-v1.ckpt"]
        assert sorted(path.name for path in folder.glob("*.ckpt")) == ["m-0.80-v1.ckpt", "m-0.80.ckpt"]
        for best, monitor in zip(make(), ("acc", "f1")):
            assert best.load_into(nn.Dense(1, 1))["monitor"] == monitor
