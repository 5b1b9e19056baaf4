"""The validation values of a run: their names, known before the first step, and what each evaluation gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from mindspore import nn
from mindspore.train import Model

from . import distributed
from .console import log_line
from .eval_hooks import EvalHooks
from .metric_values import by_name, described, may_give_several, named, with_eval_loss
from .mindspore_compat import eval_indexes_of, metrics_of, training_call
from .names import EVAL_LOSS, OF_RUN, TRAIN_LOSS, alike, is_train_loss, key_among, unknown_monitor
from .trial import Trial, try_evaluation

__all__ = ["Caller", "EvaluationSource", "Metrics", "check_columns", "find_caller"]


class EvaluationSource(NamedTuple):
    """The Model that a callback evaluates, on which dataset, and after how many steps besides at the ends of epochs.

    `start_epoch` is the first epoch in which it evaluates.
    """

    model: Optional[Model]
    dataset: Any
    every_n_steps: Optional[int] = None
    start_epoch: int = 1


class Caller(NamedTuple):
    """The Model whose `train` or `fit` is called, the dataset that `fit` evaluates by itself, and in which epochs."""

    model: Model
    valid_dataset: Any = None
    evaluated_epochs: frozenset[int] = frozenset()


class Metrics:
    """The validation values of a run whose parameters are `args`.

    Attributes:
        source (EvaluationSource | None): what a callback evaluates; `None` where none does.
        train_names (tuple[str, ...]): the names of the values that each training step gives, `loss` first.
        results (dict[str, Any]): the values of the latest evaluation by name, numbers as `float`.
        names_so_far (frozenset[str]): the names of all validation values that the run has had.

    Args:
        args: the parameters of MindSpore's run context, where results are published as `Model.fit` publishes them.
        train_names: the names of the values that each training step gives, `loss` first.
        source: what a callback evaluates; `None` where none does.
        caller: what `Model.train` or `Model.fit` was called with; `None` where that cannot be seen.
        is_split: whether processes share one network, so that no batch may be tried.
    """

    def __init__(
        self,
        args: dict[str, Any],
        train_names: tuple[str, ...],
        source: Optional[EvaluationSource],
        caller: Optional[Caller],
        is_split: bool,
    ) -> None:
        self._args, self.source, self._caller, self._is_split = args, source, caller, is_split
        self.train_names = train_names
        self._trial: Optional[Trial] = None
        self._between_steps: Any = None  # what an evaluation between two steps has published
        self._reported: set[str] = set()  # the names that were reported to be no numbers
        self.names_so_far: frozenset[str] = frozenset()
        self.results: dict[str, Any] = {}

    def follows(self, name: str) -> bool:
        """Whether a name means a value that each training step gives: the loss, or another that was named."""
        return is_train_loss(name) or name in self.train_names

    # Before the first step

    @property
    def model(self) -> Optional[Model]:
        """The Model that the run evaluates; `None` where it never does, or that cannot be seen."""
        if self.source is not None:
            return self.source.model
        return self._caller.model if self._caller is not None and self.fit_evaluates else None

    @property
    def dataset(self) -> Any:
        """The dataset that the run evaluates; `None` as for `model`."""
        if self.source is not None:
            return self.source.dataset
        return None if self._caller is None else self._caller.valid_dataset

    @property
    def fit_evaluates(self) -> bool:
        """Whether this is a `Model.fit` that evaluates by itself, as far as that can be seen."""
        return self._caller is not None and self._caller.valid_dataset is not None

    def fit_evaluates_in(self, epoch: int) -> bool:
        """Whether this is a `Model.fit` that evaluates by itself at the end of this epoch."""
        return self.fit_evaluates and self._caller is not None and epoch in self._caller.evaluated_epochs

    @property
    def names(self) -> Optional[list[str]]:
        """The names of the validation values that the run will have; `None` where they cannot be seen ahead.

        A metric that returns several in a dictionary stands for them by its own name.
        """
        ahead = self._ahead
        return None if ahead is None else list(ahead)

    @property
    def may_have_others(self) -> bool:
        """Whether validation values may come whose names cannot be seen ahead, as in a dictionary of a metric."""
        ahead = self._ahead
        if ahead is None:
            return True
        if not any(may_give_several(metric) for metric in ahead.values() if metric is not None):
            return False
        try:
            trial = self.trial()
        except ValueError:  # which is raised as soon as everything else is in order
            return True
        return trial.results is None or any(isinstance(value, Mapping) for value in trial.results.values())

    def trial(self) -> Trial:
        """What one batch of the validation data shows; raises where it does not get through.

        Nothing is tried where a network is split: what compiles first decides there how its parameters are cut.
        """
        model, dataset = self.model, self.dataset
        if model is None or dataset is None or model.eval_network is None or self._is_split:
            return Trial(None, None)
        if self._trial is None:
            self._trial = try_evaluation(model, dataset)
        return self._trial

    @property
    def classes(self) -> Optional[int]:
        """How many classes the network has, where the trial was made and has shown it."""
        return None if self._trial is None else self._trial.classes

    def check_evaluates(self, owner: str, name: str) -> None:
        """Raise where the run will never evaluate, for `name` needs it."""
        if distributed.count() > 1 and self.source is None:
            raise ValueError(
                f"{owner}: {name!r} is to be decided upon by {distributed.count()} processes together, and Model.fit "
                f"alone gives each its own; add Validate(model, valid_dataset) to the callbacks"
            )
        if self._ahead == {}:
            raise ValueError(
                f"{owner}: {name!r} needs an evaluation, but this run never evaluates; add "
                f"Validate(model, valid_dataset) to the callbacks, or use Model.fit with a valid_dataset and a "
                f"valid_frequency within its epochs, or watch the training loss as 'loss'"
            )

    def metric(self, owner: str, name: str) -> object:
        """Check that the run will have a value of this name; return its metric, or `None` where that cannot be seen."""
        if self.follows(name):
            return None
        self.check_evaluates(owner, name)
        ahead = self._ahead
        if ahead is None:
            return None
        key = key_among(name, ahead)
        if key is not None:
            return ahead[key]
        if self.may_have_others and alike(name, ahead) is None:
            return None  # the first evaluation shows it
        raise unknown_monitor(owner, name, {*ahead, TRAIN_LOSS})

    @property
    def _ahead(self) -> Optional[dict[str, Any]]:
        """The validation values to come, each with its metric."""
        model = self.model
        if model is None:
            return None if self._caller is None else {}
        metrics = by_name(metrics_of(model))
        # An evaluation network of the user's own gives its outputs in no fixed order, and the loss cannot be found.
        return metrics if eval_indexes_of(model) is None else {EVAL_LOSS: None, **metrics}

    # In an evaluation

    def eval_hooks(self) -> EvalHooks:
        """A callback for `Model.eval` that calls the evaluation hooks of the run's callbacks, as `Model.fit` does."""
        return EvalHooks(self._args)

    def publish(self, metrics: dict[str, Any], eval_loss: Optional[float]) -> None:
        """Set the results where `Model.fit` sets them, for MindSpore's own callbacks as for ours."""
        self._args["metrics"] = metrics
        self._args["eval_results"] = with_eval_loss(metrics, eval_loss)

    @property
    def published(self) -> Optional[dict[str, Any]]:
        """What `Model.fit`, or a callback that evaluates, has published; `None` before that."""
        results = self._args.get("eval_results")
        # `fit` puts an `eval_loss` of its own, from the last batch, over a metric of that name.
        return None if results is None else {**results, **self._args.get("metrics", {})}

    @property
    def is_published(self) -> bool:
        """Whether something is published that is not of an evaluation between two steps."""
        results = self._args.get("eval_results")
        return results is not None and results is not self._between_steps

    def remove_earlier(self) -> None:
        """Remove what an evaluation between two steps has published, so that it does not pass for one of now."""
        if self._between_steps is not None and not self.is_published:
            self._args.pop("eval_results", None)
            self._args.pop("metrics", None)
        self._between_steps = None
        self.results = {}

    def read(self, *, at_epoch_end: bool = True) -> dict[str, Any]:
        """Read the published values into `results`; one that is no number is reported in a line, once."""
        if not at_epoch_end:
            self._between_steps = self._args.get("eval_results")
        self.results = named(self.published or {}, (*OF_RUN, *self.train_names))
        for name, value in self.results.items():
            if not isinstance(value, float) and name not in self._reported:
                self._reported.add(name)
                log_line(f"Model: the metric {name!r} gave {described(value)}, which is no number to monitor or record")
        self.names_so_far = self.names_so_far.union(self.results)
        return self.results


