"""Callbacks that are copied, pickled and sent to another process: made alike, and free of the run they were in."""

from __future__ import annotations

import copy
import inspect
import io
import multiprocessing
import pickle

import conftest  # noqa: F401  (another process needs it too)
import mindspore as ms
import pytest
from every_callback import MAKE
from mindspore import nn
from training import Script, assert_same_weights, dataset, make_model, valid_dataset, weights

from ms_callbacks import (
    BatchAccuracy,
    BestCheckpoint,
    CSVLogger,
    EarlyStopping,
    ExportBest,
    History,
    LRStepDecay,
    OptunaPruning,
    Robustness,
    ShapeInspector,
    StochasticWeightAveraging,
    Validate,
)
from ms_callbacks.core.callback import TrainCallback
from ms_callbacks.core.rate_setter import RateSetter

# They hold a Model, a dataset or a cell that they were given, which MindSpore cannot pickle, or the trial of a study.
BOUND = (BatchAccuracy, OptunaPruning, Robustness, Validate)
# Of those that set the rate, a list has room for one; an average at the end is not the best weights.
ALONE = (
    *(kind for kind in MAKE if issubclass(kind, RateSetter) and kind is not LRStepDecay),
    StochasticWeightAveraging,
)
BY_DEFAULT = (StochasticWeightAveraging,)  # of these; the schedules are alike
LISTS = [
    pytest.param([kind for kind in MAKE if kind not in ALONE], id="all others"),
    *(pytest.param([kind], id=kind.__name__, marks=[] if kind in BY_DEFAULT else [pytest.mark.slow]) for kind in ALONE),
]


def pickled(callback):
    return pickle.loads(pickle.dumps(callback))


def copies_of(callback):
    """By each way that is open to it."""
    return [copy.copy, copy.deepcopy] + ([] if isinstance(callback, BOUND) else [pickled])


def arguments(callback):
    names = list(inspect.signature(type(callback)).parameters)
    return {name: getattr(callback, name) for name in names}


def learnt(callback):
    return {name: getattr(callback, name) for name in dir(callback) if name.endswith("_") and name[0] != "_"}


def shown(value):
    """A value as far as it can be compared: of another callback, its class and arguments."""
    if isinstance(value, TrainCallback):
        return type(value).__name__, {name: shown(each) for name, each in arguments(value).items()}
    return repr(value)


def assert_alike(one, other):
    assert type(one) is type(other)
    for mine, its in ((arguments(one), arguments(other)), (learnt(one), learnt(other))):
        assert {name: shown(value) for name, value in mine.items()} == {name: shown(its[name]) for name in its}


class CopyAt(ms.train.Callback):
    """Copies callbacks within a step and at an epoch's end of a run."""

    def __init__(self, callbacks):
        self.callbacks, self.copies = callbacks, []

    def on_train_step_end(self, run_context):
        if run_context.original_args()["cur_step_num"] == 6:
            self.take()

    def on_train_epoch_end(self, run_context):
        self.take()

    def take(self):
        for callback in self.callbacks:
            for way in copies_of(callback):
                self.copies.append(way(callback))


@pytest.mark.parametrize("kinds", LISTS)
def test_every_callback_can_be_copied_unused_used_and_in_a_run(kinds, tmp_path):
    """The copy is made as the callback, has learnt the same, and serves a run of its own."""
    model = make_model()
    callbacks = [MAKE[kind](model, tmp_path) for kind in kinds]
    for callback in callbacks:
        for way in copies_of(callback):
            assert_alike(way(callback), callback)
    taking = CopyAt(callbacks)
    validate = [] if Validate in kinds else [Validate(model, valid_dataset())]
    model.train(2, dataset(), callbacks=[*callbacks, *validate, taking])
    for callback in callbacks:
        for way in copies_of(callback):
            assert_alike(way(callback), callback)
    for copied in taking.copies:
        assert not any(inspect.isroutine(getattr(type(copied), name, None)) for name in vars(copied))
        assert not copied.in_run
    for copies in (taking.copies, [way(callback) for callback in callbacks for way in copies_of(callback)]):
        last = {type(copied): copied for copied in copies}
        assert set(last) == set(kinds)
        model.train(2, dataset(), callbacks=[*last.values(), *validate])
        for copied in last.values():
            assert all(value is not None for value in learnt(copied).values()), copied


