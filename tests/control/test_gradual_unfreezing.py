"""GradualUnfreezing: frozen layers stay bit for bit as they are until their epoch, whatever else is in the run."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback
from training import Network, Recorder, assert_same_weights, dataset, loss_fn, seeded, valid_dataset, weights

from ms_callbacks import (
    GradientMonitor,
    GradualUnfreezing,
    History,
    LRCosineAnnealing,
    LRStepDecay,
    LRWarmup,
    ReduceLROnPlateau,
    TrainingState,
    Validate,
    freeze,
)
from ms_callbacks.core.learning_rates import Rates
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.testing import check_callback

STAGES = {1: "head", 3: ["hidden", "norm"]}
BODY = ("hidden.weight", "norm.gamma", "norm.beta", "norm.moving_mean", "norm.moving_variance")


def momentum(groups, rate):
    return nn.Momentum(groups, rate, 0.9, weight_decay=0.01)


OPTIMIZERS = {
    "AdaMax": lambda groups, rate: nn.AdaMax(groups, rate, weight_decay=0.01),
    "Adam": lambda groups, rate: nn.Adam(groups, rate, weight_decay=0.01),
    "AdamWeightDecay": lambda groups, rate: nn.AdamWeightDecay(groups, rate, weight_decay=0.01),
    "LazyAdam": lambda groups, rate: nn.LazyAdam(groups, rate, weight_decay=0.01),
    "Momentum": momentum,
    "RMSProp": lambda groups, rate: nn.RMSProp(groups, rate, momentum=0.9, weight_decay=0.01),
    "RMSProp, centered": lambda groups, rate: nn.RMSProp(groups, rate, momentum=0.9, centered=True),
    "SGD": lambda groups, rate: nn.SGD(groups, rate, momentum=0.9, dampening=0.5, weight_decay=0.01),
}


def made(epochs=None, optimizer=momentum, rate=0.05, **arguments):
    """A callback, and a seeded Model with its groups."""
    unfreezing = GradualUnfreezing(epochs or STAGES, **{"verbose": 0, **arguments})
    network = seeded()
    groups = unfreezing.parameter_groups(network, rate)
    return unfreezing, ms.Model(network, loss_fn(), optimizer(groups, rate), metrics={"acc"})


class Watch(Callback):
    """Keeps the weights after each epoch, with those before the first, and the rates of each step."""

    def __init__(self):
        self.weights, self.rates, self.moments = [], [], []

    def on_train_begin(self, run_context):
        self.weights.append(weights(run_context.original_args()["network"]))

    def on_train_step_begin(self, run_context):
        args = run_context.original_args()
        self.rates.append(Rates(args["optimizer"]).read())

    def on_train_epoch_end(self, run_context):
        self.weights.append(weights(run_context.original_args()["network"]))

    def moved(self, epoch):
        """The names of what has changed in an epoch, in any bit."""
        before, after = self.weights[epoch - 1], self.weights[epoch]
        return {name for name in before if before[name].tobytes() != after[name].tobytes()}


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        pytest.param(mode, how, marks=[] if how == {"graph": "fit"}.get(mode, "between steps") else [pytest.mark.slow])
        for mode in ("graph", "pynative")
        for how in ("train", "fit", "between steps")
    ],
    indirect=["mode"],
)
def test_frozen_layers_stay_as_they_are_until_their_epoch(mode, how):
    """Weights and statistics, bit for bit, through weight decay, momentum and evaluations; and then they learn."""
    unfreezing, model = made()
    watch = Watch()
    if how == "fit":
        model.fit(4, dataset(), valid_dataset(), callbacks=[unfreezing, watch])
    else:
        validate = Validate(model, valid_dataset(), every_n_steps=3 if how == "between steps" else None)
        model.train(4, dataset(), callbacks=[unfreezing, watch, validate])
    for epoch in (1, 2):
        assert watch.moved(epoch) == {"head.weight", "head.bias"}
    for epoch in (3, 4):
        assert watch.moved(epoch) == {"head.weight", "head.bias", *BODY}
    assert watch.rates == pytest.approx(np.array([[0.05, 0.0]] * 8 + [[0.05, 0.05]] * 8))
    assert unfreezing.unfrozen_ == {"head": 1, "hidden": 3, "norm": 3}


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(each, marks=[pytest.mark.slow] if each in ("AdaMax", "Adam", "LazyAdam") else [])
        for each in OPTIMIZERS
    ],
)
def test_each_supported_optimizer_leaves_weights_unchanged_at_a_rate_of_0(optimizer):
    """Whatever its moments and its weight decay."""
    unfreezing, model = made({1: "head", 2: ["hidden", "norm"]}, OPTIMIZERS[optimizer])
    watch = Watch()
    model.train(2, dataset(), callbacks=[unfreezing, watch])
    assert watch.moved(1) == {"head.weight", "head.bias"}
    assert watch.moved(2) == {"head.weight", "head.bias", *BODY}


def test_a_frozen_batch_norm_normalises_as_in_evaluation(mode):
    """The losses of the steps are those of a network whose BatchNorm is told to use its statistics."""
    losses = []
    for fixed in (False, True):
        unfreezing = GradualUnfreezing({1: "head", 9: ["hidden", "norm"]}, verbose=0)
        network = seeded()
        if fixed:
            network.norm = nn.BatchNorm2d(3, use_batch_statistics=False)
            network.norm.gamma.name, network.norm.beta.name = "norm.gamma", "norm.beta"
        optimizer = momentum(unfreezing.parameter_groups(network, 0.05), 0.05)
        recorder = Recorder()
        ms.Model(network, loss_fn(), optimizer).train(2, dataset(), callbacks=[unfreezing, recorder])
        losses.append(recorder.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    "kind",
    ["Momentum", *(pytest.param(each, marks=pytest.mark.slow) for each in ("AdamWeightDecay", "RMSProp", "SGD"))],
)
def test_from_its_epoch_on_a_group_is_trained_as_by_a_new_optimizer(mode, kind):
    """As PyTorch's, where a group is added then: the moments gathered while frozen are gone, also those of SGD."""
    unfreezing, model = made({1: "head", 2: ["hidden", "norm"]}, OPTIMIZERS[kind])
    watch = Watch()
    model.train(1, dataset(), callbacks=[unfreezing, watch])
    network = seeded()
    for one in network.get_parameters():
        one.set_data(ms.Tensor(watch.weights[1][one.name]))
    fresh = OPTIMIZERS[kind](unfreezing.parameter_groups(network, 0.05), 0.05)
    own = {one.name: one for one in model.train_network.get_parameters()}
    for one in fresh.get_parameters():  # of the head, all moments; of the others, none
        if "head" in one.name and not one.name.startswith("head"):
            one.set_data(ms.Tensor(own[one.name].asnumpy().copy()))
    ms.Model(network, loss_fn(), fresh).train(1, dataset(), callbacks=[])
    model.train(2, dataset(), callbacks=[unfreezing], initial_epoch=1)
    for name in ("hidden.weight", "norm.gamma", "norm.moving_mean"):
        one = weights(model.predict_network)[name]
        np.testing.assert_allclose(one, weights(network)[name], rtol=1e-5, atol=1e-7, err_msg=f"{kind}: {name}")


