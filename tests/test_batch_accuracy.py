"""BatchAccuracy: the accuracy of the batches trained on, from the same forward pass."""

from __future__ import annotations

import re

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback
from training import Network, Recorder, assert_same_weights, dataset, loss_fn, make_model, valid_dataset, weights

from ms_callbacks import Validate
from ms_callbacks.watch.batch_accuracy import BatchAccuracy


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
