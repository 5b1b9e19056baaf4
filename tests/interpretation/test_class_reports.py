"""What ConfusionMatrix and HardExamples have in common: the outputs, labels and evaluations that they can read."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.dataset import GeneratorDataset
from mindspore.train import Accuracy, Callback, Loss
from training import Recorder, assert_same_weights, weights

from ms_callbacks import Validate
from ms_callbacks.interpretation.confusion_matrix import ConfusionMatrix
from ms_callbacks.interpretation.hard_examples import HardExamples

REPORTS = [ConfusionMatrix, HardExamples]
COUNT = 20
INPUTS = np.random.RandomState(0).randn(COUNT, 4).astype(np.float32)
CLASSES = np.random.RandomState(1).randint(0, 3, COUNT).astype(np.int32)
YES = (INPUTS.sum(axis=1, keepdims=True) + np.random.RandomState(2).randn(COUNT, 1) > 0).astype(np.float32)
SEVERAL = np.random.RandomState(3).randint(0, 2, (COUNT, 3)).astype(np.float32)


class NoStep(Callback):
    """Fails when a step has run."""

    def on_train_step_end(self, run_context):
        raise AssertionError("a step ran")


class Rows:
    """Inputs and labels, as 0-d arrays rather than NumPy scalars."""

    def __init__(self, *columns):
        self.columns = columns

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return tuple(column[index : index + 1].reshape(column.shape[1:]) for column in self.columns)


def data(labels, inputs=INPUTS):
    return GeneratorDataset(Rows(inputs, labels), ["inputs", "labels"], shuffle=False).batch(8)


def seeded(network):
    for index, parameter in enumerate(network.trainable_params()):
        parameter.set_data(Tensor(np.random.RandomState(index).randn(*parameter.shape).astype(np.float32)))
    return network


class Shaped(nn.Cell):
    """A dense layer whose result comes among others."""

    def __init__(self, shape, outputs=3):
        super().__init__()
        self.head, self.shape = nn.Dense(4, outputs), shape

    def construct(self, x):
        y = self.head(x)
        if self.shape == "flat":
            return y.reshape(-1)
        if self.shape == "tuple":
            return x.sum(), y
        if self.shape == "list":
            return [y, x]
        if self.shape == "nested":
            return x, (x, y)
        if self.shape == "dict":
            return {"x": x, "logits": y}
        if self.shape == "places":
            return y.reshape(-1, 3, 1)
        return y


class OfPart(nn.Cell):
    """The loss of one part of what a network gives."""

    def __init__(self, shape, loss):
        super().__init__()
        self.loss, self.shape = loss, shape

    def construct(self, outputs, labels):
        if self.shape == "tuple":
            return self.loss(outputs[1], labels)
        if self.shape == "list":
            return self.loss(outputs[0], labels)
        if self.shape == "nested":
            return self.loss(outputs[1][1], labels)
        return self.loss(outputs["logits"], labels)


def softmax():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def model_of(network, loss, **arguments):
    return ms.Model(network, loss, nn.SGD(network.trainable_params(), 0.1), **{"metrics": {"loss"}, **arguments})


def both(**arguments):
    return [ConfusionMatrix(verbose=0, **arguments), HardExamples(COUNT, verbose=0, **arguments)]


def evaluate(reports, model, dataset, how):
    """Evaluates the network as it is in the end."""
    if how == "fit":
        model.fit(1, dataset, dataset, callbacks=reports)
    elif how == "Validate":
        model.train(1, dataset, callbacks=[*reports, Validate(model, dataset)])
    else:
        model.eval(dataset, callbacks=reports)


def check(reports, scores, labels):
    """The matrix, and every sample by falling loss, from logits (n, classes) and class numbers."""
    matrix, hard = reports
    predictions = scores.argmax(axis=1)
    expected = np.zeros((scores.shape[1],) * 2, int)
    np.add.at(expected, (labels, predictions), 1)
    np.testing.assert_array_equal(matrix.matrix_, expected)
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    losses = -logs[np.arange(COUNT), labels]
    order = np.argsort(-losses, kind="stable")
    found = [(each.index, each.label, each.prediction) for each in hard.examples_]
    assert found == [(int(i), int(labels[i]), int(predictions[i])) for i in order]
    near = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose([each.loss for each in hard.examples_], losses[order], **near)
    np.testing.assert_allclose([each.probability for each in hard.examples_], np.exp(logs.max(axis=1))[order], **near)


def nested(outputs):
    return outputs[1][1]


@pytest.mark.parametrize(
    ("shape", "arguments", "how"),
    [
        ("tuple", {}, "Validate"),
        ("tuple", {"output": 1}, "eval"),
        ("list", {"output": 0}, "fit"),
        ("list", {"class_names": ["a", "b", "c"]}, "Validate"),
        ("dict", {}, "Validate"),
        ("dict", {}, "eval"),
        ("dict", {"output": "logits"}, "fit"),
        ("nested", {"output": nested}, "Validate"),
    ],
)
def test_outputs_of_every_shape(mode, shape, arguments, how):
    """The obvious one is found, another can be named; in training as outside."""
    network, reports = seeded(Shaped(shape)), both(**arguments)
    evaluate(reports, model_of(network, OfPart(shape, softmax())), data(CLASSES), how)
    check(reports, network.head(Tensor(INPUTS)).asnumpy().astype(float), CLASSES)


class Own(nn.Cell):
    """A loss function that nobody knows: the hinge loss."""

    def construct(self, outputs, labels):
        return ops.relu(1 - outputs * (2 * labels - 1)).mean()


class Probability(nn.Cell):
    """A network with a sigmoid behind it."""

    def __init__(self, network):
        super().__init__()
        self.network, self.head, self.sigmoid = network, network.head, nn.Sigmoid()

    def construct(self, x):
        return self.sigmoid(self.network(x))


@pytest.mark.parametrize(
    ("shape", "loss", "arguments", "how"),
    [
        ("plain", nn.BCEWithLogitsLoss, {}, "Validate"),
        ("flat", nn.BCEWithLogitsLoss, {}, "eval"),
        ("plain", nn.BCELoss, {}, "eval"),
        ("flat", nn.BCELoss, {}, "Validate"),
        ("plain", Own, {"threshold": 0.0}, "Validate"),
        ("flat", Own, {"threshold": 0}, "fit"),
    ],
)
def test_one_output_tells_two_classes_apart(mode, shape, loss, arguments, how):
    """By a logit or a probability; a loss function of the user's own says nothing of that, and threshold does."""
    network, reports = seeded(Shaped(shape, 1)), both(**arguments)
    model = model_of(Probability(network) if loss is nn.BCELoss else network, loss())
    evaluate(reports, model, data(YES.reshape(-1) if shape == "flat" else YES), how)
    logits = network.head(Tensor(INPUTS)).asnumpy().astype(float)
    check(reports, np.concatenate([np.zeros_like(logits), logits], axis=1), YES.reshape(-1).astype(int))


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize(
    ("network", "loss", "labels", "arguments", "message"),
    [
        (lambda: Shaped("plain", 1), nn.MSELoss, INPUTS[:, :1], {}, "looks like regression"),
        (lambda: Shaped("plain", 3), nn.L1Loss, INPUTS[:, :3], {}, "looks like regression"),
        (lambda: Shaped("plain", 1), nn.MSELoss, YES, {}, "one for regression; .* pass threshold=0.5"),
        (lambda: Shaped("plain"), nn.BCEWithLogitsLoss, SEVERAL, {}, "these have several labels at once"),
        (lambda: Shaped("plain", 1), softmax, CLASSES * 0, {}, "needs at least 2 outputs"),
        (lambda: Shaped("plain"), softmax, CLASSES, {"threshold": 0.5}, "leave threshold out"),
        (lambda: Shaped("plain"), softmax, CLASSES, {"output": 0}, "output=0 is for a network with several outputs"),
        (lambda: Shaped("list"), lambda: OfPart("list", softmax()), CLASSES, {}, "more than one of them fits"),
        (lambda: Shaped("nested"), lambda: OfPart("nested", softmax()), CLASSES, {}, "the network gives a tuple"),
        (lambda: Shaped("dict"), lambda: OfPart("dict", softmax()), CLASSES, {"output": "y"}, "output='y' is not"),
        (lambda: Shaped("places"), nn.MSELoss, np.zeros((COUNT, 3, 1), np.float32), {}, "segmentation or sequences"),
        (lambda: Shaped("plain"), softmax, CLASSES, {"class_names": ["a"]}, "the network's 3 classes, but got 1"),
    ],
)
def test_unfit_jobs_are_refused_before_the_first_step(kind, network, loss, labels, arguments, message):
    """And at the first batch of an evaluation that is part of no training."""
    model = model_of(network(), loss())
    with pytest.raises(ValueError, match=f"({kind.__name__}|Validate): .*{message}"):
        model.train(1, data(labels), callbacks=[kind(**arguments), Validate(model, data(labels)), NoStep()])
    with pytest.raises(ValueError, match=f"{kind.__name__}: .*{message}"):
        model.eval(data(labels), callbacks=[kind(**arguments)])


