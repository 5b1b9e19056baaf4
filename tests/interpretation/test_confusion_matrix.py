"""ConfusionMatrix: counts that are right, told in words and in a picture."""

from __future__ import annotations

import os
import sys

import mindspore as ms
import numpy as np
import pytest
from conftest import MODES
from mindspore import nn
from mindspore.train import Callback
from training import CLASSES, Recorder, dataset, make_model, valid_dataset

from ms_callbacks import Validate
from ms_callbacks.interpretation.confusion_matrix import ConfusionMatrix


class NoStep(Callback):
    """Fails when a step has run."""

    def on_train_step_end(self, run_context):
        raise AssertionError("a step ran")


def one_hot(predictions, classes):
    return np.eye(classes, dtype=np.float32)[predictions]


def evaluate(callback, *batches):
    """An evaluation of (logits, labels), without a network."""
    callback.begin_evaluation()
    for logits, labels in batches:
        callback.see_batch(logits, np.asarray(labels), None)
    callback.on_eval_end(None)


def counted(network):
    """The matrix of the validation set, sample by sample."""
    network.set_train(False)
    matrix = np.zeros((CLASSES, CLASSES), int)
    for images, labels in valid_dataset():
        for logits, label in zip(network(images).asnumpy(), labels.asnumpy()):
            matrix[label, int(np.argmax(logits))] += 1
    return matrix


# Ten samples: 2 of 4 zeros are taken for 1; one of 3 ones for 0; all 3 twos are right.
TRUE = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
PREDICTED = [0, 0, 1, 1, 1, 1, 0, 2, 2, 2]


@pytest.mark.parametrize("how", ["Validate", "fit", "eval"])
def test_the_counts_are_those_of_the_latest_evaluation(mode, how):
    """Rows are true classes and columns predictions, over all batches, however the evaluation comes about."""
    model, confusion = make_model(), ConfusionMatrix(verbose=0)
    if how == "fit":
        model.fit(2, dataset(), valid_dataset(), callbacks=[confusion])
    elif how == "Validate":
        model.train(2, dataset(), callbacks=[confusion, Validate(model, valid_dataset())])
    else:
        model.eval(valid_dataset(), callbacks=[confusion])
    np.testing.assert_array_equal(confusion.matrix_, counted(model.predict_network))
    assert confusion.matrix_.dtype == np.int64
    assert confusion.matrix_.sum() == 30
    assert confusion.matrix_.trace() / 30 == pytest.approx(model.eval(valid_dataset())["acc"])


def test_what_it_says(capsys):
    """The share that is wrong, a line for each class, and the pairs, to the letter."""
    evaluate(
        ConfusionMatrix(["cat", "dog", "horse"]),
        (one_hot(PREDICTED[:6], 3), TRUE[:6]),
        (one_hot(PREDICTED[6:], 3), TRUE[6:]),
    )
    assert capsys.readouterr().out.splitlines() == [
        "ConfusionMatrix: 3 of 10 samples wrong (30.00 %)",
        "Class  Samples  Wrong    Error",
        "------------------------------",
        "cat          4      2  50.00 %",
        "dog          3      1  33.33 %",
        "horse        3      0   0.00 %",
        "------------------------------",
        "cat mistaken for dog: 2 times",
        "dog mistaken for cat: 1 time",
    ]


def test_errors_and_most_confused_pairs():
    """By falling count, on a tie the lower classes first; a class without samples has no error."""
    confusion = ConfusionMatrix(verbose=0)
    assert confusion.matrix_.shape == (0, 0)
    assert confusion.most_confused() == []
    assert confusion.errors_.shape == (0,)
    evaluate(confusion, (one_hot([1, 1, 2, 2, 0, 1], 4), [0, 0, 2, 1, 1, 1]))
    np.testing.assert_allclose(confusion.errors_, [1, 2 / 3, 0, np.nan])
    assert confusion.most_confused() == [(0, 1, 2), (1, 0, 1), (1, 2, 1)]
    assert confusion.most_confused(1) == [(0, 1, 2)]


