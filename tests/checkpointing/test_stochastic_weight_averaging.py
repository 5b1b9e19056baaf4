"""StochasticWeightAveraging: the average of the last epochs, its BatchNorm statistics, and the rate."""

from __future__ import annotations

import json
import pathlib

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn
from training import Interrupt, Recorder, Script, assert_same_weights, dataset, grouped, loss_fn, make_model, weights

from ms_callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LRStepDecay,
    StochasticWeightAveraging,
    TrainingState,
)
from ms_callbacks.checkpointing._averages import Averages

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "averaging.json").read_text())


def mean_of(recorder, epochs):
    return {name: np.mean([recorder.weights[e - 1][name] for e in epochs], 0) for name in recorder.weights[0]}


@pytest.mark.parametrize(("start", "epochs"), [(1, [1, 2, 3, 4]), (3, [3, 4]), (4, [4]), (0.5, [3, 4]), (0.9, [4])])
def test_the_network_ends_with_the_average_of_the_last_epochs(start, epochs, mode):
    """Each epoch with the same share."""
    model, recorder, averaging = make_model(), Recorder(), StochasticWeightAveraging(start)
    model.train(4, dataset(), callbacks=[averaging, recorder])
    expected = mean_of(recorder, epochs)
    ends = weights(model.predict_network)
    for name in ("hidden.weight", "norm.gamma", "head.weight", "head.bias"):
        np.testing.assert_allclose(ends[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert averaging.averaged_epochs_ == epochs


def test_batchnorm_has_the_statistics_of_the_average(mode):
    """The mean over the batches of their means and unbiased variances, of what the layer gets from the average."""
    model = make_model()
    model.train(3, dataset(42), callbacks=[StochasticWeightAveraging(2)])  # the last batch is smaller
    network = model.predict_network
    ms.set_context(mode=ms.PYNATIVE_MODE)
    seen = []
    for images, _ in dataset(42).create_tuple_iterator(num_epochs=1):
        values = network.hidden(images).asnumpy().astype(np.float64)
        count = values.size / values.shape[1]
        seen.append((values.mean((0, 2, 3)), values.var((0, 2, 3)) * count / (count - 1)))
    means, variances = (np.mean(each, 0) for each in zip(*seen))
    np.testing.assert_allclose(network.norm.moving_mean.asnumpy(), means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network.norm.moving_variance.asnumpy(), variances, rtol=1e-4, atol=1e-5)


def test_the_pass_over_the_data_changes_nothing_else(mode):
    """Training is bit for bit that of a run without, BatchNorm's momentum and the flags are as before."""
    runs = []
    for averaging in ([], [StochasticWeightAveraging(2)]):
        model, recorder = make_model(), Recorder()
        model.train(3, dataset(), callbacks=[*averaging, recorder])
        network = model.predict_network
        runs.append((recorder.losses, recorder.weights, network.norm.momentum, network.norm.training))
    assert runs[0][0] == runs[1][0]
    for one, other in zip(runs[0][1], runs[1][1]):
        assert_same_weights(one, other)
    assert runs[0][2:] == runs[1][2:]


@pytest.mark.parametrize("case", GOLDEN["SWALR"], ids=lambda case: f"{case['strategy']}-{case['annealing_epochs']}")
def test_the_rate_goes_to_lr_as_pytorchs_swalr_does(case):
    """From what it is in the first averaged epoch, within `annealing_epochs`; there it stays. PyTorch's own numbers."""
    averaging = StochasticWeightAveraging(
        3, lr=case["lr"], annealing_epochs=case["annealing_epochs"], anneal_strategy=case["strategy"]
    )
    rates = Script(case["base"]).run([averaging], [{"x": 1.0}] * (2 + len(case["rates"])))
    assert rates == pytest.approx([case["base"]] * 2 + case["rates"], rel=1e-6)


def test_without_annealing_the_rate_is_lr_at_once():
    """From the first averaged epoch on."""
    rates = Script(0.1).run([StochasticWeightAveraging(2, lr=0.02, annealing_epochs=0)], [{"x": 1.0}] * 3)
    assert rates == pytest.approx([0.1, 0.02, 0.02])


def test_statistics_are_those_of_pytorchs_update_bn():
    """Each batch counts alike, whatever its size; variances are unbiased. PyTorch's own numbers."""
    golden = GOLDEN["update_bn"]
    batches = [np.array(batch, np.float32) for batch in golden["batches"]]
    network = nn.SequentialCell(nn.BatchNorm2d(2), nn.Flatten(), nn.Dense(8, 3))

    def batches_and_labels():
        for batch in batches:
            yield batch, np.zeros(len(batch), np.int32)

    data = ds.GeneratorDataset(batches_and_labels, ["images", "labels"], shuffle=False)
    rates = nn.SGD(network.trainable_params(), 1e-6)
    ms.Model(network, loss_fn(), rates).train(1, data, callbacks=[StochasticWeightAveraging(1)])
    np.testing.assert_allclose(network[0].moving_mean.asnumpy(), golden["mean"], rtol=1e-5)
    np.testing.assert_allclose(network[0].moving_variance.asnumpy(), golden["variance"], rtol=1e-5)


def test_the_average_is_that_of_pytorchs_averaged_model():
    """After each update, with PyTorch's own numbers."""
    average = Averages()
    for count, (now, expected) in enumerate(zip(GOLDEN["weights"], GOLDEN["swa"]), 1):
        average.add({"p": ms.Parameter(Tensor(np.array(now, np.float32)), name="p")}, 1 / count)
        np.testing.assert_allclose(average.arrays["p"], expected, rtol=1e-5, atol=1e-7)


def test_each_parameter_group_goes_to_its_own():
    """In the order of the optimizer's groups."""
    model = make_model(grouped(0.2, 0.1))
    averaging = StochasticWeightAveraging(1, lr=[0.04, 0.02], annealing_epochs=0)
    model.train(1, dataset(), callbacks=[averaging])
    rates = sorted({float(str(rate.asnumpy())) for rate in model.train_network.optimizer.learning_rate})
    assert rates == [0.02, 0.04]


@pytest.mark.parametrize("at", [8, 14, 18])
def test_a_resume_ends_as_a_run_that_was_not_interrupted(tmp_path, at):
    """Before, at the end of, and within epochs that are averaged; an interrupted run keeps the weights it trains."""

    def train(folder, extra=()):
        model, recorder = make_model(), Recorder()
        averaging = StochasticWeightAveraging(3, lr=0.01, annealing_epochs=2)
        train_dataset, state = dataset(), TrainingState(folder)
        begin = state.resume(model, train_dataset)
        model.train(5, train_dataset, callbacks=[averaging, state, recorder, *extra], initial_epoch=begin)
        return weights(model.predict_network), averaging.averaged_epochs_, recorder

    whole, epochs, _ = train(tmp_path / "whole")
    cut, _, recorder = train(tmp_path / "cut", [Interrupt(at)])
    assert_same_weights(cut, recorder.weights[-1])
    ends, again, _ = train(tmp_path / "cut")
    assert epochs == again == [3, 4, 5]
    assert_same_weights(ends, whole)


def test_a_finished_run_gives_its_average_to_a_new_process(tmp_path):
    """With the statistics that fit it."""
    model = make_model()
    model.train(2, dataset(), callbacks=[StochasticWeightAveraging(1), TrainingState(tmp_path / "state")])
    other, state = make_model(), TrainingState(tmp_path / "state")
    state.resume(other, dataset(), callbacks=[StochasticWeightAveraging(1)], epochs=2)
    assert_same_weights(weights(other.predict_network), weights(model.predict_network))


def test_a_network_without_batchnorm_needs_no_pass():
    """The dataset is read once."""
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
    model = make_model(network=network)
    reads = []
    train_dataset = dataset()
    create = train_dataset.create_tuple_iterator
    train_dataset.create_tuple_iterator = lambda *args, **kwargs: reads.append(1) or create(*args, **kwargs)
    model.train(2, train_dataset, callbacks=[StochasticWeightAveraging(1)])
    assert reads == [1]  # by the training


@pytest.mark.parametrize(
    "arguments",
    [
        {"swa_epoch_start": 0},
        {"swa_epoch_start": 1.0},
        {"swa_epoch_start": 0.0},
        {"swa_epoch_start": -3},
        {"swa_epoch_start": "2"},
        {"lr": 0},
        {"lr": -0.1},
        {"lr": float("nan")},
        {"lr": []},
        {"annealing_epochs": -1},
        {"anneal_strategy": "exp"},
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused(arguments):
    """When it is made, by name."""
    with pytest.raises((TypeError, ValueError), match=f"StochasticWeightAveraging: {next(iter(arguments))} must"):
        StochasticWeightAveraging(**arguments)


@pytest.mark.parametrize(
    ("averaging", "others", "message"),
    [
        (lambda: StochasticWeightAveraging(4), [], "averages in none of the 3 epochs"),
        (lambda: StochasticWeightAveraging(2), [EMAWeightAveraging()], "both leave their average in the network"),
        (lambda: StochasticWeightAveraging(2, lr=0.1), [LRStepDecay(1)], "both set the learning rate"),
        (lambda: StochasticWeightAveraging(2, lr=[0.1, 0.2]), [], "lr has 2 values, but the optimizer has 1 rate"),
        (
            lambda: StochasticWeightAveraging(2),
            [EarlyStopping("loss", restore_best_weights=True)],
            "would replace the average",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(averaging, others, message):
    """Nothing has been trained then."""
    model = make_model()
    before = weights(model.predict_network)
    with pytest.raises(ValueError, match=message):
        model.train(3, dataset(), callbacks=[averaging(), *others])
    assert_same_weights(weights(model.predict_network), before)


def test_with_another_schedule_it_leaves_the_rate_alone():
    """As the list of callbacks says."""
    model, recorder = make_model(learning_rate=0.1), Recorder()
    model.train(2, dataset(), callbacks=[StochasticWeightAveraging(1), LRStepDecay(1, 0.5), recorder])
    assert recorder.rates == pytest.approx([0.1] * 4 + [0.05] * 4)
