"""TrainingState in one process: a run that was broken off goes on to the end that it would have had."""

from __future__ import annotations

import csv
import json
import math
import os
import pathlib
import random
import re
import shutil
import stat
import threading
from functools import cache
from typing import Any

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback
from training import Network, assert_same_weights, dataset, loss_fn, make_model, seeded, valid_dataset, weights

from ms_callbacks import (
    BatchAccuracy,
    BestCheckpoint,
    CSVLogger,
    EarlyStopping,
    ExportBest,
    History,
    LossMonitor,
    LRWarmup,
    ReduceLROnPlateau,
    TrainingState,
)
from ms_callbacks.checkpointing import _background_writer, training_state
from ms_callbacks.core import atomic_files, checkpoint_io
from ms_callbacks.core.progress import Progress

CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")
within = pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot begin a dataset in its middle")
EPOCHS = 3


class Fail(Callback):
    """Raises in a hook: of an epoch, or of one of its four steps, or of its evaluation."""

    def __init__(self, hook: str, epoch: int = 2, step: int = 3) -> None:
        self.at = {"epoch": epoch, "step": (epoch - 1) * 4 + step}.get(hook.split("_")[2], 1)
        self.is_step, self.calls = "train_step" in hook, 0
        if "eval" in hook:
            self.at = 5  # within the second evaluation, of three batches each
        setattr(self, hook, self.fail)

    def fail(self, run_context: Any) -> None:
        self.calls += 1
        if (run_context.original_args()["cur_step_num"] if self.is_step else self.calls) == self.at:
            raise RuntimeError("mine")


class Count(Callback):
    """A callback of a user's own, with a state."""

    def __init__(self, by: float = 1) -> None:
        self.by, self.total = by, 0.0

    def on_train_step_end(self, run_context: Any) -> None:
        self.total += self.by

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = state["total"]


def keyed(key: str, callback: Any) -> Any:
    callback.state_key = key
    return callback


class NoStep(Callback):
    """Fails the test if a step runs."""

    def on_train_step_begin(self, run_context: Any) -> None:
        raise AssertionError("a step ran")


def go(
    folder: pathlib.Path,
    *more: Callback,
    how: str = "train",
    shuffle: bool = False,
    every_n_steps: int | None = None,
    first: tuple[Callback, ...] = (),
) -> dict[str, Any]:
    """Begins a run or goes on with it, as a script does; returns what it has come to."""
    model, train = make_model(), dataset(shuffle=shuffle)
    state = TrainingState(str(folder / "state"), every_n_steps=every_n_steps)
    stopping = EarlyStopping("loss", patience=9, restore_best_weights=True, verbose=0)
    best = BestCheckpoint(str(folder / "{epoch}.ckpt"), monitor="loss", save_top_k=2, verbose=0)
    history, count = History(), Count()
    callbacks = [
        *first,
        LRWarmup(1, after=ReduceLROnPlateau("loss", mode="max", patience=0, factor=0.5, verbose=0)),
        *[stopping, best, history, CSVLogger(str(folder / "log.csv")), count, state, *more],
    ]
    initial_epoch = state.resume(model, train, epochs=EPOCHS)
    if how == "train":
        model.train(EPOCHS, train, callbacks=callbacks, initial_epoch=initial_epoch)
    else:
        model.fit(EPOCHS, train, valid_dataset(24), callbacks=callbacks, initial_epoch=initial_epoch)
    with open(folder / "log.csv", encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]
    return {
        "parameters": weights(model.train_network),
        "history": {name: values for name, values in history.history.items() if "second" not in name},
        "rows": rows,
        "stopping": (stopping.best_, stopping.best_epoch_, stopping.wait_),
        "best": [(os.path.basename(each["path"]), each["record"]["value"]) for each in best.state_dict()["kept"]],
        "count": count.total,
        "seeds": (np.random.rand(), random.random(), ms.get_seed(), ds.config.get_seed()),
    }


