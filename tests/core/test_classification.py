"""What outputs and labels mean: every task, every form of labels, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor, nn

from ms_callbacks.core.classification import BINARY, MULTICLASS, MULTILABEL, ClassReader, loss_kind

LOGITS, PROBABILITIES = loss_kind(nn.BCEWithLogitsLoss()), loss_kind(nn.BCELoss())
SOFTMAX, DISTANCE = loss_kind(nn.SoftmaxCrossEntropyWithLogits()), loss_kind(nn.MSELoss())

ONE = np.array([[2.0], [-1.0], [0.0], [0.4]], np.float32)  # four samples, one output
THREE = np.array([[2, 1, 0], [0, 3, 3], [-1, -2, 1], [5, 0, 5]], np.float32)  # two ties
HOT = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
SEVERAL = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]], np.float32)
RIGHT = [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]]  # of SEVERAL, above 0
RIGHT_OF_FIFTHS = [[0, 0, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]  # above 2.5
RIGHT_OF_HOT = [[1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 1]]
SHARES = np.array([[0.9, 0.05, 0.05], [0.5, 0.5, 0], [0, 1, 0], [0.1, 0.2, 0.7]], np.float32)


def read(scores, labels, loss=None, **arguments):
    return ClassReader("Reader", arguments.pop("output", None), arguments.pop("threshold", None), **arguments).read(
        scores, np.asarray(labels), loss
    )


@pytest.mark.parametrize(
    ("scores", "labels", "loss", "arguments", "kind", "predictions", "right"),
    [
        # one output: logits above 0, probabilities above 0.5; at the threshold it is a no
        (ONE, [[1], [0], [0], [0]], LOGITS, {}, BINARY, [1, 0, 0, 1], [1, 1, 1, 0]),
        (ONE, [1, 0, 0, 0], LOGITS, {}, BINARY, [1, 0, 0, 1], [1, 1, 1, 0]),
        (ONE[:, 0], [1.0, 0.0, 0.0, 0.0], LOGITS, {}, BINARY, [1, 0, 0, 1], [1, 1, 1, 0]),
        (ONE[:, 0], [[True], [False], [False], [False]], LOGITS, {}, BINARY, [1, 0, 0, 1], [1, 1, 1, 0]),
        (ONE / 2, [1, 0, 0, 0], PROBABILITIES, {}, BINARY, [1, 0, 0, 0], [1, 1, 1, 1]),
        (ONE, [1, 0, 0, 0], None, {"threshold": 0.4}, BINARY, [1, 0, 0, 0], [1, 1, 1, 1]),
        (ONE, [1, 0, 0, 0], DISTANCE, {"threshold": 0.5}, BINARY, [1, 0, 0, 0], [1, 1, 1, 1]),
        (ONE, [1, 0, 0, 0], LOGITS, {"task": "binary"}, BINARY, [1, 0, 0, 1], [1, 1, 1, 0]),
        # several outputs, one class: whole numbers, one-hot, smoothed; a tie is the first
        (THREE, [0, 1, 1, 2], SOFTMAX, {}, MULTICLASS, [0, 1, 2, 0], [1, 1, 0, 0]),
        (THREE, [[0], [1], [1], [2]], None, {}, MULTICLASS, [0, 1, 2, 0], [1, 1, 0, 0]),
        (THREE, np.uint8([0, 1, 1, 2]), None, {}, MULTICLASS, [0, 1, 2, 0], [1, 1, 0, 0]),
        (THREE, HOT, SOFTMAX, {}, MULTICLASS, [0, 1, 2, 0], [1, 1, 0, 0]),
        (THREE, HOT.astype(np.int64), None, {}, MULTICLASS, [0, 1, 2, 0], [1, 1, 0, 0]),
        (THREE, HOT, DISTANCE, {}, MULTICLASS, [0, 1, 2, 0], [1, 1, 0, 0]),
        (THREE, SHARES, SOFTMAX, {}, MULTICLASS, [0, 1, 2, 0], [1, 0, 0, 0]),
        (THREE, HOT, LOGITS, {"task": "multiclass"}, MULTICLASS, [0, 1, 2, 0], [1, 1, 0, 0]),
        (THREE, HOT, LOGITS, {"multilabel": False}, MULTICLASS, [0, 1, 2, 0], [1, 1, 0, 0]),
        (THREE[:, :2], [0, 1, 1, 1], None, {"task": "binary"}, MULTICLASS, [0, 1, 0, 0], [1, 1, 0, 0]),
        # several outputs, several labels
        (THREE, SEVERAL, LOGITS, {}, MULTILABEL, (THREE > 0).astype(int), RIGHT),
        (THREE, SEVERAL.astype(bool), LOGITS, {}, MULTILABEL, (THREE > 0).astype(int), RIGHT),
        (THREE / 5, SEVERAL, PROBABILITIES, {}, MULTILABEL, (THREE / 5 > 0.5).astype(int), RIGHT_OF_FIFTHS),
        (THREE, SEVERAL, None, {"threshold": 0.0}, MULTILABEL, (THREE > 0).astype(int), RIGHT),
        (THREE, HOT, LOGITS, {"task": "multilabel"}, MULTILABEL, (THREE > 0).astype(int), RIGHT_OF_HOT),
        (THREE, HOT, None, {"threshold": 0.0}, MULTILABEL, (THREE > 0).astype(int), RIGHT_OF_HOT),
    ],
)
def test_every_task(scores, labels, loss, arguments, kind, predictions, right):
    """Kind, predictions and what is right, however the labels are written."""
    task, rows, classes = read(scores, labels, loss, **arguments)
    assert task.kind == kind
    np.testing.assert_array_equal(task.predictions(rows), predictions)
    np.testing.assert_array_equal(task.right(rows, classes), np.array(right, bool))


@pytest.mark.parametrize(
    ("scores", "labels", "loss", "arguments", "message"),
    [
        # regression
        (ONE, ONE, DISTANCE, {}, "needs a classifier, but this looks like regression: .* such as 2; "),
        (ONE, ONE + 0.5, None, {}, "looks like regression: the labels are float32 of shape .4, 1., such as 2.5"),
        (ONE, [3, 1, 0, 0], LOGITS, {}, "the labels of one output must be 0 or 1, but hold 3; .*one output per class"),
        (ONE, [-1, 1, 1, 1], LOGITS, {}, "must be 0 or 1, but hold -1; if they are -1 and 1, replace -1 by 0"),
        (ONE, [0, 1, 0, 1], DISTANCE, {}, "the loss function is one for regression; .* pass threshold=0.5"),
        (THREE, THREE + 0.5, DISTANCE, {}, "looks like regression"),
        (THREE, SHARES, DISTANCE, {}, "looks like regression"),
        (THREE, THREE + 0.5, LOGITS, {}, "looks like regression"),
        (
            THREE,
            [0.5, 1, 2, 0],
            SOFTMAX,
            {},
            "looks like regression: .* cast labels to int32",
        ),
        (
            THREE,
            [0.0, 1, 2, 0],
            SOFTMAX,
            {},
            "looks like regression: .* cast labels to int32",
        ),
        # what cannot be told
        (ONE, [0, 1, 0, 1], None, {}, "cannot tell from the loss function what an output means; pass threshold=0.0"),
        (THREE, SEVERAL, None, {}, "cannot tell from the loss function what an output means; pass threshold=0.0"),
        (THREE, SEVERAL, DISTANCE, {}, "the loss function is one for regression"),
        (THREE, HOT, LOGITS, {}, "exactly one label, and the loss function allows several; pass task='multiclass'"),
        # what contradicts itself
        (ONE, [0, 0, 0, 0], SOFTMAX, {}, "needs at least 2 outputs for a loss function by softmax"),
        (ONE, [0, 1, 0, 1], LOGITS, {"task": "multiclass"}, "task='multiclass' needs several outputs"),
        (THREE, [0, 1, 2, 0], SOFTMAX, {"task": "binary"}, "task='binary' needs one or two outputs, .* has 3"),
        (THREE, [0, 1, 2, 0], SOFTMAX, {"task": "multilabel"}, "needs labels of shape .4, 3. for 4 samples"),
        (THREE, [0, 1, 2, 0], SOFTMAX, {"threshold": 0.5}, "distinguishes 3 classes by the highest output; leave"),
        (THREE, SEVERAL, SOFTMAX, {}, "must be one-hot, but a row holds 2 ones; .*multi-label"),
        (THREE, SEVERAL * 0, SOFTMAX, {}, "must be one-hot, but a row holds 0 ones"),
        (THREE, SEVERAL, LOGITS, {"multilabel": False}, "needs one class per sample, but these have several labels"),
        # shapes and types
        (THREE, [0, 1, 2, 3], SOFTMAX, {}, "label 3 is out of range: the network has 3 classes, 0 to 2"),
        (THREE, [0, -1, 2, 0], SOFTMAX, {}, "label -1 is out of range"),
        (
            THREE,
            [0, 1, 2],
            SOFTMAX,
            {},
            "labels of shape .4,., or one-hot of shape .4, 3., .* of shape .3,.",
        ),
        (THREE, SEVERAL[:, :2], LOGITS, {}, "needs labels of shape .* but got float32 of shape .4, 2."),
        (ONE, SEVERAL, LOGITS, {}, "needs labels of shape .4,. for 4 samples with one output each"),
        (np.zeros((4, 3, 5), np.float32), np.zeros((4, 5), int), SOFTMAX, {}, "as for segmentation or sequences"),
        (np.float32(3), [0, 1, 2, 0], SOFTMAX, {}, "gives a single number, which looks like a loss"),
        (np.zeros((4, 3), np.int64), [0, 1, 2, 0], None, {}, "which are floats, but the network gives int64"),
    ],
)
def test_what_is_refused(scores, labels, loss, arguments, message):
    """Each says what came, and what to do."""
    with pytest.raises(ValueError, match=f"Reader: .*{message}"):
        read(np.asarray(scores), labels, loss, **arguments)


def test_later_batches_are_held_to_the_first():
    """The first tells the task; what contradicts it later is an error, and never counted as something else."""
    reader = ClassReader("Reader", None, None)
    assert reader.read(THREE, HOT, None)[0].kind == MULTICLASS
    assert reader.read(THREE[:2], np.array([0, 2]), None)[0].kind == MULTICLASS
    with pytest.raises(ValueError, match="must be one-hot, but a row holds 2 ones; .* pass task='multilabel'"):
        reader.read(THREE, SEVERAL, None)
    with pytest.raises(ValueError, match="gives 2 outputs per sample, but gave 3 before"):
        reader.read(THREE[:, :2], HOT[:, :2], None)
    reader.forget()
    assert reader.read(THREE, SEVERAL, LOGITS)[0].kind == MULTILABEL
    assert reader.read(THREE, HOT, LOGITS)[0].kind == MULTILABEL


def test_probabilities():
    """Of the softmax, of the sigmoid, and of outputs that are probabilities already; nothing overflows."""
    task, *_ = read(THREE, [0, 1, 2, 0], SOFTMAX)
    shares = np.exp(THREE.astype(float)) / np.exp(THREE.astype(float)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(task.log_probabilities(THREE)), shares)
    np.testing.assert_allclose(task.log_probabilities(np.array([[1000.0, 0, -1000]])), [[0, -1000, -2000]])
    task, *_ = read(shares.astype(np.float32), [0, 1, 2, 0], None)
    np.testing.assert_allclose(np.exp(task.log_probabilities(shares)), shares)
    task, *_ = read(ONE, [0, 1, 0, 1], LOGITS)
    yes = 1 / (1 + np.exp(-ONE[:, 0].astype(float)))
    np.testing.assert_allclose(np.exp(task.log_probabilities(ONE)), np.stack([1 - yes, yes], axis=1))
    np.testing.assert_allclose(task.log_probabilities(np.array([[-1000.0], [1000.0]])), [[0, -1000], [-1000, 0]])
    for loss, threshold in ((PROBABILITIES, None), (None, 0.5)):
        task, *_ = read(np.float32([[0.25], [1.0]]), [0, 1], loss, threshold=threshold)
        assert task.log_probabilities(np.array([[0.25], [1.0]])).tolist() == [
            [pytest.approx(np.log(0.75)), pytest.approx(np.log(0.25))],
            [-np.inf, 0],
        ]


@pytest.mark.parametrize(("scores", "labels"), [(ONE, [1, 0, 0, 0]), (THREE, [0, 1, 1, 2]), (THREE, SEVERAL)])
def test_nan_is_wrong(scores, labels):
    """A comparison with NaN, and argmax, would make a plausible class of it."""
    task, _, classes = read(scores, labels, LOGITS if scores is ONE or np.ndim(labels) == 2 else None)
    for label in (classes, 1 - classes if task.kind != MULTICLASS else classes * 0):
        assert not task.right(np.full_like(scores, np.nan), label).any()


class Wrapped(nn.Cell):
    def __init__(self, *losses):
        super().__init__()
        self.losses = nn.CellList(list(losses))

    def construct(self, outputs, labels):
        return self.losses[0](outputs, labels)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (nn.BCEWithLogitsLoss(), LOGITS),
        (Wrapped(nn.BCEWithLogitsLoss()), LOGITS),
        (nn.CrossEntropyLoss(), SOFTMAX),
        (Wrapped(nn.CrossEntropyLoss(), nn.NLLLoss()), SOFTMAX),
        (Wrapped(nn.CrossEntropyLoss(), nn.MSELoss()), None),
        (nn.L1Loss(), DISTANCE),
        (nn.Dense(1, 1), None),
        (lambda outputs, labels: 0, None),
        (None, None),
    ],
)
def test_the_kind_of_a_loss_function(loss, kind):
    """Also inside a cell of the user's own, if it is the only kind there."""
    assert loss_kind(loss) == kind


