"""Names of a run's values and callbacks: ours, and those that Keras and Lightning users know."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, Optional

from .arguments import nearest, quoted

__all__ = [
    "EVAL_LOSS",
    "OF_RUN",
    "TRAIN_LOSS",
    "alike",
    "hint",
    "is_train_loss",
    "key_among",
    "label",
    "labelled",
    "numbered",
    "result_name",
    "spelled",
    "unknown_monitor",
]

TRAIN_LOSS = "loss"
EVAL_LOSS = "eval_loss"
_TRAIN_LOSS_IN_LIGHTNING = "train_loss"
_KERAS_PREFIX = "val_"
# Prefixes that mark an evaluation value: in Keras and Lightning, in scripts, and here.
_OF_EVALUATION = re.compile(r"(val|valid|validation|eval|test)[_/ .-]+")
# For each name that a metric has elsewhere, the one name that represents all of them.
_SYNONYMS = {
    name: names[0]
    for names in (
        ("accuracy", "acc"),
        ("mae", "meanabsoluteerror"),
        ("mse", "meansquarederror"),
        ("rmse", "rootmeansquarederror"),
        ("f1", "f1score", "fscore"),
        ("perplexity", "ppl"),
    )
    for name in names
}

# The values that every epoch has besides those of an evaluation; the latter therefore need other names.
OF_RUN = ("epoch", "step", TRAIN_LOSS, _TRAIN_LOSS_IN_LIGHTNING, "learning_rate", "seconds", "samples_per_second")


def is_train_loss(name: str) -> bool:
    """Return whether `name` means the mean training loss of the epoch."""
    return name in (TRAIN_LOSS, _TRAIN_LOSS_IN_LIGHTNING)


def result_name(metric: str) -> str:
    """Return the name of a metric's value: its own, prefixed with `eval_` if the run has a value of that name."""
    return f"eval_{metric}" if metric in OF_RUN else metric


def key_among(name: str, names: Collection[str]) -> Optional[str]:
    """Return which of `names` a validation value's name means; `None` if none."""
    if name in names:
        return name
    if name.startswith(_KERAS_PREFIX):
        key = result_name(_bare(name))
        if key in names:
            return key
    found = [each for each in names if each != spelled(each) and name in (spelled(each), each.rpartition("/")[2])]
    return found[0] if len(found) == 1 else None


def spelled(name: str) -> str:
    """Return `name` in the form allowed in a template's braces: `val_acc` for `val/acc`."""
    return re.sub(r"[/\\:!{}\[\]]|\.(?!\d)", "_", name)


def alike(name: str, names: Iterable[str]) -> Optional[str]:
    """Return which of `names` differs from `name` only in case or the prefix `val_`; `None` if none."""
    return next((each for each in names if _bare(each.lower()) == _bare(name.lower())), None)


def hint(name: str, names: Iterable[str]) -> str:
    """Return `"; did you mean 'acc'?"` for the value most like `name`, ignoring case, prefix and synonyms.

    The suggestion may be a longer name, such as `Perplexity_loss` for `val_loss`.
    """
    lower = name.lower()
    bare = _OF_EVALUATION.sub("", lower, count=1)
    if re.fullmatch(r"train(ing)?[_/ .-]+loss", lower):
        return f"; did you mean {TRAIN_LOSS!r}?"
    # An evaluation value is never a value of the training steps; without a prefix, either may be meant.
    is_of_evaluation = _OF_EVALUATION.match(lower) is not None
    options = sorted(each for each in names if not (is_of_evaluation and re.match(r"loss$|train(ing)?[_/ .-]", each)))
    found = [each for each in options if each.lower() == lower]
    found += [each for each in options if each.lower() == bare]
    found += [each for each in options if _meaning(each) == _meaning(name)]
    found += sorted((each for each in options if _meaning(name) in _meanings_within(each)), key=len)
    if found:
        return f"; did you mean {found[0]!r}?"
    return nearest(bare, options) or nearest(name, options)


def _meaning(name: str) -> str:
    """Return the core of a name, without case, prefix and separators: `f1` for `val_F1-Score`."""
    word = re.sub(r"[\W_]", "", _OF_EVALUATION.sub("", name.lower(), count=1)) or name
    return _SYNONYMS.get(word, word)


def _meanings_within(name: str) -> set[str]:
    """Return the cores of a name's words and of all sequences of them: `f1` in `Scores_macro_f1_score`, for example."""
    words = re.split(r"[\W_]+", name.lower())
    places = range(len(words) + 1)
    return {_meaning("_".join(words[first:last])) for first in places for last in places if first < last}


def _bare(name: str) -> str:
    return name[len(_KERAS_PREFIX) :] if name.startswith(_KERAS_PREFIX) else name


def numbered(callbacks: Iterable[Any]) -> list[tuple[str, Any]]:
    """Return the callbacks with the unique names under which states store them: `EarlyStopping`, `EarlyStopping 2`."""
    return _with_numbers((type(callback).__name__, callback) for callback in callbacks)


def labelled(callbacks: Iterable[Any]) -> list[tuple[str, Any]]:
    """Return the callbacks with unique names to display: `LossMonitor`, `mindspore LossMonitor`."""
    return _with_numbers((label(callback), callback) for callback in callbacks)


def label(callback: Any) -> str:
    """Return the name of a callback's class, with its package unless that is ours or the user's."""
    package = type(callback).__module__.partition(".")[0]
    return f"{package} {type(callback).__name__}" if package == "mindspore" else type(callback).__name__


def _with_numbers(named: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    counts: dict[str, int] = {}
    found = []
    for name, callback in named:
        counts[name] = counts.get(name, 0) + 1
        found.append((name if counts[name] == 1 else f"{name} {counts[name]}", callback))
    return found


def unknown_monitor(owner: str, name: str, results: Iterable[str]) -> ValueError:
    """The error for a value that the run does not have, with the names of those that it has."""
    names = sorted({*results, TRAIN_LOSS})
    return ValueError(f"{owner}: monitor {name!r} is not among this run's values ({quoted(names)}){hint(name, names)}")
