"""The names that a run's values and callbacks go by: ours, and those that users of Keras and Lightning know."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, Optional

from ._checks import nearest

__all__ = [
    "EVAL_LOSS",
    "OF_RUN",
    "TRAIN_LOSS",
    "alike",
    "hint",
    "is_train_loss",
    "key_among",
    "numbered",
    "result_name",
    "spelled",
]

TRAIN_LOSS = "loss"
EVAL_LOSS = "eval_loss"
_TRAIN_LOSS_IN_LIGHTNING = "train_loss"
_KERAS_PREFIX = "val_"

# What an epoch has besides the values of an evaluation, which therefore go by other names.
OF_RUN = ("epoch", "step", TRAIN_LOSS, _TRAIN_LOSS_IN_LIGHTNING, "learning_rate", "seconds", "samples_per_second")


def is_train_loss(name: str) -> bool:
    """Whether `name` means the mean training loss of the epoch."""
    return name in (TRAIN_LOSS, _TRAIN_LOSS_IN_LIGHTNING)


def result_name(metric: str) -> str:
    """The name of a metric's value: the metric's own, with `eval_` before it where the run has a value of that name."""
    return f"eval_{metric}" if metric in OF_RUN else metric


def key_among(name: str, names: Collection[str]) -> Optional[str]:
    """Which of `names` a validation value's name means; `None` for none."""
    if name in names:
        return name
    if name.startswith(_KERAS_PREFIX):
        key = result_name(_bare(name))
        if key in names:
            return key
    found = [each for each in names if each != spelled(each) and name in (spelled(each), each.rpartition("/")[2])]
    return found[0] if len(found) == 1 else None


def spelled(name: str) -> str:
    """`name` as it can stand in the braces of a template: `val_acc` for `val/acc`."""
    return re.sub(r"[/\\:!{}\[\]]|\.(?!\d)", "_", name)


def alike(name: str, names: Iterable[str]) -> Optional[str]:
    """Which of `names` differs from `name` in case or the prefix `val_` only; `None` for none."""
    return next((each for each in names if _bare(each.lower()) == _bare(name.lower())), None)


def hint(name: str, names: Iterable[str]) -> str:
    """`"; did you mean 'acc'?"` for the value most like `name`, whatever its case and prefix; `""` for none."""
    is_of_evaluation = name.startswith(_KERAS_PREFIX)
    options = sorted(each for each in names if not (is_of_evaluation and each == TRAIN_LOSS))
    found = alike(name, options)
    return f"; did you mean {found!r}?" if found else nearest(_bare(name), options) or nearest(name, options)


def _bare(name: str) -> str:
    return name[len(_KERAS_PREFIX) :] if name.startswith(_KERAS_PREFIX) else name


def numbered(callbacks: Iterable[Any]) -> list[tuple[str, Any]]:
    """Each callback with a name of its own: `EarlyStopping`, `EarlyStopping 2`."""
    counts: dict[str, int] = {}
    found = []
    for callback in callbacks:
        kind = type(callback).__name__
        counts[kind] = counts.get(kind, 0) + 1
        found.append((kind if counts[kind] == 1 else f"{kind} {counts[kind]}", callback))
    return found
