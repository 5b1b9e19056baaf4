"""Record the values of each epoch, like Keras's `History`."""

from __future__ import annotations

from typing import Any

from ..core.arguments import check_bool
from ..core.callback import TrainCallback
from ..core.observations import EpochSummary, Evaluation
from ..core.run import Run

__all__ = ["History"]


class History(TrainCallback):
    """Record one value per epoch and key.

    The keys are `loss` (the mean training loss), each validation value that is a number (`acc`, `eval_loss`, ...; see
    `Validate` for what a metric may return), `learning_rate` (of the first parameter group), `seconds` (of the training
    steps; evaluation does not count) and `samples_per_second`. The product of the latter two is the number of samples
    that the steps have seen, in all processes together; for a batch, that is the first dimension that its columns have
    in common, or one if it was not batched. In sink mode on GPU and Ascend, where batches are not visible, it is
    `None`, and `loss` is that of the epoch's last step (in GRAPH mode). If an epoch has no value for a key, such as one
    without an evaluation, the entry is `None` too, so that all lists have the same length and each value is at the
    index of its epoch.

    Args:
        reset_on_train_begin: whether each `Model.train` is a new run. `False` is for a loop that calls
            `model.train(1, ...)` repeatedly: epochs are counted over all of its calls, unless `initial_epoch` counts
            them, and all are kept. Default: True.

    Attributes:
        history (dict[str, list]): the values by key, as Keras has them.
        epoch (list[int]): the epochs, from 1.
        evaluations_ (list[dict]): the evaluations between two steps (`Validate(every_n_steps=...)`), each with `epoch`,
            `step`, the mean `loss` of the epoch's steps so far, the validation values, `learning_rate` and `seconds`.

    Raises:
        ValueError: before the first step: it is in the list of callbacks twice.

    Example:
        >>> history = History()
        >>> model.train(2, train_dataset, callbacks=[Validate(model, valid_dataset, every_n_epochs=2), history])
        >>> sorted(history.history)
        ['acc', 'eval_loss', 'learning_rate', 'loss', 'samples_per_second', 'seconds']
        >>> history.history["acc"][0] is None
        True
    """

    epoch: list[int]
    history: dict[str, list[Any]]
    evaluations_: list[dict[str, Any]]
    needs_losses = needs_samples = True

    def __init__(self, *, reset_on_train_begin: bool = True) -> None:
        super().__init__()
        self.reset_on_train_begin = check_bool("History", "reset_on_train_begin", reset_on_train_begin)
        self.reset_state()

    def monitors(self, name: str) -> bool:
        """Return true: every value is recorded."""
        return True

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Add an evaluation between two steps."""
        if not evaluation.at_epoch_end:
            self.evaluations_.append({**evaluation.as_dict(), "epoch": self.epoch_of(run)})

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Add the epoch."""
        record = {key: value for key, value in summary.as_dict().items() if key != "epoch"}
        self.epoch.append(self.epoch_of(run))
        for key in [*self.history, *(key for key in record if key not in self.history)]:
            values = self.history.setdefault(key, [None] * (len(self.epoch) - 1))
            values.append(record.get(key))

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs and values so far."""
        return {
            "epoch": list(self.epoch),
            "history": {key: list(values) for key, values in self.history.items()},
            "evaluations": [dict(each) for each in self.evaluations_],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.epoch = list(state["epoch"])
        self.history = {key: list(values) for key, values in state["history"].items()}
        self.evaluations_ = [dict(each) for each in state.get("evaluations", ())]  # which version 0.1 did not have

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        self.epoch, self.history, self.evaluations_ = [], {}, []
