"""The comparison that every decision rests on."""

from __future__ import annotations

import math

import pytest
from mindspore.train import MAE, Accuracy, Loss

from ms_callbacks.core.monitor import BestTracker, Monitor

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("mode", "min_delta", "value", "best", "better"),
    [
        # The first value is better than nothing, whatever it is, if only it is finite.
        ("min", 0.0, 5.0, None, True),
        ("max", 0.0, -5.0, None, True),
        ("min", 0.0, 0.0, None, True),
        ("max", 9.0, 0.0, None, True),
        ("min", 0.0, NAN, None, False),
        ("max", 0.0, NAN, None, False),
        ("min", 0.0, -INF, None, False),
        ("max", 0.0, INF, None, False),
        # Better, worse, tie.
        ("min", 0.0, 0.9, 1.0, True),
        ("min", 0.0, 1.1, 1.0, False),
        ("min", 0.0, 1.0, 1.0, False),
        ("max", 0.0, 1.1, 1.0, True),
        ("max", 0.0, 0.9, 1.0, False),
        ("max", 0.0, 1.0, 1.0, False),
        # Zero is a value, on either side.
        ("min", 0.0, 0.0, 1.0, True),
        ("max", 0.0, 0.0, 1.0, False),
        ("min", 0.0, 0.0, 0.0, False),
        ("max", 0.0, 1e-9, 0.0, True),
        # Negative values.
        ("min", 0.0, -2.0, -1.0, True),
        ("max", 0.0, -1.0, -2.0, True),
        # Just min_delta is not enough; a little more is.
        ("min", 0.25, 0.75, 1.0, False),
        ("min", 0.25, 0.74, 1.0, True),
        ("max", 0.25, 1.25, 1.0, False),
        ("max", 0.25, 1.26, 1.0, True),
        # What is not finite is never better.
        ("min", 0.0, NAN, 1.0, False),
        ("max", 0.0, NAN, 1.0, False),
        ("min", 0.0, -INF, 1.0, False),
        ("max", 0.0, INF, 1.0, False),
    ],
)
def test_is_better(mode, min_delta, value, best, better):
    """A value is better if it is finite and beats the best by more than min_delta."""
    assert Monitor("x", mode, min_delta).is_better(value, best) is better


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("loss", "min"),
        ("Loss", "min"),
        ("val_loss", "min"),
        ("eval_loss", "min"),
        ("RMSE", "min"),
        ("mae", "min"),
        ("perplexity", "min"),
        ("root_mean_square_distance", "min"),
        ("hausdorff_distance", "min"),
        ("acc", "max"),
        ("val_acc", "max"),
        ("Accuracy", "max"),
        ("top_5_accuracy", "max"),
        ("F1", "max"),
        ("recall", "max"),
        ("bleu_score", "max"),
        ("cosine_similarity", "max"),
        ("acc_top1", "max"),
        ("f-score", "max"),
        ("loss_mean_2", "min"),
    ],
)
def test_auto_goes_by_the_words_of_a_name(name, mode):
    """Whatever its case and its prefix, a known word in the name tells which way is better."""
    assert Monitor(name).resolve_mode("T").mode == mode


@pytest.mark.parametrize("name", ["my_metric", "score", "accuracy_loss", "lossy", "acc_gap", "false_precision_share"])
def test_auto_that_cannot_tell_asks_for_the_mode(name):
    """A name with no known word, with two that disagree, or with an unknown word after a known one is an error."""
    with pytest.raises(ValueError, match=f"T: mode='auto' cannot tell .*{name!r}.*pass mode='min' or mode='max'"):
        Monitor(name).resolve_mode("T")


def test_auto_goes_by_the_metrics_class_before_its_name():
    """The class decides, also for a class of the user's own that derives from it."""

    class Mine(Accuracy):
        pass

    assert Monitor("my_error", "auto").resolve_mode("T", Mine()).mode == "max"
    assert Monitor("quality", "auto").resolve_mode("T", MAE()).mode == "min"
    assert Monitor("acc", "auto").resolve_mode("T", Loss()).mode == "min"
    assert Monitor("mine", "min").resolve_mode("T", Mine()).mode == "min"  # which may turn it round


@pytest.mark.parametrize(("mode", "metric"), [("max", Loss()), ("max", MAE()), ("min", Accuracy())])
def test_a_mode_against_a_metric_of_mindspores_is_refused(mode, metric):
    """Nobody wants the worst of them."""
    with pytest.raises(
        ValueError, match=f"T: mode='{mode}' .*but it is MindSpore's {type(metric).__name__}; leave mode"
    ):
        Monitor("x", mode).resolve_mode("T", metric)


def test_tracker_counts_observations_since_the_best():
    """The best, its epoch and the wait follow the values; a tie waits."""
    tracker = BestTracker(Monitor("x", "min"))
    assert [tracker.observe(value, epoch) for epoch, value in enumerate([3.0, NAN, 2.0, 2.0, 2.5], 1)] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert (tracker.best, tracker.best_epoch, tracker.wait) == (2.0, 3, 2)
    other = BestTracker(Monitor("x", "min"))
    other.load_state_dict(tracker.state_dict())
    assert other.state_dict() == tracker.state_dict()
