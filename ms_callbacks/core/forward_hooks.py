"""Looks inside a network while one batch runs through it, and leaves no trace.

In GRAPH mode MindSpore compiles forward hooks (2.8 to 2.10, where 2.8 and 2.9 compile the next step again) or ignores
them (2.0). What works everywhere is to run the batch in PYNATIVE mode with evaluation flags and a function in front of
each cell's `construct`, and to give back what the cells held before: attributes, flags, parameters and statistics, all
of which a network may write in its forward pass. Weights, random state and later losses are then what they would have
been.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Callable, Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from . import distributed
from .mindspore_compat import own_parameters, own_tensors, random_state
from .parameters import Snapshot

__all__ = [
    "first_tensor",
    "kept",
    "layers_of",
    "observe",
    "statistics_of",
    "tensors_in",
    "untouched",
]

# What a normalisation by running statistics calls them, MindSpore's and those of its `mint`.
_STATISTICS = ("moving_mean", "moving_variance", "running_mean", "running_var")

Seer = Callable[[str, nn.Cell, tuple[Any, ...], Any], None]


def layers_of(network: nn.Cell) -> dict[str, nn.Cell]:
    """The layers by name: cells without cells of their own, or with parameters of their own."""
    cells = network.cells_and_names()
    return {
        name or type(network).__name__: cell for name, cell in cells if not cell.name_cells() or own_parameters(cell)
    }


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors that a layer takes or gives, in order: one, or those of tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list, Mapping)):
        for part in values.values() if isinstance(values, Mapping) else values:
            yield from tensors_in(part)


def first_tensor(values: Any) -> Optional[Tensor]:
    """The first of the tensors; `None` where there is none."""
    return next(tensors_in(values), None)


def statistics_of(cell: nn.Cell) -> list[Tensor]:
    """The running statistics that a cell normalises by, such as BatchNorm's; none for all others."""
    held = own_tensors(cell)
    return [held[name] for name in _STATISTICS if held.get(name) is not None]


def observe(
    network: nn.Cell,
    inputs: tuple[Any, ...],
    layers: dict[str, nn.Cell],
    see: Seer,
    *,
    named: Optional[dict[str, Any]] = None,
    training: bool = False,
    batch_statistics: bool = False,
) -> None:
    """Runs one batch and calls `see(name, cell, inputs, output)` for each of `layers`, as each call of it ends.

    Args:
        network: the network; afterwards as it was.
        inputs: what it takes by position.
        layers: the cells to see, by name.
        see: called with what a layer took, by position and then by keyword, and what its `construct` gave.
        named: what the network takes by keyword.
        training: as in `untouched`.
        batch_statistics: as in `untouched`.

    Operators that a network calls as functions have no cell and are not seen; a cell called twice is seen twice.
    """
    with untouched(network, inputs, named, training=training, batch_statistics=batch_statistics):
        for name, layer in layers.items():
            vars(layer)["construct"] = _seen(name, layer, see)  # `untouched` takes it away
        network(*inputs, **(named or {}))


def _seen(name: str, layer: nn.Cell, see: Seer) -> Callable[..., Any]:
    construct = layer.construct

    @functools.wraps(construct)
    def construct_and_see(*inputs: Any, **named: Any) -> Any:
        output = construct(*inputs, **named)
        see(name, layer, (*inputs, *named.values()), output)
        return output

    return construct_and_see


