"""Add validation to `Model.train`, as `Model.fit` has it, and also between the steps of an epoch.

`Model.fit` takes `eval_loss` from the last batch of the evaluation only (MindSpore 2.0 to 2.10); here it is the mean
over all samples.
"""

from __future__ import annotations

import functools
from typing import Any, Optional

from mindspore import Parameter
from mindspore.train import Loss, Model

from ..core import distributed
from ..core.arguments import check_bool, check_dataset, check_int
from ..core.callback import TrainCallback, only_one
from ..core.eval_hooks import eval_outputs
from ..core.metric_values import check_alike, numbers_in, with_numbers
from ..core.metrics import EvaluationSource, check_columns
from ..core.mindspore_compat import (
    eval_indexes_of,
    is_uninitialised,
    metrics_of,
    parallel_context_kept,
    random_state,
    size_of_dataset,
)
from ..core.observations import Evaluation
from ..core.parameters import Snapshot
from ..core.phases import Phases
from ..core.placement import Needs
from ..core.run import Run
from ..core.samples import size_of
from ..core.tensors import number
from ..core.training_flags import TrainingFlags
from ..core.trial import check_labels

__all__ = ["Validate"]

_OWNER = "Validate"


class Validate(TrainCallback):
    """Evaluate the Model at the end of an epoch, as `Model.fit` does, and optionally between the steps of an epoch.

    At the end of an epoch, the evaluation takes place once, before any callback is notified of it; between two steps,
    it takes place after this package's callbacks have run for the step. Callbacks that watch a validation value observe
    each evaluation: `EarlyStopping`, `BestCheckpoint`, `ExportBest` and `ReduceLROnPlateau` count both kinds alike.

    The results are published as `Model.fit` publishes them (`cb_params["eval_results"]` and `["metrics"]`), so that
    MindSpore's own callbacks find them too, wherever they stand in the list; those of an evaluation between two steps
    stay there until the epoch ends. The hooks `on_eval_begin`, `on_eval_step_end` and so on are called for the same
    callbacks as in `Model.fit`, in the same order and with the run's own `cb_params`, and these callbacks are entered
    and exited around the evaluation. Callbacks with the names of MindSpore's own are not among them, except
    `TimeMonitor`, nor are those with hooks from before MindSpore 2.0 such as `step_end`, which `Model.fit` refuses.
    Training continues as if there had been no evaluation, even if one raises: weights, BatchNorm's statistics, the
    `training` flag of each cell (also in `Model.fit`) and MindSpore's random state stay unchanged. If Python code of
    the validation data draws from the global generator of NumPy or Python, it shares that generator with the training
    data, which a thread loads at the same time. Give the validation data a generator of their own.

    A metric may return a number, a tensor or array of one element (converted to `float`), or a dictionary of these:
    each entry is then a value under its own key, prefixed with the metric's name (`det_precision`) if the key alone
    would not be unique. `eval_loss` is the mean over all samples, and so is a metric of the Model that is MindSpore's
    `Loss`, whatever its name: MindSpore takes the mean over batches, in which a sample of a smaller batch weighs more.
    A metric with the name of something that every epoch has (`loss`, `train_loss`, `epoch`, `step`, `learning_rate`,
    `seconds`, `samples_per_second`) gets the prefix `eval_`, so that a metric `loss` of the Model is its `eval_loss`. A
    value that is not a number is reported in one line, once, and can be neither monitored nor recorded.

    The evaluation of a network in MindSpore's `AutoParallel` leaves the parallel context unchanged. If a network is
    split over processes, no batch is tried before the first step, because what is compiled first there decides how the
    network is split.

    MindSpore's `TimeMonitor` includes the evaluation in its epoch time, here as in `Model.fit`.

    Before the first step, the first batch of the dataset goes once through the evaluation network and into copies of
    the metrics, so that what would fail after hours fails at once, as in Lightning's sanity check.

    With several processes, each evaluates a part of the data; what is published, on each of them, is the mean over all
    samples. It is exact for a metric that is a mean over samples, such as accuracy or a loss, and approximate for
    others, such as F1.

    In `Model.fit` with a `valid_dataset`, there is no second evaluation: the results of `fit` are used, with
    `eval_loss` corrected. A `Model.fit` without `Validate` has MindSpore's own `eval_loss`: that of a metric `loss`,
    averaged over batches, or else that of the last batch only; if a callback uses the latter, one line at the start of
    the run says so.

    Args:
        model: the Model that trains; it must have been made with `metrics`. A copy of the callback shares it.
        dataset: the validation set, as `Model.eval` takes it. It cannot be pickled, so neither can the callback: each
            process that trains has to make its own.
        every_n_epochs: evaluate at the end of every n-th epoch; `None`, together with `every_n_steps`, evaluates at no
            epoch's end. Default: 1.
        every_n_steps: also evaluate after every n-th step, counted from the first step of epoch 1, also in a resumed
            run. If that is the last step of an epoch that is evaluated at its end, only that evaluation is made. Not in
            sink mode, where steps run on the device unseen. Default: None.
        start_epoch: the first epoch in which anything is evaluated. Default: 1.
        on_last: also evaluate at the end of the last epoch, whatever `every_n_epochs`: the last one planned, or one
            during whose steps a stop was requested. Default: True.

    Attributes:
        results_ (dict[str, float | Any]): the latest results by name, including `eval_loss`; a value that is not a
            number is kept as the metric returned it.

    Raises:
        TypeError: `model` is not a Model.
        ValueError: before the first step: the Model has no metrics or is not the one that trains, two metrics give
            values of the same name, the dataset is empty or has columns other than data and label, its first batch does
            not go through the evaluation network and the metrics, a label is out of range, another callback evaluates
            too, nothing would be evaluated, or `every_n_steps` is given in sink mode. After an evaluation with several
            processes: they did not give the same values.

    Example:
        >>> model.train(1, train_dataset, callbacks=[Validate(model, valid_dataset), LossMonitor(per_print_times=0)])
        Epoch time: ... ms, per step time: ... ms, avg loss: ...
        Validation: acc: ..., eval_loss: ...
    """

    transient = ("_written",)

    def __init__(
        self,
        model: Model,
        dataset: Any,
        *,
        every_n_epochs: Optional[int] = 1,
        every_n_steps: Optional[int] = None,
        start_epoch: int = 1,
        on_last: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(model, Model):
            raise TypeError(f"Validate: model must be a mindspore.train.Model, but got {type(model).__name__}")
        self.model = model
        self.dataset = check_dataset("Validate", dataset)
        if every_n_epochs is None and every_n_steps is None:
            raise ValueError("Validate: with every_n_epochs=None, pass every_n_steps to say when to evaluate")
        self.every_n_epochs = None if every_n_epochs is None else check_int(_OWNER, "every_n_epochs", every_n_epochs, 1)
        self.every_n_steps = None if every_n_steps is None else check_int(_OWNER, "every_n_steps", every_n_steps, 1)
        self.start_epoch = check_int(_OWNER, "start_epoch", start_epoch, 1)
        self.on_last = check_bool("Validate", "on_last", on_last)
        self.results_: dict[str, Any] = {}
        self._losses: list[float] = []
        self._samples: list[int] = []

    @property
    def evaluation_source(self) -> EvaluationSource:
        """The Model and the dataset that are evaluated."""
        return EvaluationSource(self.model, self.dataset, self.every_n_steps, self.start_epoch)

    def before_train(self, run: Run) -> None:
        """Clear the results."""
        self.results_ = {}
        self._written: Optional[dict[str, Parameter]] = None

    def check(self, run: Run) -> None:
        """Raise if there is nothing to evaluate, or nothing to evaluate it with."""
        super().check(run)
        only_one(
            _OWNER,
            [each for each in run.callbacks if isinstance(each, Phases) and each.evaluation_source is not None],
            "evaluate the Model",
        )
        if not metrics_of(self.model):
            raise ValueError(
                "Validate: the Model has no metrics and cannot evaluate; make it with metrics, "
                "such as Model(network, loss_fn, optimizer, metrics={'acc'})"
            )
        if size_of_dataset(self.dataset) == 0:
            raise ValueError("Validate: the validation dataset is empty; a batch_size above its length drops it all")
        check_columns("Validate: the validation dataset", self.model, self.dataset)
        own = {id(one) for one in self.model.predict_network.get_parameters()}
        if own and own.isdisjoint(id(one) for one in run.parts.train_network.get_parameters()):
            raise ValueError(
                "Validate: the given Model shares no parameter with the one that trains; "
                "pass the Model whose train is called"
            )
        if self.every_n_steps is not None:
            instead = "pass a smaller sink_size, and every_n_epochs in place of every_n_steps"
            run.progress.check_sees_steps("Validate", "steps run on the device unseen", instead)

    def needs(self, run: Run) -> Needs:
        """Require nothing: the Model evaluates itself, however it is split."""
        return Needs.NOTHING

    def check_plan(self, run: Run) -> None:
        """Raise if nothing would be evaluated."""
        first = max(run.progress.initial_epoch + 1, self.start_epoch)
        if first > run.epochs:
            raise ValueError(
                f"Validate: start_epoch={self.start_epoch} evaluates in none of the epochs "
                f"{run.progress.initial_epoch + 1} to {run.epochs}; lower it"
            )
        n, steps = self.every_n_epochs, self.every_n_steps
        by_epoch = self.on_last or (n is not None and run.epochs // n > (first - 1) // n)
        by_step = (
            steps is not None and run.epochs * run.steps_per_epoch // steps > (first - 1) * run.steps_per_epoch // steps
        )
        if not by_epoch and not by_step:
            told = f"every_n_epochs={n}" if steps is None else f"every_n_steps={steps} and every_n_epochs={n}"
            raise ValueError(
                f"Validate: {told} with on_last=False evaluates in none of the epochs {first} to {run.epochs}; lower "
                f"it, or leave on_last=True"
            )

    def check_batch(self, run: Run) -> None:
        """Raise if a label of the training data is not one of the classes that the trial evaluation has shown."""
        classes = run.metrics.classes
        if run.batch is not None and run.parts.loss_fn is not None and classes is not None:
            check_labels("the training dataset", run.batch[-1], classes)

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Keep the results."""
        self.results_ = dict(evaluation.results)

    def state_dict(self) -> dict[str, Any]:
        """Return those of the latest values that are numbers."""
        return {"results": {name: value for name, value in self.results_.items() if isinstance(value, float)}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.results_ = dict(state["results"])

    def evaluates_at_epoch_end(self, run: Run) -> bool:
        """Return whether to evaluate at the end of this epoch."""
        if run.epoch < self.start_epoch:
            return False
        is_nth = self.every_n_epochs is not None and run.epoch % self.every_n_epochs == 0
        return is_nth or (self.on_last and (run.epoch == run.epochs or run.is_stopping))

    def run_evaluation(self, run: Run) -> None:
        """Evaluate and publish the results; if `Model.fit` has evaluated, correct its `eval_loss`."""
        by_fit = run.metrics.published
        if by_fit is not None:
            self._publish(run, {name: by_fit[name] for name in metrics_of(self.model) if name in by_fit})
            return
        flags = TrainingFlags(self.model, run.parts.train_network)
        hooks = run.metrics.eval_hooks()
        hooks.at_end = functools.partial(self._publish, run)
        self._losses, self._samples = [], []
        before = self._written_by_evaluation(run)
        before.take()
        give_back_random_state = random_state()
        try:
            with parallel_context_kept(self.model.predict_network):
                metrics = self.model.eval(self.dataset, callbacks=[hooks])
        finally:  # also after an exception, because training may continue in another run
            self._written = before.changed()
            Snapshot(self._written, before.arrays).restore(together=False)
            give_back_random_state()
            flags.restore()
        if run.metrics.published is None:  # a Model with an `eval` of its own need not call callbacks
            self._publish(run, metrics)

    def _written_by_evaluation(self, run: Run) -> Snapshot:
        """Return a copy of what a forward pass may write, such as a counter or a spectral norm: no gradient changes it.

        The first evaluation shows what is written at all, so that later ones do not copy a frozen network.
        """
        if self._written is None:
            self._written = {
                name: one for name, one in run.weights.items() if not one.requires_grad and not is_uninitialised(one)
            }
        return Snapshot(self._written)

    def on_eval_begin(self, run_context: Any) -> None:
        """Reset the mean loss."""
        super().on_eval_begin(run_context)
        self._losses, self._samples = [], []

    def on_eval_step_end(self, run_context: Any) -> None:
        """Add a batch to the mean loss."""
        outputs, element = eval_outputs(run_context)
        indexes = eval_indexes_of(self.model)
        # A user's own evaluation network returns its outputs in no fixed order: the loss cannot be identified.
        first: Any = (element or [None])[0] if indexes is None else outputs[indexes[2]]
        self._samples.append(size_of(element or (first,)))
        if indexes is not None:
            self._losses.append(number(outputs[indexes[0]]))

    def _publish(self, run: Run, metrics: dict[str, Any]) -> None:
        """Publish the results; with several processes, each with its part of the data, combine them first."""
        samples = sum(self._samples)
        own = sum(loss * size for loss, size in zip(self._losses, self._samples)) / samples if self._losses else None
        if own is not None:
            over_batches = [name for name, each in metrics_of(self.model).items() if type(each) is Loss]
            metrics = {**metrics, **{name: own for name in over_batches if name in metrics}}
        if distributed.count() > 1:
            check_alike(metrics)
        numbers = numbers_in(metrics)
        if own is not None:
            *means, eval_loss = distributed.mean([*numbers, own], samples)
        else:
            means, eval_loss = distributed.mean(numbers, samples or 1), None
        run.metrics.publish(with_numbers(metrics, means) if distributed.count() > 1 else metrics, eval_loss)
