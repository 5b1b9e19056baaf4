"""An exception inside `construct`: the best weights come back whole, and the process can train, resume and load again.

In PYNATIVE mode MindSpore 2.8 to 2.10 are recording for a gradient then, and do not stop by themselves.
"""

from __future__ import annotations

import pytest
from mindspore import Tensor, ops
from training import Network, assert_same_weights, dataset, make_model, seeded, valid_dataset, weights

from ms_callbacks import BestCheckpoint, EarlyStopping, History, NonFiniteGuard, TrainingState, Validate


class Mine(Exception):
    """A user's own."""


class Fails(Network):
    """Fails in its n-th forward pass, in the middle of it, and as often as it was told to."""

    def __init__(self):
        super().__init__()
        self.fails_at, self.error, self.calls = 0, Mine, 0

    def construct(self, x):
        self.calls += 1
        hidden = self.norm(self.hidden(x))
        if self.calls == self.fails_at:
            raise self.error("mine")
        return self.head(self.flatten(self.relu(hidden)))


def model_of(network):
    return make_model(network=network)


def interrupted(model, network, error, callbacks, at=2):
    """Trains until the network fails in the first step after `at` epochs."""
    network.calls, network.error = 0, error
    network.fails_at = at * 4 + 2
    with pytest.raises(error) as raised:
        model.train(4, dataset(), callbacks=callbacks)
    assert str(raised.value) == "mine"
    assert raised.value.__context__ is None


pytestmark = pytest.mark.parametrize("mode", ["pynative"], indirect=True)
errors = pytest.mark.parametrize("error", [Mine, RuntimeError, KeyboardInterrupt, SystemExit])


def continued():
    """What two epochs of an undisturbed process give after one epoch's weights were given back."""
    model = model_of(seeded(Fails()))
    stopping = EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True, verbose=0)
    model.train(1, dataset(), callbacks=[stopping])
    return weights(model.predict_network)


@errors
def test_the_best_weights_come_back_bit_for_bit(mode, error):
    """And the user's own exception is the one that is raised."""
    network = seeded(Fails())
    model = model_of(network)
    stopping = EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True, verbose=0)
    interrupted(model, network, error, [stopping])
    assert stopping.best_epoch_ == 1
    assert_same_weights(weights(network), continued())


@errors
def test_training_is_right_again_after_it(mode, error):
    """A second run from the same weights and the same optimizer is that of a process where nothing was raised."""

    def run(fails):
        network = seeded(Fails())
        model = model_of(network)
        model.train(1, dataset(), callbacks=[History()])
        start = weights(model.train_network)
        if fails:
            network.calls, network.error, network.fails_at = 0, error, 2
            with pytest.raises(error, match="mine"):
                model.train(1, dataset(), callbacks=[History()])
            for one in model.train_network.get_parameters():
                ops.assign(one, Tensor(start[one.name]))
        model.train(2, dataset(), callbacks=[History()])
        return weights(model.train_network)

    assert_same_weights(run(True), run(False))


@errors
def test_a_checkpoint_loads_after_it(mode, error, tmp_path):
    """In the same process, where no callback of ours was in the run that failed."""
    network = seeded(Fails())
    model = model_of(network)
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor="loss", mode="max", verbose=0)
    model.train(1, dataset(), callbacks=[best])
    saved = weights(network)
    interrupted(model, network, error, [])
    best.load_into(network)
    assert_same_weights(weights(network), saved)
    model.train(1, dataset(), callbacks=[Validate(model, valid_dataset())])


@errors
def test_the_same_process_resumes_after_it(mode, error, tmp_path):
    """And ends as a run that was never interrupted."""
    model = model_of(seeded(Fails()))
    model.train(4, dataset(), callbacks=[TrainingState(str(tmp_path / "whole"))])
    whole = weights(model.train_network)

    network = seeded(Fails())
    model = model_of(network)
    interrupted(model, network, error, [TrainingState(str(tmp_path / "state"))])
    for fresh in (True, False):  # a new Model, or the one that failed
        state, data = TrainingState(str(tmp_path / "state")), dataset()
        again = model_of(seeded(Fails())) if fresh else model
        first = state.resume(again, data)
        assert first == 2
        if fresh:
            continue
        again.train(4, data, callbacks=[state], initial_epoch=first)
        assert_same_weights(weights(again.train_network), whole)


@errors
def test_a_guard_gives_the_user_its_own_exception(mode, error, tmp_path):
    """Its look at the last steps hides nothing and tears nothing."""
    network = seeded(Fails())
    model = model_of(network)
    guard = NonFiniteGuard(str(tmp_path / "dumps"), verbose=0)
    stopping = EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True, verbose=0)
    interrupted(model, network, error, [guard, stopping])
    assert guard.dumps_ == []
    assert_same_weights(weights(network), continued())
