"""The names that a run's values and callbacks go by: ours, and those that users of Keras and Lightning know."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, Optional

__all__ = ["EVAL_LOSS", "TRAIN_LOSS", "is_train_loss", "key_among", "numbered"]

TRAIN_LOSS = "loss"
EVAL_LOSS = "eval_loss"
_TRAIN_LOSS_IN_LIGHTNING = "train_loss"
_KERAS_PREFIX = "val_"


def is_train_loss(name: str) -> bool:
    """Whether `name` means the mean training loss of the epoch."""
    return name in (TRAIN_LOSS, _TRAIN_LOSS_IN_LIGHTNING)


def key_among(name: str, names: Container[str]) -> Optional[str]:
    """Which of `names` a validation value's name means; `None` for none."""
    if name in names:
        return name
    if name.startswith(_KERAS_PREFIX):
        bare = name[len(_KERAS_PREFIX) :]
        key = EVAL_LOSS if bare == TRAIN_LOSS else bare
        return key if key in names else None
    return None


def numbered(callbacks: Iterable[Any]) -> list[tuple[str, Any]]:
    """Each callback with a name of its own: `EarlyStopping`, `EarlyStopping 2`."""
    counts: dict[str, int] = {}
    found = []
    for callback in callbacks:
        kind = type(callback).__name__
        counts[kind] = counts.get(kind, 0) + 1
        found.append((kind if counts[kind] == 1 else f"{kind} {counts[kind]}", callback))
    return found
