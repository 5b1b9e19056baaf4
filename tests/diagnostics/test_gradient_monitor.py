"""GradientMonitor: what the gradients of a step were, and what the step made of them."""

from __future__ import annotations

import csv
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from training import (
    IDIOMS,
    Network,
    Recorder,
    assert_same_weights,
    dataset,
    loss_fn,
    make_idiom,
    make_model,
    seeded,
    valid_dataset,
    weights,
)

from ms_callbacks import CSVLogger, EarlyStopping, GradientMonitor, History, TrainingState, Validate, freeze
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.diagnostics._device_reads import noticed


class Reference(Callback):
    """Computes the gradients of each step by hand, on a copy of the network."""

    def __init__(self):
        self.norms, self.before, self.ratios = [], None, []

    def on_train_step_begin(self, run_context):
        args = run_context.original_args()
        mode, network, criterion = ms.get_context("mode"), seeded(), loss_fn()
        ms.set_context(mode=ms.PYNATIVE_MODE)
        values = {one.name: one.asnumpy() for one in args["network"].get_parameters()}
        for one in network.get_parameters():
            one.set_data(Tensor(values[one.name].copy()))
        network.set_train()
        trained = network.trainable_params()
        _, gradients = ms.value_and_grad(
            lambda x, label: criterion(network(x), label), None, ms.ParameterTuple(trained)
        )(*args["train_dataset_element"])
        self.norms.append({one.name: np.linalg.norm(each.asnumpy()) for one, each in zip(trained, gradients)})
        self.before = {one.name: one.asnumpy().copy() for one in trained}
        ms.set_context(mode=mode)

    def on_train_step_end(self, run_context):
        now = {one.name: one.asnumpy() for one in run_context.original_args()["network"].trainable_params()}
        change = math.sqrt(sum(np.sum((now[name] - each) ** 2) for name, each in self.before.items()))
        self.ratios.append(change / math.sqrt(sum(np.sum(each**2) for each in self.before.values())))


def test_norms_are_those_of_mindspores_gradients(mode):
    """And the epoch's number is the mean over its measured steps: steps 3 and 6, 9 and 12, of 6 each."""
    model, monitor, reference, history = make_model(), GradientMonitor(3, verbose=0), Reference(), History()
    model.train(2, dataset(72), callbacks=[monitor, reference, history])
    expected = reference.norms[-1]
    assert monitor.norms_ == pytest.approx(expected, abs=1e-5)
    together = [math.sqrt(sum(norm**2 for norm in each.values())) for each in reference.norms]
    assert monitor.norm_ == pytest.approx(together[-1], abs=1e-5)
    means = [np.mean([together[2], together[5]]), np.mean([together[8], together[11]])]
    assert history.history["grad_norm"] == pytest.approx(means, abs=1e-5)
    ratios = [np.mean([reference.ratios[2], reference.ratios[5]]), np.mean([reference.ratios[8], reference.ratios[11]])]
    assert history.history["update_ratio"] == pytest.approx(ratios, rel=1e-4)
    assert monitor.update_ratio_ == pytest.approx(reference.ratios[-1], rel=1e-4)


@pytest.mark.parametrize("fits", [False, True])
def test_measuring_changes_nothing(mode, fits):
    """Losses, weights, statistics and moments are those of a run without it, also after evaluations between steps."""
    outcomes = []
    for callbacks in ([], [GradientMonitor(1, verbose=0)]):
        model, recorder = make_model(), Recorder()
        if fits:
            model.fit(2, dataset(), valid_dataset(), callbacks=[*callbacks, recorder])
        else:
            validate = Validate(model, valid_dataset(), every_n_steps=3)
            model.train(2, dataset(), callbacks=[*callbacks, validate, recorder])
        outcomes.append((recorder.losses, weights(model.train_network)))
    assert outcomes[0][0] == outcomes[1][0]
    assert_same_weights(outcomes[0][1], outcomes[1][1])


def test_steps_after_an_evaluation_are_measured_as_steps(mode):
    """An evaluation leaves all flags off until the next step begins; BatchNorm still normalises by the batch."""
    model, monitor, reference = make_model(), GradientMonitor(4, verbose=0), Reference()
    model.train(1, dataset(), callbacks=[Validate(model, valid_dataset(), every_n_steps=3), monitor, reference])
    assert monitor.norms_ == pytest.approx(reference.norms[3], abs=1e-5)


