"""The momentum that LROneCycle and LRCyclic change: in every step, and the optimizer's own again after the run."""

from __future__ import annotations

import json

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback
from training import Network, Script, dataset, make_model, weights

from ms_callbacks import LRCyclic, LRExponential, LROneCycle, LRSequence, LRWarmup, TrainingState
from ms_callbacks.core.lr_curve import Plan

EPOCHS, STEPS = 3, 4


class Momentum(Callback):
    """The momentum that every step was made with; fails after one of them."""

    def __init__(self, optimizer=None, fails_at=0):
        self.momenta, self.optimizer, self.fails_at = [], optimizer, fails_at

    def on_train_step_end(self, run_context):
        optimizer = self.optimizer or run_context.original_args()["optimizer"]
        self.momenta.append(float(optimizer.momentum.asnumpy()))
        if len(self.momenta) == self.fails_at:
            raise RuntimeError("mine")


def momentum_model(momentum=0.7):
    return make_model(lambda network: nn.Momentum(network.trainable_params(), 0.05, momentum))


def momenta_of(schedule, epochs=EPOCHS, make=nn.Momentum, momentum=0.7, initial_epoch=0):
    script, recorder = Script(), Momentum()
    script.optimizer = make(Network().trainable_params(), learning_rate=0.05, momentum=momentum)
    script.run([recorder, schedule], [None] * (epochs - initial_epoch), steps=STEPS, initial_epoch=initial_epoch)
    return recorder.momenta, float(script.optimizer.momentum.asnumpy())


@pytest.mark.parametrize("make", [nn.Momentum, nn.SGD])
@pytest.mark.parametrize("schedule", [lambda: LROneCycle(0.1), lambda: LRCyclic(0.01, 0.1, step_size_up=3)])
def test_each_step_has_its_momentum_and_the_optimizer_its_own_afterwards(schedule, make):
    """PyTorch leaves the last one of the cycle."""
    made = schedule()
    momenta, after = momenta_of(made, make=make)
    expected = [made.momentum_at(index, Plan(EPOCHS, STEPS)) for index in range(EPOCHS * STEPS)]
    np.testing.assert_allclose(momenta, expected, rtol=1e-6)
    assert len(set(momenta)) >= 4
    assert after == pytest.approx(0.7)


def test_the_momentum_is_what_the_optimizer_uses(mode):
    """In both modes: the weights are those of one that was made with it, and not of another."""

    def trained(momentum, callbacks=()):
        model = make_model(lambda network: nn.Momentum(network.trainable_params(), 0.1, momentum))
        model.train(2, dataset(), callbacks=list(callbacks))
        return weights(model.predict_network)["head.weight"]

    # One height all the time: neither the rate nor the momentum ever changes.
    constant = LRCyclic(0.1, 0.1, step_size_up=3, base_momentum=0.5, max_momentum=0.5)
    found = trained(0.9, [constant])
    np.testing.assert_allclose(found, trained(0.5), rtol=1e-6)
    assert not np.allclose(found, trained(0.9), rtol=1e-3)


def test_what_comes_before_and_after_a_cycle_has_the_optimizers_own_momentum():
    """The warm-up, and the other schedules of a sequence."""
    own = [pytest.approx(0.7)] * STEPS
    momenta, after = momenta_of(LRWarmup(1, after=LROneCycle(0.1)))
    assert momenta[:STEPS] == own
    assert momenta[STEPS] == pytest.approx(0.95)
    assert after == pytest.approx(0.7)
    momenta, after = momenta_of(LRSequence([(LROneCycle(0.1), 1), (LRExponential(0.5), 1), (LROneCycle(0.1), 1)]))
    assert momenta[STEPS : 2 * STEPS] == own
    assert momenta[0] == momenta[2 * STEPS] == pytest.approx(0.95)


def test_the_own_momentum_is_there_again_after_an_exception():
    """And a run after that is like the first."""
    model, schedule = momentum_model(), LROneCycle(0.1)
    optimizer = model.train_network.optimizer
    first = Momentum()
    with pytest.raises(RuntimeError, match="mine"):
        model.train(EPOCHS, dataset(), callbacks=[Momentum(fails_at=6), schedule])
    assert float(optimizer.momentum.asnumpy()) == pytest.approx(0.7)
    model.train(EPOCHS, dataset(), callbacks=[first, schedule])
    assert first.momenta[0] == pytest.approx(0.95)
    assert float(optimizer.momentum.asnumpy()) == pytest.approx(0.7)


