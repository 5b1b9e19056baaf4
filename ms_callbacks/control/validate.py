"""Gives `Model.train` what `Model.fit` has: validation at the end of an epoch, published for every callback.

`Model.fit` takes `eval_loss` from the last batch of the evaluation alone (MindSpore 2.0 to 2.10); here it is the mean
over all samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore.train import Model

from ..core import _ranks
from ..core._callback import TrainCallback, only_one
from ..core._checks import check_bool, check_dataset, check_int
from ..core._context import Run, check_columns, eval_outputs, metrics_of
from ..core._layers import kept
from ..core._observer import EvalObserver
from ..core._roles import Evaluator

__all__ = ["Validate"]


class Validate(TrainCallback, Evaluator):
    """Evaluates the Model at the end of an epoch, once, before any other callback of this package looks.

    The results are published as `Model.fit` publishes them (`cb_params["eval_results"]` and `["metrics"]`), so that
    MindSpore's own callbacks find them too if they stand **after** `Validate` in the list. Among the callbacks of this
    package the order does not matter. `eval_loss` is the mean over all samples; a metric that the Model itself calls
    `loss` appears as `eval_loss`. Training goes on as if there had been no evaluation: each cell's `training` flag
    comes back, and neither weights nor BatchNorm's statistics change, nor what the network writes in its forward pass
    (in `Model.fit`, whose own evaluation runs, that does).

    Several processes evaluate a part of the data each; what is published is the mean over all samples, on every one. It
    is exact for a metric that is a mean over samples, such as accuracy or a loss, and close for others, such as F1.

    In `Model.fit` with a `valid_dataset`, no second evaluation is made: the one of `fit` serves, with `eval_loss` put
    right.

    Args:
        model: the Model that trains; it must have been made with `metrics`.
        dataset: the validation set, as `Model.eval` takes it.
        every_n_epochs: evaluates in every n-th epoch. Default: 1.
        on_last: evaluates in the last epoch too, whatever `every_n_epochs`: the last one planned, or one in which a
            stop was asked for during its steps. Default: True.

    Attributes:
        results_ (dict): the latest results by name, `eval_loss` among them.

    Raises:
        TypeError: `model` is not a Model.
        ValueError: before the first step: the Model has no metrics or is not the one that trains, the dataset is empty
            or has other columns than data and label, or another callback evaluates too.

    Example:
        >>> model.train(1, train_dataset, callbacks=[Validate(model, valid_dataset), LossMonitor(per_print_times=0)])
        Epoch time: ... ms, per step time: ... ms, avg loss: ...
        Validation: acc: ..., eval_loss: ...
    """

    def __init__(self, model: Model, dataset: Any, *, every_n_epochs: int = 1, on_last: bool = True) -> None:
        super().__init__()
        if not isinstance(model, Model):
            raise TypeError(f"Validate: model must be a mindspore.train.Model, but got {type(model).__name__}")
        self.model = model
        self.dataset = check_dataset("Validate", dataset)
        self.every_n_epochs = check_int("Validate", "every_n_epochs", every_n_epochs, 1)
        self.on_last = check_bool("Validate", "on_last", on_last)
        self.results_: dict[str, Any] = {}

    def on_train_begin(self, run_context: Any) -> None:
        """Begins anew."""
        super().on_train_begin(run_context)
        self.results_ = {}

    def check(self, run: Run) -> None:
        """Raises where there is nothing to evaluate, or nothing to evaluate it with."""
        super().check(run)
        only_one("Validate", run.callbacks, (Evaluator,), "evaluate the Model")
        if not metrics_of(self.model):
            raise ValueError(
                "Validate: the Model has no metrics and cannot evaluate; make it with metrics, "
                "such as Model(network, loss_fn, optimizer, metrics={'acc'})"
            )
        if self.dataset.get_dataset_size() == 0:
            raise ValueError("Validate: the validation dataset is empty; a batch_size above its length drops it all")
        check_columns("Validate: the validation dataset", self.model, self.dataset)
        own = {id(one) for one in self.model.predict_network.get_parameters()}
        if own and own.isdisjoint(id(one) for one in run.train_network.get_parameters()):
            raise ValueError(
                "Validate: the Model that it was given shares no parameter with the one that trains; "
                "pass the Model whose train is called"
            )

    def check_plan(self, run: Run) -> None:
        """Raises where no epoch of the run would be evaluated."""
        evaluated = run.epochs // self.every_n_epochs - run.initial_epoch // self.every_n_epochs
        if not evaluated and not self.on_last:
            raise ValueError(
                f"Validate: every_n_epochs={self.every_n_epochs} with on_last=False evaluates in none of the epochs "
                f"{run.initial_epoch + 1} to {run.epochs}; lower it, or leave on_last=True"
            )

    def after_epoch(self, run: Run) -> None:
        """Evaluates, unless another callback has already asked for this epoch's results."""
        self.results_ = run.results or self.results_

    def evaluate(self, run: Run) -> None:
        """Evaluates where this epoch is to be, and publishes the results."""
        fit_results = run.fit_results
        if fit_results is not None:
            fit_results.pop("eval_loss", None)
            self._publish(run, fit_results)
        elif run.epoch % self.every_n_epochs == 0 or (self.on_last and (run.epoch == run.epochs or run.is_stopping)):
            flags = [(cell, cell.training) for _, cell in run.train_network.cells_and_names()]
            observers = [callback for callback in run.callbacks if isinstance(callback, EvalObserver)]
            with kept(run.network, run.loss_fn):  # a network may write parameters in its forward pass
                metrics = self.model.eval(self.dataset, callbacks=[self, *observers])
            # The Model would set every cell to training at the next step, frozen ones too; let it do so now.
            self.model._check_network_mode(run.train_network, True)
            for cell, training in flags:
                cell.add_flags(training=training)
            self._publish(run, metrics)

    def on_eval_begin(self, run_context: Any) -> None:
        """Begins the mean loss anew."""
        self._losses: list[float] = []
        self._samples: list[int] = []

    def on_eval_step_end(self, run_context: Any) -> None:
        """Adds a batch to the mean loss."""
        outputs, element = eval_outputs(run_context)
        indexes = self.model._eval_indexes
        # An evaluation network of the user's own gives its outputs in no fixed order: its loss cannot be told.
        first: Any = (element or [None])[0] if indexes is None else outputs[indexes[2]]
        self._samples.append(first.shape[0] if first is not None and first.shape else 1)
        if indexes is not None:
            self._losses.append(float(np.mean(outputs[indexes[0]].asnumpy())))

    def _publish(self, run: Run, metrics: dict[str, Any]) -> None:
        """Publishes the results; those of several processes, each with its part of the data, as one."""
        numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, (float, np.floating))}
        samples = sum(self._samples)
        if self._losses and samples:
            own = sum(loss * size for loss, size in zip(self._losses, self._samples)) / samples
            *means, eval_loss = _ranks.mean([*numbers.values(), own], samples)
        else:
            means, eval_loss = _ranks.mean(list(numbers.values()), samples), None
        run.publish({**metrics, **dict(zip(numbers, means))} if _ranks.count() > 1 else metrics, eval_loss)
