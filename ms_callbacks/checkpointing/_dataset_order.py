"""Find the operations that decide the batches of a dataset, by name.

MindSpore 2.8 and newer can begin a dataset in its middle. By default they skip batches without computing them: orders
that are functions of the seed and the epoch are then the same, but random transforms and the shuffled rows of files
start from random numbers that have not been drawn. With fast recovery off, MindSpore draws all earlier batches and
drops them, so that each operation is in the same state as before; then only what depends on the order of threads can
differ.
"""

from __future__ import annotations

import functools
from typing import Any

from mindspore import dataset as ds
from mindspore.dataset.engine import samplers

__all__ = ["Order", "is_seeded"]

_DEFAULT_SEED = 5489  # with it, MindSpore draws another seed in each process
_RANDOM_NAMES = ("Random", "Rand", "MixUp", "CutMix")
_RANDOM_TRANSFORMS = {
    *("AutoAugment", "BoundingBoxAugment", "CutOut", "TrivialAugmentWide", "UniformAugment"),
    *("Dither", "FrequencyMasking", "MaskAlongAxisIID", "TimeMasking"),
}
# Attributes of MindSpore's dataset nodes that hold a user's function, and the operation to which it was given.
_FUNCTIONS = {"per_batch_map": "batch", "batch_size_func": "batch", "predicate": "filter"}
_GLOBAL_SHUFFLE, _ADAPTIVE_SHUFFLE = 2, 5  # of MindSpore's `shuffle_flag`


class Order:
    """The operations of a dataset that its batches depend on, besides the data.

    Attributes:
        seeded: those whose result is a function of MindSpore's seed, the epoch and the step.
        drawn: those that draw random numbers from MindSpore's seed in sequence, so that each draw depends on all
            earlier ones.
        python: functions, sources and samplers in Python, which may or may not draw random numbers. One that is marked
            with `mindspore.dataset.transforms.not_random` does not.
        in_processes: those of `python` that run in separate processes, each with its own random numbers.
    """

    def __init__(self, dataset: Any) -> None:
        self.seeded: list[str] = []
        self.drawn: list[str] = []
        self.python: list[str] = []
        self.in_processes: list[str] = []
        self._threads: dict[tuple[int, bool], int] = {}
        self._walk(dataset)

    def _walk(self, node: Any) -> None:
        for child in node.children:
            self._walk(child)
        self._add_source(node)
        self._add_map(node)
        for attribute, operation in _FUNCTIONS.items():
            function = getattr(node, attribute, None)
            if callable(function):
                self._add_python(node, _unwrapped(function), operation, alone=attribute != "per_batch_map")

    def _add_source(self, node: Any) -> None:
        name = _name(node)
        if name == "ShuffleDataset":
            self.seeded.append("shuffle")
        if node.children:
            return
        source = getattr(node, "source", None)
        if not isinstance(source, (list, tuple, dict, type(None))) and _is_of_users(source):
            self._add_python(node, source, name, alone=node.num_parallel_workers in (None, 1))
        sampler = getattr(node, "sampler", None)
        while sampler is not None:
            own = sampler.sampler if type(sampler) is samplers.IterSampler else sampler
            if _is_of_users(own):
                self._add_python(node, own, name, alone=True)
            sampler = getattr(sampler, "child_sampler", None)
        if not hasattr(node, "sampler"):  # files read in sequence, their rows shuffled on the way
            if getattr(node, "shuffle_flag", 0) in (_GLOBAL_SHUFFLE, _ADAPTIVE_SHUFFLE):
                self.drawn.append(f"shuffle of {name}")
            elif node.is_shuffled():
                self.seeded.append(f"shuffle of {name}")
        elif _is_shuffled(node) and (source is None or hasattr(source, "__getitem__")):
            self.seeded.append(f"shuffle of {name}")

    def _add_map(self, node: Any) -> None:
        operations = list(_flat(getattr(node, "operations", None) or []))
        # Next to a Python operation, MindSpore's own may run in Python too, and draw Python's and NumPy's numbers.
        in_python = any(
            _is_of_users(each) or getattr(getattr(each, "implementation", None), "name", "") == "PY"
            for each in operations
        )
        for each in operations:
            if _is_of_users(each) or (in_python and _is_random(each)):
                self._add_python(node, each, "map")
            elif _is_random(each):
                self.drawn.append(f"{_name(each)} in map")

    def _add_python(self, node: Any, function: Any, operation: str, *, alone: bool = False) -> None:
        if getattr(function, "random", None) is False and not _is_random(function):
            return
        name = operation if operation == _name(function) else f"{_name(function)} in {operation}"
        if name in self.python:
            return
        self.python.append(name)
        if not alone and getattr(node, "python_multiprocessing", False):
            self.in_processes.append(name)
        else:
            workers = 1 if alone else node.num_parallel_workers or ds.config.get_num_parallel_workers()
            self._threads[id(node), alone] = workers  # one map runs all its functions in the same threads

    @property
    def threads(self) -> int:
        """Return how many threads of this process run the operations of `python`, and share its random numbers."""
        return sum(self._threads.values())


def is_seeded() -> bool:
    """Return whether MindSpore's datasets use a seed that was set."""
    return bool(ds.config.get_seed() != _DEFAULT_SEED)


def _flat(operations: Any) -> Any:
    for each in operations if isinstance(operations, (list, tuple)) else [operations]:
        if _name(each) == "Compose" and hasattr(each, "transforms"):
            yield from _flat(each.transforms)
        elif _name(each) == "FuncWrapper":  # around a user's function
            yield each.transform
        else:
            yield each


def _is_random(operation: Any) -> bool:
    """Return whether a transform is one of MindSpore's random ones; in every version, only their names show it."""
    name = _name(operation)
    return not _is_of_users(operation) and (name.startswith(_RANDOM_NAMES) or name in _RANDOM_TRANSFORMS)


def _is_shuffled(node: Any) -> bool:
    is_shuffled = getattr(node.sampler, "is_shuffled", None)
    return bool(is_shuffled()) if callable(is_shuffled) else node.sampler is None and bool(node.is_shuffled())


def _is_of_users(value: Any) -> bool:
    """Return whether an object runs Python code unknown to MindSpore: any that is not of MindSpore's own classes."""
    return type(value).__module__.split(".")[0] != "mindspore" or type(value).__name__ == "_GeneratorWrapper"


def _unwrapped(function: Any) -> Any:
    """Return the function that MindSpore has wrapped in a lambda, as it does for `filter`."""
    cells: tuple[Any, ...] = getattr(function, "__closure__", None) or ()
    if str(getattr(function, "__module__", "")).startswith("mindspore.") and len(cells) == 1:
        return cells[0].cell_contents
    return function


def _name(value: Any) -> str:
    if isinstance(value, functools.partial):
        return _name(value.func)
    name: str = getattr(value, "__name__", None) or type(value).__name__
    return name