def check_columns(what: str, model: Model, dataset: Any) -> None:
    """Raise where a dataset to evaluate has other columns than data and label, and the Model takes no others."""
    columns = dataset.get_col_names()
    if isinstance(model.eval_network, nn.WithEvalCell) and len(columns) != 2:
        raise ValueError(
            f"{what} must have two columns, data and label, but it has {len(columns)}: {columns}; "
            f"name them with project(), or give the Model an eval_network that takes them"
        )


def find_caller() -> Optional[Caller]:
    """What the call under way was made with; `None` where that is not found.

    A wrong monitor can then be refused before the first step instead of after the first epoch.
    """
    call = training_call()
    if call is None:
        return None
    valid_dataset, frequency, _ = call.valid_infos or (None, 1, None)
    if valid_dataset is not None and not valid_dataset:
        raise ValueError(
            "Model.fit: the valid_dataset is empty and would never be evaluated; a batch_size above its length "
            "with drop_remainder=True drops it all"
        )
    if valid_dataset is not None:
        check_columns("Model.fit: the valid_dataset", call.model, valid_dataset)
    epochs = range(call.initial_epoch + 1, call.epoch + 1)
    evaluated = [e for e in epochs if (e % frequency == 0 if isinstance(frequency, int) else e in frequency)]
    return Caller(call.model, valid_dataset if evaluated else None, frozenset(evaluated))
