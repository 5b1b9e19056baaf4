"""Which callback gets which state back: told by what it is, in whatever order the list stands."""

from __future__ import annotations

import enum
import itertools
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
from mindspore.train import Callback
from training import assert_same_weights, dataset, make_model, valid_dataset, weights

from ms_callbacks import (
    BestCheckpoint,
    EarlyStopping,
    History,
    LossMonitor,
    LRWarmup,
    ReduceLROnPlateau,
    Robustness,
    TrainCallback,
    TrainingState,
    Validate,
)
from ms_callbacks.checkpointing._identity import Identity, matched


class Count(Callback):
    """A callback of a user's own, which keeps its argument under another name."""

    def __init__(self, by: float = 1) -> None:
        self._by, self.total = by, 0.0

    def on_train_step_end(self, run_context: Any) -> None:
        self.total += self._by

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = state["total"]


class Kind(enum.Enum):
    """An argument that JSON does not know."""

    A, B = 1, 2


class Interrupt(Callback):
    """Raises in a step of the third epoch."""

    def on_train_step_end(self, run_context: Any) -> None:
        if run_context.original_args()["cur_step_num"] == 11:
            raise KeyboardInterrupt


class NoStep(Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context: Any) -> None:
        raise AssertionError("a step ran")


def interrupted(folder: pathlib.Path, *callbacks: Callback) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_model().train(5, dataset(), callbacks=[TrainingState(str(folder / "s")), *callbacks, Interrupt()])


def resumed(folder: pathlib.Path, *callbacks: Callback, epochs: int = 5) -> TrainingState:
    model, data, state = make_model(), dataset(), TrainingState(str(folder / "s"))
    first = state.resume(model, data, epochs=epochs)
    model.train(epochs, data, callbacks=[state, *callbacks], initial_epoch=first)
    return state


def keyed(key: str, callback: Any) -> Any:
    callback.state_key = key
    return callback


@pytest.mark.parametrize("swapped", [False, True])
def test_two_checkpoints_in_any_order_end_as_if_nothing_had_been_interrupted(tmp_path, swapped):
    """Each goes on with its own file, its own best and its own monitor."""

    def two(folder: pathlib.Path, model: Any) -> list[Any]:
        one = BestCheckpoint(str(folder / "a.ckpt"), monitor="acc", verbose=0)
        other = BestCheckpoint(str(folder / "l.ckpt"), monitor="eval_loss", verbose=0)
        return [Validate(model, valid_dataset()), one, other]

    ends = []
    for name in ("whole", "broken"):
        folder = tmp_path / name
        folder.mkdir()
        model = make_model(learning_rate=0.2)
        data, callbacks = dataset(), two(folder, model)
        if name == "broken":
            with pytest.raises(KeyboardInterrupt):
                model.train(5, data, callbacks=[TrainingState(str(folder / "s")), *callbacks, Interrupt()])
            model, data = make_model(learning_rate=0.2), dataset()
            callbacks = two(folder, model)
        state = TrainingState(str(folder / "s"))
        first = state.resume(model, data, epochs=5)
        order = reversed(callbacks) if swapped and first else callbacks
        model.train(5, data, callbacks=[state, *order], initial_epoch=first)
        ends.append([(each.best_, each.best_epoch_) for each in callbacks[1:]])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_several_of_one_class_are_told_apart_by_their_arguments(tmp_path, order):
    """By the monitor, and where that is the same by the others."""

    def three() -> list[Any]:
        return [
            EarlyStopping("loss", mode="max", patience=9, verbose=0),
            EarlyStopping("loss", mode="min", patience=8, verbose=0),
            EarlyStopping("loss", mode="max", patience=9, start_from_epoch=1, verbose=0),
        ]

    interrupted(tmp_path, *three())
    again = three()
    resumed(tmp_path, *(again[place] for place in order), epochs=3)
    assert [each.best_epoch_ for each in again] == [1, 3, 2]


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_what_its_arguments_do_not_tell_a_key_tells(tmp_path, order):
    """Of two callbacks of a user's own class."""

    def two() -> list[Any]:
        return [keyed("one", Count(1)), keyed("ten", Count(10))]

    interrupted(tmp_path, *two())
    again = two()
    resumed(tmp_path, *(again[place] for place in order))
    assert [each.total for each in again] == [20, 200]


@pytest.mark.parametrize(
    "two",
    [
        lambda: [Count(1), Count(10)],
        lambda: [keyed("a", Count(1)), keyed("a", Count(10))],
        lambda: [Robustness(valid_dataset(), (0.0,)), Robustness(dataset(), (0.0,))],
    ],
    ids=["own", "one key", "objects"],
)
def test_callbacks_that_cannot_be_told_apart_are_refused_before_a_state_is_needed(tmp_path, two):
    """With what to do."""
    kind = type(two()[0]).__name__
    with pytest.raises(ValueError, match=f"TrainingState: {kind} and {kind} 2 cannot be told apart .*state_key = 'fir"):
        make_model().train(1, dataset(), callbacks=[TrainingState(str(tmp_path / "s")), *two(), NoStep()])