@pytest.mark.parametrize("idiom", IDIOMS)
def test_network_and_loss_are_found_wherever_they_are(idiom):
    """The gradients are unscaled, also where the step scales its loss by 8."""
    found = []
    for name in ("network, loss, optimizer", idiom):
        model, _ = make_idiom(name)
        monitor = GradientMonitor(1, verbose=0)
        model.train(1, dataset(12), callbacks=[monitor])
        found.append((monitor.norm_, list(monitor.norms_.values())))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-5)
    assert found[1][1] == pytest.approx(found[0][1], abs=1e-5)


class Clipping(nn.Momentum):
    """Clips all gradients to a norm of 0.001."""

    def construct(self, gradients):
        return super().construct(ops.clip_by_global_norm(gradients, 1e-3))


def test_norms_are_from_before_clipping_and_without_weight_decay():
    """Lightning's users get norms after clipping if they log in the wrong hook; the update shows what the step made."""
    found = []
    for make in (
        lambda net: nn.Momentum(net.trainable_params(), 0.1, 0.0),
        lambda net: Clipping(net.trainable_params(), 0.1, 0.0),
        lambda net: nn.Momentum(net.trainable_params(), 0.1, 0.0, weight_decay=0.5),
    ):
        monitor = GradientMonitor(1, verbose=0)
        make_model(make).train(1, dataset(12), callbacks=[monitor])
        found.append((monitor.norm_, monitor.update_ratio_))
    assert found[0][0] == found[1][0] == found[2][0] > 0.1
    assert found[1][1] < 1e-3 < found[0][1] != found[2][1]


def test_a_frozen_layer_is_left_out():
    """It does not count as vanishing."""
    network = seeded()
    freeze(network, "hidden")
    monitor = GradientMonitor(1, verbose=0)
    ms.Model(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1)).train(1, dataset(), callbacks=[monitor])
    assert "hidden.weight" not in monitor.norms_
    assert "head.weight" in monitor.norms_
    assert monitor.vanishing_ == {}


class Spoil(Callback):
    """Scales the images of single steps."""

    def __init__(self, scales):
        self.scales = scales

    def on_train_step_begin(self, run_context):
        args = run_context.original_args()
        images, labels = args["train_dataset_element"]
        args["train_dataset_element"] = (images * self.scales.get(args["cur_step_num"], 1.0), labels)


def linear_model(rate=0.0):
    """Without a BatchNorm, which would undo any scale; a rate of 0, so that nothing spreads."""
    network = seeded(nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3)))
    return ms.Model(network, loss_fn(), nn.SGD(network.trainable_params(), rate))


def test_one_step_that_is_not_finite_does_not_spoil_the_mean(capsys):
    """It is named, and what is measured next counts again; its neighbours make the mean of the epoch."""
    monitor, history = GradientMonitor(1), History()
    linear_model().train(2, dataset(), callbacks=[Spoil({2: math.nan}), monitor, history])
    assert [math.isfinite(one) for one in history.history["grad_norm"]] == [True, True]
    assert monitor.nonfinite_ == {}
    assert capsys.readouterr().out.splitlines() == [
        "GradientMonitor: step 2: gradient not finite: '1.weight' (norm nan), '1.bias' (norm nan)",
        f"GradientMonitor: step 3: gradient no longer not finite: {_norms(monitor, 3)}",
    ]


def _norms(monitor, step):
    other = GradientMonitor(step, verbose=0)
    linear_model().train(1, dataset(), callbacks=[other])
    return ", ".join(f"{name!r} (norm {norm:.2g})" for name, norm in other.norms_.items())


def test_vanishing_and_exploding_gradients_are_named_with_their_step(capsys):
    """As long as they do."""
    monitor = GradientMonitor(1, vanishing=1e-3, exploding=1e3, verbose=1)
    linear_model().train(1, dataset(), callbacks=[Spoil({2: 1e-6, 3: 1e6, 4: 1e6}), monitor])
    assert monitor.exploding_ == {"1.weight": 3}
    assert monitor.vanishing_ == {}
    lines = capsys.readouterr().out
    assert "step 2: gradient vanishing: '1.weight'" in lines
    assert "step 3: gradient exploding: '1.weight'" in lines
    assert "step 3: gradient no longer vanishing: '1.weight'" in lines