def test_what_a_callback_was_given_of_mindspores_is_the_same_in_a_copy(tmp_path):
    """MindSpore cannot copy a Model or a dataset, and a copy of the network would never be trained."""
    model, file = make_model(), io.StringIO()
    given = [
        (Validate(model, valid_dataset()), ["model", "dataset"]),
        (Robustness(valid_dataset(), (0.0, 0.1)), ["dataset"]),
        (ExportBest(tmp_path / "best.mindir", monitor="acc", network=model.predict_network), ["network"]),
        (ShapeInspector(file=file, network=model.predict_network), ["file", "network"]),
    ]
    for callback, names in given:
        copied = copy.deepcopy([callback])[0]
        assert copied is not callback
        assert all(getattr(copied, name) is getattr(callback, name) for name in names)
    for callback, _ in given[:2]:  # a network can be pickled on MindSpore 2.0, and a dataset nowhere
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(callback)


def test_a_copy_within_a_list_stays_one(tmp_path):
    """As deepcopy and pickle keep it: the same object twice is the same twice."""
    stopping = EarlyStopping("acc")
    for way in (copy.deepcopy, pickled):
        one, other = way([stopping, stopping])
        assert one is other is not stopping


def test_a_used_best_checkpoint_is_small_and_loads_what_it_saved(tmp_path):
    """Its weights are on disk, and what it pickles is what it knows of them."""
    script = Script()
    script.network = nn.Dense(200, 200)
    best = BestCheckpoint(tmp_path / "best.ckpt", monitor="x", mode="max", verbose=0)
    script.run([best], [{"x": 1.0}, {"x": 0.5}])
    assert len(pickle.dumps(best)) < 2000
    network = nn.Dense(200, 200)
    assert pickled(best).load_into(network)["epoch"] == 1
    assert_same_weights(weights(network), weights(script.network))


def test_a_copy_holds_no_file_of_the_run(tmp_path):
    """A number of an open file means another one elsewhere, which the copy would close."""
    logger = CSVLogger(tmp_path / "log.csv")

    class Take(ms.train.Callback):
        def on_train_epoch_end(self, run_context):
            for copied in (copy.copy(logger), pickled(logger)):
                with copied:
                    pass  # which closes what it has open

    make_model().train(2, dataset(), callbacks=[logger, Take()])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_a_copy_counts_as_made(tmp_path):
    """And not as used, whatever its original went through."""
    stopping = EarlyStopping("loss", mode="min")
    make_model().train(1, dataset(), callbacks=[stopping])
    for way in (copy.copy, copy.deepcopy, pickled):
        copied = way(stopping)
        assert any(each is copied for each in TrainCallback.made())
        assert (copied.is_used, stopping.is_used) == (False, True)


def train_with(callbacks):
    """What a worker of a search does."""
    model = make_model()
    model.train(2, dataset(), callbacks=[*callbacks, Validate(model, valid_dataset())])
    return callbacks, weights(model.predict_network)


def test_all_go_to_a_spawned_process_and_come_back(tmp_path):
    """Used before: they serve a run there, and what they have learnt there is known here."""
    model = make_model()
    kinds = [kind for kind in MAKE if kind not in (*BOUND, *ALONE)]
    callbacks = [MAKE[kind](model, tmp_path) for kind in kinds]
    model.train(1, dataset(), callbacks=[*callbacks, Validate(model, valid_dataset())])
    others = [MAKE[kind](model, tmp_path) for kind in ALONE]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        came, final = pool.apply_async(train_with, (callbacks,)).get(120)
        assert [type(each) for each in pool.apply_async(copy.copy, (others,)).get(60)] == list(ALONE)
    assert [type(each) for each in came] == kinds
    by_kind = {type(each): each for each in came}
    best = by_kind[BestCheckpoint]
    network = make_model().predict_network
    assert best.load_into(network)["epoch"] == best.best_epoch_
    assert best.best_path_ == str(tmp_path / "best.ckpt")
    assert len(by_kind[History].epoch) == 2
    assert_same_weights(weights(network), final)  # EarlyStopping has put the same weights back there
