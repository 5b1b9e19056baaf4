"""Tells how well a network stands up to small changes of its inputs that are made to mislead it."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Iterable, Iterator
from typing import Any, Callable, Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..core import distributed
from ..core.arguments import check_choice, check_dataset, check_int, check_number, quoted
from ..core.callback import TrainCallback
from ..core.classification import Array, ClassReader, loss_kind
from ..core.console import counted
from ..core.forward_hooks import untouched
from ..core.network_output import Place
from ..core.placement import Needs
from ..core.run import Run
from ..core.tensors import as_array

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
    forward pass are afterwards as they were, but hooks of your own run. Before the first step, one batch runs through
    it and back, so that what cannot be measured is refused there.

    The accuracy is the share of samples that are right; one with NaN among its outputs is wrong. What is right depends
    on the task, which the loss function and the first batch tell, or are told by `task`:

    - multi-class: several outputs, of which the highest wins; labels are whole numbers (n,), or of shape (n, classes),
      one-hot or shares that sum to 1;
    - binary: one output, (n, 1) or (n,), that means 1 above `threshold`; labels are 0 and 1, of either shape;
    - multi-label: several outputs, each of which means 1 above `threshold`; labels are 0 and 1, of shape (n, classes),
      and the accuracy is the share of labels that are right, as Keras's `BinaryAccuracy` has it; the share of samples
      with all labels right, as MindSpore's `Accuracy('multilabel')` has it, is lower.

    Regression and segmentation are refused. A sample whose gradient is exactly 0, as behind a loss that is saturated,
    is not moved, and a line says how many there are. Where that is every sample, nothing was measured, and the
    accuracies for epsilons above 0 are NaN.

    Args:
        dataset: two columns, the network's input (floats, batch first) and the label, as `Model.eval` takes it. It
            cannot be pickled, and so the callback cannot: a process that trains makes its own.
        epsilons: how far to move the inputs; finite and at least 0. Default: (0.0, 0.05, 0.1, 0.2).
        max_batches: looks at so many batches only. Default: None, all.
        output: which of several outputs holds the scores of the classes: an index, a key, or a function of all that the
            network gives. Default: None, the only one, the one called `"logits"`, or the only one that fits.
        task: `"binary"`, `"multiclass"` or `"multilabel"`. Default: None, as told by loss function and first batch.
        threshold: for binary and multi-label, what an output must exceed to mean 1. Default: None, 0 for
            `nn.BCEWithLogitsLoss` and 0.5 for `nn.BCELoss`; other loss functions need it.
        verbose: 0 prints nothing. Default: 1, a line for each epsilon.

    Attributes:
        accuracies_ (dict[float, float]): the accuracy in [0, 1] for each epsilon, NaN where no sample could be moved;
            empty before the first measurement.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ValueError: before the first step: the dataset is empty or has other than two columns, its inputs are not
            floats, the Model has no loss function, or the network and the labels are no classifier's, or their task or
            threshold cannot be told; at the end: labels of a later batch that do not fit.

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
        output: Place = None,
        task: Optional[str] = None,
        threshold: Optional[float] = None,
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
        self.output, self.task, self.threshold = output, task, threshold
        self._reader = ClassReader(owner, output, threshold, task)
        self.verbose = check_choice(owner, "verbose", verbose, (0, 1))
        self.accuracies_: dict[float, float] = {}

    def before_train(self, run: Run) -> None:
        """Resets the accuracies."""
        self.accuracies_ = {}

    def needs(self, run: Run) -> Needs:
        """What the network gives for a batch."""
        return super().needs(run) | Needs.OUTPUTS

    def check(self, run: Run) -> None:
        """Raises where there is nothing to measure, or nothing to measure it by."""
        super().check(run)
        if run.parts.loss_fn is None:
            raise ValueError(
                "Robustness: needs a Model with a loss function, such as Model(network, loss_fn, optimizer); for a "
                "network with its loss inside, leave it out here and call robustness.evaluate(network, loss_fn)"
            )
        self._check_dataset()
        with _first_batch(self.dataset) as (inputs, labels), untouched(run.network):
            self._reader.forget()
            self._moved(run.network, run.parts.loss_fn, inputs, labels)

    def after_train(self, run: Run) -> None:
        """Measures the network that the run ends with."""
        self.evaluate(run.network, run.parts.loss_fn)

    def evaluate(self, network: nn.Cell, loss_fn: Any) -> dict[float, float]:
        """Measures a network, in training or without.

        Args:
            network: a classifier with one input.
            loss_fn: takes its output and the labels; a Cell or a function, with any reduction.

        Returns:
            The accuracy in [0, 1] for each epsilon; NaN where no sample could be moved.

        Example:
            >>> loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True)
            >>> accuracies = Robustness(valid_dataset, (0.0, 0.2), max_batches=1, verbose=0).evaluate(network, loss_fn)
            >>> list(accuracies)
            [0.0, 0.2]
        """
        self._check_dataset()
        self._reader.forget()
        right = dict.fromkeys(self.epsilons, 0)
        samples = unmoved = total = 0
        with untouched(network, loss_fn):
            batches = self.dataset.create_tuple_iterator(num_epochs=1)
            for inputs, labels in itertools.islice(batches, self.max_batches):
                moved, still = self._moved(network, loss_fn, inputs, labels)
                for epsilon in right:
                    of_batch = self._right(network(moved(epsilon)), labels, loss_fn)
                    right[epsilon] += int(of_batch.sum())
                samples += inputs.shape[0]
                total += of_batch.size
                unmoved += still
        *counts, total, samples, unmoved = map(int, distributed.total([*right.values(), total, samples, unmoved]))
        right = dict(zip(right, counts))
        self.accuracies_ = {
            epsilon: math.nan if epsilon and unmoved == samples else count / total for epsilon, count in right.items()
        }
        if self.verbose:
            self._tell(right, total, samples, unmoved)
        return self.accuracies_

    def _moved(
        self, network: nn.Cell, loss_fn: Any, inputs: Tensor, labels: Tensor
    ) -> tuple[Callable[[float], Tensor], int]:
        """What moves the inputs by an epsilon, and how many samples it cannot move; raises where they do not fit."""
        _check_inputs(inputs)
        if self._reader.task is None:
            self._right(network(inputs), labels, loss_fn)
        gradient = ms.grad(lambda inputs: ops.reduce_sum(loss_fn(network(inputs), labels)))(inputs)
        plain, signs = as_array(inputs), np.sign(as_array(gradient))
        still = int((~signs.reshape(len(signs), -1).any(axis=1)).sum())
        return lambda epsilon: Tensor((plain + epsilon * signs).astype(signs.dtype)).astype(inputs.dtype), still

    def _right(self, output: Any, labels: Tensor, loss_fn: Any) -> Array:
        """Whether each sample, or each of its labels, is right."""
        task, scores, expected = self._reader.read(output, labels, loss_kind(loss_fn))
        return task.right(scores, expected)

    def _tell(self, right: dict[float, int], total: int, samples: int, unmoved: int) -> None:
        what = "sample" if total == samples else "label"
        for epsilon, count in right.items():
            if not epsilon or unmoved < samples:
                self.log(f"epsilon {epsilon:g}: accuracy {count / total:.4f} ({count} of {counted(total, what)})")
        if unmoved == samples:
            self.log(
                f"the gradient of the loss with respect to the inputs is exactly 0 for each of "
                f"{counted(samples, 'sample')}: none could be moved, and nothing is known of the network's robustness"
            )
        elif unmoved:
            self.log(
                f"the gradient is exactly 0 for {unmoved} of {counted(samples, 'sample')}: not moved, and counted as "
                f"without an attack"
            )

    def _check_dataset(self) -> None:
        if self.dataset.get_dataset_size() == 0:
            raise _empty()
        columns = self.dataset.get_col_names()
        if len(columns) != 2:
            raise ValueError(
                f"Robustness: dataset must have two columns, inputs and labels, but has {len(columns)}: "
                f"{quoted(columns)}; pick two with dataset.project([...])"
            )


@contextlib.contextmanager
def _first_batch(dataset: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """The first batch of a dataset; afterwards, the random numbers that its Python code may draw are as they were."""
    states = random.getstate(), np.random.get_state()
    batches = dataset.create_tuple_iterator(num_epochs=1)
    try:
        batch = next(batches, None)
        if batch is None:
            raise _empty()
        yield batch[0], batch[1]
    finally:
        batches.stop()
        random.setstate(states[0])
        np.random.set_state(states[1])


def _empty() -> ValueError:
    return ValueError("Robustness: the dataset is empty; a batch_size above its length drops it all")


def _check_inputs(inputs: Tensor) -> None:
    if not inputs.is_floating_point():
        raise ValueError(
            f"Robustness: the dataset's first column must hold floats, for a gradient to exist, but holds "
            f"{inputs.dtype}"
        )
