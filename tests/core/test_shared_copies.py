"""Copies of weights: equal ones stand in memory once, and what nobody holds any more is written again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mindspore import Parameter, Tensor, ops
from mindspore.train import Callback
from training import CopiesInMemory, dataset, make_model, wait_for_writes

from ms_callbacks import BestCheckpoint, EarlyStopping, ExportBest, TrainingState
from ms_callbacks.core.parameters import MUCH, Snapshot
from ms_callbacks.core.shared_copies import Copies

KINDS = [np.float32, np.float16, np.int32, np.bool_, np.complex64]


def parameters(size: int = 4, kind: Any = np.float32) -> dict[str, Parameter]:
    values = np.arange(size).astype(kind)
    return {name: Parameter(Tensor(values), name=name, requires_grad=False) for name in ("one", "other")}


def bases(snapshot: Snapshot) -> list[int]:
    return [id(array.base) for array in snapshot.arrays.values()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 4, MUCH])
def test_equal_values_stand_in_memory_once(kind, size):
    """And hold what the parameters held when they were taken."""
    copies, own = Copies(), parameters(size, kind)
    first, second = copies.take(own), copies.take(own)
    assert bases(first) == bases(second)
    expected = {name: one.asnumpy().copy() for name, one in own.items()}
    for one in own.values():
        ops.assign(one, Tensor(np.ones(size, kind)))
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, expected[name])


def test_what_has_changed_is_copied_anew_and_the_rest_is_shared():
    """Bit for bit: a zero of another sign and a NaN count as any other value."""
    copies, own = Copies(), parameters()
    first = copies.take(own)
    ops.assign(own["one"], Tensor(np.array([-0.0, 1, 2, np.nan], np.float32)))
    second, third = copies.take(own), copies.take(own)
    assert bases(first)[0] != bases(second)[0]
    assert bases(first)[1] == bases(second)[1]
    assert bases(second) == bases(third)


def test_memory_that_nobody_holds_is_used_again():
    """Also where only a view of it was held."""
    copies, own = Copies(), parameters()
    first = copies.take(own)
    before = bases(first)
    view = first.arrays["one"][1:]
    first = None
    ops.assign(own["one"], Tensor(np.full(4, 7, np.float32)))
    ops.assign(own["other"], Tensor(np.full(4, 8, np.float32)))
    second = copies.take(own)
    assert bases(second)[1] == before[1]
    assert bases(second)[0] != before[0]
    assert view.tolist() == [1, 2, 3]


def test_arrays_that_others_may_change_are_copied():
    """And those that are copies already are not."""
    copies, own = Copies(), parameters()
    taken, mine = copies.take(own), np.zeros(4)
    kept = copies.kept({**taken.arrays, "mine": mine, "part": mine[1:]})
    assert all(kept[name] is array for name, array in taken.arrays.items())
    mine += 1
    assert kept["mine"].tolist() + kept["part"].tolist() == [0] * 7


def test_callbacks_of_a_run_share_the_copy_of_an_epoch(tmp_path, monkeypatch):
    """Of the best weights in memory, in a file, in an export and in a state there is one."""
    most: list[int] = []
    copies = CopiesInMemory(monkeypatch)

    class Count(Callback):
        def on_train_epoch_end(self, run_context: Any) -> None:
            most.append(copies.most)

    def best(name: str) -> list[Callback]:
        return [
            EarlyStopping("loss", mode="min", restore_best_weights=True, verbose=0),
            BestCheckpoint(str(tmp_path / f"{name}.ckpt"), monitor="loss", mode="min", verbose=0),
        ]

    waiting = BestCheckpoint.flush

    class Wait(Callback):
        """Each file is written before the next is due."""

        def on_train_epoch_begin(self, run_context: Any) -> None:
            for each in run_context.original_args()["list_callback"]:
                if isinstance(each, BestCheckpoint):
                    waiting(each)
                if isinstance(each, TrainingState):
                    wait_for_writes(each)

    state = TrainingState(str(tmp_path / "state"))
    export = ExportBest(str(tmp_path / "best.mindir"), monitor="loss", mode="min", verbose=0)
    callbacks = [*best("a"), *best("b"), export, Count(), state, Wait()]
    make_model(learning_rate=0.01).train(4, dataset(), callbacks=callbacks)
    assert most == [1, 1, 1, 1]


@pytest.mark.parametrize("mode", ["graph", "pynative"], indirect=True)
def test_best_weights_are_kept_whole_where_copying_is_interrupted(mode, monkeypatch):
    """The memory of the best before is given up by then: the network itself still has the new best."""
    model, taken = make_model(), []
    network = model.predict_network

    def interrupt(self: Copies, weights: Any) -> Any:
        taken.append({name: one.asnumpy().copy() for name, one in weights.items()})
        if len(taken) == 2:
            raise KeyboardInterrupt
        return take(self, weights)

    take = Copies.take
    monkeypatch.setattr(Copies, "take", interrupt)
    stopping = EarlyStopping("loss", mode="min", restore_best_weights=True, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        model.train(3, dataset(), callbacks=[stopping])
    assert stopping.best_epoch_ == 2
    for name, one in network.parameters_dict().items():
        if name in taken[1]:
            np.testing.assert_array_equal(one.asnumpy(), taken[1][name])
