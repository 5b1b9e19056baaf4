"""One batch through what will see many: what it shows, what it refuses, and that it leaves no trace."""

from __future__ import annotations

import contextlib
import random

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.train import Accuracy, Metric
from training import Network, assert_same_weights, dataset, loss_fn, make_model, seeded, valid_dataset, weights

from ms_callbacks.core.mindspore_compat import CAN_BEGIN_WITHIN
from ms_callbacks.core.trial import (
    LabelRangeError,
    check_labels,
    first_batch,
    python_random_state,
    try_evaluation,
    try_training,
)


class Counts(Metric):
    """Gives the number of batches that it has seen, or refuses to give anything of one."""

    def __init__(self, least=1):
        super().__init__()
        self.least, self.seen = least, 0

    def clear(self):
        self.seen = 0

    def update(self, *inputs):
        self.seen += 1

    def eval(self):
        if self.seen < self.least:
            raise RuntimeError("too few")
        return self.seen


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (np.array([0, 2], np.int32), None),
        (np.array([], np.int32), None),
        (np.array([0, 3], np.int32), 3),
        (np.array([0, -1], np.int64), -1),
        (np.array([5, 4], np.int32), 5),  # the first
        (np.array([0.0, 9.0], np.float32), None),  # no class numbers
        (np.array([[9, 9]], np.int32), None),
    ],
)
def test_a_label_is_one_of_the_classes(labels, wrong):
    """Where labels are class numbers; the error has the range."""
    tensor = Tensor(labels)
    if wrong is None:
        assert check_labels("the dataset", tensor, 3) is None
    else:
        message = f"^Model: label {wrong} in the dataset is out of range: the network has 3 classes, 0 to 2; correct"
        with pytest.raises(LabelRangeError, match=message):
            check_labels("the dataset", tensor, 3)


def test_the_first_batch_of_a_dataset():
    """It still has all of its batches after that; an empty one has none."""
    data = dataset(24)
    for _ in range(2):
        with first_batch(data) as batch:
            assert [column.shape for column in batch] == [(12, 1, 4, 4), (12,)]
    assert len(list(data)) == 2
    with first_batch(dataset(5).batch(9, drop_remainder=True)) as batch:
        assert batch is None


@pytest.mark.skipif(not CAN_BEGIN_WITHIN, reason="this MindSpore cannot start a dataset in the middle")
def test_the_first_batch_of_a_dataset_that_is_to_begin_later():
    """It is the first of all; the dataset still begins where it is to."""
    data = dataset(36)
    with first_batch(data) as expected:
        first = expected[0].asnumpy()
    data.set_init_step(1)
    with first_batch(data) as batch:
        np.testing.assert_array_equal(batch[0].asnumpy(), first)
    assert len(list(data.create_tuple_iterator(num_epochs=1))) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_random_numbers_go_on_as_if_nothing_had_been_drawn(fails):
    """Python's and NumPy's; also where what draws fails."""

    def drawn():
        return random.random(), np.random.rand()

    states = random.getstate(), np.random.get_state()
    expected = drawn()
    random.setstate(states[0])
    np.random.set_state(states[1])
    with contextlib.suppress(KeyError), python_random_state():
        assert drawn() == expected
        if fails:
            raise KeyError
    assert drawn() == expected


def test_an_evaluation_shows_classes_and_values_and_leaves_no_trace(mode):
    """Weights, statistics, flags and the Model's own metrics are as they were; it is run as the Model would run it."""
    counts = Counts()
    model = make_model(metrics={"acc": Accuracy(), "count": counts})
    network = model.predict_network
    network.set_train(True)
    before, flags = weights(network), [cell.training for _, cell in network.cells_and_names()]
    trial = try_evaluation(model, valid_dataset())
    assert trial.classes == 3
    assert trial.results["count"] == 1
    assert 0 <= trial.results["acc"] <= 1
    assert counts.seen == 0
    assert_same_weights(before, weights(network))
    assert [cell.training for _, cell in network.cells_and_names()] == flags


def test_metrics_that_need_more_than_a_batch_are_not_asked():
    """As an area under a curve; the rest is known all the same."""
    trial = try_evaluation(make_model(metrics={"count": Counts(2)}), valid_dataset())
    assert (trial.classes, trial.results) == (3, None)
    empty = valid_dataset().batch(9, drop_remainder=True)
    assert try_evaluation(make_model(), empty) == (None, None)


def test_training_is_tried_without_a_step():
    """Weights and statistics are as they were."""
    network = seeded()
    before = weights(network)
    with first_batch(dataset()) as batch:
        assert try_training(network, loss_fn(), batch) is None
    assert_same_weights(before, weights(network))


IMAGES, LABELS = np.zeros((2, 1, 4, 4), np.float32), np.zeros(2, np.int32)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ((IMAGES[:, 0], LABELS), r"Float32 of shape \(2, 4, 4\), Int32 of shape \(2,\), does not go through"),
        ((IMAGES[0], LABELS[0]), r"; it is not batched: call batch\(...\) on the dataset$"),
        (
            (IMAGES, np.eye(3, dtype=np.float32)[LABELS]),
            "; one-hot labels need a loss with sparse=False, class",
        ),
        ((IMAGES, LABELS + 3), "label 3 in the training dataset is out of range: the network has 3 classes, 0 to 2"),
    ],
)
def test_training_data_that_does_not_get_through_is_refused(columns, told):
    """With its shapes, the reason, and what is most often wrong with such data."""
    with pytest.raises(ValueError, match=f"^Model: .*{told}"):
        try_training(Network(), loss_fn(), tuple(map(Tensor, columns)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda image: image[..., :2], r"the first batch of the validation dataset, Float32 of shape \(12, 1, 4, 2\)"),
        (None, "label 7 in the validation dataset is out of range"),
    ],
)
def test_validation_data_that_does_not_get_through_is_refused(change, told):
    """As it is before the first step of a run."""
    data = valid_dataset()
    data = data.map(change, "images") if change else data.map(lambda labels: np.full_like(labels, 7), "labels")
    with pytest.raises(ValueError, match=told):
        try_evaluation(make_model(), data)


def test_a_model_without_class_numbers_has_no_classes():
    """As a regression."""
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 1))
    model = ms.Model(network, nn.MSELoss(), nn.SGD(network.trainable_params(), 0.1), metrics={"mae"})
    data = valid_dataset().map(lambda labels: labels.astype(np.float32)[:, None], "labels")
    assert try_evaluation(model, data).classes is None