def test_an_epoch_without_a_measured_step_has_no_number(tmp_path):
    """The columns of a log are there from the start; `EarlyStopping` waits for the next."""
    path, history, stopping = tmp_path / "log.csv", History(), EarlyStopping("grad_norm", mode="min", verbose=0)
    monitor = GradientMonitor(8, verbose=0, per_parameter=True)
    make_model().train(2, dataset(), callbacks=[CSVLogger(str(path)), history, monitor, stopping])
    assert history.history["grad_norm"] == [None, monitor.norm_]
    assert history.history["grad_norm/head.weight"] == [None, monitor.norms_["head.weight"]]
    rows = list(csv.DictReader(path.open()))
    assert (rows[0]["grad_norm"], float(rows[1]["grad_norm"])) == ("", monitor.norm_)
    assert (stopping.best_, stopping.best_epoch_) == (monitor.norm_, 2)


def test_other_steps_read_nothing():
    """Neither a gradient nor a weight; nor does anything stay of the weights before a step."""
    reads = []

    class Count(Callback):
        def on_train_step_end(self, run_context):
            reads.append(total[0])

    total = [0]
    monitor, model = GradientMonitor(3, verbose=0), make_model()

    def count():
        total[0] += 1

    with noticed(count):
        model.train(1, dataset(), callbacks=[Count(), monitor])
    assert reads[1] == reads[0] < reads[2]
    assert monitor._before is None


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="MindSpore 2.0 cannot begin within an epoch")
def test_a_resumed_epoch_has_the_mean_of_all_its_steps(tmp_path):
    """The sums of an interrupted epoch continue."""
    expected = History()
    make_model().train(2, dataset(), callbacks=[GradientMonitor(1, verbose=0), expected])

    class Fail(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 6:
                raise RuntimeError("mine")

    def callbacks():
        return GradientMonitor(1, verbose=0), History(), TrainingState(str(tmp_path), every_n_steps=1)

    with pytest.raises(RuntimeError, match="mine"):
        make_model().train(2, dataset(), callbacks=[*callbacks(), Fail()])
    model, train, (monitor, history, state) = make_model(), dataset(), callbacks()
    begun = state.resume(model, train, epochs=2)
    model.train(2, train, callbacks=[monitor, history, state], initial_epoch=begun)
    assert history.history["grad_norm"] == expected.history["grad_norm"]
    assert history.history["update_ratio"] == expected.history["update_ratio"]


def test_lines_of_each_measured_step(capsys):
    """With `verbose=2`."""
    monitor = GradientMonitor(4, verbose=2)
    make_model().train(1, dataset(), callbacks=[monitor])
    ratio = f"{monitor.update_ratio_:.3g}"
    assert capsys.readouterr().out == (
        f"GradientMonitor: step 4: gradient norm {monitor.norm_:.4g}, update ratio {ratio}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be at least 1"),
        ({"every_n_steps": 2.5}, "every_n_steps must be a whole number"),
        ({"vanishing": -1}, "vanishing must be finite and at least 0"),
        ({"vanishing": 1.0, "exploding": 0.5}, "exploding must be finite and above 1"),
        ({"per_parameter": 1}, "per_parameter must be True or False"),
        ({"verbose": 3}, "verbose must be one of 0, 1, 2"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    """With what was received and what was expected."""
    with pytest.raises((TypeError, ValueError), match=f"GradientMonitor: {message}"):
        GradientMonitor(**arguments)


class OwnLoss(nn.Cell):
    """A training cell that computes its loss itself, from what the network returns."""

    def __init__(self, network, optimizer):
        super().__init__()
        self.network, self.optimizer, self.loss = network, optimizer, loss_fn()
        self.weights = optimizer.parameters

    def construct(self, x, label):
        return self.loss(self.network(x), label)


def test_a_loss_that_cannot_be_found_is_refused_by_name():
    """Before the first step; so are two monitors."""
    network = Network()
    cell = OwnLoss(network, nn.SGD(network.trainable_params(), 0.1))
    with pytest.raises(ValueError, match=r"GradientMonitor: Network returns a tensor of shape \(12, 3\), which is not"):
        ms.Model(cell).train(1, dataset(), callbacks=[GradientMonitor()])
    with pytest.raises(ValueError, match="two callbacks give each epoch a number named 'grad_norm'"):
        make_model().train(1, dataset(), callbacks=[GradientMonitor(), GradientMonitor(2)])


def test_a_network_without_anything_to_train_is_refused():
    """There would be nothing to measure."""
    model = make_model()
    for one in model.train_network.optimizer.parameters:
        one.requires_grad = False
    with pytest.raises(ValueError, match=r"GradientMonitor: no optimizer holds|requires_grad is False"):
        model.train(1, dataset(), callbacks=[GradientMonitor()])
