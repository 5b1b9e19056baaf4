"""BatchAccuracy: the accuracy of the batches trained on, from the same forward pass."""

from __future__ import annotations

import re

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.train import Callback
from training import Network, Recorder, assert_same_weights, dataset, loss_fn, make_model, valid_dataset, weights

from ms_callbacks import Validate
from ms_callbacks.monitoring.batch_accuracy import BatchAccuracy


def watched(accuracy):
    """A model like `make_model()`, with its loss function watched."""
    plain = make_model()
    network = plain.predict_network
    return ms.Model(network, accuracy.watch(loss_fn()), nn.Adam(network.trainable_params(), 0.05), metrics={"acc"})


class Logits(Callback):
    """The accuracy of each batch before its step, by a forward pass of its own in training mode with fixed weights."""

    def __init__(self):
        self.accuracies = []

    def on_train_step_begin(self, run_context):
        args = run_context.original_args()
        images, labels = args["train_dataset_element"]
        copy = Network()
        ms.load_param_into_net(
            copy, {one.name: ms.Parameter(one.value(), one.name) for one in args["network"].get_parameters()}
        )
        copy.set_train(True)
        self.accuracies.append(float((copy(images).asnumpy().argmax(1) == labels.asnumpy()).mean()))


def test_the_accuracy_is_that_of_the_batch(mode, capsys):
    """Line by line, and the epoch's is the mean of its batches; an evaluation in between counts nowhere."""
    accuracy, own = BatchAccuracy(2), Logits()
    model = watched(accuracy)
    model.train(2, dataset(), callbacks=[accuracy, own, Validate(model, valid_dataset())])
    printed = re.findall(r"batch loss: (\S+), batch accuracy: (\S+)", capsys.readouterr().out)
    assert [float(value) for _, value in printed] == pytest.approx(own.accuracies[1::2], abs=1e-4)
    assert accuracy.accuracies_ == pytest.approx([np.mean(own.accuracies[:4]), np.mean(own.accuracies[4:])])


def test_counting_changes_nothing(mode):
    """Losses and weights are those of a run with the loss function alone."""
    accuracy, counted, plain = BatchAccuracy(0), Recorder(), Recorder()
    one, other = watched(accuracy), make_model()
    one.train(2, dataset(), callbacks=[accuracy, counted])
    other.train(2, dataset(), callbacks=[plain])
    assert counted.losses == plain.losses
    assert_same_weights(weights(one.predict_network), weights(other.predict_network))


