"""What SECURITY.md promises."""

from __future__ import annotations

import ast
import json
import os
import pathlib
import pickle
import shutil
import stat

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from training import Script, assert_same_weights, dataset, weights

from ms_callbacks import BestCheckpoint, CSVLogger, TrainingState
from ms_callbacks.core import atomic_files
from ms_callbacks.core.path_template import PathTemplate
from ms_callbacks.vision import _download

ROOT = pathlib.Path(__file__).parents[2]


def scripted(*callbacks, epochs=3):
    """Every epoch's `x` is better than the last one's."""
    Script().run(callbacks, [{"x": -float(epoch)} for epoch in range(1, epochs + 1)])


def best_at(path, **arguments):
    return BestCheckpoint(str(path), monitor="x", mode="min", verbose=0, **arguments)


def forge(path, change):
    """Changes a record or a state and makes its own digest match, as anybody can."""
    content = json.loads(path.read_text())
    if path.name == "state.json":
        change(content["content"])
        content["sha256"] = atomic_files.digest_of(content["content"])
    else:
        content.pop("record_sha256")
        change(content)
        content["record_sha256"] = atomic_files.digest_of(content)
    path.write_text(json.dumps(content))


# Nothing is unpickled or evaluated


def test_no_module_unpickles_or_evaluates():
    """By name: no import of what runs code that was read, and no call of it."""
    imports = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "yaml"}
    calls = {"eval", "exec", "compile", "__import__"}
    for path in sorted((ROOT / "ms_callbacks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & imports, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in imports, path
            elif isinstance(node, ast.Call):
                assert not (isinstance(node.func, ast.Name) and node.func.id in calls), (path, node.lineno)
                is_load = isinstance(node.func, ast.Attribute) and node.func.attr == "load"
                if is_load and isinstance(node.func.value, ast.Name) and node.func.value.id == "np":
                    assert "allow_pickle=False" in ast.unparse(node), path


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_a_pickle_with_a_record_that_matches_is_refused_and_runs_nothing(tmp_path, monkeypatch, ending):
    """By name, and nothing is loaded."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"best.{ending}"
    scripted(best_at(path))
    path.write_bytes(pickle.dumps(Bomb()))
    forge(tmp_path / f"best.{ending}.json", lambda record: record.update(sha256=atomic_files.sha256(str(path))))
    network = nn.Dense(1, 1)
    before = weights(network)
    with pytest.raises(ValueError, match="no whole checkpoint is left; refused"):
        best_at(path).load_into(network)
    assert_same_weights(weights(network), before)
    assert not (tmp_path / "exploded").exists()


# What is written down cannot point elsewhere


@pytest.mark.parametrize("outside", ["../secret.ckpt", "{root}/secret.ckpt", "./../secret.ckpt", "sub/secret.ckpt"])
def test_a_state_cannot_have_a_file_removed_or_loaded_elsewhere(tmp_path, outside):
    """Whatever paths it tells of; the run goes on with those that are its own."""
    run = tmp_path / "run"
    (run / "sub").mkdir(parents=True)
    template = run / "{epoch}-{x:.0f}.ckpt"
    scripted(best_at(template, save_top_k=2), TrainingState(str(run / "state")))
    secrets = [tmp_path / "secret.ckpt", run / "sub" / "secret.ckpt"]
    for secret in secrets:
        secret.write_bytes((run / "3--3.ckpt").read_bytes())
        secret.with_name("secret.ckpt.json").write_text((run / "3--3.ckpt.json").read_text())
    path = outside.format(root=tmp_path)
    path = path if os.path.isabs(path) else str(run / path)

    def name_it(content):
        (saved,) = (each for each in content["callbacks"] if each["name"] == "BestCheckpoint")
        record = json.loads((run / "3--3.ckpt.json").read_text())
        # The worst of all, to be removed; and the best, to be loaded.
        saved["state"]["kept"] = [{"path": path, "record": {**record, "value": value}} for value in (-99.0, 99.0)]

    forge(run / "state" / "state-00000002" / "state.json", name_it)
    shutil.rmtree(run / "state" / "state-00000003")  # which is that of a finished run
    state, best, network = TrainingState(str(run / "state")), best_at(template, save_top_k=1), nn.Dense(1, 1)
    train = dataset(1, 1)
    assert state.resume(ms.Model(network), train) == 2
    best.load_state_dict(
        json.loads((run / "state" / "state-00000002" / "state.json").read_text())["content"]["callbacks"][0]["state"]
    )
    assert best.best_path_ is None
    best.load_into(network)
    assert os.path.dirname(best.load_into(network)["path"]) == str(run)
    scripted(best)
    for secret in secrets:
        assert secret.exists()
        assert secret.with_name("secret.ckpt.json").exists()


def test_a_file_without_a_template_is_the_only_one_of_its_own(tmp_path):
    """A neighbour in the same folder is not."""
    best = best_at(tmp_path / "best.ckpt")
    for name, own in (("best.ckpt", 1), ("train.py", 0), ("other.ckpt", 0), ("sub/other.ckpt", 0), ("", 0)):
        kept = [{"path": str(tmp_path / name), "record": {"value": 1.0, "epoch": 1}}]
        best.load_state_dict({"run": "", "runs_before": 0, "kept": kept})
        assert len(best.state_dict()["kept"]) == own, name


@pytest.mark.parametrize("field", ["path", "filepath", "run", "previous"])
def test_a_record_cannot_point_elsewhere(tmp_path, field):
    """What is loaded is the file beside it, and that is what is said."""
    path = tmp_path / "best.ckpt"
    scripted(best_at(path))
    forge(tmp_path / "best.ckpt.json", lambda record: record.update({field: "../../x"}))
    assert best_at(path).load_into(nn.Dense(1, 1))["path"] == str(path)


@pytest.mark.parametrize(
    "name",
    ["{epoch.__class__}", "{x.__init__.__globals__}", "{x[0]}", "{0}", "{x!r}", "{x:{epoch}}", "..", "."],
)
def test_a_template_reaches_into_nothing(name):
    """Names of values alone; a width of gigabytes neither."""
    with pytest.raises(ValueError, match=r"^T: filepath"):
        PathTemplate("T", f"folder/{name}")
    with pytest.raises(ValueError, match="has a width that is too large for any file name"):
        PathTemplate("T", "folder/{epoch:09999999999d}")


def test_a_link_is_not_followed_to_remove_what_it_points_to(tmp_path):
    """Named like what a dead process was writing, or like an old state."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    state = tmp_path / "state"
    state.mkdir()
    os.utime(precious / "file", (0, 0))
    os.utime(precious, (0, 0))
    (state / f"{atomic_files._PREFIX}abcdefgh").symlink_to(precious)
    scripted(TrainingState(str(state), keep=1))
    (state / "state-00000001").symlink_to(precious) if not (state / "state-00000001").exists() else None
    TrainingState(str(state)).resume(ms.Model(nn.Dense(1, 1)), dataset(1, 1))
    assert (precious / "file").read_text() == "x"


# What is read has a size


def test_what_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    """A record, a state, the weights of a state."""
    scripted(best_at(tmp_path / "best.ckpt"), TrainingState(str(tmp_path / "state")))
    monkeypatch.setattr(json, "load", lambda file: pytest.fail("it was read"))
    monkeypatch.setattr(atomic_files, "sha256", lambda path: pytest.fail("it was read"))
    os.truncate(tmp_path / "best.ckpt.json", (1 << 20) + 1)
    with pytest.raises(ValueError, match=r"is larger than any file written by ms_callbacks \(1048576 bytes\)"):
        best_at(tmp_path / "best.ckpt").load_into(nn.Dense(1, 1))
    state = tmp_path / "state" / "state-00000003"
    content = (state / "state.json").read_bytes()
    os.truncate(state / "state.json", (1 << 28) + 1)  # a hole: it takes no room
    resume = TrainingState(str(tmp_path / "state")).resume
    (tmp_path / "state" / "state-00000002").rename(tmp_path / "older")
    with pytest.raises(ValueError, match=r"is larger than any file written by ms_callbacks \(268435456 bytes\)"):
        resume(ms.Model(nn.Dense(1, 1)), dataset(1, 1))
    (state / "state.json").write_bytes(content)
    monkeypatch.setattr(json, "load", lambda file: json.loads(file.read()))
    os.truncate(state / "weights.ckpt", 1 << 40 if os.name == "nt" else 1 << 30)
    with pytest.raises(ValueError, match="no whole state is left; refused: .*damaged or incomplete"):
        resume(ms.Model(nn.Dense(1, 1)), dataset(1, 1))


@pytest.mark.parametrize("name", ["{epoch}.ckpt", "best.ckpt"])
def test_json_without_end_is_no_record(tmp_path, name):
    """Passed over where it is a stranger's, refused where it stands for a checkpoint."""
    scripted(best_at(tmp_path / name, save_top_k=1))
    (tmp_path / "stray.ckpt.json").write_text("[" * 500_000)
    assert best_at(tmp_path / name).load_into(nn.Dense(1, 1))["epoch"] == 3
    (file,) = tmp_path.glob("[3b]*.json")
    file.write_text('{"a":' * 150_000)
    with pytest.raises(ValueError, match="no whole checkpoint is left; refused: "):
        best_at(tmp_path / name).load_into(nn.Dense(1, 1))


# Permissions and downloads


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_files_get_what_the_umask_leaves(tmp_path):
    """Checkpoints, records, states and rows."""
    umask = os.umask(0o077)
    try:
        scripted(best_at(tmp_path / "best.ckpt", save_last=True), TrainingState(str(tmp_path / "state")))
        Script().run([CSVLogger(str(tmp_path / "log.csv"))], [None])
    finally:
        os.umask(umask)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 9
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_downloads_are_pinned(tmp_path, monkeypatch):
    """Over https, from addresses in the code; what has another MD5 never gets its name."""
    assert all(mirror.startswith("https://") for mirror in _download.MIRRORS)
    assert all(len(md5) == 32 for md5 in _download.MD5.values())
    monkeypatch.setattr(_download, "_request", lambda url, part: part.write_bytes(b"something else"))
    with pytest.raises(OSError, match="its MD5 is .*, expected ec29112dd5afa0611ce80d1b7f02629c"):
        _download.download(tmp_path, "t10k-labels-idx1-ubyte")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_state_of_malice_does_no_more_than_fail(tmp_path):
    """Values of the wrong kinds: an error before the first step that names the callback."""
    scripted(best_at(tmp_path / "best.ckpt"), TrainingState(str(tmp_path / "state")))
    for kept in ([{"path": 7, "record": {}}], [{}], "kept", None):
        with pytest.raises((TypeError, KeyError)):
            best_at(tmp_path / "best.ckpt").load_state_dict({"run": "", "runs_before": 0, "kept": kept})
    assert np.isfinite(best_at(tmp_path / "best.ckpt").load_into(nn.Dense(1, 1))["value"])
