"""The accuracy of the batches trained on, beside the loss and without a second forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

from ..core._callback import STEP_END, TrainCallback
from ..core._checks import check_int
from ..core._context import Run
from ..core._output import emit, known

__all__ = ["BatchAccuracy"]


class BatchAccuracy(TrainCallback):
    """Prints the accuracy of the batch beside its loss at an interval, and the mean accuracy of each epoch's batches.

    MindSpore gives a callback the loss and not the logits. So the loss function is wrapped: what it computes is
    counted there on the device, in the same pass, and read when a line is printed. Loss and gradients are those of the
    loss function alone. Labels are class numbers of shape (n,), logits of shape (n, classes). Of several
    processes, the first tells of its own batches.

    Args:
        per_print_times: prints a line every so many steps; 0 prints nothing. Default: 1.

    Attributes:
        accuracies_ (list[float]): the mean accuracy of each epoch's batches.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: the Model's loss function is not
            one that `watch` returned.

    Example:
        >>> accuracy = BatchAccuracy(per_print_times=4)
        >>> watched = ms.Model(network, accuracy.watch(loss_fn), optimizer)
        >>> watched.train(1, train_dataset, callbacks=[accuracy])
        Epoch:[  1/  1], step:[    4/    4], batch loss: ..., batch accuracy: ...
    """

    def __init__(self, per_print_times: int = 1) -> None:
        super().__init__()
        self.per_print_times = check_int("BatchAccuracy", "per_print_times", per_print_times, 0)
        self.accuracies_: list[float] = []
        self._counters: list[_CountingLoss] = []

    def watch(self, loss_fn: nn.Cell) -> nn.Cell:
        """The loss function to make the Model with.

        Args:
            loss_fn: a cell that takes logits of shape (n, classes) and labels of shape (n,).

        Returns:
            A cell with the same outputs and gradients.
        """
        if not isinstance(loss_fn, nn.Cell):
            raise TypeError(f"BatchAccuracy: watch takes a loss function (nn.Cell), but got {type(loss_fn).__name__}")
        counter = _CountingLoss(loss_fn)
        self._counters.append(counter)
        return counter

    def on_train_begin(self, run_context: Any) -> None:
        """Finds the counter of the Model that trains."""
        super().on_train_begin(run_context)
        self._counter: _CountingLoss = self._run.loss_fn
        if self.begins_anew():
            self.accuracies_ = []
        self.at_step(STEP_END, self._note)

    def check(self, run: Run) -> None:
        """Raises where the Model's loss function is not watched."""
        super().check(run)
        if not any(run.loss_fn is counter for counter in self._counters):
            raise ValueError(
                "BatchAccuracy: the Model's loss function is not watched; make it with "
                "Model(network, accuracy.watch(loss_fn), optimizer)"
            )

    def before_epoch(self, run: Run) -> None:
        """Begins the epoch's mean anew."""
        if not run.steps_skipped:  # an epoch that goes on in its middle has its counts
            self._counter.reset()

    @property
    def follows_losses(self) -> bool:
        """Always."""
        return True

    def _note(self, run_context: Any) -> None:
        """Prints at the interval."""
        run = self._run
        step = run.step_in_epoch
        if self.per_print_times and step % self.per_print_times == 0:
            emit(
                f"Epoch:[{run.epoch:3d}/{run.epochs:3d}], step:[{step:5d}/{known(run.known_steps):>5}], "
                f"batch loss: {run.losses.last:.4f}, batch accuracy: {self._counter.of_last_batch:.4f}"
            )
        # Read before the epoch's evaluation, which goes through the same loss function.
        if step == run.steps_per_epoch or (run.is_stopping and not run.is_interrupted):
            self.accuracies_.append(self._counter.of_epoch)

    def state_dict(self) -> dict[str, Any]:
        """The accuracies so far; the counts of the epoch under way are among the parameters."""
        return {"accuracies": list(self.accuracies_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next run go on from a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.accuracies_ = list(state["accuracies"])


class _CountingLoss(nn.Cell):
    """A loss function that counts on the way how many predictions were right."""

    def __init__(self, loss_fn: nn.Cell) -> None:
        super().__init__()
        self.loss_fn = loss_fn
        # Of the epoch: how many were right, how many were seen; of the last batch: the same.
        self.counts = Parameter(Tensor(np.zeros(4), mstype.int32), name="batch_accuracy_counts", requires_grad=False)

    def construct(self, logits: Tensor, labels: Tensor) -> Tensor:
        right = ops.cast(
            ops.equal(ops.cast(logits.argmax(1), mstype.int32), ops.cast(labels, mstype.int32)), mstype.int32
        )
        batch = ops.stack((right.sum(), ops.ones_like(right).sum()))
        ops.assign(self.counts, ops.cast(ops.concat((self.counts[:2] + batch, batch)), mstype.int32))
        return self.loss_fn(logits, labels)

    def reset(self) -> None:
        ops.assign(self.counts, Tensor(np.zeros(4), mstype.int32))

    @property
    def of_epoch(self) -> float:
        right, seen = self.counts.asnumpy()[:2]
        return float(right / seen)

    @property
    def of_last_batch(self) -> float:
        right, seen = self.counts.asnumpy()[2:]
        return float(right / seen)
