"""lr_find: what it suggests for which losses, and that nothing is different after it."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib
import pickle
import re

import mindspore as ms
import numpy as np
import pytest
from conftest import MODES
from mindspore import Parameter, Tensor, nn
from mindspore.train import Callback, RunContext
from training import (
    Network,
    Recorder,
    assert_same_weights,
    dataset,
    grouped,
    in_parallel_mode,
    loss_fn,
    make_idiom,
    make_model,
    weights,
)

from ms_callbacks import lr_find
from ms_callbacks.core.learning_rates import Rates
from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.lr_schedules._range_test import make_curve
from ms_callbacks.lr_schedules.lr_find import _proportions, _RangeTest, _rise
from ms_callbacks.testing import ScriptedRun

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "lightning.json"
NAN, INF = math.nan, math.inf


class Seen(Callback):
    """The rates of each step, as the optimizer had them."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_train_step_end(self, run_context: RunContext) -> None:
        rates = run_context.original_args()["optimizer"].learning_rate
        several = rates if isinstance(rates, (tuple, list)) else (rates,)
        self.rates.append([rate.asnumpy().item() for rate in several])


def scripted(losses, dropped=(), *, see=(), optimizer=None, threshold=4.0, method="valley", min_lr=1e-7, max_lr=1.0):
    """What a run with these losses suggests, without MindSpore's kernels; which of the steps are dropped."""
    outputs = [(Tensor(loss), Tensor(step in dropped), Tensor(1.0)) for step, loss in enumerate(np.float32(losses))]
    network = nn.Dense(1, 1)
    optimizer = optimizer or nn.SGD(network.trainable_params(), 0.1)
    test = _RangeTest(_rise(min_lr, max_lr, len(losses)), _proportions(Rates(optimizer)), threshold)
    run = ScriptedRun([None], [outputs], steps_per_epoch=len(losses), network=network, optimizer=optimizer)
    run.play([test, *see])
    return make_curve(test.rates, test.losses, test.smoothed, method, has_diverged=test.has_diverged)


def valley(steps=40, first=2.0, last=1.0):
    """Flat, then falling, then rising again."""
    return [*[first] * 15, *np.linspace(first, last, steps - 20), *np.linspace(last, 2 * first, 5)]


# What it does in a run


def test_the_rate_rises_exponentially_from_one_end_to_the_other():
    """What the optimizer had in each step, to the last bit of its 32."""
    seen = Seen()
    found = scripted(valley(), see=[seen], min_lr=1e-5, max_lr=0.3)
    assert [[np.float32(rate)] for rate in found.rates] == seen.rates
    assert found.rates[0] == 1e-5
    assert found.rates[-1] == 0.3
    steps = np.diff(np.log(found.rates))
    assert steps == pytest.approx(np.log(0.3 / 1e-5) / 39, rel=1e-4)


def test_the_rates_of_groups_keep_their_proportion():
    """The highest is the rate of the test, wherever it stands."""
    weight, bias = (Parameter(Tensor(np.zeros(2, np.float32)), name=name) for name in ("weight", "bias"))
    groups = [{"params": [weight], "lr": 0.02}, {"params": [bias], "lr": 0.1}]
    seen = Seen()
    found = scripted(valley(), see=[seen], optimizer=nn.Momentum(groups, 0.1, 0.9))
    assert [high for _, high in seen.rates] == pytest.approx(found.rates)
    assert [low / high for low, high in seen.rates] == pytest.approx([0.2] * 40)


def test_a_short_dataset_is_repeated_and_a_long_one_is_not_used_up():
    """As many steps as were asked for; `initial_epoch` and epochs are nobody's concern."""
    assert len(lr_find(make_model(), dataset(24), steps=17).rates) == 17
    assert len(lr_find(make_model(), dataset(12 * 20), steps=16).rates) == 16


def test_the_losses_are_those_of_the_steps():
    """As another Model has them that trains at these rates, one after the other."""

    class Rise(Recorder):
        def on_train_step_begin(self, run_context):
            args = run_context.original_args()
            ms.ops.assign(args["optimizer"].learning_rate, Tensor(found.rates[args["cur_step_num"] - 1], ms.float32))

    found = lr_find(make_model(), dataset(), steps=16, max_lr=1e-2)
    recorder = Rise()
    make_model().train(4, dataset(), callbacks=[recorder])
    assert list(found.losses) == recorder.losses