class Shuffled(nn.Cell):
    """An evaluation network whose outputs come in another order, with decoys of the same shape among them."""

    def __init__(self, network, loss, order):
        super().__init__()
        self.network, self.loss, self.order = network, loss, order

    def construct(self, inputs, labels):
        logits = self.network(inputs)
        parts = {"loss": self.loss(logits, labels), "logits": logits, "labels": labels, "no": -logits}
        return tuple(parts[each] for each in self.order)


@pytest.mark.parametrize("how", ["Validate", "eval"])
@pytest.mark.parametrize(
    ("order", "indexes", "metric"),
    [
        (["loss", "no", "labels", "logits"], [0, 3, 2], None),
        (["labels", "no", "logits", "loss"], [-1, -2, 0], None),
        (["labels", "no", "logits", "loss"], None, [2, 0]),  # what MindSpore recommends in their place
        (["logits", "labels"], None, None),  # as MindSpore's metrics take them
    ],
)
def test_eval_indexes(how, order, indexes, metric):
    """Prediction and labels are those that MindSpore's metrics get."""
    network, loss = seeded(Shaped("plain")), softmax()
    accuracy = Accuracy().set_indexes(metric) if metric else Accuracy()
    model = model_of(
        network, loss, metrics={"acc": accuracy}, eval_network=Shuffled(network, loss, order), eval_indexes=indexes
    )
    reports = both()
    evaluate(reports, model, data(CLASSES), how)
    scores = network.head(Tensor(INPUTS)).asnumpy().astype(float)
    check(reports, scores, CLASSES)
    assert model.eval(data(CLASSES))["acc"] == pytest.approx((scores.argmax(axis=1) == CLASSES).mean())