def test_adam_keeps_the_moments_gathered_meanwhile():
    """It corrects their bias by the steps of all groups: moments of 0 would make its first steps far too large."""
    unfreezing, model = made({1: "head", 6: ["hidden", "norm"]}, OPTIMIZERS["Adam"], rate=0.001)
    watch = Watch()
    model.train(6, dataset(), callbacks=[unfreezing, watch])
    change = np.abs(watch.weights[6]["hidden.weight"] - watch.weights[5]["hidden.weight"]).max()
    assert 0 < change < 4 * 0.001 * 1.5  # 4 steps of about the rate


# Schedules, and what they set for a single rate of 0.08 in each of four epochs.
SCHEDULES = {
    "step": (lambda: LRStepDecay(1, 0.5), [0.08, 0.04, 0.02, 0.01]),
    "step, by group": (lambda: LRStepDecay(1, 0.5, learning_rate=[0.08, 0.08]), [0.08, 0.04, 0.02, 0.01]),
    "warm-up": (lambda: LRWarmup(1, after=LRStepDecay(1, 0.5)), None),
    "cosine": (lambda: LRCosineAnnealing(4), None),
}


@pytest.mark.parametrize("case", SCHEDULES)
@pytest.mark.parametrize("is_first", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_schedule_does_not_move_a_frozen_group_and_is_there_when_it_begins(case, is_first):
    """In any order of the list; the initial rate is the true one, also in a second run, which begins frozen."""
    make, expected = SCHEDULES[case]
    alone = Watch()
    plain = seeded()
    ms.Model(plain, loss_fn(), momentum(plain.trainable_params(), 0.08)).train(
        4, dataset(), callbacks=[LRStepDecay(1, 0.5) if case == "step, by group" else make(), alone, History()]
    )
    unfreezing, model = made(rate=0.08)
    schedule = make()
    for _ in range(2):
        watch, history = Watch(), History()
        callbacks = [unfreezing, schedule] if is_first else [schedule, unfreezing]
        model.train(4, dataset(), callbacks=[*callbacks, watch, history])
        rates = np.array(watch.rates)
        assert rates[:, 0] == pytest.approx(np.array(alone.rates)[:, 0])
        assert (rates[:8, 1] == 0).all()
        begins = (
            9 if case == "warm-up" else 8
        )  # a schedule by step has set its first rate only after the hook before it
        assert rates[begins:, 1] == pytest.approx(np.array(alone.rates)[begins:, 0])
        if expected:
            assert history.history["learning_rate"] == pytest.approx(expected)


def test_a_plateau_lowers_the_rate_that_a_frozen_group_will_have():
    """It is the lowered one when it begins."""
    unfreezing, model = made()
    watch, plateau = Watch(), ReduceLROnPlateau("loss", mode="max", factor=0.5, patience=1, verbose=0)
    model.train(4, dataset(), callbacks=[unfreezing, plateau, watch])
    assert np.array(watch.rates)[::4] == pytest.approx(np.array([[0.05, 0], [0.05, 0], [0.025, 0.025], [0.0125] * 2]))


def test_each_epoch_may_have_a_rate_of_its_own():
    """As discriminative fine-tuning wants it; a schedule scales both."""
    unfreezing, model = made(rates={3: 0.01})
    watch = Watch()
    model.train(3, dataset(), callbacks=[unfreezing, LRStepDecay(1, 0.5), watch])
    assert np.array(watch.rates)[::4] == pytest.approx(np.array([[0.05, 0], [0.025, 0], [0.0125, 0.0025]]))


class Fail(Callback):
    """Ends the run with an exception after a step."""

    def __init__(self, step):
        self.step = step

    def on_train_step_end(self, run_context):
        if run_context.original_args()["cur_step_num"] == self.step:
            raise RuntimeError("mine")


def some_are_slow(several, usual):
    """All of them, of which those that are not usual run in the slow set."""
    return [each if each in usual else pytest.param(*each, marks=pytest.mark.slow) for each in several]


INTERRUPTIONS = [(step, schedule) for step in (6, 8, 9, 11, 13) for schedule in (None, LRStepDecay, ReduceLROnPlateau)]


@pytest.mark.parametrize(
    ("step", "schedule"), some_are_slow(INTERRUPTIONS, [(6, LRStepDecay), (8, None), (9, ReduceLROnPlateau)])
)
def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path, step, schedule):
    """Before its epoch, right at it, in it and after: rates, moments, statistics. Lightning's fails on the groups."""
    if not CAN_BEGIN_WITHIN and step % 4:
        pytest.skip("MindSpore 2.0 cannot begin within an epoch")

    def callbacks():
        extra = [] if schedule is None else [LRStepDecay(1, 0.5)]
        if schedule is ReduceLROnPlateau:
            extra = [ReduceLROnPlateau("loss", mode="max", factor=0.5, patience=1, verbose=0)]
        return extra

    unfreezing, model = made()
    model.train(4, dataset(), callbacks=[unfreezing, *callbacks()])
    expected = weights(model.train_network)
    every = {"every_n_steps": 1} if CAN_BEGIN_WITHIN else {}
    unfreezing, model = made()
    with pytest.raises(RuntimeError, match="mine"):
        model.train(
            4, dataset(), callbacks=[unfreezing, *callbacks(), TrainingState(str(tmp_path), **every), Fail(step + 1)]
        )
    unfreezing, model = made()
    state, train = TrainingState(str(tmp_path), **every), dataset()
    resumed = [unfreezing, *callbacks(), state]
    begun = state.resume(model, train, epochs=4)
    model.train(4, train, callbacks=resumed, initial_epoch=begun)
    assert_same_weights(weights(model.train_network), expected)
    assert unfreezing.unfrozen_ == {"head": 1, "hidden": 3, "norm": 3}


