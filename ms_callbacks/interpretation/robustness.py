"""Measure how well a network withstands small changes to its inputs that are designed to mislead it."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Iterable, Iterator
from typing import Any, Callable, Optional

import numpy as np
from mindspore import Tensor, nn

from ..core import distributed
from ..core.arguments import check_choice, check_dataset, check_int, check_number, quoted
from ..core.callback import TrainCallback
from ..core.classification import Array, ClassReader, loss_kind
from ..core.console import counted
from ..core.fgsm import InputGradient
from ..core.forward_hooks import untouched
from ..core.mindspore_compat import size_of_dataset
from ..core.network_output import Place
from ..core.placement import Needs
from ..core.run import Run
from ..core.tensors import as_array

__all__ = ["Robustness"]


class Robustness(TrainCallback):
    """Measure accuracy under FGSM, the fast gradient sign method, when training ends: x + epsilon * sign(dloss/dx).

    Every element of a sample's input is moved by epsilon in the direction in which the Model's loss grows, and the
    sample is classified again. Epsilons are in the units of the network's inputs: if MNIST is normalised with a
    deviation of 0.3081, one unit of brightness (from black to white) is 1 / 0.3081 = 3.25 units of the input, so
    epsilon 0.1 is 3 % of the way from black to white. Moved inputs are not clipped, because the network does not reveal
    its valid range.

    The network is the one at the end of the run, with the best weights if `EarlyStopping` restores them. It runs in
    PYNATIVE mode with evaluation flags. The mode, flags, weights, statistics and everything else that its forward pass
    writes are then restored, but your own hooks run. Before the first step, one batch runs forward and backward, so
    that whatever cannot be measured is refused there.

    The accuracy is the share of correct samples; a sample with NaN among its outputs is wrong. What is correct depends
    on the task, which follows from the loss function and the first batch, or from `task`:

    - multi-class: several outputs, of which the highest wins; labels are integers (n,), or of shape (n, classes),
      one-hot or shares that sum to 1;
    - binary: one output, (n, 1) or (n,), which means 1 above `threshold`; labels are 0 and 1, of either shape;
    - multi-label: several outputs, each of which means 1 above `threshold`; labels are 0 and 1, of shape (n, classes).
      The accuracy is the share of correct labels, as in Keras's `BinaryAccuracy`; the share of samples with all labels
      correct, as in MindSpore's `Accuracy('multilabel')`, is lower.

    Regression and segmentation are refused. A sample whose gradient is exactly 0, for example behind a saturated loss,
    is not moved, and a line says how many there are. If this applies to every sample, nothing was measured, and the
    accuracies for epsilons above 0 are NaN.

    Args:
        dataset: two columns, the network's input (floats, batch first) and the label, as for `Model.eval`. It cannot be
            pickled, and so the callback cannot either: each training process creates its own.
        epsilons: how far to move the inputs; finite and at least 0. Default: (0.0, 0.05, 0.1, 0.2).
        max_batches: use at most this many batches. Default: None, all.
        output: which of several outputs holds the class scores: an index, a key, or a function of the network's whole
            output. Default: None, the only output, the one called `"logits"`, or the only one that fits.
        task: `"binary"`, `"multiclass"` or `"multilabel"`. Default: None, from the loss function and the first batch.
        threshold: for binary and multi-label tasks, the value above which an output means 1. Default: None, 0 for
            `nn.BCEWithLogitsLoss` and 0.5 for `nn.BCELoss`; other loss functions require it.
        verbose: 0 prints nothing. Default: 1, a line for each epsilon.

    Attributes:
        accuracies_ (dict[float, float]): the accuracy in [0, 1] for each epsilon, NaN where no sample could be moved;
            empty before the first measurement.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ValueError: before the first step: the dataset is empty or does not have two columns, its inputs are not
            floats, the Model has no loss function, the network and labels are not those of a classifier, or the task
            or threshold cannot be determined; at the end: labels of a later batch do not fit.

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
        """Reset the accuracies."""
        self.accuracies_ = {}

    def needs(self, run: Run) -> Needs:
        """Require the network's output for a batch to be complete in this process."""
        return super().needs(run) | Needs.OUTPUTS

    def check(self, run: Run) -> None:
        """Raise if there is nothing to measure, or no loss function to measure it with."""
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
        """Measure the network at the end of the run."""
        self.evaluate(run.network, run.parts.loss_fn)

    def evaluate(self, network: nn.Cell, loss_fn: Any) -> dict[float, float]:
        """Measure a network, during training or outside it.

        Args:
            network: a classifier with one input.
            loss_fn: a Cell or a function of its output and the labels, with any reduction.

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
        """Return a function that moves the inputs by an epsilon, and how many samples it cannot move."""
        _check_inputs(inputs)
        if self._reader.task is None:
            self._right(network(inputs), labels, loss_fn)
        gradient = InputGradient(network, loss_fn)(inputs, labels)
        plain, signs = as_array(inputs), np.sign(as_array(gradient))
        still = int((~signs.reshape(len(signs), -1).any(axis=1)).sum())
        return lambda epsilon: Tensor((plain + epsilon * signs).astype(signs.dtype)).astype(inputs.dtype), still

    def _right(self, output: Any, labels: Tensor, loss_fn: Any) -> Array:
        """Return whether each sample, or each of its labels, is correct."""
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
                f"{counted(samples, 'sample')}: none could be moved, so the network's robustness is unknown"
            )
        elif unmoved:
            self.log(
                f"the gradient is exactly 0 for {unmoved} of {counted(samples, 'sample')}: not moved, and counted as "
                f"if not attacked"
            )

    def _check_dataset(self) -> None:
        if size_of_dataset(self.dataset) == 0:
            raise _empty()
        columns = self.dataset.get_col_names()
        if len(columns) != 2:
            raise ValueError(
                f"Robustness: dataset must have two columns, inputs and labels, but has {len(columns)}: "
                f"{quoted(columns)}; pick two with dataset.project([...])"
            )


@contextlib.contextmanager
def _first_batch(dataset: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first batch of a dataset; then restore the random state that its Python code may have advanced."""
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
