"""Look inside a network while one batch runs through it, and leave no trace.

In GRAPH mode MindSpore compiles forward hooks (2.8 to 2.10, where 2.8 and 2.9 recompile the next step) or ignores them
(2.0). What works everywhere is to run the batch in PYNATIVE mode with evaluation flags and a wrapper around each cell's
`construct`, and then to restore what the cells held before: attributes, flags, parameters and statistics, all of which
a network may write in its forward pass. Weights, random state and later losses are then what they would have been
otherwise.
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
    "settle_numpy",
    "statistics_of",
    "tensors_in",
    "untouched",
]

# The attribute names of running statistics in normalisation layers of MindSpore and of its `mint`.
_STATISTICS = ("moving_mean", "moving_variance", "running_mean", "running_var")

Seer = Callable[[str, nn.Cell, tuple[Any, ...], Any], None]


def layers_of(network: nn.Cell) -> dict[str, nn.Cell]:
    """Return the layers by name: cells without inner cells, or with parameters of their own."""
    cells = network.cells_and_names()
    return {
        name or type(network).__name__: cell for name, cell in cells if not cell.name_cells() or own_parameters(cell)
    }


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Return the tensors among a layer's inputs or outputs, in order, including those in lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list, Mapping)):
        for part in values.values() if isinstance(values, Mapping) else values:
            yield from tensors_in(part)


def first_tensor(values: Any) -> Optional[Tensor]:
    """Return the first of the tensors; `None` if there is none."""
    return next(tensors_in(values), None)


def statistics_of(cell: nn.Cell) -> list[Tensor]:
    """Return the running statistics that a cell normalises by, such as BatchNorm's; empty for all other cells."""
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
    """Run one batch and call `see(name, cell, inputs, output)` after each call of each of `layers`.

    Args:
        network: the network; restored afterwards.
        inputs: its positional inputs.
        layers: the cells to watch, by name.
        see: called with a layer's inputs, positional and then keyword, and the output of its `construct`.
        named: the network's keyword inputs.
        training: as in `untouched`.
        batch_statistics: as in `untouched`.

    Operators that a network calls as functions have no cell and are not seen; a cell called twice is seen twice.
    """
    with untouched(network, inputs, named, training=training, batch_statistics=batch_statistics):
        for name, layer in layers.items():
            vars(layer)["construct"] = _seen(name, layer, see)  # removed by `untouched`
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
    """Run the block in PYNATIVE mode with evaluation flags, then restore everything, as `kept` does.

    Args:
        network: the network that runs.
        others: what else to restore: other cells that run, such as a loss, and tensors, such as the batch.
        training: leave the flags unchanged, so that layers behave as in a training step.
        batch_statistics: have BatchNorm normalise by the batch as in a training step; all else is in evaluation mode.
    """
    jit = os.environ.get("MS_JIT")
    mode = ms.get_context("mode")
    os.environ["MS_JIT"] = "0"  # runs `@ms.jit` methods as plain Python
    try:
        ms.set_context(mode=ms.PYNATIVE_MODE)
        settle_numpy()
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
def kept(*held: Any, compiled: bool = False) -> Iterator[None]:
    """Restore all that cells hold, tensors and all random state after a block in which they run, whatever it writes.

    That is everything that a network may change in its forward pass: parameters, statistics and buffers, its own
    attributes (counters, flags, tensors), including lists and dictionaries, and the random states of MindSpore, NumPy
    and Python. A batch is a tensor that a network may write to, for example by `x += 1`. Only what has changed is
    written back, into the existing memory. Anything outside, such as what the user's own hooks collect, is not tracked.

    Args:
        held: cells that run, and tensors.
        compiled: whether to keep what MindSpore itself stores in cells, such as compiled graphs. Use it for a block
            that trains, so that the next step is not compiled again. Default: False.
    """
    inner = [each for cell in held if isinstance(cell, nn.Cell) for _, each in cell.cells_and_names()]
    attributes = [vars(cell) for cell in inner]
    containers = [*attributes, *(value for one in attributes for value in one.values() if _is_container(value))]
    tensors = {id(tensor): tensor for one in (*containers, list(tensors_in(held))) for tensor in _written(one)}
    if compiled:
        containers = [own for one in attributes for own in (_OwnAttributes(one), *_own_containers(one))]
    contents = [container.copy() for container in containers]
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


class _OwnAttributes:
    """The attributes of a cell that are not MindSpore's own, that is, those that an empty cell does not have."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self._attributes = attributes

    def copy(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return {name: self._attributes[name] for name in self._attributes if name not in _of_mindspore()}

    def put_back(self, content: dict[str, Any]) -> None:
        """Restore the attributes.

        Some added attributes stay, because MindSpore may need them: the private ones, and in GRAPH mode all.
        """
        if ms.get_context("mode") == ms.PYNATIVE_MODE:
            for name in [each for each in self.copy() if each not in content and not each.startswith("_")]:
                del self._attributes[name]
        self._attributes.update(content)


@functools.cache
def _of_mindspore() -> frozenset[str]:
    return frozenset(vars(nn.Cell()))


def _own_containers(attributes: dict[str, Any]) -> list[Any]:
    return [value for name, value in attributes.items() if name not in _of_mindspore() and _is_container(value)]


def _put_back(container: Any, content: Any) -> None:
    if isinstance(container, _OwnAttributes):
        container.put_back(content)
        return
    if isinstance(container, list):
        container[:] = content
        return
    for added in [each for each in container if each not in content]:
        container.pop(added) if isinstance(container, dict) else container.remove(added)
    container.update(content)


def _written(container: Any) -> Iterator[Tensor]:
    """Return the tensors of a container that a pass could write to and that can be read."""
    for value in container.values() if isinstance(container, dict) else container:
        # A parameter without memory yet is not read, and a CPU cannot write bfloat16.
        if isinstance(value, Tensor) and not value.has_init and -1 not in value.shape and not _is_fixed(value):
            yield value


def _is_fixed(tensor: Tensor) -> bool:
    return str(tensor.dtype) == "BFloat16" and ms.get_context("device_target") == "CPU"


def _random_state() -> Callable[[], None]:
    """Return a function that restores the current state of all random number generators."""
    give_back_mindspores = random_state()
    of_python, of_numpy = random.getstate(), np.random.get_state()

    def give_back() -> None:
        give_back_mindspores()
        random.setstate(of_python)
        np.random.set_state(of_numpy)

    return give_back


@functools.cache
def settle_numpy() -> None:
    """Trigger, in advance, a failure that would otherwise hit the user's network.

    MindSpore 2.10 was built against NumPy 1: with NumPy 2, the first operator of a process that takes a number or a
    tuple in PYNATIVE mode raises SystemError with a page of text, and later ones do not. Remove when MindSpore is
    fixed. With several processes this is skipped: a process in which it failed does not exit cleanly, and msrun reports
    a failed job.
    """
    if distributed.count() > 1:
        return
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemError):
        ops.reshape(Tensor(0.0), (1,))
