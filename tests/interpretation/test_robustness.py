"""Robustness: inputs moved along the true gradient, accuracies that can be computed by hand."""

from __future__ import annotations

import math
import random
from typing import ClassVar

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from training import (
    CLASSES,
    Network,
    NetworkWithLoss,
    Recorder,
    Samples,
    assert_same_weights,
    dataset,
    loss_fn,
    make_model,
    valid_dataset,
    weights,
)

from ms_callbacks import EarlyStopping, Validate
from ms_callbacks.interpretation.robustness import Robustness


class NoStep(Callback):
    """Fails when a step has run."""

    def on_train_step_end(self, run_context):
        raise AssertionError("a step ran")


class Curved(nn.Cell):
    """A small network that keeps what it is given, in its class: what its cells hold is given back."""

    seen: ClassVar[list] = []

    def __init__(self):
        super().__init__()
        random = np.random.RandomState(0)
        self.hidden = nn.Dense(4, 5, weight_init=Tensor(random.randn(5, 4).astype(np.float32)))
        self.head = nn.Dense(5, 3, weight_init=Tensor(random.randn(3, 5).astype(np.float32)))
        self.tanh = nn.Tanh()

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
def test_inputs_that_are_not_floats_are_refused_before_the_first_step(graph, how):
    """They have no gradient; the mode is left as it was."""
    robustness = Robustness(columns(x=X.astype(np.int32), y=Y))
    with pytest.raises(ValueError, match="the dataset's first column must hold floats, .* but holds Int32"):
        if how == "train":
            make_model().train(1, dataset(), callbacks=[robustness, NoStep()])
        else:
            robustness.evaluate(Curved(), loss_fn())
    assert ms.get_context("mode") == ms.GRAPH_MODE


def test_a_network_that_hides_its_loss_is_refused_before_the_first_step():
    """There is nothing to make larger; evaluate can be given one. The loss in a cell of MindSpore's is found."""
    network = Network()
    for inside, message in (
        (NetworkWithLoss(network, loss_fn()), "Robustness: needs a Model with a loss function"),
        (nn.WithLossCell(network, loss_fn()), "a step ran"),
    ):
        model = ms.Model(inside, optimizer=nn.SGD(network.trainable_params(), 0.1))
        with pytest.raises((ValueError, AssertionError), match=message):
            model.train(1, dataset(), callbacks=[Robustness(valid_dataset()), NoStep()])


INPUTS = np.random.RandomState(0).randn(24, 4).astype(np.float32)
YES = (INPUTS.sum(axis=1, keepdims=True) + np.random.RandomState(1).randn(24, 1) > 0).astype(np.float32)
SEVERAL = (INPUTS @ np.random.RandomState(2).randn(4, 2) > 0).astype(np.float32)
SEVERAL[0] = 1
CLASS = np.random.RandomState(3).randint(0, 3, 24).astype(np.int32)


class Head(nn.Cell):
    """A dense layer, alone, without its last axis, behind a sigmoid, or among other outputs."""

    def __init__(self, outputs, shape="plain"):
        super().__init__()
        weight = Tensor(np.random.RandomState(4).randn(outputs, 4).astype(np.float32))
        self.head, self.shape = nn.Dense(4, outputs, weight_init=weight, bias_init="zeros"), shape
        self.sigmoid = nn.Sigmoid()

    def construct(self, x):
        y = self.head(x)
        if self.shape == "flat":
            return y.reshape(-1)
        if self.shape == "sigmoid":
            return self.sigmoid(y)
        if self.shape == "tuple":
            return x.sum(), y
        if self.shape == "dict":
            return {"x": x, "logits": y}
        return y


class Hinge(nn.Cell):
    """A loss function that nobody knows."""

    def construct(self, outputs, labels):
        return ops.relu(1 - outputs * (2 * labels - 1)).mean()


class OfPart(nn.Cell):
    """The cross-entropy of one part of what a network gives."""

    def __init__(self, place):
        super().__init__()
        self.loss, self.place = loss_fn(), place

    def construct(self, outputs, labels):
        return self.loss(outputs[self.place], labels)