def test_after_a_run_that_ended_early_everything_is_as_without_it(mode):
    """Rates and flags are back: a run without the callback trains all layers, and their statistics."""
    unfreezing, model = made()
    with pytest.raises(RuntimeError, match="mine"):
        model.train(2, dataset(), callbacks=[unfreezing, Fail(2)])
    assert Rates(model.train_network.optimizer).read() == pytest.approx([0.05, 0.05])
    assert all(cell.training for _, cell in model.train_network.cells_and_names())
    watch = Watch()
    model.train(1, dataset(), callbacks=[watch])
    assert watch.moved(1) == {"head.weight", "head.bias", *BODY}
    again = Watch()
    model.train(1, dataset(), callbacks=[unfreezing, again])
    assert again.moved(1) == {"head.weight", "head.bias"}


@pytest.mark.slow
def test_the_contract_of_callbacks_with_several_stages():
    """Second run, both orders, `fit`, an exception, a resume."""

    def factory(model):
        names = [name for name, cell in model.predict_network.cells_and_names() if name and cell.trainable_params()]
        unfreezing = GradualUnfreezing({1: names[-1], 2: names[:-1]}, verbose=0)
        model._optimizer = momentum(unfreezing.parameter_groups(model.predict_network, 0.05), 0.05)
        model._train_network = model._build_train_network()
        return unfreezing

    check_callback(factory, changes_training=True, modes=["GRAPH_MODE", "PYNATIVE_MODE"])