def test_an_epoch_that_is_stopped_early_counts_its_batches():
    """And only those."""
    accuracy, own = BatchAccuracy(0), Logits()

    class Stop(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args()["cur_step_num"] == 2:
                run_context.request_stop()

    watched(accuracy).train(2, dataset(), callbacks=[Stop(), own, accuracy])
    assert accuracy.accuracies_ == pytest.approx([np.mean(own.accuracies)])


def test_a_loss_function_that_is_not_watched_is_refused_before_the_first_step():
    """With how to watch it."""
    with pytest.raises(ValueError, match=r"loss function is not watched; make it with Model\(network, accuracy.watch"):
        make_model().train(1, dataset(), callbacks=[BatchAccuracy()])
    with pytest.raises(TypeError, match="watch takes a loss function"):
        BatchAccuracy().watch(lambda logits, labels: 0)
    with pytest.raises(ValueError, match="per_print_times must be at least 0"):
        BatchAccuracy(-1)


INPUTS = np.random.RandomState(0).randn(24, 4).astype(np.float32)
YES = (INPUTS.sum(axis=1, keepdims=True) + np.random.RandomState(1).randn(24, 1) > 0).astype(np.float32)
SEVERAL = np.random.RandomState(2).randint(0, 2, (24, 2)).astype(np.float32)
CLASS = np.random.RandomState(3).randint(0, 3, 24).astype(np.int32)
HOT = np.eye(3, dtype=np.float32)[CLASS]


class NoStep(Callback):
    """Fails when a step has run."""

    def on_train_step_end(self, run_context):
        raise AssertionError("a step ran")


class Rows:
    """Inputs and labels, as 0-d arrays rather than NumPy scalars."""

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return INPUTS[index], self.labels[index : index + 1].reshape(self.labels.shape[1:])


def data(labels):
    return ds.GeneratorDataset(Rows(labels), ["inputs", "labels"], shuffle=False).batch(8)


class Head(nn.Cell):
    """A dense layer, alone, without its last axis, behind a sigmoid, or among other outputs."""

    def __init__(self, outputs, shape="plain"):
        super().__init__()
        weight = Tensor(np.random.RandomState(4).randn(outputs, 4).astype(np.float32))
        self.head, self.shape, self.sigmoid = (
            nn.Dense(4, outputs, weight_init=weight, bias_init="zeros"),
            shape,
            nn.Sigmoid(),
        )

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


def second(outputs):
    return outputs[1]


def trained(accuracy, network, loss, labels, *callbacks):
    """One epoch that moves nothing."""
    model = ms.Model(network, accuracy.watch(loss), nn.SGD(network.trainable_params(), 1e-12))
    model.train(1, data(labels), callbacks=[accuracy, *callbacks])
    return accuracy.accuracies_


@pytest.mark.parametrize(
    ("network", "loss", "labels", "arguments"),
    [
        (lambda: Head(1), nn.BCEWithLogitsLoss, YES, {}),
        (lambda: Head(1, "flat"), nn.BCEWithLogitsLoss, YES.reshape(-1), {}),
        (lambda: Head(1, "sigmoid"), nn.BCELoss, YES, {}),
        (lambda: Head(1), Hinge, YES.astype(np.int32), {"threshold": 0.0}),
        (lambda: Head(2), nn.BCEWithLogitsLoss, SEVERAL, {}),
        (lambda: Head(3), nn.CrossEntropyLoss, HOT, {}),
        (lambda: Head(3), nn.BCEWithLogitsLoss, HOT, {"task": "multiclass"}),
        (lambda: Head(3), nn.BCEWithLogitsLoss, HOT, {"task": "multilabel"}),
        (lambda: Head(3, "tuple"), lambda: OfPart(1), CLASS, {}),
        (lambda: Head(3, "tuple"), lambda: OfPart(1), CLASS, {"output": second}),
        (lambda: Head(3, "dict"), lambda: OfPart("logits"), CLASS, {}),
    ],
)
def test_every_task(mode, network, loss, labels, arguments):
    """One output, several labels, one-hot, and outputs among others."""
    network = network()
    logits = network.head(Tensor(INPUTS)).asnumpy()
    if arguments.get("task") == "multiclass" or loss is nn.CrossEntropyLoss or labels is CLASS:
        right = logits.argmax(axis=1) == CLASS
    else:
        right = (logits > 0) == (labels.reshape(logits.shape) == 1)
    accuracy = BatchAccuracy(0, **arguments)
    assert trained(accuracy, network, loss(), labels) == [pytest.approx(right.mean())]


@pytest.mark.parametrize(
    ("network", "loss", "labels", "arguments", "message"),
    [
        (lambda: Head(1), nn.MSELoss, INPUTS[:, :1], {}, "looks like regression"),
        (lambda: Head(4), nn.MSELoss, INPUTS, {}, "looks like regression"),
        (lambda: Head(1), Hinge, YES, {}, "cannot tell from the loss function what an output means"),
        (lambda: Head(3), nn.BCEWithLogitsLoss, HOT, {}, "pass task='multiclass' .* or task='multilabel'"),
        (lambda: Head(1), loss_fn, CLASS * 0, {}, "needs at least 2 outputs"),
        (lambda: Head(4, "dict"), lambda: OfPart("logits"), CLASS, {"output": "y"}, "output='y' is not among"),
    ],
)
def test_unfit_jobs_are_refused_before_the_first_step(network, loss, labels, arguments, message):
    """By the first batch."""
    with pytest.raises(ValueError, match=f"BatchAccuracy: .*{message}"):
        trained(BatchAccuracy(**arguments), network(), loss(), labels, NoStep())
