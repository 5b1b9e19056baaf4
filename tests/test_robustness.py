"""Robustness: inputs moved along the true gradient, accuracies that can be computed by hand."""

from __future__ import annotations

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from training import (
    CLASSES,
    Network,
    Recorder,
    assert_same_weights,
    dataset,
    loss_fn,
    make_model,
    valid_dataset,
    weights,
)

from ms_callbacks import EarlyStopping, Validate
from ms_callbacks.explain.robustness import Robustness


class NoStep(Callback):
    """Fails when a step has run."""

    def on_train_step_end(self, run_context):
        raise AssertionError("a step ran")


class Curved(nn.Cell):
    """A small network that keeps what it is given."""

    def __init__(self):
        super().__init__()
        random = np.random.RandomState(0)
        self.hidden = nn.Dense(4, 5, weight_init=Tensor(random.randn(5, 4).astype(np.float32)))
        self.head = nn.Dense(5, 3, weight_init=Tensor(random.randn(3, 5).astype(np.float32)))
        self.tanh = nn.Tanh()
        self.seen = []

    def construct(self, x):
        self.seen.append(x.asnumpy() if isinstance(x, Tensor) and not self.training else None)
        return self.head(self.tanh(self.hidden(x)))


class Linear(nn.Cell):
    """Two classes, told apart by the sign of w.x."""

    def __init__(self, weights_):
        super().__init__()
        w = np.array(weights_, np.float32)
        self.head = nn.Dense(len(w), 2, weight_init=Tensor(np.stack([-w, w]) / 2), has_bias=False)

    def construct(self, x):
        return self.head(x)


class Columns:
    """Rows of arrays: 0-d arrays, not NumPy scalars, on which MindSpore 2.10 fails with NumPy 2."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, index):
        return tuple(array[index : index + 1].reshape(array.shape[1:]) for array in self.arrays)


def columns(batch_size=4, **arrays):
    return ds.GeneratorDataset(Columns(list(arrays.values())), list(arrays), shuffle=False).batch(batch_size)


def numeric_gradient(network, inputs, labels):
    """Of the mean cross-entropy, by central differences in float64."""
    w1, b1 = network.hidden.weight.asnumpy().astype(float), network.hidden.bias.asnumpy().astype(float)
    w2, b2 = network.head.weight.asnumpy().astype(float), network.head.bias.asnumpy().astype(float)

    def loss(x):
        logits = np.tanh(x @ w1.T + b1) @ w2.T + b2
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(x)), labels])

    gradient = np.zeros(inputs.shape)
    for place in np.ndindex(inputs.shape):
        step = np.zeros(inputs.shape)
        step[place] = 1e-5
        gradient[place] = (loss(inputs + step) - loss(inputs - step)) / 2e-5
    return gradient


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_inputs_move_along_the_sign_of_the_numeric_gradient(reduction):
    """By exactly epsilon in each element, whatever the loss's reduction."""
    random = np.random.RandomState(1)
    inputs, labels = random.randn(6, 4).astype(np.float32), np.array([0, 1, 2, 0, 1, 2], np.int32)
    network = Curved()
    Robustness(columns(6, x=inputs, y=labels), (0.25,), verbose=0).evaluate(network, loss_fn(reduction))
    gradient = numeric_gradient(network, inputs.astype(float), labels)
    assert np.abs(gradient).min() > 1e-4
    np.testing.assert_allclose(network.seen[-1], inputs + 0.25 * np.sign(gradient), atol=1e-6)