def test_gradients_are_measured_with_the_layers_frozen():
    """The monitor sees the step as it is."""
    unfreezing, model = made()
    losses, monitor = Recorder(), GradientMonitor(1, verbose=0)
    model.train(1, dataset(), callbacks=[unfreezing, losses, monitor])
    other, plain = Recorder(), made()
    plain[1].train(1, dataset(), callbacks=[plain[0], other])
    assert losses.losses == other.losses
    assert monitor.norms_["hidden.weight"] > 0


def test_lines(capsys):
    """One for each epoch that unfreezes."""
    unfreezing, model = made(verbose=1)
    model.train(3, dataset(), callbacks=[unfreezing])
    assert capsys.readouterr().out == (
        "GradualUnfreezing: epoch 1: trains 'head'\nGradualUnfreezing: epoch 3: trains 'hidden', 'norm' as well\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": {}}, "epochs must be layers by epoch"),
        ({"epochs": ["head"]}, "epochs must be layers by epoch"),
        ({"epochs": {0: "head"}}, "an epoch of epochs must be at least 1, but got 0"),
        ({"epochs": {1.5: "head"}}, "an epoch of epochs must be a whole number"),
        ({"epochs": {2: "head"}}, "epochs must say what is trained from epoch 1 on, but its first epoch is 2"),
        ({"epochs": {1: []}}, r"layers must be a name or a list of names, but got \[\]"),
        ({"epochs": {1: [3]}}, r"layers must be a name or a list of names, but got \[3\]"),
        ({"epochs": {1: "head"}, "rates": 0.1}, "rates must be learning rates by epoch"),
        ({"epochs": {1: "head"}, "rates": {2: 0.1}}, "rates has epoch 2, but epochs has only 1"),
        ({"epochs": {1: "head"}, "rates": {1: 0}}, r"rates\[1\] must be finite and above 0"),
        ({"epochs": {1: "head"}, "verbose": 2}, "verbose must be one of 0, 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"GradualUnfreezing: {message}"):
        GradualUnfreezing(**arguments)


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        ({1: "haed"}, r"the network has no layer 'haed' \(.*\); did you mean 'head'"),
        ({1: ["head", "relu"]}, "layer 'relu' has no parameter that is trained"),
        (
            {1: ["head", "hidden"], 2: ["norm", "head"]},
            "'head.weight' is in 'head' and in 'head'; name each layer once",
        ),
        ({1: "head", 2: "hidden"}, "'norm.gamma', 'norm.beta' belong to no epoch; add their layers to one, or exclude"),
    ],
)
def test_layers_that_do_not_fit_the_network_are_refused(epochs, message):
    """When the groups are made."""
    with pytest.raises(ValueError, match=f"GradualUnfreezing: {message}"):
        GradualUnfreezing(epochs).parameter_groups(Network(), 0.1)


