"""accumulate_gradients: n small batches are one large batch, for every optimizer, and nothing is left of an epoch."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from training import Interrupt, assert_same_weights, dataset, loss_fn, seeded, valid_dataset, weights

from ms_callbacks import (
    EMAWeightAveraging,
    History,
    LRStepDecay,
    TrainingState,
    Validate,
    accumulate_gradients,
    check_callbacks,
)

OPTIMIZERS = {
    "Momentum": lambda groups: nn.Momentum(groups, 0.1, 0.9),
    "SGD": lambda groups: nn.SGD(groups, 0.1, 0.9),
    "Adam": lambda groups: nn.Adam(groups, 0.1),
    "AdamWeightDecay": lambda groups: nn.AdamWeightDecay(groups, 0.1, weight_decay=0.01),
    "RMSProp": lambda groups: nn.RMSProp(groups, 0.1),
    "Adagrad": lambda groups: nn.Adagrad(groups, learning_rate=0.1),
}


class Plain(nn.Cell):
    """Without BatchNorm, which sees each batch by itself."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Conv2d(1, 3, 3, pad_mode="valid")
        self.relu, self.flatten = nn.ReLU(), nn.Flatten()
        self.head = nn.Dense(12, 3)

    def construct(self, x):
        return self.head(self.flatten(self.relu(self.hidden(x))))


def model_with(make=OPTIMIZERS["Adam"], n=1, grouped=False):
    ms.set_seed(3)  # from which the biases are drawn
    network = seeded(Plain())
    parameters = network.trainable_params()
    if grouped:
        head, rest = network.head.trainable_params(), network.hidden.trainable_params()
        parameters = [{"params": head, "lr": 0.05, "weight_decay": 0.01}, {"params": rest}]
    optimizer = accumulate_gradients(make(parameters), n)
    return ms.Model(network, loss_fn(), optimizer, metrics={"acc"}), optimizer


def assert_close(one, other):
    for name, array in weights(one.predict_network).items():
        np.testing.assert_allclose(array, weights(other.predict_network)[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_n_batches_equal_one_of_n_times_the_size(name, mode):
    """Weights and the optimizer's counter."""
    large, plain = model_with(OPTIMIZERS[name])
    large.train(2, dataset(48, 48))
    small, optimizer = model_with(OPTIMIZERS[name], 4)
    small.train(2, dataset(48, 12), callbacks=[History()])
    assert_close(small, large)
    np.testing.assert_array_equal(optimizer.global_step.asnumpy(), plain.global_step.asnumpy())


def test_parameter_groups_keep_their_rates_and_weight_decay(mode):
    """They are those of the optimizer within."""
    large, _ = model_with(OPTIMIZERS["Momentum"], grouped=True)
    large.train(2, dataset(48, 48), callbacks=[LRStepDecay(1, 0.5)])
    small, _ = model_with(OPTIMIZERS["Momentum"], 4, grouped=True)
    small.train(2, dataset(48, 12), callbacks=[LRStepDecay(1, 0.5)])
    assert_close(small, large)


@pytest.mark.parametrize("by_fit", [False, True])
def test_the_last_group_of_an_epoch_has_its_own_weight(mode, by_fit):
    """5 batches, n = 3: the second update of the epoch is the mean of two, before the evaluation; none is left."""
    small, optimizer = model_with(OPTIMIZERS["Adam"], 3)
    history = History()
    if by_fit:
        small.fit(2, dataset(60, 12), valid_dataset(), callbacks=[history])
    else:
        small.train(2, dataset(60, 12), callbacks=[history, Validate(small, valid_dataset())])
    assert optimizer.accumulated() == 0
    by_hand, whole = model_with(OPTIMIZERS["Adam"])
    step = nn.TrainOneStepCell(nn.WithLossCell(by_hand.predict_network, loss_fn()), whole)
    batches = list(dataset(60, 12).create_tuple_iterator(num_epochs=1, output_numpy=True))
    accuracies = []
    for _ in range(2):
        for first, last in ((0, 3), (3, 5)):
            step.set_train()
            step(*(Tensor(np.concatenate(columns)) for columns in zip(*batches[first:last])))
        accuracies.append(by_hand.eval(valid_dataset())["acc"])
    assert_close(small, by_hand)
    assert history.history["acc"] == accuracies


def test_averages_and_steps_count_updates():
    """Not every step."""
    model, _ = model_with(n=3)
    averaging = EMAWeightAveraging(decay=0.9)
    model.train(2, dataset(60, 12), callbacks=[averaging])
    assert averaging.updates_ == 4


@pytest.mark.parametrize("at", [2, 4, 6])
def test_a_resume_within_a_group_ends_as_a_run_that_was_not_interrupted(tmp_path, at, mode):
    """What had been accumulated is in the state."""

    def train(folder, extra=()):
        model, _ = model_with(n=3)
        train_dataset, averaging = dataset(60, 12), EMAWeightAveraging(decay=0.9)
        state = TrainingState(folder)
        begin = state.resume(model, train_dataset)
        model.train(2, train_dataset, callbacks=[averaging, state, *extra], initial_epoch=begin)
        return weights(model.predict_network), averaging.updates_

    whole = train(tmp_path / "whole")
    train(tmp_path / "cut", [Interrupt(at)])
    ends, updates = train(tmp_path / "cut")
    assert updates == whole[1] == 4
    assert_same_weights(ends, whole[0])


def test_without_a_callback_that_ends_the_last_group_it_is_refused():
    """MindSpore tells an optimizer nothing of epochs."""
    model, _ = model_with(n=3)
    before = weights(model.predict_network)
    with pytest.raises(ValueError, match="no callback of ms_callbacks is in the list"):
        model.train(1, dataset())
    assert_same_weights(weights(model.predict_network), before)


@pytest.mark.parametrize(("n", "message"), [(5, "an epoch has only 4"), (100, "an epoch has only 4")])
def test_fewer_batches_than_n_are_refused(n, message):
    """Before the first step, and by `check_callbacks`."""
    model, _ = model_with(n=n)
    before = weights(model.predict_network)
    with pytest.raises(ValueError, match=message):
        model.train(1, dataset(), callbacks=[History()])
    with pytest.raises(ValueError, match=message):
        check_callbacks(model, dataset(), [History()], epochs=1)
    assert_same_weights(weights(model.predict_network), before)


def test_one_step_an_update_is_the_optimizer_itself():
    """Nothing is put around it."""
    optimizer = OPTIMIZERS["Adam"](Plain().trainable_params())
    assert accumulate_gradients(optimizer, 1) is optimizer


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_is_refused(n):
    """When it is made."""
    with pytest.raises((TypeError, ValueError), match="accumulate_gradients: n must be"):
        accumulate_gradients(OPTIMIZERS["Adam"](Plain().trainable_params()), n)


def test_what_is_no_optimizer_or_accumulates_already_is_refused():
    """The second is likely a mistake."""
    with pytest.raises(TypeError, match="accumulate_gradients: optimizer must be one of mindspore.nn"):
        accumulate_gradients(Plain(), 2)
    once = accumulate_gradients(OPTIMIZERS["Adam"](Plain().trainable_params()), 2)
    with pytest.raises(ValueError, match="already accumulates 2 steps"):
        accumulate_gradients(once, 2)
