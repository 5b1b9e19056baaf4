"""What a callback shows of itself: its configuration, and in a completion what its user may want."""

from __future__ import annotations

import pathlib

import mindspore as ms
import numpy as np
import pytest
from training import Script, dataset, make_model, valid_dataset

from ms_callbacks import (
    BestCheckpoint,
    ConfusionMatrix,
    DynamicLR,
    EarlyStopping,
    History,
    LossMonitor,
    LRCosineAnnealing,
    LRStepDecay,
    LRWarmup,
    ShapeInspector,
    Validate,
)
from ms_callbacks.core.configuration import arguments_of


class Mine(EarlyStopping):
    """Keeps an argument of its own and passes others on."""

    def __init__(self, limit, *rest, flag=False, **others):
        super().__init__("acc", **others)
        self.limit, self.flag = limit, flag


class Forgetful(EarlyStopping):
    """Keeps nothing under its name, has a property that raises, and one argument of a base's name."""

    def __init__(self, secret, broken=0, patience=7):
        super().__init__(patience=patience)

    @property
    def broken(self):
        raise RuntimeError("not yet")


class Strange:
    """Cannot be compared, asked or shown."""

    def __eq__(self, other):
        raise RuntimeError("no")

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")

    __hash__ = None


def itself():
    stopping = Mine(1)
    stopping.limit = [stopping]
    return stopping


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (EarlyStopping, "EarlyStopping()"),
        (lambda: EarlyStopping("acc", patience=3), "EarlyStopping(monitor='acc')"),
        (lambda: EarlyStopping("eval_loss", patience=5), "EarlyStopping(patience=5)"),
        (lambda: EarlyStopping(min_delta=0, patience=4), "EarlyStopping(patience=4)"),
        # The signature's order, not that of the call; a required argument always.
        (
            lambda: EarlyStopping(restore_best_weights=True, mode="max", monitor="f1", baseline=0.5),
            "EarlyStopping(monitor='f1', mode='max', baseline=0.5, restore_best_weights=True)",
        ),
        (lambda: LRStepDecay(1), "LRStepDecay(step_size=1)"),
        (lambda: LRWarmup(1, after=LRCosineAnnealing(9)), "LRWarmup(epochs=1, after=LRCosineAnnealing(T_max=9))"),
        (lambda: BestCheckpoint(monitor="acc"), "BestCheckpoint(monitor='acc')"),
        # Large values are shortened; data shows its kind.
        (lambda: DynamicLR([0.1] * 99), "DynamicLR(lr_list=[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, ...])"),
        (lambda: DynamicLR(np.full(99, 0.1), by="epoch"), "DynamicLR(lr_list=<ndarray (99,)>, by='epoch')"),
        (lambda: DynamicLR((np.float32(0.5),)), "DynamicLR(lr_list=(0.5,))"),
        (lambda: LossMonitor(ms.Tensor([0.1, 0.2]), 9), "LossMonitor(learning_rate=<Tensor (2,)>, per_print_times=9)"),
        (lambda: Validate(make_model(), valid_dataset()), "Validate(model=<Model>, dataset=<BatchDataset>)"),
        (lambda: ShapeInspector(show_values_at=[1, 5], depth=2), "ShapeInspector(depth=2, show_values_at=(1, 5))"),
        (lambda: ConfusionMatrix(["a", "b"], output=len), "ConfusionMatrix(class_names=['a', 'b'], output=len)"),
        # Subclasses of a user's, whatever they keep.
        (lambda: Mine(3), "Mine(limit=3, monitor='acc')"),
        (lambda: Mine(None, flag=True, patience=9), "Mine(limit=None, flag=True, monitor='acc', patience=9)"),
        (lambda: Mine(pathlib.PurePosixPath("a/b")), "Mine(limit=PurePosixPath('a/b'), monitor='acc')"),
        (lambda: Mine("x" * 300), f"Mine(limit='{'x' * 47}...{'x' * 48}', monitor='acc')"),
        (lambda: Mine({"a": [History()]}), "Mine(limit={'a': [History()]}, monitor='acc')"),
        (lambda: Mine(Strange()), "Mine(limit=<Strange>, monitor='acc')"),
        (itself, "Mine(limit=[...], monitor='acc')"),
        (lambda: Forgetful("x"), "Forgetful()"),
        (lambda: Forgetful("x", patience=1), "Forgetful(patience=1)"),
        (lambda: Forgetful.__new__(Forgetful), "Forgetful()"),
    ],
)
def test_the_configuration_is_shown(make, shown):
    """As it was given: what differs from the defaults, in the order of the signature."""
    assert repr(make()) == shown


def test_it_is_the_same_after_a_run():
    """What a run learns is no part of it."""
    stopping = EarlyStopping("x", mode="min", patience=1, verbose=0)
    before = repr(stopping)
    Script().run([stopping], [{"x": 1.0}, {"x": 2.0}])
    assert repr(stopping) == before == "EarlyStopping(monitor='x', patience=1, mode='min', verbose=0)"


def test_a_completion_offers_what_a_user_wants():
    """Arguments, what was learnt and what can be called, and none of the hooks; all of these are there all the same."""
    stopping = EarlyStopping("acc")
    names = {name for name in dir(stopping) if not name.startswith("_")}
    assert {"monitor", "patience", "best_", "wait_", "restore", "state_dict", "load_state_dict"} <= names
    assert not {name for name in names if name.startswith("on_")}
    assert not names & {"step_end", "check", "after_epoch", "log", "before_epoch"}
    assert callable(stopping.on_train_step_end)
    model = make_model()
    model.train(1, dataset(), callbacks=[History()])
    assert {"history", "state_key"} <= set(dir(History()))


def test_the_arguments_by_name_are_plain_values():
    """For a log of the run: what is not a number or a string is shown as in the `repr`."""
    model = make_model()
    validate = Validate(model, valid_dataset(), every_n_steps=2)
    assert arguments_of(EarlyStopping("acc", patience=5)) == {"monitor": "acc", "patience": 5}
    assert arguments_of(validate) == {"model": "<Model>", "dataset": "<BatchDataset>", "every_n_steps": 2}
    assert arguments_of(Forgetful(1)) == {}