def assert_same_end(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert_same_weights(one.pop("parameters"), other["parameters"])
    assert one == {name: value for name, value in other.items() if name != "parameters"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The end of a run of each kind that nothing has interrupted."""

    @cache
    def end(how: str, mode: str, shuffle: bool) -> dict[str, Any]:
        random.seed(0)
        return go(tmp_path_factory.mktemp("whole"), how=how, shuffle=shuffle)

    return end


def interrupted_and_resumed(folder: pathlib.Path, *fail: Callback, **kind: Any) -> dict[str, Any]:
    random.seed(0)
    with pytest.raises(RuntimeError, match="mine"):
        go(folder, first=fail, **kind)
    random.seed(9)
    ms.set_seed(9)
    return go(folder, **kind)


@pytest.mark.parametrize(
    "hook", ["on_train_begin", "on_train_epoch_begin", "on_train_step_begin", "on_train_epoch_end", "on_train_end"]
)
def test_an_exception_in_any_hook_costs_nothing(tmp_path, hook, uninterrupted):
    """Weights, moments, rate, best, rows, seeds: all as if it had never been raised."""
    shuffle = CAN_BEGIN_WITHIN
    outcome = interrupted_and_resumed(tmp_path, Fail(hook), shuffle=shuffle)
    assert_same_end(outcome, uninterrupted("train", "graph", shuffle))


@pytest.mark.parametrize("how", ["train", "fit"])
def test_an_exception_in_a_step_costs_nothing_in_both_modes(tmp_path, how, mode, uninterrupted):
    """In train and fit; resumed within the epoch where MindSpore can."""
    kind = {"how": how, "shuffle": CAN_BEGIN_WITHIN}
    every_n_steps = 2 if CAN_BEGIN_WITHIN else None
    outcome = interrupted_and_resumed(tmp_path, Fail("on_train_step_end"), every_n_steps=every_n_steps, **kind)
    assert_same_end(outcome, uninterrupted(how, mode, CAN_BEGIN_WITHIN))


def test_an_exception_in_an_evaluation_costs_nothing(tmp_path, uninterrupted):
    """The epoch that was being evaluated is learnt again."""
    outcome = interrupted_and_resumed(tmp_path, Fail("on_eval_step_end"), how="fit", shuffle=CAN_BEGIN_WITHIN)
    assert_same_end(outcome, uninterrupted("fit", "graph", CAN_BEGIN_WITHIN))


@within
@pytest.mark.parametrize("step", [1, 2, 4])
def test_within_an_epoch_the_lines_and_values_go_on(tmp_path, step, capsys):
    """What is printed before and after, put together, is what an uninterrupted run prints."""

    def lines(folder: pathlib.Path, *more: Callback) -> tuple[list[float], list[float | None]]:
        accuracy = BatchAccuracy(per_print_times=3)
        network = seeded(Network())
        optimizer = nn.Adam(network.trainable_params(), 0.05)
        model = ms.Model(network, accuracy.watch(loss_fn()), optimizer, metrics={"acc"})
        train = dataset(shuffle=True)
        state = TrainingState(str(folder / "state"), every_n_steps=1)
        history = History()
        of_interval = LossMonitor(per_print_times=3, mean_of="interval")
        initial_epoch = state.resume(model, train)
        callbacks = [LossMonitor(), of_interval, accuracy, history, state, *more]
        model.train(2, train, callbacks=callbacks, initial_epoch=initial_epoch)
        return accuracy.accuracies_, history.history["loss"]

    def printed() -> list[str]:
        out = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("TrainingState:")]
        return [re.sub(r"time: ?[\d.]+ ms", "time", line) for line in out]

    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    expected = lines(tmp_path / "whole")
    whole = printed()
    with pytest.raises(RuntimeError, match="mine"):
        lines(tmp_path / "broken", Fail("on_train_step_begin", 2, step))
    before = printed()
    assert lines(tmp_path / "broken") == expected
    assert before + printed() == whole


@within
def test_an_export_of_the_best_goes_on(tmp_path):
    """The file is that of the uninterrupted run's best epoch, with its value, though that was before the state."""
    ends = []
    for name, fails in (("whole", ()), ("broken", (Fail("on_train_step_begin"),))):
        (tmp_path / name).mkdir()
        for fail in (*fails, None):
            model, train = make_model(), dataset()
            state = TrainingState(str(tmp_path / name / "state"), every_n_steps=1)
            exporting = ExportBest(str(tmp_path / name / "best.mindir"), monitor="loss", mode="max", verbose=0)
            initial_epoch = state.resume(model, train)
            try:
                model.train(
                    2, train, callbacks=[exporting, state, *([fail] if fail else [])], initial_epoch=initial_epoch
                )
            except RuntimeError:
                continue
        outputs = nn.GraphCell(ms.load(exporting.path_))(ms.Tensor(np.ones((12, 1, 4, 4), np.float32))).asnumpy()
        ends.append((exporting.best_, exporting.best_epoch_, outputs.tolist()))
    assert ends[0] == ends[1]
    assert ends[0][1] == 1


# What a directory holds


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with the states after epochs 1, 2 and 3 of a run of 5 that was broken off."""
    folder = tmp_path_factory.mktemp("broken")
    state = TrainingState(str(folder / "state"), keep=3)
    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(5, dataset(), callbacks=[state, Fail("on_train_step_end", 4), Count(2), Count(3)])
    return folder / "state"


@pytest.fixture
def states(tmp_path: pathlib.Path, broken_off: pathlib.Path) -> pathlib.Path:
    shutil.copytree(broken_off, tmp_path / "state")
    return tmp_path / "state"


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_where_nothing_is_resume_returns_0(tmp_path):
    """The same script serves the first run; nothing is made by asking."""
    assert TrainingState(str(tmp_path / "state")).resume(make_model(), dataset()) == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_are_kept(tmp_path, keep):
    """As many as asked for, by number."""
    state = TrainingState(str(tmp_path / "state"), keep=keep)
    make_model().train(5, dataset(), callbacks=[state])
    assert names(tmp_path / "state") == ["state-00000004", "state-00000005"][-keep:]


def test_states_are_ordered_by_number(states):
    """Also where a number has a digit more than the others."""
    os.rename(states / "state-00000002", states / "state-99999999")
    os.rename(states / "state-00000003", states / "state-100000000")
    assert TrainingState(str(states)).resume(make_model(), dataset()) == 3


def test_every_callback_gets_its_own_state(states, capsys):
    """A user's own too, two of one class by their order; which are new or gone is said."""
    counts = [Count(2), Count(3)]
    model, train = make_model(), dataset()
    state = TrainingState(str(states))
    initial_epoch = state.resume(model, train)
    model.train(4, train, callbacks=[*counts, state], initial_epoch=initial_epoch)
    assert [count.total for count in counts] == [2 * 16, 3 * 16]
    assert "callback" not in capsys.readouterr().out


def test_callbacks_that_are_new_or_gone_are_said(states, capsys):
    """With their names; the run goes on."""
    model, train = make_model(), dataset()
    state, history = TrainingState(str(states)), History()
    initial_epoch = state.resume(model, train)
    model.train(4, train, callbacks=[Count(2), history, state], initial_epoch=initial_epoch)
    out = capsys.readouterr().out
    assert "TrainingState: History was not there when the state was saved; it starts from scratch" in out
    assert "TrainingState: Count 2 was there when the state was saved, but is not in the list of callbacks now" in out
    assert history.epoch == [4]


def test_a_callback_that_cannot_take_its_state_is_named(tmp_path):
    """Made with other arguments than before: an error before the first step, with what to do."""
    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(
            5, dataset(), callbacks=[LRWarmup(1), TrainingState(str(tmp_path / "s")), Fail("on_train_step_end")]
        )
    model, train, state = make_model(), dataset(), TrainingState(str(tmp_path / "s"))
    initial_epoch = state.resume(model, train)
    warmup = LRWarmup(1, after=ReduceLROnPlateau("loss"))
    with pytest.raises(ValueError, match="LRWarmup cannot continue from what .*make it with the same arguments"):
        model.train(5, train, callbacks=[warmup, state, NoStep()], initial_epoch=initial_epoch)


def test_values_that_are_not_finite_come_back(tmp_path):
    """NaN and infinities are plain numbers."""

    class Odd(Count):
        def state_dict(self):
            return {"total": self.total, "odd": [math.nan, math.inf, -math.inf], "nothing": None}

        def load_state_dict(self, state):
            self.state = state

    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(
            3, dataset(), callbacks=[Odd(), TrainingState(str(tmp_path / "s")), Fail("on_train_step_end")]
        )
    model, train, state, odd = make_model(), dataset(), TrainingState(str(tmp_path / "s")), Odd()
    initial_epoch = state.resume(model, train)
    model.train(3, train, callbacks=[odd, state], initial_epoch=initial_epoch)
    assert math.isnan(odd.state["odd"][0])
    assert (odd.state["odd"][1:], odd.state["nothing"]) == ([math.inf, -math.inf], None)


@pytest.mark.parametrize("content", [{"x": np.float32(1)}, {"x": {1, 2}}, {"x": [{1: "one"}]}, {"x": object()}])
def test_a_state_that_is_not_plain_names_its_callback(tmp_path, content):
    """At the first save; a key that JSON would make a string of would not come back as it was."""

    class Special(Count):
        def state_dict(self):
            return content

    with pytest.raises(TypeError, match="TrainingState: state_dict of Special must hold plain numbers, strings"):
        make_model().train(2, dataset(), callbacks=[Special(), TrainingState(str(tmp_path / "state"))])
    assert names(tmp_path / "state") == []


class Arrays(Count):
    """Keeps an array too."""

    def __init__(self, array: Any) -> None:
        super().__init__()
        self.array = array

    def state_arrays(self) -> dict[str, Any]:
        return {"x": self.array}

    def load_state_arrays(self, arrays: dict[str, Any]) -> None:
        self.array = arrays["x"]


def test_arrays_of_a_users_own_come_back_as_they_were(tmp_path):
    """Of any shape, those without elements and without dimensions too."""
    kinds = ("float16", "float32", "float64", "int8", "uint16", "bool", "complex64")
    shapes = ((0,), (), (3, 0), (2, 3))
    arrays = [np.ones(shape, kind) for shape in shapes for kind in kinds]
    one = [keyed(str(index), Arrays(array)) for index, array in enumerate(arrays)]
    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(
            2, dataset(), callbacks=[TrainingState(str(tmp_path / "s")), *one, Fail("on_train_step_end")]
        )
    other = [keyed(str(index), Arrays(None)) for index in range(len(arrays))]
    model, data, state = make_model(), dataset(), TrainingState(str(tmp_path / "s"))
    first = state.resume(model, data, epochs=2)
    model.train(2, data, callbacks=[state, *other], initial_epoch=first)
    for each, array in zip(other, arrays):
        assert (each.array.shape, each.array.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(each.array, array)


@pytest.mark.parametrize(
    "array", [[1.0], np.float32(1), ms.Tensor([1.0]), np.array(["a"]), np.array([{}]), np.ones(2, ">f4"), None]
)
def test_arrays_that_cannot_be_saved_name_their_callback(tmp_path, array):
    """At the first save."""
    with pytest.raises(TypeError, match="TrainingState: state_arrays of Arrays must hold NumPy arrays of num.*'x' is"):
        make_model().train(2, dataset(), callbacks=[Arrays(array), TrainingState(str(tmp_path / "state"))])
    assert names(tmp_path / "state") == []


@pytest.mark.parametrize("what", [training_state, _background_writer], ids=["state", "best"])
def test_an_interrupt_while_the_run_waits_for_a_file_waits_for_it_all_the_same(tmp_path, monkeypatch, what):
    """When `train` has raised, nothing is being written any more, and what was is known."""
    go_on, calls = threading.Event(), []
    save, waiting = checkpoint_io.save, what.wait

    def slow(*arguments: Any) -> None:
        go_on.wait(60)
        save(*arguments)

    def wait(futures: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        go_on.set()
        return waiting(futures)

    monkeypatch.setattr(checkpoint_io, "save", slow)
    monkeypatch.setattr(what, "wait", wait)
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", verbose=0)
    kept = TrainingState(str(tmp_path / "s")) if what is training_state else best
    try:
        with pytest.raises(KeyboardInterrupt):
            make_model().train(1, dataset(), callbacks=[kept])
        assert go_on.is_set()
        assert best.best_epoch_ == 1 or names(tmp_path / "s") == ["state-00000001"]
    finally:
        go_on.set()


def test_a_callback_that_only_loads_has_no_state(tmp_path):
    """It is left alone."""

    class Loads(Callback):
        def load_state_dict(self, state):
            raise AssertionError

    make_model().train(2, dataset(), callbacks=[Loads(), TrainingState(str(tmp_path / "state"))])
    saved = json.loads((tmp_path / "state" / "state-00000002" / "state.json").read_text())["content"]
    assert saved["callbacks"] == []


# What is refused


def other_network() -> ms.Model:
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
    return ms.Model(network, nn.SoftmaxCrossEntropyWithLogits(True, "mean"), nn.Adam(network.trainable_params(), 0.1))


@pytest.mark.parametrize(
    ("make", "batch_size", "message"),
    [
        (other_network, 12, "holds the weights of another network: the file lacks .*. Nothing was loaded"),
        (lambda: make_model(lambda net: nn.Momentum(net.trainable_params(), 0.1, 0.9)), 12, "the file lacks moments"),
        (lambda: make_model(lambda net: nn.SGD(net.trainable_params(), 0.1)), 12, "this one has no .*. Nothing was"),
        (make_model, 6, "was saved with 4 batches in the dataset, but train_dataset has 8"),
    ],
    ids=["network", "momentum", "sgd", "batches"],
)
def test_what_is_not_as_it_was_is_refused_and_nothing_is_loaded(states, make, batch_size, message):
    """Weights, seeds and dataset stay as they are, and the state is not half taken up."""
    model, train, state = make(), dataset(batch_size=batch_size), TrainingState(str(states))
    before, numbers = weights(model.train_network), np.random.get_state()[1].tolist()
    with pytest.raises(ValueError, match=f"TrainingState: .*{message}"):
        state.resume(model, train)
    assert_same_weights(weights(model.train_network), before)
    assert np.random.get_state()[1].tolist() == numbers
    count = Count()
    with pytest.raises(ValueError, match="holds the state of a run; to continue it, call initial_epoch"):
        model.train(5, train, callbacks=[count, state, NoStep()])
    assert count.total == 0


@pytest.mark.parametrize("spoiled", [False, True], ids=["whole", "damaged"])
def test_a_state_is_never_replaced_by_mistake(states, spoiled):
    """Before the first step, with what to call; every state stays, a damaged one too, until it is said otherwise."""
    if spoiled:
        for path in states.iterdir():
            spoil(path / "state.json", "truncated")
    model, before = make_model(), names(states)
    with pytest.raises(ValueError, match=r"holds the state of a run; to continue it, call .*or overwrite=True"):
        model.train(5, dataset(), callbacks=[TrainingState(str(states)), NoStep()])
    assert names(states) == before
    state = TrainingState(str(states), overwrite=True)
    for _ in range(2):  # the same object, a second run
        model.train(2, dataset(), callbacks=[state])
    assert names(states) == ["state-00000001", "state-00000002"]


@pytest.mark.parametrize("initial_epoch", [0, 2, 4])
def test_another_initial_epoch_is_refused(states, initial_epoch):
    """Before the first step, with what to pass; the right one works after."""
    model, train, state = make_model(), dataset(), TrainingState(str(states))
    right = state.resume(model, train)
    with pytest.raises(ValueError, match=f"is that after epoch 3, but the run has initial_epoch={initial_epoch}; pass"):
        model.train(5, train, callbacks=[state, NoStep()], initial_epoch=initial_epoch)
    assert right == state.resume(model, train) == 3
    model.train(4, train, callbacks=[state], initial_epoch=right)


def test_another_dataset_is_refused(states):
    """Than resume was given: that one begins at the right step, and no other."""
    model, state = make_model(), TrainingState(str(states))
    initial_epoch = state.resume(model, dataset())
    with pytest.raises(ValueError, match="trains on another dataset than resume was given; pass the same one"):
        model.train(5, dataset(), callbacks=[state, NoStep()], initial_epoch=initial_epoch)


@within
def test_steps_cannot_be_told_apart_in_sink_mode(tmp_path, monkeypatch):
    """Said before the first step; by epoch it works there. On a CPU, MindSpore itself leaves sink mode out."""
    model = make_model()
    model.train(2, dataset(), callbacks=[TrainingState(str(tmp_path / "state"))], dataset_sink_mode=True)
    monkeypatch.setattr(Progress, "is_sinking", property(lambda progress: True))
    with pytest.raises(ValueError, match="in sink mode steps run on the device unseen; .* or leave every_n_steps out"):
        model.train(
            1, dataset(), callbacks=[TrainingState(str(tmp_path / "state"), every_n_steps=1, overwrite=True), NoStep()]
        )


@pytest.mark.skipif(CAN_BEGIN_WITHIN, reason="this MindSpore can begin a dataset in its middle")
def test_every_n_steps_is_refused_where_mindspore_cannot_begin_there(tmp_path):
    """Where it is made."""
    with pytest.raises(ValueError, match="cannot begin a dataset in its middle; leave every_n_steps out"):
        TrainingState(str(tmp_path), every_n_steps=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": 0}, "keep must be at least 1"),
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1"),
        ({"every_n_steps": 1.5}, "every_n_steps must be a whole number"),
        ({"directory": ""}, "directory must not be empty"),
        ({"directory": None}, "directory must be a string"),
    ],
)
def test_wrong_arguments_are_refused_where_it_is_made(arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"TrainingState: {message}"):
        TrainingState(**{"directory": "state", **arguments})


def test_resume_takes_a_model_and_a_dataset(tmp_path):
    """Anything else is named."""
    state = TrainingState(str(tmp_path))
    with pytest.raises(TypeError, match=r"model must be a mindspore.train.Model, but got Network"):
        state.resume(Network(), dataset())
    with pytest.raises(TypeError, match="train_dataset must be a MindSpore dataset, but got list"):
        state.resume(make_model(), [])


# Damage


def spoil(path: pathlib.Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) // 2 :]
    elif how == "flipped":
        content[len(content) // 2] ^= 4
    elif how == "of another":
        content = bytearray((path.parent.parent / "state-00000001" / path.name).read_bytes())
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["weights.ckpt", "state.json"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "missing", "of another"])
def test_a_damaged_state_is_refused_by_name_and_the_next_older_is_taken(states, name, how, capsys):
    """Where none is whole, an error names them all, and nothing is loaded."""
    spoil(states / "state-00000003" / name, how)
    model, train, state = make_model(), dataset(), TrainingState(str(states))
    if how == "of another" and name == "state.json":
        # The whole content of an older state: its weights are not these.
        (states / "state-00000003" / "weights.ckpt").write_bytes(
            (states / "state-00000002" / "weights.ckpt").read_bytes()
        )
    assert state.resume(model, train) == 2
    assert f"TrainingState: refused '{states}/state-00000003' (" in capsys.readouterr().out
    for each in ("state-00000001", "state-00000002"):
        spoil(states / each / name, "truncated")
    fresh = make_model(learning_rate=0.5)
    before = weights(fresh.train_network)
    with pytest.raises(ValueError, match="no whole state is left; refused: .*3' .*2' .*1' "):
        TrainingState(str(states)).resume(fresh, train)
    assert_same_weights(weights(fresh.train_network), before)


def test_a_state_of_another_format_is_refused(states):
    """Such as that of a version to come."""
    path = states / "state-00000003" / "state.json"
    file = json.loads(path.read_text())
    file["content"]["format"] = 4
    path.write_text(json.dumps({"sha256": atomic_files.digest_of(file["content"]), "content": file["content"]}))
    assert TrainingState(str(states)).resume(make_model(), dataset()) == 2


def test_files_get_ordinary_permissions(tmp_path):
    """Those that the umask leaves, the weights' too, which MindSpore makes readable by their owner alone."""
    umask = os.umask(0o027)
    try:
        make_model().train(2, dataset(), callbacks=[TrainingState(str(tmp_path / "state"))])
    finally:
        os.umask(umask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").rglob("*")}
    folders = {"state-00000001": 0o750, "state-00000002": 0o750}
    assert modes == {**folders, "weights.ckpt": 0o640, "state.json": 0o640}


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    """As where a file is in its place."""
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="TrainingState: cannot make the folder '.*file': .*; pass another"):
        make_model().train(1, dataset(), callbacks=[TrainingState(tmp_path / "file"), NoStep()])


@within
def test_a_resume_that_is_repeated_leaves_datasets_as_they_were(states):
    """As where the first was of another run, or its cell of a notebook was run again."""
    before = ds.config.get_fast_recovery()
    state, model, train = TrainingState(str(states)), make_model(), dataset()
    for _ in range(2):
        first = state.resume(model, train)
    model.train(4, train, callbacks=[state, Count(2), Count(3)], initial_epoch=first)
    assert ds.config.get_fast_recovery() == before


def test_the_seeds_come_back(states):
    """Of MindSpore, its datasets, NumPy and Python: what is drawn next is what would have been drawn."""
    ms.set_seed(5)
    random.seed(5)
    seeds = json.loads((states / "state-00000003" / "state.json").read_text())["content"]["seeds"]
    TrainingState(str(states)).resume(make_model(), dataset())
    assert (ms.get_seed(), ds.config.get_seed()) == (seeds["mindspore"], seeds["dataset"])
    version, internal, gauss = random.getstate()
    assert [version, list(internal), gauss] == seeds["python"]
    assert np.random.get_state()[1].tolist() == seeds["numpy"][1]


def test_no_state_tells_of_a_best_file_that_could_not_be_written(tmp_path, monkeypatch):
    """What is written behind the run is written in order, and nothing after the first that failed."""
    queued, save = threading.Event(), checkpoint_io.save

    def fail_for_the_best(file, arrays, *ending):
        if not any(name.startswith("network/") for name in arrays):
            assert queued.wait(60)
            raise OSError("disk")
        save(file, arrays, *ending)

    class Queued(Callback):
        def on_train_step_begin(self, run_context: Any) -> None:
            if run_context.original_args()["cur_epoch_num"] == 2:  # the state after epoch 1 waits behind the best file
                queued.set()

    monkeypatch.setattr(checkpoint_io, "save", fail_for_the_best)
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", verbose=0)
    with pytest.raises(OSError, match="BestCheckpoint: could not save .* in epoch 1: disk"):
        make_model().train(2, dataset(), callbacks=[best, TrainingState(str(tmp_path / "state")), Queued()])
    assert names(tmp_path / "state") == []