def test_the_smoothing_is_bias_corrected_from_the_first_loss_on():
    """Lightning divides by one step too many, so that its curve begins at half of the first loss."""
    losses = valley()
    found = scripted(losses, threshold=None)
    assert found.smoothed[0] == pytest.approx(losses[0])
    past = [0.98 ** (20 - step) for step in range(21)]
    assert found.smoothed[20] == pytest.approx(np.average(losses[:21], weights=past), rel=1e-6)


# What is left of it: nothing


OPTIMIZERS = {
    "Adam": None,
    "Momentum": lambda network: nn.Momentum(network.trainable_params(), 0.05, 0.9),
    "groups": grouped(0.1, 0.01, both=True),
}


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("graph", "Adam"),
        ("pynative", "groups"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("graph", "groups"), ("pynative", "Adam"))),
        *(pytest.param(mode, "Momentum", marks=pytest.mark.slow) for mode in MODES),
    ],
)
def test_a_run_after_it_is_the_run_without_it(name, optimizer):
    """Bit for bit: losses, rates, weights, moments; with a shuffled dataset and BatchNorm, in both modes."""
    ms.set_context(mode=MODES[name])

    def run(find):
        ms.set_seed(3)
        model, data, recorder = make_model(OPTIMIZERS[optimizer]), dataset(shuffle=True), Recorder()
        if find:
            before, flags = weights(model.train_network), [cell.training for _, cell in cells(model)]
            assert lr_find(model, data, steps=20, max_lr=10.0).is_exact
            assert_same_weights(weights(model.train_network), before)
            assert [cell.training for _, cell in cells(model)] == flags
        model.train(2, data, callbacks=[recorder])
        return recorder.losses, recorder.rates, weights(model.train_network)

    with_, without = run(True), run(False)
    assert with_[:2] == without[:2]
    assert len(without[0]) == 8
    assert_same_weights(with_[2], without[2])


def cells(model):
    return model.train_network.cells_and_names()


def test_also_in_the_middle_of_training_and_with_a_loss_scale():
    """Moments, steps and scale are those of the steps before; Lightning's count of steps broke its stop there."""

    def run(find):
        ms.set_seed(3)
        model, _ = make_idiom("training cell with loss scale")
        model.train(2, dataset())
        if find:
            assert lr_find(model, dataset(), steps=16).rates
        model.train(1, dataset(shuffle=True))
        return weights(model.train_network)

    assert_same_weights(run(True), run(False))


def test_the_dataset_is_as_before(tmp_path):
    """It draws what it would have drawn, starts where it was set to, and can be given to another Model."""

    def noisy(image):
        return image + np.random.rand(*image.shape).astype(np.float32)

    def run(find):
        ms.set_seed(3)
        np.random.seed(3)
        data, recorder = dataset(shuffle=True).map(noisy, "images", num_parallel_workers=1), Recorder()
        if CAN_BEGIN_WITHIN:
            data.set_init_step(2)
        if find:
            assert len(lr_find(make_model(), data, steps=18).rates) == 18
        np.random.seed(3)
        make_model().train(2, data, callbacks=[recorder])
        return recorder.losses

    losses = run(False)
    assert len(losses) == (6 if CAN_BEGIN_WITHIN else 8)
    assert run(True) == losses