def test_two_that_are_alike_need_no_key(tmp_path):
    """What they learn is the same."""
    interrupted(tmp_path, EarlyStopping("loss", verbose=0), EarlyStopping("loss", verbose=0), LossMonitor())
    again = [EarlyStopping("loss", verbose=0), EarlyStopping("loss", verbose=0)]
    resumed(tmp_path, *again, LossMonitor())
    assert again[0].best_ == again[1].best_


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            lambda: [EarlyStopping("loss")],
            lambda: [EarlyStopping("acc")],
            r"holds EarlyStopping\(monitor='loss'\), but the list of callbacks has EarlyStopping\(monitor='acc'\)",
        ),
        (
            lambda: [keyed("a", Count()), keyed("b", Count())],
            lambda: [keyed("a", Count()), Count()],
            None,
        ),
        (
            lambda: [EarlyStopping("loss", patience=8), EarlyStopping("loss", patience=9)],
            lambda: [EarlyStopping("loss", patience=6), EarlyStopping("loss", patience=7)],
            r"EarlyStopping\(monitor='loss'\) and EarlyStopping\(monitor='loss'\), but",
        ),
    ],
)
def test_a_mismatch_names_both_sides(tmp_path, before, after, message, capsys):
    """Before the first step; one with a key of its own is new."""
    interrupted(tmp_path, *before())
    model, data, state = make_model(), dataset(), TrainingState(str(tmp_path / "s"))
    first = state.resume(model, data, epochs=5)
    callbacks = [state, Validate(model, valid_dataset()), *after()]
    if message is None:
        model.train(5, data, callbacks=callbacks, initial_epoch=first)
        out = capsys.readouterr().out
        assert "Count 2 was not there when the state was saved" in out
        assert "Count 2 was there when the state was saved, but is not in the list" in out
        return
    with pytest.raises(ValueError, match=f"TrainingState: cannot assign the state .*{message}"):
        model.train(5, data, callbacks=[*callbacks, NoStep()], initial_epoch=first)


def test_a_changed_argument_is_said_and_the_rest_goes_on(tmp_path, capsys):
    """Where it is clear which callback is meant."""
    interrupted(tmp_path, EarlyStopping("loss", patience=8, verbose=0), History())
    stopping = EarlyStopping("loss", patience=9, verbose=0)
    resumed(tmp_path, stopping, History())
    out = capsys.readouterr().out
    assert "TrainingState: EarlyStopping continues with patience=9 instead of 8" in out
    assert "History" not in out
    assert stopping.best_epoch_ == 5


def test_a_callback_within_another_counts(tmp_path, capsys):
    """As what follows a warm-up."""
    interrupted(tmp_path, LRWarmup(1, after=ReduceLROnPlateau("loss", patience=2)))
    resumed(tmp_path, LRWarmup(1, after=ReduceLROnPlateau("loss", patience=3)))
    assert "LRWarmup continues with after=['ReduceLROnPlateau'" in capsys.readouterr().out


def test_a_folder_with_all_of_it_may_be_moved(tmp_path):
    """Paths count from the directory of the states."""

    def best(folder: pathlib.Path) -> list[Any]:
        names = ("a.ckpt", "b.ckpt")
        return [BestCheckpoint(str(folder / name), monitor="loss", mode="max", verbose=0) for name in names]

    (tmp_path / "here").mkdir()
    interrupted(tmp_path / "here", *best(tmp_path / "here"))
    shutil.move(tmp_path / "here", tmp_path / "there")
    again = best(tmp_path / "there")
    resumed(tmp_path / "there", *reversed(again))
    model = make_model()
    model.train(1, dataset())
    for each in again:
        assert each.best_epoch_ == 1
        fresh = make_model(learning_rate=0.5)
        each.load_into(fresh.predict_network)
        assert_same_weights(weights(fresh.predict_network), weights(model.predict_network))


