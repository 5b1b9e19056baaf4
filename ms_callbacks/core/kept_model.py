"""Train a Model as a trial, and then restore its previous state, bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import mindspore as ms
from mindspore import nn
from mindspore.train import Model

from .forward_hooks import kept
from .mindspore_compat import (
    flags_kept,
    is_uninitialised,
    iterators_stopped,
    model_kept,
    random_draws,
    recording_cells,
    set_recording_cells,
    stop_recording,
)
from .model_parts import dropouts_of, optimizers_of, rounds_differently_at_first
from .parameters import check_parameters

__all__ = ["check_can_be_kept", "kept_model"]


_DRAWS = "MindSpore cannot restore the random numbers that the network draws next"


def check_can_be_kept(owner: str, model: Model) -> None:
    """Raise if training would change something that cannot be restored."""
    for cell in _cells(model):
        parameters = {one.name: one for one in cell.get_parameters()}
        check_parameters(owner, parameters)
        for name, one in parameters.items():
            if is_uninitialised(one):
                raise ValueError(
                    f"{owner}: the parameter {name!r} has no values yet, so it could not be restored; load a "
                    f"checkpoint into the network first, or call init_parameters_data() of model.train_network"
                )


def _inexact_in(model: Model) -> list[str]:
    """Return the parts of a Model that cannot be restored bit for bit, one line for each."""
    notes = [f"{name}: {_DRAWS}" for name in dropouts_of(model.train_network)]
    if any(map(rounds_differently_at_first, optimizers_of(model.train_network))):
        notes.append("RMSProp: MindSpore's kernel rounds differently in its first steps of a process")
    return notes


@contextlib.contextmanager
def kept_model(model: Model) -> Iterator[list[str]]:
    """Restore a Model after a block in which it trains, however the block ends.

    This restores what the training cell and its optimizers hold (weights, statistics, moments, steps, learning rates,
    loss scale, attributes), the `training` flag of each cell, the Model's own counters, and the random states of
    MindSpore, NumPy and Python. Dataset iterators that the block has created are stopped first, because their threads
    draw random numbers too. Compiled graphs are kept, so that the next run is not compiled again.

    Yields:
        What cannot be restored bit for bit, one line for each; complete at the end of the block. Random operators that
        a network calls as functions are found only if GRAPH mode compiles them in the block.
    """
    notes = _inexact_in(model)
    drawn = random_draws()
    network = model.train_network
    recording = recording_cells(network)
    with kept(*_cells(model), compiled=True), model_kept(model), flags_kept(network), iterators_stopped():
        try:
            yield notes
            if ms.get_context("mode") == ms.GRAPH_MODE:
                new = {str(key[0]) for key, state in random_draws().items() if drawn.get(key) != state}
                known = [note.partition(":")[0].lower() for note in notes]
                notes.extend(f"{name}: {_DRAWS}" for name in sorted(new) if name.lower() not in known)
        finally:
            stop_recording()
            set_recording_cells(network, recording)


def _cells(model: Model) -> list[nn.Cell]:
    """Return the training cell, and optimizers that it holds in a Python list, where MindSpore cannot find them."""
    network = model.train_network
    listed = {id(each) for _, each in network.cells_and_names()}
    return [network, *(one for one in optimizers_of(network) if id(one) not in listed)]
