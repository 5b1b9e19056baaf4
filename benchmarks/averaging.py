"""The cost of averaging the weights in a step, compared with plain NumPy on the same parameters."""

from __future__ import annotations

import argparse

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor

from benchmarks._measure import Row, in_turns, ratios, run
from ms_callbacks.checkpointing._averages import Averages
from ms_callbacks.cpu import fast_cpu

# The parameters of a small convolutional network for MNIST: 3.2 million, most of them in one layer.
_SHAPES = ((32, 1, 3, 3), (64, 32, 3, 3), (1024, 3136), (1024,), (10, 1024), (10,))


def measure(args: argparse.Namespace) -> list[Row]:
    """Measure one update of an existing average, in memory that is already allocated."""
    ms.set_context(mode=ms.GRAPH_MODE)
    fast_cpu()
    random = np.random.RandomState(0)
    arrays = [random.randn(*shape).astype(np.float32) for shape in _SHAPES]
    parameters = {str(place): Parameter(Tensor(array), name=str(place)) for place, array in enumerate(arrays)}
    average = Averages()
    average.add(parameters, 1.0)
    plain = [array.copy() for array in arrays]

    def in_numpy() -> None:
        for one, parameter in zip(plain, parameters.values()):
            one *= np.float32(0.999)
            one += parameter.asnumpy() * np.float32(0.001)

    def one_addition() -> None:
        for one, parameter in zip(plain, parameters.values()):
            one += parameter.asnumpy()

    def ours() -> None:
        average.add(parameters, 0.001)

    times = in_turns(args.rounds * 5, {"ours": ours, "in NumPy": in_numpy, "one addition": one_addition})
    return [
        Row("an average of 3.2 million parameters", [1000 * each for each in times["ours"]], unit="ms"),
        Row("the same / in place in NumPy", ratios(times["ours"], times["in NumPy"]), at_most=1.3),
        Row("the same / one addition in NumPy", ratios(times["ours"], times["one addition"])),
    ]


if __name__ == "__main__":
    run(measure)
