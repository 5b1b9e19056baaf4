"""Count the samples that the steps of an epoch have seen, from the shapes of their batches: nothing is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Callable, Optional

__all__ = ["Samples", "size_of"]

Path = tuple[Any, ...]  # from a batch to one of the values in it


class Samples:
    """The number of samples in the current epoch."""

    def __init__(self) -> None:
        self._size: Callable[[Any], int] = _unknown
        self.begin_epoch(0)

    def begin_epoch(self, count: Optional[int]) -> None:
        """Begin with the samples of the epoch that an earlier run has seen; `None` if that is not known."""
        self._count, self._is_known = count or 0, count is not None

    def add(self, columns: Any) -> None:
        """Count a step's batch; called in every step if a callback asks for the count."""
        try:
            self._count += self._size(columns)
        except (AttributeError, IndexError, KeyError, TypeError):  # the first batch, or one of another structure
            if columns:
                self._size = _sizer(columns)
                self._count += self._size(columns)
            else:
                self._is_known = False  # in sink mode, where it goes to the device unseen

    @property
    def count(self) -> Optional[int]:
        """The samples of the epoch's steps so far; `None` if a batch was not seen."""
        return self._count if self._is_known else None


def size_of(columns: Any) -> int:
    """Return the number of samples in a batch: the first dimension that its columns have in common.

    Columns without one (a weight, a temperature) do not count, nor do those of another length, as long as two agree; if
    no two do, it is that of the first column that has one. If none has one, or if only one column has one and the last,
    the label, does not, the dataset was not batched, and its batch is one sample.
    """
    return _sizer(columns)(columns)


def _sizer(columns: Any) -> Callable[[Any], int]:
    """Return a function that finds the size of every batch with this structure, from a single one of its values."""
    values = list(_lengths(columns, ()))
    lengths = {path: length for path, length in values if length is not None}
    if not lengths or (len(lengths) == 1 and values[-1][1] is None):
        return _one
    length, _ = Counter(lengths.values()).most_common(1)[0]  # the first of several equally common ones
    path = next(path for path, each in lengths.items() if each == length)
    if isinstance(_at(columns, path), list):
        return lambda batch: len(_at(batch, path))
    if len(path) == 1:
        place = path[0]
        return lambda batch: int(batch[place].shape[0])
    return lambda batch: int(_at(batch, path).shape[0])


def _lengths(value: Any, path: Path) -> Iterator[tuple[Path, Optional[int]]]:
    """Yield every value in a batch with its first dimension, or `None` if it has none."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _lengths(each, (*path, key))
    elif isinstance(value, tuple) or (isinstance(value, list) and not path):
        for place, each in enumerate(value):
            yield from _lengths(each, (*path, place))
    elif isinstance(value, list):  # of samples
        yield path, len(value)
    else:
        shape = getattr(value, "shape", ())
        yield path, int(shape[0]) if shape else None


def _at(batch: Any, path: Path) -> Any:
    for key in path:
        batch = batch[key]
    return batch


def _one(columns: Any) -> int:
    return 1


def _unknown(columns: Any) -> int:
    raise TypeError