@pytest.mark.parametrize("kind", REPORTS)
def test_outputs_that_no_index_names_are_refused_before_the_first_step(kind):
    """They are in no known order; an index beyond them is refused too."""
    network, loss = seeded(Shaped("plain")), softmax()
    for order, indexes, message in (
        (
            ["logits", "no", "labels"],
            None,
            "(cannot tell .* the 3 outputs of Shuffled.*give the Model eval_indexes|For 'Loss.update')",
        ),
        (["loss", "logits", "labels"], [0, 1, 5], "(labels at the places 1, 5 .* but it gives 3|index out of range)"),
    ):
        model = model_of(
            network,
            loss,
            metrics={"loss": Loss().set_indexes([0])},
            eval_network=Shuffled(network, loss, order),
            eval_indexes=indexes,
        )
        with pytest.raises(ValueError, match=f"({kind.__name__}|Validate): .*{message}"):
            model.train(1, data(CLASSES), callbacks=[kind(), Validate(model, data(CLASSES)), NoStep()])


def test_a_network_with_its_loss_inside(mode):
    """Its training gives no labels apart; the evaluation network that it needs does."""
    network, reports = seeded(Shaped("plain")), both()
    inside = nn.WithLossCell(network, softmax())

    def model(eval_network, metric):
        optimizer = nn.SGD(inside.trainable_params(), 0.1)
        return ms.Model(
            inside, optimizer=optimizer, eval_network=eval_network, eval_indexes=[0, 1, 2], metrics={metric}
        )

    evaluate(reports, model(nn.WithEvalCell(network, softmax()), "acc"), data(CLASSES), "Validate")
    check(reports, network.head(Tensor(INPUTS)).asnumpy().astype(float), CLASSES)
    unfit = model(nn.WithEvalCell(Shaped("plain", 1), nn.MSELoss()), "loss")
    with pytest.raises(ValueError, match="looks like regression"):
        evaluate([*reports, NoStep()], unfit, data(INPUTS[:, :1]), "Validate")


@pytest.mark.parametrize("shape", ["tuple", "dict"])
def test_reading_outputs_changes_nothing(mode, shape):
    """Losses and weights are to the last bit those of a run without it."""
    outcomes = []
    for reports in ([], both()):
        network, recorder = seeded(Shaped(shape)), Recorder()
        model = model_of(network, OfPart(shape, softmax()))
        model.train(1, data(CLASSES), callbacks=[Validate(model, data(CLASSES)), recorder, *reports])
        outcomes.append((recorder.losses, weights(network)))
    assert outcomes[0][0] == outcomes[1][0]
    assert_same_weights(outcomes[0][1], outcomes[1][1])


def test_one_output_has_two_class_names(capsys):
    """Class 0 and class 1."""
    model = model_of(seeded(Shaped("plain", 1)), nn.BCEWithLogitsLoss())
    model.eval(data(YES), callbacks=[ConfusionMatrix(["no", "yes"])])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[3:5]] == ["no", "yes"]
    with pytest.raises(ValueError, match="one name for each of the network's 2 classes, but got 1"):
        model.eval(data(YES), callbacks=[ConfusionMatrix(["no"])])