def test_labels_of_eight_bits_do_not_overflow():
    """Class 29 of 30 is more than a byte holds once it is multiplied."""
    confusion = ConfusionMatrix(verbose=0)
    evaluate(confusion, (one_hot([29, 3], 30), np.array([29, 28], np.uint8)))
    assert {(i, j): int(confusion.matrix_[i, j]) for i, j in zip(*confusion.matrix_.nonzero())} == {
        (29, 29): 1,
        (28, 3): 1,
    }


def test_of_many_classes_the_worst_are_listed(capsys):
    """Twenty rows, the highest errors first."""
    labels = np.arange(50)
    predictions = np.where(labels == 41, 0, labels)
    evaluate(ConfusionMatrix(), (one_hot(predictions, 50), labels))
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["41", "1", "1", "100.00", "%"]
    assert lines[-2:] == ["(the 20 worst of 50 classes)", "41 mistaken for 0: 1 time"]
    assert len(lines) == 3 + 20 + 3


def test_samples_with_nan_are_told(capsys):
    """Argmax makes a plausible class of them."""
    confusion = ConfusionMatrix()
    evaluate(confusion, (np.array([[np.nan, 1], [0, 1]], np.float32), [0, 1]))
    assert confusion.nan_samples_ == 1
    assert "NaN among the logits of 1 sample: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("every", "epochs"), [(None, ["38"]), (2, ["epoch 2", "epoch 4", "38"]), (5, ["epoch 5"]), (1, None)]
)
def test_when_it_speaks(capsys, every, epochs):
    """At the end of training; every n epochs too; the same evaluation never twice."""
    model = make_model()
    model.train(5, dataset(), callbacks=[ConfusionMatrix(every_n_epochs=every), Validate(model, valid_dataset())])
    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ConfusionMatrix: ")]
    starts = [line.split(": ")[1] for line in heads]
    said = ["38" if "samples wrong" in start else start for start in starts]
    assert said == (epochs or [f"epoch {epoch}" for epoch in range(1, 6)])


def test_only_evaluated_epochs_are_spoken_of(capsys):
    """Where Validate skips an epoch, so does it."""
    model = make_model()
    validate = Validate(model, valid_dataset(), every_n_epochs=2, on_last=False)
    model.train(3, dataset(), callbacks=[validate, ConfusionMatrix(every_n_epochs=1)])
    out = capsys.readouterr().out
    assert out.count("ConfusionMatrix: ") == 1
    assert "ConfusionMatrix: epoch 2: " in out


def test_an_evaluation_of_its_own_speaks_at_once(capsys):
    """One that is part of no training; not one within it."""
    model, confusion = make_model(), ConfusionMatrix()
    model.eval(valid_dataset(), callbacks=[confusion])
    assert capsys.readouterr().out.count("ConfusionMatrix: ") == 1
    model.fit(2, dataset(), valid_dataset(), callbacks=[confusion])
    assert capsys.readouterr().out.count("ConfusionMatrix: ") == 1


def test_a_second_run_begins_anew():
    """A run that stops before its first evaluation leaves an empty matrix, not that of the run before."""
    model, confusion = make_model(), ConfusionMatrix(verbose=0)
    callbacks = [confusion, Validate(model, valid_dataset())]
    model.train(1, dataset(), callbacks=callbacks)
    assert confusion.matrix_.sum() == 30
    with pytest.raises(AssertionError, match="a step ran"):
        model.train(1, dataset(), callbacks=[*callbacks, NoStep()])
    assert confusion.matrix_.shape == (0, 0)


