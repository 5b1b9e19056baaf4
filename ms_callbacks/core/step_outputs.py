"""Read the output of a training step: its loss, whether the step was dropped, and other numbers to track.

MindSpore's own cells return a loss, or `(loss, overflow, loss scale)`; those of projects return tuples of any length,
lists and dictionaries. The needed parts of such an output are located once, at the first step, by types and shapes
alone.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from mindspore import Tensor
from mindspore import dtype as mstype

from .arguments import quoted
from .mindspore_compat import detached
from .tensors import number

__all__ = ["Key", "OutputReader", "StepOutput", "loss_of"]

Key = Union[int, str]

# Names that projects use, in a dictionary, for the flag of a step that loss scaling dropped.
_DROPPED = ("overflow", "is_overflow", "found_inf", "dropped")


class StepOutput(NamedTuple):
    """The needed parts of a step's output.

    `is_sure` says whether `dropped` is certainly a flag. An integer may also be a count, and counts as a flag only if
    the loss is not finite.
    """

    loss: Any
    dropped: Any
    is_sure: bool
    others: tuple[Any, ...]


class _Layout(NamedTuple):
    loss: Key
    dropped: Optional[Key]
    is_sure: bool


class OutputReader:
    """Finds loss and flag in the output of a step; for `None`, by types and shapes.

    Args:
        loss: the index or the key of the loss.
        dropped: the index or the key of the flag that says that the step was dropped.
        others: the index or the key of other numbers to track, by name.
    """

    def __init__(
        self, loss: Optional[Key] = None, dropped: Optional[Key] = None, others: Optional[Mapping[str, Key]] = None
    ) -> None:
        self._loss, self._dropped = loss, dropped
        self._others = dict(others or {})
        self._layout: Optional[_Layout] = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the other numbers."""
        return tuple(self._others)

    def take(self, output: Any) -> Any:
        """Return only the needed parts of an output; the output itself if it is just a loss.

        Raises:
            TypeError: at the first output, there is no loss in it.
        """
        if not isinstance(output, (tuple, list, dict)):
            if self._layout is None:
                self._check_single(output)
                self._layout = _Layout(0, None, True)
            return detached(output)
        if self._layout is None:
            self._layout = self._layout_of(output)
        loss, dropped, is_sure = self._layout
        values: Any = output
        return StepOutput(
            detached(_inner(values[loss])),
            None if dropped is None else detached(values[dropped]),
            is_sure,
            tuple(detached(values[key]) for key in self._others.values()),
        )

    def _check_single(self, output: Any) -> None:
        if self._loss not in (None, 0) or self._dropped is not None or self._others:
            raise TypeError(
                f"the training step returned {_told(output)}; StepOutputs expects several values, as a tuple or a "
                f"dictionary; leave it out"
            )
        if not _is_numeric(output):
            raise _without_loss(output)

    def _layout_of(self, output: Any) -> _Layout:
        loss = self._loss if self._loss is not None else _loss_key(output)
        for name, key in [("loss", loss), ("dropped", self._dropped), *self._others.items()]:
            if key is not None and not _has(output, key):
                raise TypeError(
                    f"the training step returned {_told(output)}, which has no {key!r} for {name!r}; "
                    f"give StepOutputs indexes or keys that exist"
                )
        if loss is None or not _is_numeric(_inner(output[loss])):
            raise _without_loss(output)
        for name, key in self._others.items():
            if not _is_numeric(output[key]):
                raise TypeError(f"the training step returned {_told(output[key])} for {name!r}, which is not a number")
        if self._dropped is not None:
            return _Layout(loss, self._dropped, True)
        return _Layout(loss, *_flag_key(output, loss))


def loss_of(taken: Any) -> Optional[float]:
    """Return the loss in what `OutputReader.take` returned; `None` if loss scaling dropped the step."""
    if not isinstance(taken, StepOutput):
        return number(taken)
    if taken.dropped is None:
        return number(taken.loss)
    if taken.is_sure:
        return None if number(taken.dropped) else number(taken.loss)
    loss = number(taken.loss)
    return loss if math.isfinite(loss) or number(taken.dropped) != 1 else None


def _loss_key(output: Any) -> Optional[Key]:
    if not isinstance(output, dict):
        return 0 if output else None
    if "loss" in output or len(output) == 1:
        return "loss" if "loss" in output else next(iter(output))
    named = [key for key in output if str(key).lower().endswith("loss")]
    return named[0] if len(named) == 1 else None


def _flag_key(output: Any, loss: Key) -> tuple[Optional[Key], bool]:
    """Return the index or key of the flag that says that a step was dropped, and whether it certainly is a flag."""
    if isinstance(output, dict):
        found = next((key for key in _DROPPED if key in output and _is_single(output[key])), None)
        return found, True
    if loss != 0 or len(output) < 2 or not _is_single(output[1]):
        return None, True
    kind = _kind(output[1])
    if kind == "b":
        return 1, True
    if kind not in "iu":
        return None, True
    # Followed by a loss scale, or of a type that is not used for counting.
    is_scaled = len(output) > 2 and _is_single(output[2]) and _kind(output[2]) == "f"
    return 1, is_scaled or _bytes(output[1]) == 1


def _inner(value: Any) -> Any:
    """Return the first of several losses that together are one element of an output."""
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value


def _has(output: Any, key: Key) -> bool:
    if isinstance(output, dict):
        return key in output
    return isinstance(key, int) and -len(output) <= key < len(output)


def _kind(value: Any) -> str:
    """Return the kind of numbers in a value as NumPy's letter; empty if it holds none."""
    if isinstance(value, Tensor):
        if value.dtype == mstype.bool_:
            return "b"
        name = str(value.dtype)
        return "f" if "Float" in name else "i" if "Int" in name else ""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.kind if value.dtype.kind in "biuf" else ""
    if isinstance(value, bool):
        return "b"
    return "i" if isinstance(value, numbers.Integral) else "f" if isinstance(value, numbers.Real) else ""


def _bytes(value: Any) -> int:
    return int(getattr(value, "itemsize", 8))


def _is_numeric(value: Any) -> bool:
    return _kind(value) != "" and getattr(value, "size", 1) != 0


def _is_single(value: Any) -> bool:
    return _kind(value) != "" and getattr(value, "size", 1) == 1


def _without_loss(output: Any) -> TypeError:
    return TypeError(
        f"the training step returned {_told(output)}, in which no loss can be identified; return the loss, or a tuple "
        f"that begins with it, or a dictionary with 'loss'; or say where it is with StepOutputs(loss=...) in the "
        f"callbacks"
    )


def _told(value: Any) -> str:
    """Describe a value in a few words."""
    if isinstance(value, dict):
        return f"a dictionary of {quoted(value)}" if value else "an empty dictionary"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of ({', '.join(map(_told, value))})"
    if isinstance(value, Tensor):
        return f"a Tensor of {value.dtype} and shape {tuple(value.shape)}"
    return f"{value!r} ({type(value).__name__})" if _kind(value) else f"a {type(value).__name__}"
