"""Looks inside a network while one batch runs through it, and leaves no trace.

In GRAPH mode MindSpore compiles forward hooks (2.8 to 2.10) or ignores them (2.0). What works everywhere is to run the
batch in PYNATIVE mode with evaluation flags, and to put mode, flags and hooks back after: weights, statistics, random
state and later losses are then what they would have been.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
from collections.abc import Iterator
from typing import Any, Callable, Optional

import mindspore as ms
from mindspore import Tensor, nn, ops

from . import _ranks

__all__ = ["first_tensor", "layers_of", "observe", "untouched"]

# By operator and seed, how often MindSpore has drawn; the package's `seed` attribute is a function, hence the import.
_KERNEL_SEEDS: dict[Any, Any] = importlib.import_module("mindspore.common.seed")._KERNEL_SEED

Seer = Callable[[str, nn.Cell, tuple[Any, ...], Any], None]


def layers_of(network: nn.Cell, depth: Optional[int] = None) -> dict[str, nn.Cell]:
    """The layers by name: cells without cells of their own or with parameters of their own, or those at `depth`."""
    layers = {}
    for name, cell in network.cells_and_names():
        level = name.count(".") + 1 if name else 0
        if depth == level or ((not cell.name_cells() or cell._params) and (depth is None or level < depth)):
            layers[name or type(network).__name__] = cell
    return layers


def first_tensor(values: Any) -> Optional[Tensor]:
    """The tensor that a layer takes or gives, or the first of several; `None` where there is none."""
    if isinstance(values, Tensor):
        return values
    parts = values.values() if isinstance(values, dict) else values if isinstance(values, (tuple, list)) else ()
    return next((found for found in map(first_tensor, parts) if found is not None), None)


def observe(
    network: nn.Cell, inputs: tuple[Any, ...], layers: dict[str, nn.Cell], see: Seer, *, training: bool = False
) -> None:
    """Runs one batch and calls `see(name, cell, inputs, output)` for each of `layers`, as each call of it ends.

    Operators that a network calls as functions have no cell and are not seen; a cell called twice is seen twice.
    """
    handles: list[Any] = []
    with untouched(network, training=training):
        try:
            for name, layer in layers.items():
                handles.append(layer.register_forward_hook(_hook(name, layer, see)))
            network(*inputs)
        finally:
            for handle in handles:
                handle.remove()


def _hook(name: str, layer: nn.Cell, see: Seer) -> Callable[..., None]:
    def hook(cell: Any, inputs: Any, output: Any) -> None:
        # MindSpore 2.0 passes a string for the cell, and an only input without its tuple.
        see(name, layer, inputs if isinstance(inputs, tuple) else (inputs,), output)

    return hook


@contextlib.contextmanager
def untouched(network: nn.Cell, *, training: bool = False) -> Iterator[None]:
    """PYNATIVE mode and evaluation flags for the block; afterwards all as it was.

    With `training` the flags stay, so that layers do what they do in a step; statistics then move, and the caller
    gives them back.
    """
    mode = ms.get_context("mode")
    phase, requires_grad = network._phase, network.requires_grad
    flags = [(cell, cell.training) for _, cell in network.cells_and_names()]
    seeds = dict(_KERNEL_SEEDS)
    jit = os.environ.get("MS_JIT")
    os.environ["MS_JIT"] = "0"  # runs `@ms.jit` methods as plain Python, hooks and all
    try:
        ms.set_context(mode=ms.PYNATIVE_MODE)
        _settle_numpy()
        if not training:
            network.set_train(False)
        network.set_grad(False)
        yield
    finally:
        for cell, training in flags:
            cell.add_flags(training=training)
        network._phase, network.requires_grad = phase, requires_grad
        if jit is None:
            del os.environ["MS_JIT"]
        else:
            os.environ["MS_JIT"] = jit
        ms.set_context(mode=mode)
        # What a network draws by functions moves these on, and with them all that it draws later.
        _KERNEL_SEEDS.clear()
        _KERNEL_SEEDS.update(seeds)


@functools.cache
def _settle_numpy() -> None:
    """Gets a failure over with that would otherwise hit the user's network.

    MindSpore 2.10 was built against NumPy 1: with NumPy 2, the first operator of a process that takes a number or a
    tuple in PYNATIVE mode raises SystemError with a page of text, and none after it. Goes when MindSpore is mended.
    Of several processes, one that has had the failure is not let go of when it ends, and msrun reports a failed job.
    """
    if _ranks.count() > 1:
        return
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemError):
        ops.reshape(Tensor(0.0), (1,))
