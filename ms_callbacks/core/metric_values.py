"""Turn whatever metrics return into the values of an evaluation: one name and one number each."""

from __future__ import annotations

import numbers
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np
from mindspore import Tensor

from . import distributed
from .names import EVAL_LOSS, OF_RUN, TRAIN_LOSS, result_name
from .tensors import as_array

__all__ = [
    "as_number",
    "by_name",
    "check_alike",
    "described",
    "may_give_several",
    "named",
    "numbers_in",
    "with_eval_loss",
    "with_numbers",
]


def as_number(value: Any) -> Optional[float]:
    """Return a metric's value as a number; `None` if it is not a single one.

    A tensor, array, list or tuple of one element counts as that element, whatever its shape; `True` is 1.
    """
    if isinstance(value, Tensor):
        value = as_array(value)
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return as_number(value[0])
    if isinstance(value, (np.ndarray, np.generic)):
        if value.size != 1 or value.dtype.kind not in "biufVO" or value.dtype.names:
            return None
        # bfloat16 is not one of NumPy's own kinds, and its items are not Python numbers.
        value = value.item() if value.dtype.kind == "O" else _as_float64(value)
    try:
        return float(value) if isinstance(value, numbers.Real) else None
    except OverflowError:
        return None


def described(value: Any) -> str:
    """Describe a value that is not a number, for messages: `a Tensor of shape (2, 2)`."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{'a Tensor' if isinstance(value, Tensor) else 'an array'} of shape {tuple(value.shape)}"
    return f"{value!r:.60} ({type(value).__name__})"


def named(metrics: Mapping[Any, Any], of_run: Iterable[str] = OF_RUN) -> dict[str, Any]:
    """Return the values of an evaluation by name: numbers as `float`, anything else unchanged.

    A dictionary stands for its values, each under its own key; if two have the same key, or the run or the Model has a
    value of that name, it is prefixed with the metric's name: `det_precision`.
    """
    plain = {str(name): value for name, value in metrics.items() if not isinstance(value, Mapping)}
    # A metric `loss` of the Model takes precedence over the `eval_loss` of `Model.fit`, that of the last batch.
    found = {name: value for name, value in plain.items() if result_name(name) == name}
    found.update((result_name(name), value) for name, value in plain.items() if result_name(name) != name)
    within = [leaf for name, value in metrics.items() if isinstance(value, Mapping) for leaf in _leaves(name, value)]
    counts = Counter(key for key, _, _ in within)
    taken = {"", EVAL_LOSS, *of_run, *found}
    for key, full, value in within:
        name = full if key in taken or counts[key] > 1 else key
        while name in found:
            name += "_"
        found[name] = value
    as_numbers = {name: as_number(value) for name, value in found.items()}
    return {name: value if as_numbers[name] is None else as_numbers[name] for name, value in found.items()}


def with_eval_loss(metrics: dict[str, Any], eval_loss: Optional[float]) -> dict[str, Any]:
    """Return `metrics` with the loss under its standard name: the Model's own if it has one, whatever its name."""
    results = dict(metrics)
    own = results.pop(TRAIN_LOSS, results.get(EVAL_LOSS, eval_loss))
    return results if own is None else {**results, EVAL_LOSS: own}


def by_name(metrics: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a Model's metrics by the names of their values; raise if two have the same name."""
    names: dict[str, Any] = {}
    for name in metrics:
        key = result_name(str(name))
        if key in names:
            raise ValueError(
                f"Model: the metrics {names[key]!r} and {name!r} both give the value {key!r}, as the run itself has "
                f"{', '.join(OF_RUN)}; rename one of them"
            )
        names[key] = name
    return {key: metrics[name] for key, name in names.items()}


def may_give_several(metric: Any) -> bool:
    """Return whether a metric may return a dictionary: a user's own may, as only its first result shows."""
    owner = next((cls for cls in type(metric).__mro__ if "eval" in vars(cls)), None)
    return owner is None or not owner.__module__.startswith("mindspore.")


# Means over several processes


def numbers_in(metrics: Mapping[Any, Any]) -> list[float]:
    """Return each number of an evaluation, including those within dictionaries."""
    return [number for _, number in _numbers(metrics)]


def with_numbers(metrics: Mapping[Any, Any], new: Sequence[float]) -> dict[Any, Any]:
    """Return `metrics` with other numbers, in the order of `numbers_in`."""
    return _replaced(metrics, iter(new))


def check_alike(metrics: Mapping[Any, Any]) -> None:
    """Raise on every process if they have not evaluated the same values: means over them would be meaningless."""
    own = zlib.crc32(repr([path for path, _ in _numbers(metrics)]).encode()) % (1 << 24)  # fits a float32
    if len(set(distributed.gathered(np.array([own], np.float32)).ravel().tolist())) > 1:
        raise ValueError(
            f"Validate: the metrics of the {distributed.count()} processes did not give the same values (here: "
            f"{', '.join('/'.join(path) for path, _ in _numbers(metrics))}), so that there is no mean over them; "
            f"let each metric give the same keys on every process"
        )


def _numbers(metrics: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    for name, value in metrics.items():
        number = as_number(value)
        if isinstance(value, Mapping):
            yield from _numbers(value, (*path, str(name)))
        elif number is not None:
            yield (*path, str(name)), number


def _replaced(metrics: Mapping[Any, Any], new: Iterator[float]) -> dict[Any, Any]:
    return {
        name: _replaced(value, new)
        if isinstance(value, Mapping)
        else (value if as_number(value) is None else next(new))
        for name, value in metrics.items()
    }


def _leaves(metric: Any, values: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, str, Any]]:
    """Yield each value within a dictionary, with its own key and with its whole path from the metric's name."""
    for key, value in values.items():
        here = (*path, str(key))
        if isinstance(value, Mapping):
            yield from _leaves(metric, value, here)
        else:
            own = "_".join(here)
            yield own if isinstance(key, str) else "", f"{metric}_{own}", value


def _as_float64(value: Any) -> Optional[float]:
    try:
        return float(value.astype(np.float64).item())
    except (TypeError, ValueError):
        return None
