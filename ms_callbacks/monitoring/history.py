"""Record the values of each epoch, like Keras's `History`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, Optional, Union

import numpy as np

from ..core.arguments import check_bool
from ..core.callback import TrainCallback
from ..core.names import EVAL_LOSS
from ..core.observations import EpochSummary, Evaluation
from ..core.run import Run
from ..core.tables import render_html
from ._what_if import Record, WhatIf, what_if

__all__ = ["History"]

_MOST_ROWS = 30  # that a notebook shows


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

    A notebook shows a history as a table of its last 30 epochs.

    Args:
        reset_on_train_begin: whether each `Model.train` is a new run. `False` is for a loop that calls
            `model.train(1, ...)` repeatedly: epochs are counted over all of its calls, unless `initial_epoch` counts
            them, and all are kept. Default: True.
        per_step: also records the loss of every step in `step_losses_`, with 4 bytes per step. The device is not read
            for this: the callback receives losses when they are read anyway, at the latest at the end of the epoch.
            With several processes, each records the losses of its own steps. Default: False.

    Attributes:
        history (dict[str, list]): the values by key, as Keras has them.
        epoch (list[int]): the epochs, from 1.
        evaluations_ (list[dict]): the evaluations between two steps (`Validate(every_n_steps=...)`), each with `epoch`,
            `step`, the mean `loss` of the epoch's steps so far, the validation values, `learning_rate` and `seconds`.
        step_losses_ (np.ndarray): with `per_step`, the loss of each step so far, as float32, of shape (steps,); NaN for
            a step that loss scaling dropped. Empty otherwise.
        steps_ (np.ndarray): the steps of `step_losses_`, counted from the first step of epoch 1, as int64.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: it is in the list of callbacks
            twice; `per_step` in sink mode on GPU or Ascend (in GRAPH mode), where the device does not return the loss
            of each step.

    Example:
        >>> history = History()
        >>> model.train(2, train_dataset, callbacks=[Validate(model, valid_dataset, every_n_epochs=2), history])
        >>> sorted(history.history)
        ['acc', 'eval_loss', 'learning_rate', 'loss', 'samples_per_second', 'seconds']
        >>> history.history["acc"][0] is None
        True
        >>> history = History(per_step=True)
        >>> model.train(2, train_dataset, callbacks=[history])
        >>> history.steps_.tolist(), history.step_losses_.shape
        ([1, 2, 3, 4, 5, 6, 7, 8], (8,))
    """

    epoch: list[int]
    history: dict[str, list[Any]]
    evaluations_: list[dict[str, Any]]
    _spans: list[list[int]]  # runs of consecutive steps: the first step and the number of steps
    needs_losses = needs_samples = True

    def __init__(self, *, reset_on_train_begin: bool = True, per_step: bool = False) -> None:
        super().__init__()
        self.reset_on_train_begin = check_bool("History", "reset_on_train_begin", reset_on_train_begin)
        self.per_step = check_bool("History", "per_step", per_step)
        self.reset_state()

    def check(self, run: Run) -> None:
        """Raise if `per_step` is set and the device does not return the loss of every step."""
        super().check(run)
        if self.per_step:
            run.progress.check_sees_each_loss("History", "leave out per_step=True")

    def before_train(self, run: Run) -> None:
        """Register to receive the losses of the steps."""
        if self.per_step:
            run.losses.on_read(self, self._add_losses)

    def before_epoch(self, run: Run) -> None:
        """Find the step at which the epoch begins; like epochs, steps are counted over all runs."""
        if run.epoch == run.progress.initial_epoch + 1:
            is_counted_on = self.epoch_of(run) != run.epoch
            self._steps_before = sum(self._spans[-1]) - 1 if is_counted_on and self._spans else 0
        self._epoch_begins_after = self._steps_before + run.step - run.step_in_epoch

    def monitors(self, name: str) -> bool:
        """Return true: every value is recorded."""
        return True

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Add an evaluation between two steps."""
        self._record.note(run, evaluation, self.epoch_of(run))
        if not evaluation.at_epoch_end:
            self.evaluations_.append({**evaluation.as_dict(), "epoch": self.epoch_of(run)})

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Add the epoch."""
        record = {key: value for key, value in summary.as_dict().items() if key != "epoch"}
        self.epoch.append(self.epoch_of(run))
        self._record.train_names = list(summary.train_means)
        for key in [*self.history, *(key for key in record if key not in self.history)]:
            values = self.history.setdefault(key, [None] * (len(self.epoch) - 1))
            values.append(record.get(key))

    def what_if(
        self,
        monitor: str = EVAL_LOSS,
        *,
        patience: Union[int, Iterable[int]] = range(1, 10),
        mode: str = "auto",
        min_delta: float = 0.0,
        baseline: Optional[float] = None,
        start_from_epoch: int = 0,
    ) -> WhatIf:
        """Return where `EarlyStopping` would have stopped the recorded run, what it would have kept, and at what cost.

        The decisions follow the rule of `EarlyStopping`, with its defaults for all other arguments. One difference:
        `EarlyStopping` also stops if weights are NaN or infinite, and weights are not recorded. If `stopped_epoch` of a
        row is 0, the run would not have stopped before its recorded end. Evaluations between two steps are observations
        too.

        Args:
            monitor: the value to watch. Default: "eval_loss".
            patience: one patience, or several. Default: 1 to 9.
            mode: `"min"`, `"max"`, or `"auto"` to go by the metric's class, or else its name. Default: "auto".
            min_delta: by how much a value must be better to count, at least 0. Default: 0.0.
            baseline: only values that are also better than this reset patience. Default: None.
            start_from_epoch: the number of epochs to skip at the start. Default: 0.

        Returns:
            A list with a row for each patience; its `str` is a table.

        Raises:
            TypeError, ValueError: an argument is not as described, the record has no such value, or `mode="auto"`
                cannot determine which direction is better.

        Example:
            >>> history = History()
            >>> model.train(3, train_dataset, callbacks=[Validate(model, valid_dataset), history])
            >>> print(history.what_if("acc", patience=[1, 5]))
            Patience  Stops after  Best acc  In       Worse by  Epochs  Seconds
            -------------------------------------------------------------------...
            ...
            >>> history.what_if("acc", patience=5)[0].stopped_epoch
            0
        """
        return what_if(
            (self.epoch, self.history, self.evaluations_),
            self._record,
            (monitor, mode, min_delta),
            patience,
            baseline=baseline,
            start_from_epoch=start_from_epoch,
        )

    def _add_losses(self, first: int, losses: list[Optional[float]]) -> None:
        first += self._epoch_begins_after
        if not self._spans or sum(self._spans[-1]) != first:
            self._spans.append([first, 0])
        self._spans[-1][1] += len(losses)
        self._losses.extend(np.nan if loss is None else loss for loss in losses)

    @property
    def step_losses_(self) -> np.ndarray[Any, Any]:
        """The loss of each step so far."""
        return np.array(self._losses, np.float32)

    @property
    def steps_(self) -> np.ndarray[Any, Any]:
        """The steps of `step_losses_`."""
        return np.concatenate([np.arange(0), *(np.arange(first, first + count) for first, count in self._spans)])

    def _repr_html_(self) -> str:
        if not self.epoch:
            return "<div>History: no epochs yet</div>"
        header, first = ("epoch", *self.history), max(0, len(self.epoch) - _MOST_ROWS)
        columns = [map(str, self.epoch), *(map(_shown, values) for values in self.history.values())]
        rows = list(zip(*columns))[first:]
        note = f"the last {_MOST_ROWS} of {len(self.epoch):,} epochs" if first else ""
        return render_html(header, rows, right=header, note=note)

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs and values so far; the losses of the steps are in `state_arrays`."""
        steps = {"steps": [list(span) for span in self._spans]} if self.per_step else {}
        return {
            **steps,
            **self._record.state_dict(),
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

        self._record = Record.of_state(state)
        self._spans = [list(span) for span in state.get("steps", ())] if self.per_step else []
        self._losses = array("f", [np.nan]) * sum(count for _, count in self._spans)  # until their array is loaded

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the losses of the steps so far."""
        return {"step_losses": self.step_losses_} if self.per_step else {}

    def load_state_arrays(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Restore what `state_arrays` returned."""
        if self.per_step:
            self._losses = array("f", arrays["step_losses"].tobytes())

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        self.epoch, self.history, self.evaluations_ = [], {}, []
        self._record = Record()
        self._losses = array("f")
        self._spans = []


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
