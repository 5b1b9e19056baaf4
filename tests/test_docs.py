"""The examples in docstrings and READMEs run and print what they say."""

from __future__ import annotations

import doctest
import inspect

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from training import dataset

import ms_callbacks
from ms_callbacks import cpu

DOCUMENTED = [*(getattr(ms_callbacks, name) for name in ms_callbacks.__all__), cpu.fast_cpu]


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda each: each.__name__)
def test_docstring_examples_run(documented, tmp_path):
    """With a small model, four steps an epoch, at hand under the names that the examples use."""
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3))
    optimizer = nn.Momentum(network.trainable_params(), 0.01, 0.9)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    small = nn.SequentialCell(nn.Dense(4, 5), nn.Dense(5, 3))
    names = {
        **{name: getattr(ms_callbacks, name) for name in ms_callbacks.__all__},
        "fast_cpu": cpu.fast_cpu,
        "ms": ms,
        "nn": nn,
        "np": np,
        "Tensor": Tensor,
        "network": small if documented is ms_callbacks.ShapeInspector else network,
        "optimizer": optimizer,
        "model": ms.Model(network, loss_fn, optimizer, metrics={"acc"}),
        "train_dataset": dataset(),
        "valid_dataset": dataset(seed=1),
        "folder": str(tmp_path),
    }
    examples = 0
    for test in doctest.DocTestFinder().find(documented, documented.__name__, globs=names):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        output = []
        result = runner.run(test, out=output.append, clear_globs=False)
        examples += result.attempted
        assert result.failed == 0, "".join(output)
    assert examples, inspect.getdoc(documented)
