"""Compute the statistics of BatchNorm layers for given weights, from one pass over the training dataset.

PyTorch's `update_bn` does the same: each BatchNorm layer normalises by the statistics of the batch. Its new statistics
are the averages of the batches' means and unbiased variances. All other layers, such as Dropout, are in evaluation
mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ..core import distributed
from ..core.forward_hooks import first_tensor, kept, observe, statistics_of
from ..core.mindspore_compat import init_step_of
from ..core.parameters import Arrays
from ..core.run import Run
from ..core.tensors import as_array

__all__ = ["batch_statistics", "has_statistics"]


def has_statistics(run: Run) -> bool:
    """Return whether the network has layers that normalise by running statistics."""
    return bool(_layers(run))


def batch_statistics(owner: str, run: Run) -> Arrays:
    """Return the statistics by parameter name, without changing the network."""
    layers = _layers(run)
    sums: dict[str, list[np.ndarray[Any, Any]]] = {}
    counts: dict[str, int] = dict.fromkeys(layers, 0)

    def see(name: str, layer: nn.Cell, inputs: tuple[Any, ...], output: Any) -> None:
        given = first_tensor(inputs)
        assert given is not None
        values = as_array(given).astype(np.float64)
        size = int(statistics_of(layer)[0].size)
        axis = 1 if values.shape[1] == size and getattr(layer, "format", "NCHW") != "NHWC" else values.ndim - 1
        others = tuple(place for place in range(values.ndim) if place != axis)
        count = values.size // size
        moments = [values.mean(others), values.var(others) * (count / max(count - 1, 1))]
        known = sums.get(name)
        sums[name] = moments if known is None else [one + more for one, more in zip(known, moments)]
        counts[name] += 1

    with kept(), _from_the_first_batch(run.parts.train_dataset):  # `kept` restores the random state after the pass
        for batch in run.parts.train_dataset.create_tuple_iterator(num_epochs=1, output_numpy=True):
            inputs = run.parts.inputs(owner, tuple(map(Tensor, batch)))
            observe(run.network, tuple(inputs), layers, see, batch_statistics=True)
    found: Arrays = {}
    names = {id(one): name for name, one in run.weights.items()}
    for name, layer in layers.items():
        if name in sums:
            for statistic, total in zip(statistics_of(layer), sums[name]):
                mean = (total / counts[name]).astype(np.float32)
                found[names[id(statistic)]] = distributed.gathered(mean).mean(0) if distributed.count() > 1 else mean
    return found


@contextlib.contextmanager
def _from_the_first_batch(dataset: Any) -> Iterator[None]:
    """Start a dataset at its first batch; in a resumed run, it starts where the run was interrupted."""
    step = init_step_of(dataset)
    if step:
        dataset.set_init_step(0)
    try:
        yield
    finally:
        if step:
            dataset.set_init_step(step)


def _layers(run: Run) -> dict[str, nn.Cell]:
    return {name: cell for name, cell in run.network.cells_and_names() if statistics_of(cell)}
