"""Keeps what each epoch had to tell, as Keras's history does."""

from __future__ import annotations

from typing import Any

from ..core.arguments import check_bool
from ..core.callback import TrainCallback
from ..core.observations import EpochSummary, Evaluation
from ..core.run import Run

__all__ = ["History"]


class History(TrainCallback):
    """Records one value per epoch and key.

    The keys are `loss` (the mean training loss), each validation value that is a number (`acc`, `eval_loss`, ...; see
    `Validate` for what a metric may return), `learning_rate` (of the first parameter group), `seconds` (of the training
    steps; evaluation does not count) and `samples_per_second`. That times `seconds` is the number of samples that the
    steps have seen, in all processes together: of a batch, the first dimension that its columns have in common, or one
    where it was not batched. In sink mode on GPU and Ascend, where batches are not seen, it is `None`, and `loss` is
    that of the epoch's last step (in GRAPH mode). Where an epoch has no value for a key, as one without evaluation,
    that is `None` too, so that all lists are of one length and a value stands where its epoch stands.

    Args:
        reset_on_train_begin: whether each `Model.train` is a new run. `False` is for a loop that calls
            `model.train(1, ...)` again and again: epochs are counted over all of its calls, unless
            `initial_epoch` counts them, and all are kept. Default: True.

    Attributes:
        history (dict[str, list]): the values by key, as Keras has them.
        epoch (list[int]): the epochs, from 1.
        evaluations_ (list[dict]): the evaluations between two steps (`Validate(every_n_steps=...)`), each with `epoch`,
            `step`, the mean `loss` of the epoch's steps so far, the validation values, `learning_rate` and `seconds`.

    Raises:
        ValueError: before the first step: it stands in the list of callbacks twice.

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
        """Whether it records the value: it records every value."""
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
        """The epochs and values so far."""
        return {
            "epoch": list(self.epoch),
            "history": {key: list(values) for key, values in self.history.items()},
            "evaluations": [dict(each) for each in self.evaluations_],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.epoch = list(state["epoch"])
        self.history = {key: list(values) for key, values in state["history"].items()}
        self.evaluations_ = [dict(each) for each in state.get("evaluations", ())]  # which version 0.1 did not have

    def reset_state(self) -> None:
        """Forgets what earlier runs have taught it."""
        self.epoch, self.history, self.evaluations_ = [], {}, []