ROWS = Tensor(THREE)


def last(outputs):
    return outputs[-1][0]


@pytest.mark.parametrize(
    ("outputs", "output", "names", "place"),
    [
        (ROWS, None, 0, None),
        ((ROWS,), None, 0, 0),
        ((Tensor(1.0), ROWS), None, 0, 1),
        ([ROWS, Tensor(np.zeros((4, 3, 2), np.float32))], None, 0, 0),
        ((ROWS, Tensor(np.zeros((8, 3), np.float32))), None, 0, 0),  # another number of samples
        ((Tensor(np.zeros((4, 3), np.int32)), ROWS), None, 0, 1),  # not floats
        ((Tensor(np.zeros((4, 2), np.float32)), ROWS), None, 0, 1),  # too few for the labels
        ((Tensor(np.zeros((4, 8), np.float32)), ROWS), None, 3, 1),  # the names tell
        ({"logits": ROWS, "features": Tensor(np.zeros((4, 8), np.float32))}, None, 0, "logits"),
        ({"loss": Tensor(1.0), "scores": ROWS}, None, 0, "scores"),
        ((ROWS, ROWS), 1, 0, 1),
        ((ROWS, ROWS), -1, 0, -1),
        ({"a": ROWS, "b": ROWS}, "b", 0, "b"),
        ((Tensor(1.0), (ROWS, ROWS)), last, 0, last),
    ],
)
def test_the_output_that_is_meant(outputs, output, names, place):
    """The only one, the one called logits, the only one that fits, or the one that is named."""
    reader = ClassReader("Reader", output, None)
    task, scores, _ = reader.read(outputs, np.array([0, 1, 2, 0]), None, names)
    np.testing.assert_array_equal(scores, THREE)
    assert (task.kind, reader.place) == (MULTICLASS, place)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"output": 1.5}, TypeError, "output must be an index, a key or a function .* got 1.5 .float."),
        ({"threshold": "0"}, TypeError, "threshold must be a number"),
        ({"threshold": np.nan}, ValueError, "threshold must be finite"),
        ({"task": "multi"}, ValueError, "task must be one of .* but got 'multi'"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    """When it is made."""
    with pytest.raises(error, match=f"Reader: {message}"):
        ClassReader("Reader", **{"output": None, "threshold": None, **arguments})
