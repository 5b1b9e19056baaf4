"""Print the accuracy of training batches with the loss, from the same forward pass."""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

from ..core.arguments import check_int
from ..core.callback import TrainCallback
from ..core.classification import MULTICLASS, ClassReader, loss_kind, usual_threshold
from ..core.console import known, log_line
from ..core.forward_hooks import untouched
from ..core.network_output import Place
from ..core.observations import EpochSummary
from ..core.placement import Needs
from ..core.run import Run

__all__ = ["BatchAccuracy"]


class BatchAccuracy(TrainCallback):
    """Print the accuracy and the loss of the batch at an interval, and the mean accuracy of each epoch's batches.

    MindSpore gives a callback the loss but not the logits, so the loss function is wrapped: correct predictions are
    counted there on the device, in the same pass, and read when a line is printed. Loss and gradients are those of the
    loss function alone. With several processes, the first reports on its own batches.

    The accuracy is the share of correct samples. What counts as correct depends on the task, as `Robustness` describes
    it: multi-class, with integer or one-hot labels; binary, with one output and labels 0 and 1; or multi-label, with
    the share of correct labels. The task is found from the loss function and the first batch, or given as `task`; for
    that, one more forward pass runs before the first step, and a network that is not a classifier is refused there. In
    sink mode on GPU and Ascend, batches are not visible, and only the loss function or `task` determines it.

    Args:
        per_print_times: the number of steps between lines; 0 prints nothing. Default: 1.
        output: which of several outputs holds the scores of the classes: an index, a key, or a function of everything
            that the network returns, which is compiled in GRAPH mode. Default: None, the only one, the one called
            `"logits"`, or the only one that fits.
        task: `"binary"`, `"multiclass"` or `"multilabel"`. Default: None, found from the loss function and the first
            batch.
        threshold: for binary and multi-label, what an output must exceed to mean 1. Default: None, 0 for
            `nn.BCEWithLogitsLoss` and 0.5 for `nn.BCELoss`; other loss functions need it.

    Attributes:
        accuracies_ (list[float]): the mean accuracy of each epoch's batches; NaN for an epoch without any.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: the Model's loss function is not
            one that `watch` returned, the network and the labels are not those of a classifier, or their task or
            threshold cannot be determined.

    Example:
        >>> accuracy = BatchAccuracy(per_print_times=4)
        >>> watched = ms.Model(network, accuracy.watch(loss_fn), optimizer)
        >>> watched.train(1, train_dataset, callbacks=[accuracy])
        Epoch:[  1/  1], step:[    4/    4], batch loss: ..., batch accuracy: ...
    """

    def __init__(
        self,
        per_print_times: int = 1,
        *,
        output: Place = None,
        task: Optional[str] = None,
        threshold: Optional[float] = None,
    ) -> None:
        super().__init__()
        self.per_print_times = check_int("BatchAccuracy", "per_print_times", per_print_times, 0)
        self.output, self.task, self.threshold = output, task, threshold
        self._reader = ClassReader("BatchAccuracy", output, threshold, task)
        self.accuracies_: list[float] = []
        self._counters: list[_CountingLoss] = []

    def watch(self, loss_fn: nn.Cell) -> nn.Cell:
        """Return the loss function to create the Model with.

        Args:
            loss_fn: a cell that takes the network's output and the labels.

        Returns:
            A cell with the same outputs and gradients. From then on the callback can be copied, but not pickled if the
            loss function cannot.
        """
        if not isinstance(loss_fn, nn.Cell):
            raise TypeError(f"BatchAccuracy: watch takes a loss function (nn.Cell), but got {type(loss_fn).__name__}")
        counter = _CountingLoss(loss_fn, self.output, self.task, self.threshold)
        self._counters.append(counter)
        return counter

    needs_losses = True

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        self.accuracies_ = []

    def before_train(self, run: Run) -> None:
        """Find the counter of the Model that trains."""
        self._counter: _CountingLoss = run.parts.loss_fn
        self._reader.forget()
        run.step_hooks.on_step_begin(self, self._count_by_task)
        if self.per_print_times:
            run.step_hooks.on_step_end(self, self._print_line)

    def needs(self, run: Run) -> Needs:
        """Require the network's output for a batch to be complete in this process."""
        return super().needs(run) | Needs.OUTPUTS

    def check(self, run: Run) -> None:
        """Raise if the Model's loss function is not watched."""
        super().check(run)
        if not any(run.parts.loss_fn is counter for counter in self._counters):
            raise ValueError(
                "BatchAccuracy: the Model's loss function is not watched; make it with "
                "Model(network, accuracy.watch(loss_fn), optimizer)"
            )
        if not run.progress.sees_each_loss and self.per_print_times and run.steps_per_epoch % self.per_print_times:
            raise ValueError(
                f"BatchAccuracy: per_print_times={self.per_print_times} cannot be met in sink mode, where "
                f"{run.steps_per_epoch} steps come back as one; pass a divisor of that, or 0 for no lines"
            )

    def before_epoch(self, run: Run) -> None:
        """Reset the epoch's mean."""
        if not run.progress.steps_skipped:  # an epoch that is resumed in its middle keeps its counts
            self._counter.reset()

    def _count_by_task(self, run: Run) -> None:
        """Count by the task that the first batch has shown, if it was visible, before the first step."""
        run.step_hooks.on_step_begin(self, None)
        if self._reader.task is not None:
            self._counter.count_by(self._reader.place, self._reader.task.threshold)

    def check_batch(self, run: Run) -> None:
        """Raise if the batch is not that of a classifier whose output can be interpreted."""
        if run.batch is not None:
            self._reader.forget()
            with untouched(run.network, run.batch):
                output = run.network(*run.parts.inputs("BatchAccuracy", run.batch))
            self._reader.read(output, run.batch[-1], loss_kind(run.parts.loss_fn))

    def _print_line(self, run: Run) -> None:
        """Print at the interval, which is counted from the beginning of each epoch."""
        step = run.step_in_epoch
        if step % self.per_print_times == 0:
            log_line(
                f"Epoch:[{run.epoch:3d}/{run.epochs:3d}], step:[{step:5d}/{known(run.progress.known_steps):>5}], "
                f"batch loss: {run.losses.last:.4f}, batch accuracy: {self._counter.of_last_batch:.4f}"
            )

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Add the epoch's accuracy."""
        self.accuracies_.append(self._counter.of_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the accuracies so far; the counts of the current epoch are among the parameters."""
        return {"accuracies": list(self.accuracies_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.accuracies_ = list(state["accuracies"])


class _CountingLoss(nn.Cell):
    """A loss function that also counts how many predictions were correct."""

    def __init__(self, loss_fn: nn.Cell, output: Place, task: Optional[str], threshold: Optional[float]) -> None:
        super().__init__()
        self.loss_fn = loss_fn
        # For the epoch: how many were correct, how many were seen; for the last batch: the same.
        self.counts = Parameter(Tensor(np.zeros(4), mstype.int32), name="batch_accuracy_counts", requires_grad=False)
        if threshold is None and task != MULTICLASS:
            threshold = usual_threshold(loss_kind(loss_fn))
        self.count_by(output, threshold)

    def count_by(self, place: Place, threshold: Optional[float]) -> None:
        """Set what a prediction is, before the first step compiles it; without a threshold, the highest output."""
        self.place = place if isinstance(place, (int, str)) else None
        self.choose = place if callable(place) else None
        self.threshold = threshold

    def construct(self, outputs: Any, labels: Tensor) -> Tensor:
        if not self.training:  # an evaluation goes through the same loss function
            return self.loss_fn(outputs, labels)
        if self.choose is not None:
            scores = self.choose(outputs)
        elif self.place is not None:
            scores = outputs[self.place]
        else:
            scores = outputs
        right = ops.cast(self.right(scores, labels), mstype.int32)
        batch = ops.stack((right.sum(), ops.ones_like(right).sum()))
        ops.assign(self.counts, ops.cast(ops.concat((self.counts[:2] + batch, batch)), mstype.int32))
        return self.loss_fn(outputs, labels)

    def right(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return whether each sample, or each of its labels, is correct."""
        if self.threshold is not None:
            expected = ops.cast(labels.reshape(scores.shape), mstype.float32) > 0.5
            return ops.equal(scores > self.threshold, expected).reshape(-1)
        classes = labels.reshape(scores.shape[0], -1)
        classes = classes.argmax(1) if classes.shape[1] > 1 else classes.reshape(-1)
        return ops.equal(ops.cast(scores.argmax(1), mstype.int32), ops.cast(classes, mstype.int32))

    def reset(self) -> None:
        ops.assign(self.counts, Tensor(np.zeros(4), mstype.int32))

    @property
    def of_epoch(self) -> float:
        right, seen = self.counts.asnumpy()[:2]
        return float(right / seen) if seen else math.nan

    @property
    def of_last_batch(self) -> float:
        right, seen = self.counts.asnumpy()[2:]
        return float(right / seen)
