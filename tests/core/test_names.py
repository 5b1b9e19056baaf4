"""What a name means, whose it is, and which name was meant."""

from __future__ import annotations

import pytest

from ms_callbacks.core.names import hint, key_among


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("acc", "acc"),
        ("val_acc", "acc"),
        ("val_loss", "eval_loss"),
        ("val_epoch", "eval_epoch"),
        ("val_f-score", "f-score"),
        ("top_5", None),
        ("seg_miou", "seg/miou"),  # as it can be written in the braces of a template
        ("miou", "seg/miou"),
        ("ap@0.5_0.95", "ap@0.5:0.95"),
        ("p", None),  # of two
        ("one_p", "one/p"),
    ],
)
def test_what_a_name_means(name, meant):
    """Its own, Keras's, or as it can be spelled in a template."""
    names = ["acc", "eval_loss", "eval_epoch", "f-score", "top5", "seg/miou", "ap@0.5:0.95", "one/p", "two/p"]
    assert key_among(name, names) == meant


@pytest.mark.parametrize(
    ("name", "names", "meant"),
    [
        # Case alone, and with the prefix of Keras, of this package, or of a script.
        ("MAE", "mae", "mae"),
        ("val_MAE", "mae", "mae"),
        ("Eval-Mae", "mae", "mae"),
        ("validation/mae", "mae", "mae"),
        ("F1", "f1", "f1"),
        ("f1", "F1", "F1"),
        # Names that mean the same, either way round.
        ("Accuracy", "acc", "acc"),
        ("val_accuracy", "acc", "acc"),
        ("eval_acc", "acc", "acc"),
        ("eval_accuracy", "acc", "acc"),
        ("ACC", "accuracy", "accuracy"),
        ("val_acc", "accuracy", "accuracy"),
        ("Val_Acc", "accuracy acc", "acc"),
        ("val_Accuracy", "acc accuracy", "accuracy"),
        ("f1_score", "f1", "f1"),
        ("val_F1", "f1-score", "f1-score"),
        ("mean_absolute_error", "mae", "mae"),
        ("MSE", "mean_squared_error", "mean_squared_error"),
        ("ppl", "perplexity", "perplexity"),
        # The loss of the evaluation is not that of the training steps.
        ("val_los", "acc", "eval_loss"),
        ("Loss", "acc", "loss"),
        ("Eval_Loss", "acc", "eval_loss"),
        ("Valid_Loss", "acc", "eval_loss"),
        ("test_loss", "acc", "eval_loss"),
        ("Train_Loss", "acc", "loss"),
        ("training/loss", "acc", "loss"),
        # A word, or words, of a longer name; of several, the nearest.
        ("loss", "Perplexity_loss", "loss"),
        ("ctc_loss", "Recogniser_ctc_loss", "Recogniser_ctc_loss"),
        ("val_accuracy", "top5 Binary_acc head_1_acc", "Binary_acc"),
        ("val_f1", "macro/f1-score", "macro/f1-score"),
        ("val_top_5", "acc_top_5", "acc_top_5"),
        ("val_ctc_loss", "train_ctc_loss", "eval_loss"),  # of the evaluation
        ("val_ppl", "appliance dev_ppl", "dev_ppl"),  # a part of a word is not one
        # A misspelt one, and what is none.
        ("acuracy", "accuracy", "accuracy"),
        ("val_acuracy", "accuracy", "accuracy"),
        ("zebra", "acc mae", None),
        ("___", "acc", None),
    ],
)
def test_a_hint_ignores_case_prefix_and_synonym(name, names, meant):
    """So that the names of Keras, of Lightning and of classes lead to those of the run."""
    assert hint(name, [*names.split(), "eval_loss", "loss"]) == (f"; did you mean {meant!r}?" if meant else "")


@pytest.mark.parametrize(
    ("name", "names", "meant"),
    [
        ("val_loss", "PerplexityMetric_loss", "PerplexityMetric_loss"),
        ("eval_loss", "Longer_Metric_loss Metric_loss", "Metric_loss"),
        ("VAL_LOSS", "floss Metric_loss", "Metric_loss"),
        ("val_loss", "training_loss", None),
        ("val_loss", "train_loss", None),
    ],
)
def test_a_hint_without_a_loss_of_the_evaluation(name, names, meant):
    """A metric's value whose name ends so is meant, and never the loss of the training steps."""
    assert hint(name, [*names.split(), "loss"]) == (f"; did you mean {meant!r}?" if meant else "")
