"""`for ...: model.train(1, ..., callbacks=[...])`: each call is a new run, unless a callback is told otherwise."""

from __future__ import annotations

import pytest
from training import Script, dataset, make_model

from ms_callbacks import BestCheckpoint, EarlyStopping, History, ReduceLROnPlateau

VALUES = [0.406, 0.375, 0.5, 0.5, 0.4, 0.6]


def loop(callback, values=VALUES):
    script = Script()
    return [script.run([callback], [{"acc": value}])[-1] for value in values]


def test_history_keeps_all_epochs():
    """Or those of the latest call alone."""
    kept, latest = History(reset_on_train_begin=False), History()
    loop(kept)
    loop(latest)
    assert (kept.epoch, kept.history["acc"]) == ([1, 2, 3, 4, 5, 6], VALUES)
    assert (latest.epoch, latest.history["acc"]) == ([1], VALUES[-1:])


def test_a_plateau_lowers_as_in_one_run():
    """It would never, call by call."""
    arguments = {"patience": 2, "factor": 0.5, "verbose": 0}
    whole, script = ReduceLROnPlateau("acc", **arguments), Script()
    rates = script.run([whole], [{"acc": value} for value in VALUES])
    assert loop(ReduceLROnPlateau("acc", reset_on_train_begin=False, **arguments)) == rates
    assert rates[-1] == 0.05
    assert loop(ReduceLROnPlateau("acc", **arguments)) == [0.1] * len(VALUES)


def test_the_best_checkpoint_is_that_of_all_calls(tmp_path, capsys):
    """With the epoch that it is of; nothing is said of an earlier run, for it is the same."""
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc", reset_on_train_begin=False)
    loop(best)
    assert (best.best_, best.best_epoch_) == (0.6, 6)
    printed = capsys.readouterr().out
    assert "earlier run" not in printed
    assert [line.split(" in epoch ")[1][0] for line in printed.splitlines()] == ["1", "3", "6"]


def test_a_second_call_never_replaces_a_better_file_in_silence(tmp_path, capsys):
    """As a new run too: it says at its start what becomes of the file."""
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="acc")
    loop(best, VALUES[:2])
    assert best.best_ == 0.406
    assert "best.ckpt' of an earlier run is kept until 0.406 (epoch 1) is beaten" in capsys.readouterr().out


def test_several_of_the_best_have_names_of_their_own(tmp_path):
    """For the epochs are counted over all calls."""
    best = BestCheckpoint(
        str(tmp_path / "{epoch}.ckpt"), monitor="acc", save_top_k=3, reset_on_train_begin=False, verbose=0
    )
    loop(best)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["3.ckpt", "4.ckpt", "6.ckpt"]


@pytest.mark.parametrize("kind", [BestCheckpoint, EarlyStopping, History, ReduceLROnPlateau])
def test_nonsense_is_refused(kind):
    """It is True or False."""
    with pytest.raises(TypeError, match="reset_on_train_begin must be True or False, but got 'no'"):
        kind(reset_on_train_begin="no")


def test_with_real_training(tmp_path, mode):
    """The same decisions as in one run, from the same weights."""

    def callbacks(name, **arguments):
        path = str(tmp_path / f"{name}.ckpt")
        return [
            History(**arguments),
            BestCheckpoint(path, monitor="loss", mode="max", verbose=0, **arguments),
            EarlyStopping("loss", mode="max", patience=9, verbose=0, **arguments),
        ]

    whole, looped = callbacks("whole"), callbacks("looped", reset_on_train_begin=False)
    make_model().train(3, dataset(), callbacks=whole)
    model = make_model()
    for _ in range(3):
        model.train(1, dataset(), callbacks=looped)
    assert looped[0].history["loss"] == whole[0].history["loss"]
    assert looped[0].epoch == whole[0].epoch
    assert (looped[1].best_, looped[1].best_epoch_) == (whole[1].best_, whole[1].best_epoch_)
    assert (looped[2].best_, looped[2].wait_) == (whole[2].best_, whole[2].wait_)
