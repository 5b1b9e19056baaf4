"""Files that version 0.1 has written: a state to resume from, a best checkpoint, a log."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest
from earlier_run import CAN_BEGIN_WITHIN, make, run
from mindspore import nn
from training import CLASSES, SIZE, weights

from ms_callbacks import BestCheckpoint

FILES = pathlib.Path(__file__).parents[1] / "data" / "version_0_1"


@pytest.fixture
def files(tmp_path, monkeypatch):
    shutil.copytree(FILES, tmp_path / "files")
    monkeypatch.chdir(tmp_path / "files")
    return tmp_path / "files"


def test_a_run_of_version_0_1_is_resumed_to_the_end_that_it_would_have_had(files, tmp_path, monkeypatch, capsys):
    """Weights, moments and decisions; MindSpore 2.0, which cannot begin within an epoch, resumes the epoch before."""
    if not CAN_BEGIN_WITHIN:
        (within,) = [path for path in (files / "state").iterdir() if path.name.endswith("3")]
        shutil.rmtree(within)
    model, resumed = run(resume=True)
    assert " continues with " not in capsys.readouterr().out  # an argument that it did not have yet has its default
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    other, whole = run()
    for name, array in weights(other.train_network).items():
        if name == "global_step" and not CAN_BEGIN_WITHIN:
            continue  # which MindSpore 2.0 does not count
        np.testing.assert_allclose(weights(model.train_network)[name], array, rtol=1e-4, atol=1e-6, err_msg=name)
    assert resumed["stopping"].best_epoch_ == whole["stopping"].best_epoch_
    assert resumed["stopping"].wait_ == whole["stopping"].wait_
    assert resumed["best"].best_ == pytest.approx(whole["best"].best_)
    assert resumed["history"].epoch == [1, 2, 3, 4]
    assert resumed["history"].history["loss"] == pytest.approx(whole["history"].history["loss"], rel=1e-4)
    assert resumed["schedule"].lr_list_ == whole["schedule"].lr_list_
    assert (files / "log.csv").read_text().count("\n") == 5


def test_a_best_checkpoint_of_version_0_1_is_loaded(files):
    """And verified against the record beside it."""
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(SIZE * SIZE, CLASSES))
    record = BestCheckpoint("best.ckpt", monitor="acc").load_into(network)
    assert (record["monitor"], record["mode"]) == ("acc", "max")
    model, _, _ = make()
    assert not np.array_equal(network[1].weight.asnumpy(), model.predict_network[1].weight.asnumpy())