def test_layers_that_are_frozen_for_good_belong_to_no_epoch():
    """They are in no optimizer."""
    network = seeded()
    freeze(network, "hidden")
    groups = GradualUnfreezing({1: "head", 2: "norm"}).parameter_groups(network, 0.1)
    assert [[one.name for one in group["params"]] for group in groups] == [
        ["head.weight", "head.bias"],
        ["norm.gamma", "norm.beta"],
    ]
    with pytest.raises(TypeError, match="GradualUnfreezing: network must be an nn.Cell"):
        GradualUnfreezing({1: "head"}).parameter_groups(None, 0.1)
    with pytest.raises(ValueError, match="GradualUnfreezing: learning_rate must be finite and above 0"):
        GradualUnfreezing({1: "head"}).parameter_groups(network, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda groups, all_: nn.Momentum(all_, 0.1, 0.9),
            r"the optimizer's parameter groups are not those of the 2 epochs; make it with unfreezing = "
            r"GradualUnfreezing\(.*\): nn.Momentum\(unfreezing.parameter_groups\(network, learning_rate\)",
        ),
        (lambda groups, all_: nn.Rprop(groups, 0.1), "needs one optimizer that leaves weights unchanged .* is Rprop"),
        (
            lambda groups, all_: nn.Momentum([{**group, "lr": [0.1] * 40} for group in groups], [0.1] * 40, 0.9),
            "the optimizer holds a list or a schedule of learning rates",
        ),
    ],
)
def test_an_optimizer_that_does_not_fit_is_refused_before_the_first_step(make, message):
    """With the line to write."""
    unfreezing, network = GradualUnfreezing(STAGES), seeded()
    optimizer = make(unfreezing.parameter_groups(network, 0.1), network.trainable_params())
    before = weights(network)
    with pytest.raises(ValueError, match=f"GradualUnfreezing: {message}"):
        ms.Model(network, loss_fn(), optimizer).train(1, dataset(), callbacks=[unfreezing])
    assert_same_weights(weights(network), before)
