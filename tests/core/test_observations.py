"""What is known at one point of a run: the value that a name means there, and plain numbers that do not change."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

from ms_callbacks import EpochSummary, Evaluation
from ms_callbacks.core.observations import Observation

NAN = math.nan
COMMON = {
    "epoch": 3,
    "step": 25,
    "step_in_epoch": 5,
    "train_means": {"loss": 1.5, "kl": 0.5},
    "results": {"acc": 0.75, "eval_loss": 0.25, "seg/miou": 0.5, "matrix": np.eye(2)},
    "learning_rates": (0.1, 0.01),
    "seconds": 2.0,
    "names_so_far": frozenset(["acc", "eval_loss", "seg/miou", "matrix", "f1"]),
}
KINDS = [Observation, Evaluation, EpochSummary]


def observed(kind=Observation, **changed):
    return kind(**{**COMMON, **changed})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", 1.5),
        ("train_loss", 1.5),  # as Lightning has it
        ("kl", 0.5),
        ("acc", 0.75),
        ("val_acc", 0.75),
        ("val_loss", 0.25),
        ("eval_loss", 0.25),
        ("seg/miou", 0.5),
        ("seg_miou", 0.5),  # as in the braces of a template
        ("miou", 0.5),
        ("f1", None),  # which an evaluation before this one had
        ("val_f1", None),
    ],
)
def test_a_name_means_one_value(kind, name, value):
    """Its own, Keras's, or Lightning's; `None` for one that need not come every time."""
    assert observed(kind).value(name) == value


@pytest.mark.parametrize("name", ["acc", "val_acc", "eval_loss", "f1", "nonsense"])
def test_without_an_evaluation_there_is_no_validation_value(name):
    """Nor can it be told whether there will be one of that name; the training values are there."""
    without = observed(results={}, names_so_far=frozenset())
    assert without.value(name) is None
    assert without.value("loss") == 1.5


@pytest.mark.parametrize("name", ["loss", "train_loss", "kl"])
def test_where_nobody_has_asked_for_the_losses_there_are_none(name):
    """As before the first step of an epoch."""
    assert observed(train_means={"loss": None, "kl": None}).value(name) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Acc", "acc"),
        ("accuracy", "acc"),
        ("val_accuracy", "acc"),
        ("eval_los", "eval_loss"),
        ("Loss", "loss"),
        ("valid_loss", "eval_loss"),
        ("zebra", None),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_nearest(name, meant):
    """With all that there are, in the name of who asks."""
    with pytest.raises(ValueError, match=f"^Watcher: monitor '{name}' is not among this run's values ") as caught:
        observed().value(name, "Watcher")
    assert str(caught.value).endswith(f"; did you mean {meant!r}?" if meant else "'seg/miou')")
    assert "('acc', 'eval_loss', 'loss', 'matrix', 'seg/miou')" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "told"), [(np.zeros(2), r"array\(\[0., 0.\]\) \(ndarray\)"), ("0.5", r"'0.5' \(str\)"), (None, "None")]
)
def test_what_is_no_number_cannot_be_watched(value, told):
    """The error says what the metric gave."""
    with pytest.raises(TypeError, match=rf"Watcher: monitor 'val_x' must be a single number, but .* returned {told}"):
        observed(results={"x": value}).value("val_x", "Watcher")


@pytest.mark.parametrize(
    ("results", "name", "is_nan"),
    [
        ({"acc": 0.33, "eval_loss": NAN}, "acc", True),
        ({"acc": 0.33, "eval_loss": NAN}, "val_loss", True),
        ({"acc": 0.33, "eval_loss": math.inf}, "acc", False),
        ({"acc": NAN, "eval_loss": 1.0}, "acc", True),
        ({"acc": NAN, "other": 1.0, "eval_loss": 1.0}, "other", False),  # one metric tells nothing of another
        ({"acc": 0.33}, "acc", False),  # without a loss
        ({"acc": 0.33, "eval_loss": "nan"}, "acc", False),
        ({"acc": 0.33, "eval_loss": NAN}, "loss", False),  # of training
    ],
)
def test_an_evaluation_whose_loss_is_nan_has_no_other_values(results, name, is_nan):
    """For metrics make plausible numbers of logits that are NaN."""
    assert math.isnan(observed(results=results).value(name)) is is_nan


@pytest.mark.parametrize(
    ("at_epoch_end", "place"),
    [(True, 0), (False, 25)],
)
def test_the_step_is_told_where_it_was_between_two(at_epoch_end, place):
    """At the end of an epoch, the epoch says enough."""
    assert observed(Evaluation, at_epoch_end=at_epoch_end).step_between == place
    assert observed(EpochSummary).step_between == observed().step_between == 0


def test_an_evaluation_is_that_of_an_epochs_end_unless_it_says_otherwise():
    """As every other callback's that evaluates."""
    assert observed(Evaluation).at_epoch_end


def test_the_numbers_by_name():
    """Of what is known, numbers alone; the rate is that of the first group."""
    numbers = {"loss": 1.5, "kl": 0.5, "acc": 0.75, "eval_loss": 0.25, "seg/miou": 0.5, "learning_rate": 0.1}
    summary = observed(EpochSummary, samples=80).as_dict()
    assert summary == {"epoch": 3, **numbers, "seconds": 2.0, "samples_per_second": 40.0}
    assert list(summary)[:2] == ["epoch", "loss"]
    assert observed(Evaluation).as_dict() == {"epoch": 3, "step": 25, **numbers, "seconds": 2.0}


def test_numbers_that_are_not_known_are_none():
    """They keep their place, so that a table has the same columns everywhere."""
    bare = observed(EpochSummary, train_means={"loss": None}, results={}, learning_rates=())
    assert bare.as_dict() == {
        "epoch": 3,
        "loss": None,
        "learning_rate": None,
        "seconds": 2.0,
        "samples_per_second": None,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_it(kind):
    """No callback can make another see something else; it can be kept and sent to another process."""
    one = observed(kind, results={"acc": 0.75})
    for name in ("epoch", "results", "new"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, name, 1)
    assert one == observed(kind, results={"acc": 0.75}) == pickle.loads(pickle.dumps(one))
    assert one.loss == 1.5