def test_a_linear_network_by_hand(mode, capsys):
    """Its margin falls by epsilon times the sum of |w|: of margins 0.5, 1.5, 2.5, 3.5, those above it survive."""
    w = np.array([1.0, -2.0, 0.5])
    margins = np.array([0.5, -1.5, 2.5, -3.5, 0.5])
    inputs = (margins[:, None] * w / (w @ w)).astype(np.float32)
    labels = np.array([1, 0, 1, 0, 0], np.int32)  # the last is wrong to begin with
    robustness = Robustness(columns(2, x=inputs, y=labels), (0, 1 / 3.5, 2 / 3.5, 3 / 3.5, 4 / 3.5))
    accuracies = robustness.evaluate(Linear(w), loss_fn())
    assert list(accuracies.values()) == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert robustness.accuracies_ == accuracies
    assert capsys.readouterr().out.splitlines()[:2] == [
        "Robustness: epsilon 0: accuracy 0.8000 (4 of 5 samples)",
        "Robustness: epsilon 0.285714: accuracy 0.6000 (3 of 5 samples)",
    ]


@pytest.mark.parametrize("how", ["train", "fit"])
def test_epsilon_zero_is_the_accuracy_of_an_evaluation(mode, how):
    """Over batches of different sizes; and larger epsilons cost accuracy."""
    model, robustness = make_model(), Robustness(valid_dataset(), (0.0, 1.0), verbose=0)
    if how == "fit":
        model.fit(3, dataset(), valid_dataset(), callbacks=[robustness])
    else:
        model.train(3, dataset(), callbacks=[robustness])
    assert robustness.accuracies_[0.0] == pytest.approx(model.eval(valid_dataset())["acc"])
    assert robustness.accuracies_[1.0] < robustness.accuracies_[0.0]


def test_a_loss_that_takes_one_hot_labels():
    """Gives the same accuracies as whole numbers."""
    network = Network()
    hot = valid_dataset().map(lambda labels: np.eye(CLASSES, dtype=np.float32)[labels], input_columns="labels")
    by_hot = Robustness(hot, verbose=0).evaluate(network, nn.SoftmaxCrossEntropyWithLogits(reduction="mean"))
    assert by_hot == Robustness(valid_dataset(), verbose=0).evaluate(network, loss_fn())
    assert list(by_hot) == [0.0, 0.05, 0.1, 0.2]


def test_the_network_is_the_one_that_the_run_ends_with():
    """EarlyStopping restores the best weights first, wherever it stands in the list."""

    class Spoil(Callback):
        def on_train_step_end(self, run_context):
            args = run_context.original_args()
            if args.cur_step_num == 12:  # the last one
                ops.assign(args.network.head.weight, -args.network.head.weight)

    for order in (1, -1):
        model = make_model()
        robustness = Robustness(valid_dataset(), (0.0,), verbose=0)
        stopping = EarlyStopping("eval_loss", patience=9, restore_best_weights=True, verbose=0)
        model.train(3, dataset(), callbacks=[robustness, stopping, Validate(model, valid_dataset()), Spoil()][::order])
        assert stopping.best_epoch_ < 3
        assert robustness.accuracies_[0.0] == pytest.approx(model.eval(valid_dataset())["acc"])


def test_max_batches():
    """Only the first so many batches are looked at."""
    model = make_model()
    measured = Robustness(valid_dataset(), (0.0,), max_batches=2, verbose=0).evaluate(model.predict_network, loss_fn())
    assert measured == {0.0: pytest.approx(model.eval(valid_dataset(24, 12))["acc"])}


def test_everything_is_left_as_it_was(mode):
    """Weights, statistics, flags and mode, and a second run that goes on from there."""
    outcomes = []
    for callbacks in ([], [Robustness(valid_dataset(), verbose=0)]):
        model, recorder = make_model(), Recorder()
        before = ms.get_context("mode")
        for _ in range(2):
            model.train(1, dataset(), callbacks=[*callbacks, recorder])
            assert ms.get_context("mode") == before
            assert all(cell.training for _, cell in model.train_network.cells_and_names())
        outcomes.append((recorder.losses, weights(model.train_network)))
    assert outcomes[0][0] == outcomes[1][0]
    assert_same_weights(outcomes[0][1], outcomes[1][1])


