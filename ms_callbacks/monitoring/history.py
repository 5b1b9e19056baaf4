"""Record the values of each epoch, like Keras's `History`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Optional, Union

from ..core.arguments import check_bool, check_int, check_number
from ..core.callback import TrainCallback
from ..core.monitor import Monitor, mode_of_class
from ..core.names import EVAL_LOSS, OF_RUN, TRAIN_LOSS, is_train_loss, key_among, unknown_monitor
from ..core.observations import EpochSummary, Evaluation
from ..core.patience import StopRule
from ..core.run import Run
from ._what_if import Observed, WhatIf, outcome

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
    _train_names: list[str]
    _evaluated: list[int]
    _modes: dict[str, str]
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
        """Add an evaluation between two steps; note which direction is better by the metric's class."""
        if evaluation.at_epoch_end:
            self._evaluated.append(self.epoch_of(run))
        else:
            self.evaluations_.append({**evaluation.as_dict(), "epoch": self.epoch_of(run)})
        for name in evaluation.results:
            if name not in self._modes:
                self._modes[name] = mode_of_class(run.metrics.known_metric(name)) or ""

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Add the epoch."""
        record = {key: value for key, value in summary.as_dict().items() if key != "epoch"}
        self.epoch.append(self.epoch_of(run))
        self._train_names = list(summary.train_means)
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

        The decisions are those of `EarlyStopping` itself, with its defaults for the arguments that are not here; what
        weights held, such as NaN, is not recorded. A run is known as far as it went: a row whose `stopped_epoch` is 0
        says that it would not have stopped by then. Evaluations between two steps are observations too.

        Args:
            monitor: the value to watch. Default: "eval_loss".
            patience: one patience, or several. Default: 1 to 9.
            mode: `"min"`, `"max"`, or `"auto"` to go by the metric's class, or else its name. Default: "auto".
            min_delta: by how much a value must be better to count, at least 0. Default: 0.0.
            baseline: patience is reset only by values that are also better than this. Default: None.
            start_from_epoch: how many epochs to skip at the start. Default: 0.

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
        owner = "History.what_if"
        listed = list(patience) if isinstance(patience, Iterable) and not isinstance(patience, str) else [patience]
        each_patience = [check_int(owner, "patience", each, 0) for each in listed]
        if not each_patience:
            raise ValueError(f"{owner}: patience must be a whole number or several, but got {patience!r}")
        rule = StopRule(
            0,
            None if baseline is None else check_number(owner, "baseline", baseline),
            check_int(owner, "start_from_epoch", start_from_epoch, 0),
        )
        watched = Monitor.checked(owner, monitor, mode, min_delta)
        key = self._key(owner, monitor)
        if mode == "auto":
            known = self._modes.get(key)
            watched = watched._replace(mode=known) if known else watched.resolve_mode(owner)
        observed, seconds = self._observed(key), math.fsum(self.history["seconds"])
        rows = [
            outcome(rule._replace(patience=each), watched, observed, len(self.epoch), seconds) for each in each_patience
        ]
        return WhatIf(monitor, rows)

    def _key(self, owner: str, monitor: str) -> str:
        """Return the key under which a monitor's values are recorded."""
        if not self.epoch:
            raise ValueError(f"{owner}: nothing is recorded yet; train with this History in the list of callbacks")
        if is_train_loss(monitor):
            return TRAIN_LOSS
        if monitor in self._train_names:
            return monitor
        names = dict.fromkeys(name for record in (self.history, *self.evaluations_) for name in record)
        results = [name for name in names if name not in OF_RUN and name not in self._train_names]
        key = key_among(monitor, results)
        if key is None:
            raise unknown_monitor(owner, monitor, [*results, *self._train_names])
        return key

    def _observed(self, key: str) -> list[Observed]:
        """Return the values that a callback observes that monitors `key`, in their order."""
        is_of_training, seconds, observed = key in self._train_names, 0.0, []
        between = [] if is_of_training else list(self.evaluations_)
        for place, epoch in enumerate(self.epoch):
            while between and between[0]["epoch"] <= epoch:
                row = between.pop(0)
                if (value := _value(row, key)) is not None:
                    observed.append(Observed(row["epoch"], row["step"], value, place + 1, seconds + row["seconds"]))
            record = {name: values[place] for name, values in self.history.items()}
            seconds += record["seconds"]
            value = record[key] if is_of_training else _value(record, key) if epoch in self._evaluated else None
            if value is not None:
                observed.append(Observed(epoch, 0, value, place + 1, seconds))
        for row in between:  # of an epoch that was interrupted
            if (value := _value(row, key)) is not None:
                observed.append(
                    Observed(row["epoch"], row["step"], value, len(self.epoch) + 1, seconds + row["seconds"])
                )
        return observed

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs and values so far."""
        return {
            "train_names": list(self._train_names),
            "evaluated": list(self._evaluated),
            "modes": dict(self._modes),
            "epoch": list(self.epoch),
            "history": {key: list(values) for key, values in self.history.items()},
            "evaluations": [dict(each) for each in self.evaluations_],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.epoch = list(state["epoch"])
        self.history = {key: list(values) for key, values in state["history"].items()}
        # The following are not in states before version 0.2.
        self.evaluations_ = [dict(each) for each in state.get("evaluations", ())]
        self._train_names = list(state.get("train_names", [TRAIN_LOSS]))
        self._evaluated = list(state.get("evaluated", self.epoch))
        self._modes = dict(state.get("modes", {}))

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        self.epoch, self.history, self.evaluations_ = [], {}, []
        self._train_names, self._evaluated, self._modes = [], [], {}


def _value(record: dict[str, Any], key: str) -> Optional[float]:
    """Return a validation value as a callback observes it: NaN if the loss of the evaluation is, as in `Evaluation`."""
    value, eval_loss = record.get(key), record.get(EVAL_LOSS)
    is_nan = value is not None and isinstance(eval_loss, float) and math.isnan(eval_loss)
    return math.nan if is_nan else value