def test_a_resumed_run_continues_the_momentum_and_ends_with_the_optimizers_own(tmp_path):
    """Bit for bit: the saved momentum parameter is the one of the cycle, and the own one is in the state."""
    whole, model = Momentum(), momentum_model()
    model.train(4, dataset(), callbacks=[whole, LROneCycle(0.1)])
    expected = weights(model.train_network)
    first = momentum_model()
    with pytest.raises(RuntimeError, match="mine"):
        first.train(4, dataset(), callbacks=[Momentum(fails_at=10), LROneCycle(0.1), TrainingState(str(tmp_path))])
    other, state, rest, data = momentum_model(), TrainingState(str(tmp_path)), Momentum(), dataset()
    begun = state.resume(other, data, epochs=4)
    other.train(4, data, callbacks=[rest, LROneCycle(0.1), state], initial_epoch=begun)
    assert begun == 2
    assert rest.momenta == whole.momenta[begun * STEPS :]
    found = weights(other.train_network)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert float(found["momentum"]) == pytest.approx(0.7)


def test_a_finished_state_has_the_optimizers_own_momentum(tmp_path):
    """What is loaded from it is an optimizer as it was made."""
    model = momentum_model()
    model.train(2, dataset(), callbacks=[LROneCycle(0.1), TrainingState(str(tmp_path))])
    other, state = momentum_model(), TrainingState(str(tmp_path))
    state.resume(other, dataset(), epochs=2)
    assert state.finished_
    assert float(other.train_network.optimizer.momentum.asnumpy()) == pytest.approx(0.7)


def test_a_state_within_an_epoch_continues_exactly(tmp_path):
    """After a step that was neither the first nor the last of its epoch."""
    if not hasattr(ms.dataset.Dataset, "set_init_step"):
        pytest.skip("MindSpore 2.0 cannot begin within an epoch")
    schedule = LRSequence([(LRWarmup(steps=5), 2), (LROneCycle(0.1), None)])
    whole, model = Momentum(), momentum_model()
    model.train(4, dataset(), callbacks=[whole, schedule])

    def callbacks(state):
        return [LRSequence([(LRWarmup(steps=5), 2), (LROneCycle(0.1), None)]), state]

    for fails_at in (3, 11, 14):
        folder, first = str(tmp_path / str(fails_at)), momentum_model()
        state = TrainingState(folder, every_n_steps=1)
        with pytest.raises(RuntimeError, match="mine"):
            first.train(4, dataset(), callbacks=[*callbacks(state), Momentum(fails_at=fails_at)])
        other, state, rest, data = momentum_model(), TrainingState(folder, every_n_steps=1), Momentum(), dataset()
        begun = state.resume(other, data, epochs=4)
        other.train(4, data, callbacks=[rest, *callbacks(state)], initial_epoch=begun)
        assert 0 < len(rest.momenta) < 16
        assert rest.momenta == whole.momenta[-len(rest.momenta) :]
        found = weights(other.train_network)
        for name, array in weights(model.train_network).items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_state_is_numbers_only():
    """The own momentum too."""
    schedule = LROneCycle(0.1)
    momenta_of(schedule)
    assert json.loads(json.dumps(schedule.state_dict()))["momenta"] == [pytest.approx(0.7)]


@pytest.mark.parametrize("make", [nn.Adam, nn.RMSProp])
def test_an_optimizer_whose_momentum_is_a_constant(make):
    """Only the rate changes, unless the momentum was asked for explicitly."""
    script = Script()
    script.optimizer = make(Network().trainable_params(), 0.05)
    script.run([LROneCycle(0.1)], [None], steps=STEPS)
    for schedule in (LROneCycle(0.1, cycle_momentum=True), LRCyclic(0.01, 0.1, cycle_momentum=True)):
        for wrapped in (schedule, LRWarmup(1, after=schedule), LRSequence([(schedule, None)])):
            with pytest.raises(
                ValueError, match=f"cycle_momentum=True needs an optimizer .* but got '{make.__name__}'"
            ):
                script.run([wrapped], [None] * 2, steps=STEPS)


def test_an_optimizer_that_was_made_without_momentum_gets_none_unless_asked():
    """Otherwise SGD would become another method."""
    momenta, after = momenta_of(LROneCycle(0.1), make=nn.SGD, momentum=0.0)
    assert set(momenta) == {after} == {0.0}
    momenta, after = momenta_of(LROneCycle(0.1, cycle_momentum=True), make=nn.SGD, momentum=0.0)
    assert momenta[0] == pytest.approx(0.95)
    assert after == 0
    momenta, _ = momenta_of(LROneCycle(0.1, cycle_momentum=False))
    assert momenta == [pytest.approx(0.7)] * EPOCHS * STEPS