def test_a_second_run_measures_again():
    """And forgets the first one's accuracies when it begins."""
    model, robustness = make_model(), Robustness(valid_dataset(), (0.0,), verbose=0)
    model.train(1, dataset(), callbacks=[robustness])
    first = robustness.accuracies_
    with pytest.raises(AssertionError, match="a step ran"):
        model.train(1, dataset(), callbacks=[robustness, NoStep()])
    assert robustness.accuracies_ == {}
    model.train(1, dataset(), callbacks=[robustness])
    assert list(robustness.accuracies_) == list(first)


def test_nan_counts_as_wrong():
    """Argmax would call it class 0, and the label is 0."""
    inputs = np.array([[np.nan, 1], [-1, -1]], np.float32)
    robustness = Robustness(columns(x=inputs, y=np.array([0, 0], np.int32)), (0.0,), verbose=0)
    assert robustness.evaluate(Linear([1.0, 1.0]), loss_fn()) == {0.0: 0.5}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epsilons": ()}, ValueError, "epsilons must hold at least one number, but it is empty"),
        ({"epsilons": (0.1, -0.1)}, ValueError, "epsilons must be finite and at least 0, but got -0.1"),
        ({"epsilons": (float("nan"),)}, ValueError, "epsilons must be finite and at least 0, but got nan"),
        ({"epsilons": 0.1}, TypeError, r"epsilons must be numbers, such as \(0.0, 0.1\), but got 0.1"),
        ({"epsilons": "0.1"}, TypeError, "epsilons must be numbers"),
        ({"epsilons": ("a",)}, TypeError, "epsilons must be a number, but got 'a'"),
        ({"max_batches": 0}, ValueError, "max_batches must be at least 1, but got 0"),
        ({"verbose": 2}, ValueError, "verbose must be one of 0, 1"),
        ({"dataset": []}, TypeError, "dataset must be a MindSpore dataset, but got list"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    """When it is made."""
    with pytest.raises(error, match=f"Robustness: {message}"):
        Robustness(**{"dataset": valid_dataset(), **arguments})


X, Y = np.zeros((4, 4), np.float32), np.zeros(4, np.int32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: columns(x=X), "dataset must have two columns, inputs and labels, but has 1: 'x'; .*project"),
        (lambda: columns(x=X, y=Y, z=Y), "dataset must have two columns, inputs and labels, but has 3: 'x', 'y', 'z'"),
        (lambda: dataset(4, 12).batch(100, drop_remainder=True), "the dataset is empty"),
    ],
)
def test_a_dataset_that_cannot_serve_is_refused_before_the_first_step(data, message):
    """And by evaluate."""
    with pytest.raises(ValueError, match=f"Robustness: {message}"):
        make_model().train(1, dataset(), callbacks=[Robustness(data()), NoStep()])
    with pytest.raises(ValueError, match=f"Robustness: {message}"):
        Robustness(data()).evaluate(Curved(), loss_fn())


@pytest.mark.parametrize("how", ["train", "evaluate"])
def test_inputs_that_are_not_floats_are_refused_before_the_first_step(how):
    """They have no gradient; the mode is left as it was."""
    robustness = Robustness(columns(x=X.astype(np.int32), y=Y))
    with pytest.raises(ValueError, match="the dataset's first column must hold floats, .* but holds Int32"):
        if how == "train":
            make_model().train(1, dataset(), callbacks=[robustness, NoStep()])
        else:
            robustness.evaluate(Curved(), loss_fn())
    assert ms.get_context("mode") == ms.GRAPH_MODE


def test_a_model_without_a_loss_function_is_refused_before_the_first_step():
    """There is nothing to make larger; evaluate can be given one."""
    network = Network()
    model = ms.Model(nn.WithLossCell(network, loss_fn()), optimizer=nn.SGD(network.trainable_params(), 0.1))
    with pytest.raises(ValueError, match="Robustness: needs a Model with a loss function"):
        model.train(1, dataset(), callbacks=[Robustness(valid_dataset()), NoStep()])