def test_the_look_ahead_changes_nothing(mode):
    """Losses are to the last bit those of a run without it."""
    losses = []
    for names in (None, ["a", "b", "c"]):
        model, recorder = make_model(), Recorder()
        confusion = ConfusionMatrix(names, verbose=0)
        model.train(2, dataset(), callbacks=[confusion, Validate(model, valid_dataset()), recorder])
        losses.append(recorder.losses)
    assert losses[0] == losses[1]


def test_wrong_class_names_are_refused_before_the_first_step(mode):
    """The network is asked how many classes it has."""
    model = make_model()
    callbacks = [ConfusionMatrix(["a", "b"]), Validate(model, valid_dataset()), NoStep()]
    with pytest.raises(ValueError, match="one name for each of the network's 3 classes, but got 2: .'a', 'b'."):
        model.train(1, dataset(), callbacks=callbacks)
    with pytest.raises(ValueError, match="the network's 3 classes"):
        model.eval(valid_dataset(), callbacks=[ConfusionMatrix(["a", "b"])])


def test_a_run_that_never_evaluates_is_refused():
    """Before the first step."""
    with pytest.raises(ValueError, match="ConfusionMatrix: needs an evaluation, but this run never evaluates"):
        make_model().train(1, dataset(), callbacks=[ConfusionMatrix(), NoStep()])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, 3], "label 3 is out of range: the network has 3 classes, 0 to 2"),
        (np.zeros((2, 3)), [0, -1], "label -1 is out of range"),
        (np.zeros((2, 3)), np.zeros(2, np.float32), "this looks like regression: .* a class is a whole number"),
        (np.zeros((2, 1)), [0, 0], "cannot tell from the loss function what an output means; pass threshold=0.0"),
        (
            np.zeros((2, 3, 4)),
            [0, 0],
            ".n, classes., but this one gives an output of shape .2, 3, 4.",
        ),
    ],
)
def test_labels_and_logits_that_do_not_fit(logits, labels, message):
    """The first batch says so."""
    with pytest.raises(ValueError, match=f"ConfusionMatrix: .*{message}"):
        evaluate(ConfusionMatrix(), (logits, labels))


def wrong_labels(shift):
    """The validation set with every label shifted."""
    return valid_dataset().map(lambda labels: labels + np.int32(shift), input_columns="labels")


# In GRAPH mode MindSpore waits three seconds after a kernel has failed, as it does for a label other than 3: by default
# each of those fails in one of the two ways, and in the other in the tests of HardExamples.
@pytest.mark.parametrize(
    ("mode", "shift", "label", "how"),
    [
        pytest.param(
            mode,
            shift,
            label,
            how,
            marks=[pytest.mark.slow] if mode == "graph" and (shift, how) != (9, "fit") else [],
        )
        for mode in MODES
        for shift, label in [(1, 3), (9, 9), (-1, -1)]
        for how in ("Validate", "fit")
    ],
    indirect=["mode"],
)
def test_labels_out_of_range_are_named_before_the_loss_fails(mode, how, shift, label):
    """Before the first step of a run, with what to do; the loss alone would fail in other words, or not at all."""
    model = make_model()
    with pytest.raises(
        ValueError,
        match=f"label {label} in the validation dataset is out of range: the network has 3 classes, 0 to 2; ",
    ):
        if how == "fit":
            model.fit(1, dataset(), wrong_labels(shift), callbacks=[ConfusionMatrix()])
        else:
            model.train(1, dataset(), callbacks=[ConfusionMatrix(), Validate(model, wrong_labels(shift))])


