"""EMAWeightAveraging: the average itself, where it is used, and the training that it leaves as it was."""

from __future__ import annotations

import json
import pathlib

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.train import Callback
from training import Interrupt, Recorder, assert_same_weights, dataset, make_model, seeded, valid_dataset, weights

from ms_callbacks import BestCheckpoint, EarlyStopping, EMAWeightAveraging, TrainCallback, TrainingState, Validate
from ms_callbacks.checkpointing._averages import Averages

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "averaging.json").read_text())


class Weights(TrainCallback):
    """Keeps the weights after each step, as training has them."""

    def reset_state(self):
        self.steps = []

    def before_train(self, run):
        run.step_hooks.on_step_end(self, lambda run: self.steps.append(weights(run.network)))


class AtEvaluation(TrainCallback):
    """Keeps the weights that evaluations see, and the results."""

    def reset_state(self):
        self.seen, self.results, self.accuracies = [], [], []

    def after_evaluation(self, run, evaluation):
        self.seen.append(weights(run.network))
        self.results.append(evaluation.results["eval_loss"])
        self.accuracies.append(evaluation.results["acc"])


def average_of(steps, decay, warmup=True, start=0, every=1):
    """By the formula, in double precision."""
    average, updates = None, 0
    for index, now in enumerate(steps):
        if index < start or (index - start) % every:
            continue
        now = {name: array.astype(np.float64) for name, array in now.items()}
        share = 1 - (min(decay, (1 + updates) / (10 + updates)) if warmup else decay)
        average = now if average is None else {n: a + share * (now[n] - a) for n, a in average.items()}
        updates += 1
    return average


@pytest.mark.parametrize(
    "settings",
    [
        {"decay": 0.9},
        {"decay": 0.5, "warmup": False},
        {"decay": 0.9, "start_step": 5},
        {"decay": 0.9, "update_every_n_steps": 3},
        {"decay": 0.9, "start_step": 2, "update_every_n_steps": 2},
    ],
    ids=str,
)
def test_the_network_ends_with_the_average(settings, mode):
    """Of the weights after each step, statistics of BatchNorm included, by the formula."""
    model, steps = make_model(), Weights()
    averaging = EMAWeightAveraging(**settings)
    model.train(2, dataset(), callbacks=[averaging, steps])
    expected = average_of(
        steps.steps,
        settings["decay"],
        settings.get("warmup", True),
        settings.get("start_step", 0),
        settings.get("update_every_n_steps", 1),
    )
    for name, array in weights(model.predict_network).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("by_fit", [False, True])
@pytest.mark.parametrize("every_n_steps", [None, 3])
def test_training_is_bit_for_bit_that_of_a_run_without(mode, by_fit, every_n_steps):
    """Although the average was in the network during each evaluation."""
    if by_fit and every_n_steps:
        pytest.skip("fit evaluates at the ends of epochs")
    losses = []
    for averaging in ([], [EMAWeightAveraging(decay=0.5)]):
        model, recorder, steps = make_model(), Recorder(), Weights()
        callbacks = [*averaging, recorder, steps]
        if by_fit:
            model.fit(3, dataset(), valid_dataset(), callbacks=callbacks)
        else:
            validate = Validate(model, valid_dataset(), every_n_steps=every_n_steps)
            model.train(3, dataset(), callbacks=[*callbacks, validate])
        losses.append((recorder.losses, steps.steps))
    assert losses[0][0] == losses[1][0]
    for one, other in zip(losses[0][1], losses[1][1]):
        assert_same_weights(one, other)


@pytest.mark.parametrize("by_fit", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_evaluations_and_the_best_checkpoint_have_the_average(tmp_path, by_fit, order):
    """Results are those of a network with these weights, and the file holds them."""
    model, at, steps = make_model(), AtEvaluation(), Weights()
    best = BestCheckpoint(tmp_path / "best.ckpt", monitor="eval_loss", verbose=0)
    callbacks = [EMAWeightAveraging(decay=0.6), steps, at, best, Validate(model, valid_dataset())][::order]
    if by_fit:
        model.fit(3, dataset(), valid_dataset(), callbacks=callbacks)
    else:
        model.train(3, dataset(), callbacks=callbacks)
    for epoch, seen in enumerate(at.seen, 1):
        expected = average_of(steps.steps[: epoch * 4], 0.6)
        for name, array in seen.items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)
    other = make_model()
    best.load_into(other.predict_network)
    chosen = at.results.index(min(at.results))
    for name, array in weights(other.predict_network).items():
        np.testing.assert_array_equal(array, at.seen[chosen][name])
    assert other.eval(valid_dataset())["acc"] == at.accuracies[chosen]


def test_early_stopping_restores_the_best_average():
    """After the last average is in the network."""
    model, at = make_model(learning_rate=0.5), AtEvaluation()
    stopping = EarlyStopping("eval_loss", patience=2, restore_best_weights=True, verbose=0)
    model.train(8, dataset(), callbacks=[stopping, EMAWeightAveraging(0.3), at, Validate(model, valid_dataset())])
    chosen = at.results.index(min(at.results))
    assert_same_weights(weights(model.predict_network), at.seen[chosen])


def test_before_its_start_evaluations_see_the_weights_of_training():
    """Lightning evaluated an average of nothing there."""
    model, at, steps = make_model(), AtEvaluation(), Weights()
    averaging = EMAWeightAveraging(decay=0.9, start_step=6)
    model.train(2, dataset(), callbacks=[averaging, steps, at, Validate(model, valid_dataset())])
    assert_same_weights(at.seen[0], steps.steps[3])
    assert averaging.updates_ == 2


