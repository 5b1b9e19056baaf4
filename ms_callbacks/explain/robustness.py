"""Tells how well a network stands up to small changes of its inputs that are made to mislead it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..core import _ranks
from ..core._callback import TrainCallback
from ..core._checks import check_choice, check_dataset, check_int, check_number, quoted
from ..core._context import Run
from ..core._layers import untouched
from ._classes import class_scores

__all__ = ["Robustness"]


class Robustness(TrainCallback):
    """Measures accuracy under FGSM, the fast gradient sign method, when training ends: x + epsilon * sign(dloss/dx).

    Each sample is moved by epsilon in every element of its input, to where the Model's loss grows fastest, and is
    classified again. Epsilons are in the units of the network's inputs: where MNIST is normalised with a deviation of
    0.3081, one unit of brightness (black to white is 1) is 1 / 0.3081 = 3.25 units of the input, so that epsilon 0.1
    is 3 % of the way from black to white. Moved inputs are not clipped: what the valid range is, the network does not
    tell.

    The network is the one that the run ends with, the best weights where `EarlyStopping` restores them. It runs in
    PYNATIVE mode with evaluation flags; mode, flags, weights, statistics and whatever else the network writes in its
    forward pass are afterwards as they were, but hooks of your own run. A sample with NaN among its logits counts as
    wrong.

    Args:
        dataset: two columns, the network's input (floats, batch first) and the label (whole numbers (n,), or one-hot
            (n, classes)), as `Model.eval` takes it.
        epsilons: how far to move the inputs; finite and at least 0. Default: (0.0, 0.05, 0.1, 0.2).
        max_batches: looks at so many batches only. Default: None, all.
        verbose: 0 prints nothing. Default: 1, a line for each epsilon.

    Attributes:
        accuracies_ (dict[float, float]): the accuracy in [0, 1] for each epsilon; empty before the first measurement.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ValueError: before the first step: the dataset is empty or has other than two columns, or the Model has no loss
            function; at the end: inputs that are not floats, or labels that are
            neither whole numbers nor one-hot.

    Example:
        >>> robustness = Robustness(valid_dataset, (0.0, 0.1))
        >>> model.train(1, train_dataset, callbacks=[robustness])
        Robustness: epsilon 0: accuracy ... (... of 48 samples)
        Robustness: epsilon 0.1: accuracy ... (... of 48 samples)

    Source: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", 2015, https://arxiv.org/abs/1412.6572
    """

    def __init__(
        self,
        dataset: Any,
        epsilons: Iterable[float] = (0.0, 0.05, 0.1, 0.2),
        *,
        max_batches: Optional[int] = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        owner = "Robustness"
        if isinstance(epsilons, (str, bytes)) or not isinstance(epsilons, Iterable):
            raise TypeError(f"{owner}: epsilons must be numbers, such as (0.0, 0.1), but got {epsilons!r}")
        self.dataset = check_dataset(owner, dataset)
        self.epsilons = tuple(check_number(owner, "epsilons", each, minimum=0.0) for each in epsilons)
        if not self.epsilons:
            raise ValueError(f"{owner}: epsilons must hold at least one number, but it is empty")
        self.max_batches = None if max_batches is None else check_int(owner, "max_batches", max_batches, 1)
        self.verbose = check_choice(owner, "verbose", verbose, (0, 1))
        self.accuracies_: dict[float, float] = {}

    def on_train_begin(self, run_context: Any) -> None:
        """Begins anew."""
        super().on_train_begin(run_context)
        self.accuracies_ = {}

    def check(self, run: Run) -> None:
        """Raises where there is nothing to measure, or nothing to measure it by."""
        super().check(run)
        if run.loss_fn is None:
            raise ValueError(
                "Robustness: needs a Model with a loss function, such as Model(network, loss_fn, optimizer); for a "
                "network with its loss inside, leave it out here and call robustness.evaluate(network, loss_fn)"
            )
        self._check_dataset()

    def after_run(self, run: Run) -> None:
        """Measures the network that the run ends with."""
        run.settle()
        self.evaluate(run.network, run.loss_fn)

    def evaluate(self, network: nn.Cell, loss_fn: Any) -> dict[float, float]:
        """Measures a network, in training or without.

        Args:
            network: a classifier with one input and an output of shape (n, classes).
            loss_fn: takes its output and the labels; a Cell or a function, with any reduction.

        Returns:
            The accuracy in [0, 1] for each epsilon.

        Example:
            >>> loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True)
            >>> accuracies = Robustness(valid_dataset, (0.0, 0.2), max_batches=1, verbose=0).evaluate(network, loss_fn)
            >>> list(accuracies)
            [0.0, 0.2]
        """
        self._check_dataset()
        right = dict.fromkeys(self.epsilons, 0)
        samples = 0
        input_gradient = ms.grad(lambda inputs, labels: ops.reduce_sum(loss_fn(network(inputs), labels)))
        with untouched(network, loss_fn):
            batches = self.dataset.create_tuple_iterator(num_epochs=1)
            for inputs, labels in itertools.islice(batches, self.max_batches):
                _check_inputs(inputs)
                signs = np.sign(input_gradient(inputs, labels).asnumpy())
                for epsilon in right:
                    moved = (inputs.asnumpy() + epsilon * signs).astype(signs.dtype)
                    right[epsilon] += _right(network, Tensor(moved), labels.asnumpy())
                samples += inputs.shape[0]
        *counts, samples = map(int, _ranks.total([*right.values(), samples]))
        right = dict(zip(right, counts))
        self.accuracies_ = {epsilon: count / samples for epsilon, count in right.items()}
        if self.verbose:
            for epsilon, count in right.items():
                self.say(f"epsilon {epsilon:g}: accuracy {count / samples:.4f} ({count} of {samples} samples)")
        return self.accuracies_

    def _check_dataset(self) -> None:
        if self.dataset.get_dataset_size() == 0:
            raise ValueError("Robustness: the dataset is empty; a batch_size above its length drops it all")
        columns = self.dataset.get_col_names()
        if len(columns) != 2:
            raise ValueError(
                f"Robustness: dataset must have two columns, inputs and labels, but has {len(columns)}: "
                f"{quoted(columns)}; pick two with dataset.project([...])"
            )


def _check_inputs(inputs: Tensor) -> None:
    if not inputs.is_floating_point():
        raise ValueError(
            f"Robustness: the dataset's first column must hold floats, for a gradient to exist, but holds "
            f"{inputs.dtype}"
        )


def _right(network: nn.Cell, inputs: Tensor, labels: np.ndarray[Any, Any]) -> int:
    logits = class_scores("Robustness", network(inputs)).asnumpy()
    if labels.shape == logits.shape:
        expected = labels.argmax(axis=1)
    elif labels.shape == logits.shape[:1] and labels.dtype.kind in "iu":
        expected = labels
    else:
        raise ValueError(
            f"Robustness: the dataset's second column must hold labels, whole numbers of shape {logits.shape[:1]} or "
            f"one-hot of shape {logits.shape}, but holds {labels.dtype} of shape {labels.shape}"
        )
    # Of logits that are NaN, argmax makes a plausible class.
    return int(((logits.argmax(axis=1) == expected) & ~np.isnan(logits).any(axis=1)).sum())
