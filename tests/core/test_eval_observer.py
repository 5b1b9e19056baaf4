"""Callbacks that see each batch of whatever evaluation takes place, and where prediction and labels are."""

from __future__ import annotations

import copy

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Accuracy, Loss
from training import dataset, loss_fn, make_model, seeded, valid_dataset

from ms_callbacks import Validate
from ms_callbacks.core.classification import loss_kind
from ms_callbacks.core.eval_observer import EvalObserver, EvalOutputs


class Seen(EvalObserver):
    """Keeps the shapes of what it sees, and tells evaluations apart."""

    def __init__(self):
        super().__init__()
        self.evaluations = []

    def begin_evaluation(self):
        self.evaluations.append([])

    def see_batch(self, output, labels, inputs):
        self.evaluations[-1].append((output.shape, labels.shape, inputs if inputs is None else inputs.shape))


BATCHES = [((count, 3), (count,), (count, 1, 4, 4)) for count in (12, 12, 6)]


@pytest.mark.parametrize("how", ["fit", "Validate", "eval"])
def test_each_batch_of_each_evaluation_is_seen(how):
    """Prediction, labels and inputs, whoever evaluates; the inputs as an array."""
    model, seen = make_model(), Seen()
    if how == "fit":
        model.fit(2, dataset(12), valid_dataset(), callbacks=[seen])
    elif how == "Validate":
        model.train(2, dataset(12), callbacks=[seen, Validate(model, valid_dataset())])
    else:
        for _ in range(2):
            model.eval(valid_dataset(), callbacks=[seen])
    assert seen.evaluations == [BATCHES] * 2


def test_a_copy_has_no_part_in_an_evaluation():
    """It is as one that was never in one."""
    model, seen = make_model(), Seen()
    model.eval(valid_dataset(), callbacks=[seen])
    copied = copy.deepcopy(seen)
    assert copied.eval_outputs is None
    model.eval(valid_dataset(), callbacks=[copied])
    assert copied.evaluations == [BATCHES] * 2
    assert seen.evaluations == [BATCHES]


class Own(nn.Cell):
    """An evaluation network of a user's own; what it would give is written down in the tests."""

    def construct(self, images, labels):
        return images, labels


def model_with(indexes=None, metrics=None):
    network = seeded()
    optimizer = nn.SGD(network.trainable_params(), 0.1)
    metrics = {"acc": Accuracy()} if metrics is None else metrics
    return ms.Model(network, loss_fn(), optimizer, metrics, eval_network=Own(), eval_indexes=indexes)


def at(indexes, metric=Accuracy):
    return metric().set_indexes(indexes)


@pytest.mark.parametrize(
    ("make", "outputs", "found"),
    [
        # MindSpore's own evaluation network, and where nothing is known of one.
        (make_model, "loss prediction labels", "prediction labels"),
        (lambda: None, "loss prediction labels", "prediction labels"),
        # A user's own: by the Model's indexes, or those of its metrics, or both outputs of two.
        (lambda: model_with([0, 3, 2]), "loss other labels prediction", "prediction labels"),
        (lambda: model_with([-1, -2, 0]), "labels other prediction loss", "prediction labels"),
        (lambda: model_with(None, {"acc": at([2, 0])}), "labels other prediction loss", "prediction labels"),
        (
            lambda: model_with(None, {"acc": at([1, 0]), "loss": at([2], Loss)}),
            "labels prediction loss",
            "prediction labels",
        ),
        (model_with, "prediction labels", "prediction labels"),
    ],
)
def test_prediction_and_labels_are_those_that_mindspores_metrics_get(make, outputs, found):
    """In this order, whatever stands around them."""
    assert EvalOutputs("Owner", make()).split(tuple(outputs.split())) == tuple(found.split())


@pytest.mark.parametrize(
    ("make", "outputs", "message"),
    [
        (
            model_with,
            3,
            "cannot tell the prediction and the labels among the 3 outputs of Own, .* eval_indexes=",
        ),
        (model_with, 1, "cannot tell the prediction and the labels among the 1 outputs"),
        (lambda: model_with(None, {"a": at([0, 1]), "b": at([1, 0])}), 3, "cannot tell the prediction and the labels"),
        (lambda: model_with([0, 1, 5]), 3, "needs the prediction and the labels at the places 1, 5 .* but it gives 3"),
        (lambda: model_with([0, -4, 1]), 3, "needs .* at the places -4, 1 .* but it gives 3"),
        (make_model, 2, "needs .* at the places 1, 2 .* but it gives 2"),
    ],
)
def test_outputs_that_cannot_be_told_apart_are_refused(make, outputs, message):
    """With what to give the Model."""
    with pytest.raises(ValueError, match=f"^Owner: {message}"):
        EvalOutputs("Owner", make()).split(tuple(range(outputs)))


def test_one_output_is_none_of_several():
    """A tensor is not taken apart along its first dimension."""
    with pytest.raises(ValueError, match="but it gives 1$"):
        EvalOutputs("Owner", make_model()).split(np.zeros((3, 2)))


def test_the_loss_that_the_outputs_are_evaluated_by_is_known():
    """The Model's, or the one inside its cell; none where there is no Model."""
    kind = loss_kind(loss_fn())
    assert kind is not None
    assert EvalOutputs("Owner", make_model()).loss == kind
    within = nn.WithLossCell(seeded(), loss_fn())
    model = ms.Model(within, eval_network=nn.WithEvalCell(seeded(), loss_fn()), metrics={"acc"}, eval_indexes=[0, 1, 2])
    assert EvalOutputs("Owner", model).loss == kind
    assert EvalOutputs("Owner", None).loss is None