def test_labels_out_of_range_in_an_evaluation_of_its_own():
    """Where nothing is known of the network before its first batch, negative ones and those just beyond are named."""
    model = make_model()
    with pytest.raises(
        ValueError, match="ConfusionMatrix: label -1 is out of range: classes count from 0; correct the labels"
    ):
        model.eval(wrong_labels(-1), callbacks=[ConfusionMatrix()])
    with pytest.raises(ValueError, match="ConfusionMatrix: label 3 is out of range: the network has 3 classes"):
        model.eval(wrong_labels(1), callbacks=[ConfusionMatrix()])


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_one_hot_labels_of_a_real_evaluation(kind):
    """Give the counts of the whole numbers that they stand for."""

    class OneHot(nn.Cell):
        def __init__(self):
            super().__init__()
            self.loss = nn.SoftmaxCrossEntropyWithLogits(reduction="mean")

        def construct(self, logits, labels):
            return self.loss(logits, labels.astype(ms.float32))

    network = make_model().predict_network
    model = ms.Model(network, OneHot(), metrics={"loss"})
    hot = valid_dataset().map(lambda labels: np.eye(CLASSES, dtype=kind)[labels], input_columns="labels")
    confusion = ConfusionMatrix(verbose=0)
    model.eval(hot, callbacks=[confusion])
    np.testing.assert_array_equal(confusion.matrix_, counted(network))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"class_names": "abc"}, TypeError, "class_names must be a list of strings, but got 'abc'"),
        ({"class_names": [1, 2]}, TypeError, "class_names must be strings, but got 1"),
        ({"every_n_epochs": 0}, ValueError, "every_n_epochs must be at least 1"),
        ({"picture": 3}, TypeError, "picture must be the path of a PNG file, but got 3"),
        ({"picture": "a.jpg"}, ValueError, "picture must end in '.png', but got 'a.jpg'"),
        ({"verbose": 2}, ValueError, "verbose must be one of 0, 1"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    """When it is made."""
    with pytest.raises(error, match=f"ConfusionMatrix: {message}"):
        ConfusionMatrix(**arguments)
    with pytest.raises(ValueError, match="n must be at least 1"):
        ConfusionMatrix().most_confused(0)


def test_the_picture(tmp_path, pictures):
    """A PNG with each count that is not zero in its cell, and the classes' names at both sides."""
    from matplotlib.image import imread

    path = tmp_path / "confusion.png"
    confusion = ConfusionMatrix(["cat", "dog", "horse"], picture=path, verbose=0)
    evaluate(confusion, (one_hot(PREDICTED, 3), TRUE))
    assert imread(path).shape[0] > 300
    axes = pictures[0].axes[0]
    cells = {tuple(int(part) for part in text.get_position()): int(text.get_text()) for text in axes.texts}
    assert cells == {(0, 0): 2, (1, 0): 2, (1, 1): 2, (0, 1): 1, (2, 2): 3}  # x is the prediction
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["cat", "dog", "horse"]
    assert os.listdir(tmp_path) == ["confusion.png"]


def test_a_picture_of_a_hundred_classes_has_no_numbers(tmp_path, pictures):
    """They could not be read."""
    confusion = ConfusionMatrix(picture=tmp_path / "many.png", verbose=0)
    evaluate(confusion, (one_hot(np.arange(100), 100), np.arange(100)))
    assert not pictures[0].axes[0].texts
    assert (tmp_path / "many.png").stat().st_size > 1000


def test_a_picture_that_cannot_be_written_is_refused_before_the_first_step(tmp_path):
    """Its folder is looked for when training begins."""
    model = make_model()
    confusion = ConfusionMatrix(picture=str(tmp_path / "none" / "confusion.png"))
    with pytest.raises(
        FileNotFoundError, match="ConfusionMatrix: the folder .*none' .* does not exist; create it first"
    ):
        model.train(1, dataset(), callbacks=[confusion, Validate(model, valid_dataset()), NoStep()])


def test_without_matplotlib(monkeypatch):
    """Only a picture needs it, and says so when it is asked for."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    evaluate(ConfusionMatrix(verbose=0), (one_hot(PREDICTED, 3), TRUE))
    with pytest.raises(ImportError, match=r"ConfusionMatrix: .*pip install 'ms-callbacks\[plots\]'"):
        ConfusionMatrix(picture="confusion.png")