def test_buffers_may_be_copied():
    """BatchNorm's statistics are then those of training."""
    model, steps = make_model(), Weights()
    model.train(1, dataset(), callbacks=[EMAWeightAveraging(decay=0.9, buffers="copy"), steps])
    ends = weights(model.predict_network)
    for name in ("norm.moving_mean", "norm.moving_variance"):
        np.testing.assert_array_equal(ends[name], steps.steps[-1][name])
    assert not np.array_equal(ends["head.weight"], steps.steps[-1]["head.weight"])


@pytest.mark.parametrize("decay", GOLDEN["ema"])
def test_the_average_is_that_of_pytorchs_averaged_model(decay):
    """Which Lightning's `EMAWeightAveraging` uses: after each update, with PyTorch's own numbers."""
    average = Averages()
    for now, expected in zip(GOLDEN["weights"], GOLDEN["ema"][decay]):
        average.add({"p": ms.Parameter(Tensor(np.array(now, np.float32)), name="p")}, 1 - float(decay))
        np.testing.assert_allclose(average.arrays["p"], expected, rtol=1e-5, atol=1e-7)


def test_an_average_of_half_precision_moves():
    """It is kept in float32: a thousandth of a small step is nothing in float16."""
    parameter = ms.Parameter(Tensor(np.ones(3, np.float16)), name="p")
    average = Averages()
    average.add({"p": parameter}, 0.001)
    other = ms.Parameter(Tensor(np.full(3, 1.0625, np.float16)), name="p")
    for _ in range(10):
        average.add({"p": other}, 0.001)
    assert average.arrays["p"].dtype == np.float32
    np.testing.assert_allclose(average.arrays["p"], 1 + 0.0625 * (1 - 0.999**10), rtol=1e-6)
    average.write({"p": parameter})
    assert parameter.dtype == ms.float16


@pytest.mark.parametrize("size", [1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3 << 16])
def test_an_array_of_any_size_is_averaged_whole(size):
    """It is worked on in parts."""
    values = np.random.RandomState(0).randn(2, size).astype(np.float32)
    average = Averages()
    for row in values:
        average.add({"p": ms.Parameter(Tensor(row), name="p")}, 0.25)
    np.testing.assert_allclose(average.arrays["p"], values[0] * 0.75 + values[1] * 0.25, rtol=1e-5, atol=1e-6)


def test_a_dropped_step_is_not_averaged():
    """It has not updated the weights."""
    network = seeded()

    class Drops(nn.Cell):
        """Returns what a training cell with loss scaling returns; every second step is dropped."""

        def __init__(self, network):
            super().__init__()
            self.network = nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
            self.optimizer = nn.SGD(network.trainable_params(), 0.1)
            self.cell = nn.TrainOneStepCell(self.network, self.optimizer)
            self.count = 0

        def construct(self, images, labels):
            self.count += 1
            if self.count % 2:
                return self.cell(images, labels), Tensor(False), Tensor(1.0)
            return self.network(images, labels), Tensor(True), Tensor(1.0)

    ms.set_context(mode=ms.PYNATIVE_MODE)
    averaging = EMAWeightAveraging(decay=0.9)
    ms.Model(Drops(network)).train(1, dataset(), callbacks=[averaging])
    assert averaging.updates_ == 2


def test_an_exception_within_an_evaluation_leaves_the_weights_of_training(mode):
    """Not half an average."""

    class Fail(Callback):
        def on_eval_step_end(self, run_context):
            raise RuntimeError("mine")

    model, steps = make_model(), Weights()
    with pytest.raises(RuntimeError, match="mine"):
        model.fit(1, dataset(), valid_dataset(), callbacks=[EMAWeightAveraging(0.9), steps, Fail()])
    assert_same_weights(weights(model.predict_network), steps.steps[-1])


@pytest.mark.parametrize("at", [3, 5])
def test_a_resume_ends_as_a_run_that_was_not_interrupted(tmp_path, at):
    """Training, average and count; the state holds the weights of training, and the average beside them."""

    def train(folder, extra=()):
        model, averaging = make_model(), EMAWeightAveraging(decay=0.8)
        state = TrainingState(folder)
        train_dataset = dataset()
        begin = state.resume(model, train_dataset)
        callbacks = [averaging, state, Validate(model, valid_dataset(), every_n_steps=2), *extra]
        model.train(2, train_dataset, callbacks=callbacks, initial_epoch=begin)
        return weights(model.predict_network), averaging.updates_

    whole = train(tmp_path / "whole")
    train(tmp_path / "cut", [Interrupt(at)])
    ends, updates = train(tmp_path / "cut")
    assert updates == whole[1] == 8
    assert_same_weights(ends, whole[0])


def test_a_finished_run_gives_its_average_to_a_new_process(tmp_path):
    """What `TrainingState.resume` loads is what the run ended with."""
    model, averaging = make_model(), EMAWeightAveraging(decay=0.8)
    model.train(2, dataset(), callbacks=[averaging, TrainingState(tmp_path / "state")])
    other, again = make_model(), EMAWeightAveraging(decay=0.8)
    state = TrainingState(tmp_path / "state")
    state.resume(other, dataset(), callbacks=[again], epochs=2)
    assert state.finished_
    assert_same_weights(weights(other.predict_network), weights(model.predict_network))
    assert again.updates_ == 8


@pytest.mark.parametrize(
    "arguments",
    [
        {"decay": 1.5},
        {"decay": 1.0},
        {"decay": 0.0},
        {"decay": float("nan")},
        {"decay": "0.9"},
        {"update_every_n_steps": 0},
        {"start_step": -1},
        {"warmup": 1},
        {"buffers": "ignore"},
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused(arguments):
    """When it is made."""
    with pytest.raises((TypeError, ValueError), match=f"EMAWeightAveraging: {next(iter(arguments))} must be"):
        EMAWeightAveraging(**arguments)