class TakesAny(EarlyStopping):
    """A subclass of a user's own that takes whatever ours does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, verbose=0, **kwargs)


class Hidden(EarlyStopping):
    """One that keeps an argument under another name."""

    def __init__(self, scale: float) -> None:
        super().__init__("loss", verbose=0)
        self._scale = scale


class Keeping(Count):
    """One that keeps what it is given, and what it learns, under the names of its arguments."""

    def __init__(self, name: Any, total: float = 0.0) -> None:
        super().__init__()
        self.name, self.total = name, total


class Raising(Count):
    """One that cannot be asked for its argument."""

    @property
    def by(self) -> float:
        raise RuntimeError("not yet")


def test_a_subclass_that_takes_any_argument_is_told_apart_by_those_of_ours(tmp_path):
    """In any order."""

    def two() -> list[Any]:
        return [TakesAny("loss", mode="max", patience=9), TakesAny("loss", mode="min", patience=8)]

    interrupted(tmp_path, *two())
    again = two()
    resumed(tmp_path, *reversed(again))
    assert [each.best_epoch_ for each in again] == [1, 5]


def test_a_subclass_that_hides_an_argument_needs_a_key(tmp_path):
    """Two of it may learn different things."""
    with pytest.raises(ValueError, match="Hidden and Hidden 2 cannot be told apart"):
        make_model().train(1, dataset(), callbacks=[TrainingState(str(tmp_path / "s")), Hidden(1), Hidden(2), NoStep()])


def test_what_is_learnt_under_the_name_of_an_argument_tells_nothing(tmp_path, capsys):
    """A callback is what it was when the run began."""

    def two() -> list[Any]:
        return [Keeping("one"), Keeping("other"), Raising()]

    interrupted(tmp_path, *two())
    again = two()
    resumed(tmp_path, *reversed(again))
    assert [each.total for each in again] == [20, 20, 20]
    assert "continues with" not in capsys.readouterr().out


@pytest.mark.parametrize("key", [1, ("a", 1), ["a"]])
def test_a_key_that_is_no_string_is_refused(tmp_path, key):
    """It would not come back as it was."""
    with pytest.raises(TypeError, match="state_key of Count must be a string, but got"):
        make_model().train(1, dataset(), callbacks=[TrainingState(str(tmp_path / "s")), keyed(key, Count()), NoStep()])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (float("nan"), 0.0),
        (np.float32(1), np.float32(2)),
        (np.int64(1), np.int64(2)),
        (Kind.A, Kind.B),
        ((1, [2]), (1, [3])),
        (list(range(99)), list(range(98))),
        (pathlib.Path("a"), pathlib.Path("b")),
        ({1: "a"}, {1: "b"}),
    ],
)
def test_arguments_come_back_from_a_state_as_they_were(one, other):
    """And others do not."""
    first, second = (Identity.of(Keeping(each), "/x") for each in (one, other))
    saved = Identity(first.kind, None, json.loads(json.dumps(first.arguments)))
    assert saved == first
    assert saved != second


def test_callbacks_that_hold_each_other_are_known_to_some_depth():
    """Not for ever."""
    one, other = Keeping(None), Keeping(None)
    one.name, other.name = other, one
    assert Identity.of(one, "/x") == Identity.of(one, "/x")


def test_a_folder_may_be_reached_by_a_link(tmp_path):
    """Paths are the same from either side; a link in the place of a file is a name of its own."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "a.ckpt").symlink_to("b.ckpt")
    names = [tmp_path / "real" / "a.ckpt", tmp_path / "link" / "a.ckpt", tmp_path / "real" / "b.ckpt"]
    found = [Identity.of(BestCheckpoint(name), str(tmp_path / "link" / "s")).arguments["filepath"] for name in names]
    assert found == ["../a.ckpt", "../a.ckpt", "../b.ckpt"]


def identity(kind: str = "A", key: Any = None, **arguments: Any) -> Identity:
    return Identity(kind, key, arguments)


@pytest.mark.parametrize(
    ("saved", "present", "pairs"),
    [
        ([identity(monitor="x")], [identity(monitor="x")], {0: 0}),
        ([identity(monitor="x"), identity(monitor="y")], [identity(monitor="y"), identity(monitor="x")], {0: 1, 1: 0}),
        ([identity(monitor="x", patience=1)], [identity(monitor="x", patience=2)], {0: 0}),
        ([identity(path="a", k=1), identity(path="b", k=1)], [identity(path="b", k=2), identity(path="a", k=2)], None),
        ([identity(monitor="x", path="a")], [identity(monitor="x", path="b")], {0: 0}),
        ([identity(key="1")], [identity(key="2")], {}),
        ([identity("A")], [identity("B")], {}),
        ([identity(k=1), identity(k=1)], [identity(k=1)], {0: 0}),
        ([identity(k=1), identity(k=2)], [identity(k=2)], {0: 1}),
        ([identity(k=1), identity(k=2)], [identity(k=3)], {}),
    ],
)
def test_the_rule(saved, present, pairs):
    """All arguments, else monitor and paths, else the monitor; never where it is not the only one."""
    expected = {0: 1, 1: 0} if pairs is None else pairs
    found, gone, new = matched(saved, present)
    assert found == expected
    assert (len(gone), len(new)) == (len(saved) - len(expected), len(present) - len(expected))


def test_two_of_a_class_whose_arguments_have_no_names_are_not_told_apart(tmp_path):
    """By `**kwargs`, either might be given the other's state; a `state_key` says which is which."""

    class Any_(TrainCallback):
        def __init__(self, **arguments):
            super().__init__()
            self.arguments = arguments

    model = make_model()
    pair = [Any_(a=1), Any_(a=10)]
    with pytest.raises(ValueError, match=r"Any_ and Any_ 2 cannot be told apart .*state_key"):
        model.train(1, dataset(), callbacks=[*pair, TrainingState(str(tmp_path / "state"))])
    pair[0].state_key, pair[1].state_key = "one", "ten"
    model.train(1, dataset(), callbacks=[*pair, TrainingState(str(tmp_path / "state"))])