def test_random_numbers_are_drawn_as_before():
    """Those of NumPy, which MindSpore's shuffles draw from too."""
    model = make_model()
    np.random.seed(5)
    lr_find(model, dataset(shuffle=True), steps=16)
    after = np.random.rand()
    np.random.seed(5)
    assert after == np.random.rand()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_after_an_exception_either(error):
    """Which comes through as it was raised, such as a Ctrl-C; a compiled network raises nothing itself."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    ms.set_seed(3)
    calls = []

    class Failing(nn.Cell):
        def __init__(self):
            super().__init__()
            self.loss = loss_fn()

        def construct(self, logits, label):
            calls.append(1)
            if len(calls) == 7:
                raise error("now")
            return self.loss(logits, label)

    model = make_model()
    network, optimizer = model.predict_network, model.train_network.optimizer
    broken = ms.Model(network, Failing(), optimizer)
    before = weights(broken.train_network)
    with pytest.raises(error, match="now"):
        lr_find(broken, dataset(), steps=16)
    assert_same_weights(weights(broken.train_network), before)
    recorder, fresh = Recorder(), Recorder()
    broken.train(2, dataset(), callbacks=[recorder])
    make_model().train(2, dataset(), callbacks=[fresh])
    assert recorder.losses == fresh.losses


def test_what_cannot_be_exact_is_said():
    """The numbers that a Dropout draws next; weights and all else are restored all the same."""

    class Dropping(Network):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(p=0.5)

        def construct(self, x):
            return self.drop(super().construct(x))

    model = make_model(network=Dropping())
    before = weights(model.train_network)
    found = lr_find(model, dataset(), steps=16)
    assert not found.is_exact
    assert found.notes[0].startswith("Dropout: ")
    assert_same_weights(weights(model.train_network), before)


def test_it_prints_and_writes_nothing(tmp_path, monkeypatch, capsys):
    """Lightning leaves a checkpoint behind where the test fails."""
    monkeypatch.chdir(tmp_path)
    lr_find(make_model(), dataset(), steps=16)
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


# When it stops


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_loss_that_is_not_finite_ends_it_and_spoils_nothing(bad):
    """The suggestion is that of the losses before; fastai's and Lightning's were once at the NaN."""
    losses = valley()
    found, whole = scripted([*losses[:35], bad, *losses[:20]]), scripted(losses[:35])
    assert found.losses[:-1] == whole.losses
    assert len(found.losses) == 36
    assert found.has_diverged
    assert found.suggestion is not None
    assert found.rates.index(found.suggestion) == whole.rates.index(whole.suggestion)


def test_it_stops_where_the_smoothed_loss_is_four_times_the_best():
    """Not one step before; without a threshold, not at all."""
    losses = [*[1.0] * 30, *[100.0] * 10]
    found = scripted(losses)
    assert found.has_diverged
    best = min(found.smoothed)
    assert found.smoothed[-1] > 4 * best
    assert all(loss <= 4 * best for loss in found.smoothed[:-1])
    assert len(scripted(losses, threshold=50.0).rates) == 40
    endless = scripted(losses, threshold=None)
    assert len(endless.rates) == 40
    assert not endless.has_diverged


def test_a_low_loss_of_the_first_batch_does_not_end_it():
    """In fastai and Lightning, the next one is above four times the best then."""
    found = scripted([0.001, *valley()[1:]])
    assert len(found.rates) == 40
    assert not found.has_diverged


@pytest.mark.parametrize("level", [-5.0, -1.5])
def test_losses_below_zero_do_not_end_it(level):
    """Four times a best loss below 0 is less than that loss."""
    losses = [loss + level for loss in valley()]
    assert min(losses) < 0
    found, above = scripted(losses), scripted(valley())
    assert not found.has_diverged
    assert found.suggestion == above.suggestion
    assert scripted([*[level] * 20, *[1e4] * 20]).has_diverged


def test_dropped_steps_are_no_points():
    """The loss of a step that loss scaling dropped is not one; 25 in a row are a divergence."""
    losses = valley()
    dropped = [0, 1, 2, 20]
    with_infinities = [INF if step in dropped else loss for step, loss in enumerate(losses)]
    found = scripted(with_infinities, dropped)
    assert [step for step, loss in enumerate(found.losses) if math.isnan(loss)] == dropped
    assert not found.has_diverged
    assert found.suggestion is not None
    endless = scripted([INF] * 40, range(40))
    assert endless.has_diverged
    assert len(endless.losses) == 25
    assert endless.reason.startswith("diverged at once")


# What it suggests


def test_steepest_is_where_lightnings_formula_finds_it():
    """On an axis of the logarithm of the rate, 36 times over, with and without a NaN at the end."""
    curves = json.loads(GOLDEN.read_text())["curves"]
    assert len(curves) == 36
    for curve in curves:
        found = found_in(curve)
        assert found.rates.index(found.suggestions["steepest"]) == curve["index"]


def test_noise_at_the_lowest_rates_does_not_attract_it():
    """Lightning takes the slope over the rate itself: the noise of a thousandth moves its suggestion by decades."""
    noisy = [
        curve
        for curve in json.loads(GOLDEN.read_text())["curves"]
        if abs(curve["index"] - curve["index_over_rate"]) > 15
    ]
    assert len(noisy) > 10
    for curve in noisy:
        found = found_in(curve)
        assert found.suggestions["steepest"] > 10 * found.rates[curve["index_over_rate"]]


def found_in(curve):
    steps, low, high = len(curve["losses"]), curve["min_lr"], curve["max_lr"]
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    losses = [NAN if loss is None else loss for loss in curve["losses"]]
    return make_curve(rates, losses, losses, "steepest")


@pytest.mark.parametrize(
    ("points", "index"),
    [
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], 4),
        ([9, 9, 9, 9, 8, 7, 6, 5, 4, 5, 6], 5),  # falls from the fourth to the ninth
        ([9, 8, 9, 9, 8, 7, 6, 5, 6, 7, 8], 5),  # a short fall before does not count
        ([5, 6, 7, 8, 7, 6, 5, 4, 3, 9, 9], 5),
        ([9, 8.0, 7.0, 7.1, 6, 5, 4, 3, 2], 4),  # a small bump within
    ],
)
def test_valley_is_the_middle_of_the_longest_fall(points, index):
    """Among the points that are not skipped: the first 10 and the last."""
    losses = [points[0]] * 10 + points + [points[-1]]
    rates = [10.0 ** (place - 20) for place in range(len(losses))]
    found = make_curve(rates, losses, losses, "valley")
    assert rates.index(found.suggestion) - 10 == index


def test_the_points_at_both_ends_are_skipped():
    """Where the loss falls fastest is not a suggestion within the first 10 steps or in the last."""
    losses = [5.0, 3.0, *[2.0] * 13, *np.linspace(2.0, 1.5, 20), 0.1]
    rates = np.logspace(-7, 0, len(losses)).tolist()
    found = make_curve(rates, losses, losses, "steepest")
    assert all(15 <= rates.index(rate) <= 34 for rate in found.suggestions.values())


@pytest.mark.parametrize("method", ["valley", "steepest"])
def test_suggestion_is_that_of_the_method(method):
    """The other one is there too."""
    found = scripted(valley(), method=method)
    assert found.suggestion == found.suggestions[method]
    assert set(found.suggestions) == {"valley", "steepest"}
    assert found.reason == ""


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([1.0] * 30, r"the loss never fell .* between the rates .*; raise max_lr, or take more steps"),
        (np.linspace(1, 2, 30), r"the loss never fell .*; raise max_lr"),
        (
            [1.0 + 0.1 * (step % 2) for step in range(30)],
            r"the loss never fell by more than it varies from step to step",
        ),
        ([1.0] * 12 + [1e5] * 20, r"diverged at once: the test ended at step 13, at a rate of .*; lower min_lr"),
        (
            [NAN] * 20,
            r"diverged at once: the test ended at step 1, at a rate of 1e-07; lower min_lr, or look for NaN",
        ),
        ([*[1.0] * 25, *[1e4] * 10], r"the loss never fell .*; lower min_lr"),
    ],
)
def test_without_a_suggestion_there_is_a_reason(losses, reason):
    """In place of Lightning's warning, or an IndexError of fastai's."""
    found = scripted(list(losses))
    assert (found.suggestion, found.suggestions) == (None, {"valley": None, "steepest": None})
    assert re.match(reason, found.reason)


def test_too_few_steps_with_a_loss_are_a_reason():
    """Such as where loss scaling dropped the others."""
    found = scripted(valley()[:24], range(0, 40, 2))
    assert found.suggestion is None
    assert found.reason.startswith("fewer than 5 points: 12 steps gave a loss")


def test_the_result_is_frozen_short_to_print_and_can_be_sent_to_another_process():
    """Without the points in its `repr`."""
    found = scripted(valley())
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.rates = ()
    assert len(repr(found)) < 200
    assert pickle.loads(pickle.dumps(found)) == found


# The picture


@pytest.mark.parametrize("losses", [valley(), [*valley(), NAN], [1.0] * 30, [NAN, *valley()]])
def test_plot_draws_the_curve_and_the_suggestions(losses, tmp_path, pictures):
    """NaN is left out; without a suggestion, the title says why."""
    flags = [0] if math.isnan(losses[0]) else []
    found = scripted(losses, flags)
    found.plot(tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = pictures[0].axes
    assert axes.get_xscale() == "log"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    marks = [f"{method}: {rate:.2g}" for method, rate in found.suggestions.items() if rate is not None]
    assert labels == ["loss", "smoothed loss", *marks]
    drawn = axes.get_lines()[0].get_ydata()
    assert list(drawn) == [loss for loss in found.losses if math.isfinite(loss)]
    assert ("no suggestion" in axes.get_title()) is (found.suggestion is None)
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert "1e-05" in ticks or "0.0001" in ticks


def test_a_notebook_shows_the_curve():
    """Unless there is nothing to draw, or nothing to draw with."""
    found = scripted(valley())
    content, size = found._repr_png_()
    assert content.startswith(b"\x89PNG")
    assert size == {"width": 672, "height": 403}
    assert scripted([NAN] * 20)._repr_png_() is None


def test_a_picture_of_nothing_or_in_no_folder_is_refused(tmp_path):
    """With the reason."""
    with pytest.raises(ValueError, match="lr_find: there is no loss to draw: diverged at once"):
        scripted([NAN] * 20).plot(tmp_path / "found.png")
    found = scripted(valley())
    with pytest.raises(ValueError, match=r"lr_find: path must end in '.png'"):
        found.plot(tmp_path / "found.jpg")
    with pytest.raises(OSError, match="lr_find: "):
        found.plot(tmp_path / "missing" / "found.png")


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"min_lr": 0.1, "max_lr": 0.1}, ValueError, "min_lr must be below max_lr, but got min_lr=0.1 and max_lr=0.1"),
        ({"min_lr": 1.0, "max_lr": 0.1}, ValueError, "min_lr must be below max_lr"),
        ({"min_lr": 0}, ValueError, "min_lr must be finite and above 0, but got 0"),
        ({"min_lr": -1e-3}, ValueError, "min_lr must be finite and above 0"),
        ({"max_lr": INF}, ValueError, "max_lr must be finite"),
        ({"max_lr": "1"}, TypeError, "max_lr must be a number"),
        ({"steps": 15}, ValueError, "steps must be at least 16, but got 15"),
        ({"steps": 20.0}, TypeError, "steps must be a whole number"),
        ({"early_stop_threshold": 1.0}, ValueError, "early_stop_threshold must be finite and above 1"),
        ({"method": "valey"}, ValueError, "method must be one of 'valley', 'steepest', but got 'valey'; did you mean"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    """Before the first step, with what was received and what was expected."""
    with pytest.raises(error, match=f"lr_find: {message}"):
        lr_find(make_model(), dataset(), **arguments)


def empty():
    return dataset(4, batch_size=12).batch(2, drop_remainder=True)


@pytest.mark.parametrize(
    ("make", "data", "error", "message"),
    [
        (Network, dataset, TypeError, "model must be a mindspore.train.Model, but got Network"),
        (make_model, lambda: [1, 2], TypeError, "dataset must be a MindSpore dataset, but got list"),
        (make_model, empty, ValueError, "the dataset is empty"),
        (
            lambda: ms.Model(Network(), loss_fn()),
            dataset,
            ValueError,
            "the Model needs an optimizer of mindspore.nn.*none",
        ),
        (
            functools.partial(make_model, learning_rate=[0.1] * 200),
            dataset,
            ValueError,
            "the optimizer holds a list of learning rates, which sets the rate itself; make the optimizer with a",
        ),
        (
            lambda: make_model(lambda net: nn.SGD(net.trainable_params(), nn.ExponentialDecayLR(0.1, 0.9, 4))),
            dataset,
            ValueError,
            "the optimizer holds a learning rate schedule",
        ),
        (
            lambda: make_model(grouped(0.0, 0.0, both=True)),
            dataset,
            ValueError,
            "the rates of the parameter groups must have a proportion to keep, but all are 0",
        ),
        (
            lambda: in_parallel_mode("semi_auto_parallel", make_model()),
            dataset,
            ValueError,
            "parallel_mode='semi_auto_parallel' gives each process a part of the weights",
        ),
    ],
)
def test_what_cannot_be_tested_is_refused(make, data, error, message):
    """By name, with what to do instead."""
    with pytest.raises(error, match=f"lr_find: {message}"):
        lr_find(make(), data(), steps=16)