def moved_accuracy(network, loss, labels, epsilon, right):
    """By hand: each input moved along the sign of its gradient, which MindSpore computes sample by sample."""
    count = 0
    for inputs, label in zip(INPUTS, labels):
        gradient = ms.grad(lambda x, y: loss(network(x), y))(Tensor(inputs[None]), Tensor(np.asarray(label)[None]))
        moved = inputs[None] + epsilon * np.sign(gradient.asnumpy())
        count += right(network.head(Tensor(moved)).asnumpy()[0], label)
    return pytest.approx(count / len(INPUTS))


def is_yes(logits, labels):
    return ((logits > 0) == (np.reshape(labels, -1) == 1)).mean()


def is_class(logits, label):
    return logits.argmax() == (label.argmax() if np.ndim(label) else label)


@pytest.mark.parametrize(
    ("network", "loss", "labels", "arguments", "right"),
    [
        (Head(1), nn.BCEWithLogitsLoss(), YES, {}, is_yes),
        (Head(1, "flat"), nn.BCEWithLogitsLoss(), YES.reshape(-1), {}, is_yes),
        (Head(1, "sigmoid"), nn.BCELoss(), YES, {}, is_yes),
        (Head(1), Hinge(), YES, {"threshold": 0.0}, is_yes),
        (Head(2), nn.BCEWithLogitsLoss(), SEVERAL, {}, is_yes),
        (Head(2), Hinge(), SEVERAL, {"task": "multilabel", "threshold": 0.0}, is_yes),
        (Head(3), nn.BCEWithLogitsLoss(), np.eye(3, dtype=np.float32)[CLASS], {"task": "multilabel"}, is_yes),
        (Head(3), nn.BCEWithLogitsLoss(), np.eye(3, dtype=np.float32)[CLASS], {"task": "multiclass"}, is_class),
        (Head(3, "tuple"), OfPart(1), CLASS, {}, is_class),
        (Head(3, "tuple"), OfPart(1), CLASS, {"output": 1}, is_class),
        (Head(3, "dict"), OfPart("logits"), CLASS, {}, is_class),
    ],
)
def test_every_task(network, loss, labels, arguments, right):
    """One output, several labels, one-hot, and outputs among others; at rest and moved."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    robustness = Robustness(columns(8, x=INPUTS, y=labels), (0.0, 0.3), verbose=0, **arguments)
    accuracies = robustness.evaluate(network, loss)
    expected = {epsilon: moved_accuracy(network, loss, labels, epsilon, right) for epsilon in (0.0, 0.3)}
    assert accuracies == expected
    assert accuracies[0.3] < accuracies[0.0]


@pytest.mark.parametrize(
    ("network", "loss", "labels", "arguments", "message"),
    [
        (lambda: Head(1), nn.MSELoss, INPUTS[:, :1], {}, "looks like regression"),
        (lambda: Head(4), nn.MSELoss, INPUTS, {}, "looks like regression"),
        (lambda: Head(1), nn.MSELoss, YES, {}, "pass threshold=0.5"),
        (lambda: Head(1), Hinge, YES, {}, "cannot tell from the loss function what an output means"),
        (lambda: Head(1), nn.BCEWithLogitsLoss, YES, {"task": "multiclass"}, "needs several outputs"),
        (lambda: Head(3), nn.BCEWithLogitsLoss, np.eye(3, dtype=np.float32)[CLASS], {}, "pass task='multiclass'"),
        (lambda: Head(4, "dict"), lambda: OfPart("logits"), CLASS, {"output": "y"}, "output='y' is not among"),
        (lambda: Head(3), loss_fn, np.full(24, 5, np.int32), {}, "label 5 is out of range"),
    ],
)
def test_unfit_jobs_are_refused_before_the_first_step(network, loss, labels, arguments, message):
    """By one batch of its own dataset; so does an evaluation without training."""
    network, loss, own = network(), loss(), columns(8, x=INPUTS, y=labels)
    with pytest.raises(ValueError, match=f"Robustness: .*{message}"):
        ms.Model(network, loss, nn.SGD(network.trainable_params(), 0.1)).train(
            1, own, callbacks=[Robustness(own, **arguments), NoStep()]
        )
    with pytest.raises(ValueError, match=f"Robustness: .*{message}"):
        Robustness(own, **arguments).evaluate(network, loss)


def test_a_loss_function_that_cannot_take_the_labels_fails_before_the_first_step():
    """In its own words: one-hot labels for a loss function that takes numbers."""
    model = make_model()
    hot = valid_dataset().map(lambda labels: np.eye(CLASSES, dtype=np.float32)[labels], input_columns="labels")
    with pytest.raises((TypeError, ValueError, RuntimeError), match=r"."):
        model.train(1, dataset(), callbacks=[Robustness(hot), NoStep()])


class Saturated(nn.Cell):
    """Its loss is exactly 0 in float32 wherever the input is large, and so is the gradient there."""

    def __init__(self):
        super().__init__()
        self.scale = 1e4

    def construct(self, x):
        return ops.concat((x * self.scale, -x * self.scale), axis=1)


@pytest.mark.parametrize(
    ("inputs", "accuracies", "line"),
    [
        ([1.0, 1.0, -1.0], {0.0: 1.0, 0.5: math.nan}, "is exactly 0 for each of 3 samples: none could be moved"),
        (
            [1.0, 1e-5, -1.0],
            {0.0: 1.0, 0.5: 2 / 3},
            "the gradient is exactly 0 for 2 of 3 samples: not moved",
        ),
        ([1e-5, 1e-5, -1e-5], {0.0: 1.0, 0.5: 0.0}, None),
    ],
)
def test_a_gradient_that_is_exactly_zero_is_told(capsys, inputs, accuracies, line):
    """Samples that cannot be moved prove nothing; where none can, there is no accuracy."""
    x = np.array(inputs, np.float32)[:, None]
    own = columns(2, x=x, y=(x[:, 0] < 0).astype(np.int32))
    measured = Robustness(own, (0.0, 0.5)).evaluate(Saturated(), loss_fn())
    assert measured == pytest.approx(accuracies, nan_ok=True)
    out = capsys.readouterr().out
    assert ("exactly 0" in out) == bool(line)
    assert (line or "epsilon 0.5: accuracy 0.0000") in out
    assert ("epsilon 0.5" in out) == (not math.isnan(accuracies[0.5]))


class Noisy(Samples):
    """Draws from the random numbers that Python and NumPy share with everybody."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return (image + np.random.randn(*image.shape) + random.random()).astype(np.float32), label


def test_the_look_before_the_first_step_draws_no_random_numbers(mode):
    """A dataset that draws some in Python gives the training the same batches as without."""

    def noisy(seed):
        source = ds.GeneratorDataset(Noisy(48, seed), ["images", "labels"], shuffle=True, num_parallel_workers=1)
        return source.batch(12, num_parallel_workers=1)

    losses = []
    for callbacks in ([], [Robustness(noisy(1), max_batches=1, verbose=0)]):
        model, recorder = make_model(), Recorder()
        np.random.seed(3)
        random.seed(3)
        model.train(1, noisy(0), callbacks=[*callbacks, recorder])
        losses.append(recorder.losses)
    assert losses[0] == losses[1]


def test_of_several_labels_each_counts(capsys):
    """As Keras's binary accuracy has it."""
    network = Head(2)
    Robustness(columns(8, x=INPUTS, y=SEVERAL), (0.0,)).evaluate(network, nn.BCEWithLogitsLoss())
    right = int(((network(Tensor(INPUTS)).asnumpy() > 0) == (SEVERAL == 1)).sum())
    assert capsys.readouterr().out == f"Robustness: epsilon 0: accuracy {right / 48:.4f} ({right} of 48 labels)\n"