@contextlib.contextmanager
def untouched(network: nn.Cell, *others: Any, training: bool = False, batch_statistics: bool = False) -> Iterator[None]:
    """PYNATIVE mode and evaluation flags for the block; afterwards all as it was, as `kept` keeps it.

    Args:
        network: the network that runs.
        others: what else is to be kept: cells that run too, such as a loss, and tensors, such as the batch.
        training: leaves the flags alone, so that layers do what they do in a step.
        batch_statistics: has BatchNorm normalise by the batch as in a step, and all else stay in evaluation mode.
    """
    jit = os.environ.get("MS_JIT")
    mode = ms.get_context("mode")
    os.environ["MS_JIT"] = "0"  # runs `@ms.jit` methods as plain Python
    try:
        ms.set_context(mode=ms.PYNATIVE_MODE)
        _settle_numpy()
        with kept(network, *others):
            in_step = [
                cell
                for _, cell in network.cells_and_names()
                # After an evaluation all flags are off, and MindSpore sets them all before the next step.
                if batch_statistics and statistics_of(cell) and (cell.training or not network.training)
            ]
            for _, cell in network.cells_and_names():
                # MindSpore 2.0 refuses to run cells marked by `recompute()` in PYNATIVE mode.
                cell.get_flags().pop("output_no_recompute", None)
            if not training:
                network.set_train(False)
            for cell in in_step:
                cell.add_flags(training=True)
            network.set_grad(False)
            yield
    finally:
        if jit is None:
            del os.environ["MS_JIT"]
        else:
            os.environ["MS_JIT"] = jit
        ms.set_context(mode=mode)


@contextlib.contextmanager
def kept(*held: Any) -> Iterator[None]:
    """Keeps all that cells hold, tensors and all random state over a block in which they run, whatever it writes.

    That is what a network may change in its forward pass: parameters, statistics and buffers, its own attributes
    (counters, flags, tensors), lists and dictionaries among them, and the states of MindSpore's, NumPy's and Python's
    random numbers. A batch is a tensor that a network may write, as by `x += 1`. Only what has changed is written back,
    into the memory that is there. What lies outside, as what a user's own hooks collect, is not seen.
    """
    inner = [each for cell in held if isinstance(cell, nn.Cell) for _, each in cell.cells_and_names()]
    attributes = [vars(cell) for cell in inner]
    containers = [*attributes, *(value for one in attributes for value in one.values() if _is_container(value))]
    contents = [container.copy() for container in containers]
    tensors = {id(tensor): tensor for one in (*containers, list(tensors_in(held))) for tensor in _written(one)}
    before = Snapshot({str(key): tensor for key, tensor in tensors.items()})
    before.take()
    give_back_random_state = _random_state()
    try:
        yield
    finally:
        for container, content in zip(containers, contents):
            _put_back(container, content)
        Snapshot(before.changed(), before.arrays).restore(together=False)
        give_back_random_state()


def _is_container(value: Any) -> bool:
    return type(value) in (dict, OrderedDict, list, set)


def _put_back(container: Any, content: Any) -> None:
    if isinstance(container, list):
        container[:] = content
        return
    for added in [each for each in container if each not in content]:
        container.pop(added) if isinstance(container, dict) else container.remove(added)
    container.update(content)


def _written(container: Any) -> Iterator[Tensor]:
    """The tensors of a container that a pass could write, and that can be read."""
    for value in container.values() if isinstance(container, dict) else container:
        # A parameter without memory yet is not read, and of bfloat16 a CPU writes none.
        if isinstance(value, Tensor) and not value.has_init and -1 not in value.shape and not _is_fixed(value):
            yield value


def _is_fixed(tensor: Tensor) -> bool:
    return str(tensor.dtype) == "BFloat16" and ms.get_context("device_target") == "CPU"


def _random_state() -> Callable[[], None]:
    """What gives back the states of all random numbers, as they are now."""
    give_back_mindspores = random_state()
    of_python, of_numpy = random.getstate(), np.random.get_state()

    def give_back() -> None:
        give_back_mindspores()
        random.setstate(of_python)
        np.random.set_state(of_numpy)

    return give_back


@functools.cache
def _settle_numpy() -> None:
    """Gets a failure over with that would otherwise hit the user's network.

    MindSpore 2.10 was built against NumPy 1: with NumPy 2, the first operator of a process that takes a number or a
    tuple in PYNATIVE mode raises SystemError with a page of text, and none after it. Goes when MindSpore is mended.
    Of several processes, one that has had the failure is not let go of when it ends, and msrun reports a failed job.
    """
    if distributed.count() > 1:
        return
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemError):
        ops.reshape(Tensor(0.0), (1,))
