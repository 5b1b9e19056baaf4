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
from .trial import Trial, python_random_state, try_evaluation

__all__ = ["Caller", "EvaluationSource", "Metrics", "check_columns", "find_caller"]


class EvaluationSource(NamedTuple):
    """The Model that a callback evaluates, the dataset, and the interval in steps besides the ends of epochs.

    `start_epoch` is the first epoch in which it evaluates.
    """

    model: Optional[Model]
    dataset: Any
    every_n_steps: Optional[int] = None
    start_epoch: int = 1


class Caller(NamedTuple):
    """The Model whose `train` or `fit` is called, and the dataset and the epochs that `fit` evaluates by itself."""

    model: Model
    valid_dataset: Any = None
    evaluated_epochs: frozenset[int] = frozenset()


class Metrics:
    """The validation values of a run whose parameters are `args`.

    Attributes:
        source (EvaluationSource | None): what a callback evaluates; `None` if none does.
        train_names (tuple[str, ...]): the names of the values that each training step gives, `loss` first.
        results (dict[str, Any]): the values of the latest evaluation by name, numbers as `float`.
        names_so_far (frozenset[str]): the names of all validation values that the run has had.

    Args:
        args: the parameters of MindSpore's run context, where results are published as `Model.fit` publishes them.
        train_names: the names of the values that each training step gives, `loss` first.
        source: what a callback evaluates; `None` if none does.
        caller: what `Model.train` or `Model.fit` was called with; `None` if that is not known.
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
        self._reported: set[str] = set()  # the names whose values were reported not to be numbers
        self.names_so_far: frozenset[str] = frozenset()
        self.results: dict[str, Any] = {}

    def follows(self, name: str) -> bool:
        """Return whether a name means a value of the training steps: the loss, or one named by a callback."""
        return is_train_loss(name) or name in self.train_names

    # Before the first step

    @property
    def model(self) -> Optional[Model]:
        """The Model that the run evaluates; `None` if it never does, or that is not known."""
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
        """Whether this is a `Model.fit` that evaluates by itself, as far as is known."""
        return self._caller is not None and self._caller.valid_dataset is not None

    def fit_evaluates_in(self, epoch: int) -> bool:
        """Return whether this is a `Model.fit` that evaluates by itself at the end of this epoch."""
        return self.fit_evaluates and self._caller is not None and epoch in self._caller.evaluated_epochs

    @property
    def names(self) -> Optional[list[str]]:
        """The names of the validation values that the run will have; `None` if they are not known in advance.

        A metric that returns several in a dictionary is listed under its own name.
        """
        ahead = self._ahead
        return None if ahead is None else list(ahead)

    @property
    def may_have_others(self) -> bool:
        """Whether there may be validation values whose names are not known in advance, as in a metric's dictionary."""
        ahead = self._ahead
        if ahead is None:
            return True
        if not any(may_give_several(metric) for metric in ahead.values() if metric is not None):
            return False
        try:
            trial = self.trial()
        except ValueError:  # raised later, once everything else is in order
            return True
        return trial.results is None or any(isinstance(value, Mapping) for value in trial.results.values())

    def trial(self) -> Trial:
        """Return what one batch of the validation data shows; raise if it cannot be evaluated.

        Nothing is tried if a network is split: what is compiled first there decides how its parameters are split.
        """
        model, dataset = self.model, self.dataset
        if model is None or dataset is None or model.eval_network is None or self._is_split:
            return Trial(None, None)
        if self._trial is None:
            with python_random_state():  # safe only here, before the training data draw random numbers
                self._trial = try_evaluation(model, dataset)
        return self._trial

    @property
    def classes(self) -> Optional[int]:
        """How many classes the network has, if a trial was made and has shown it."""
        return None if self._trial is None else self._trial.classes

    def check_evaluates(self, owner: str, name: str) -> None:
        """Raise if the run will never evaluate, although `name` needs it."""
        if distributed.count() > 1 and self.source is None:
            raise ValueError(
                f"{owner}: {name!r} is used by {distributed.count()} processes together, but Model.fit alone gives "
                f"each its own value; add Validate(model, valid_dataset) to the callbacks"
            )
        if self._ahead == {}:
            raise ValueError(
                f"{owner}: {name!r} needs an evaluation, but this run never evaluates; add "
                f"Validate(model, valid_dataset) to the callbacks, or use Model.fit with a valid_dataset and a "
                f"valid_frequency within its epochs, or watch the training loss as 'loss'"
            )

    def known_metric(self, name: str) -> object:
        """Return the Model's metric with exactly this name; `None` if there is none or it is not known."""
        return (self._ahead or {}).get(name)

    def metric(self, owner: str, name: str) -> object:
        """Check that the run will have a value of this name; return its metric, or `None` if that is not known."""
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
        # A user's own evaluation network returns its outputs in no fixed order, and the loss cannot be identified.
        return metrics if eval_indexes_of(model) is None else {EVAL_LOSS: None, **metrics}

    # In an evaluation

    def eval_hooks(self) -> EvalHooks:
        """Return a callback for `Model.eval` that calls the callbacks' evaluation hooks, as `Model.fit` does."""
        return EvalHooks(self._args)

    def publish(self, metrics: dict[str, Any], eval_loss: Optional[float]) -> None:
        """Set the results where `Model.fit` sets them, for MindSpore's own callbacks as well as ours."""
        self._args["metrics"] = metrics
        self._args["eval_results"] = with_eval_loss(metrics, eval_loss)

    @property
    def published(self) -> Optional[dict[str, Any]]:
        """What `Model.fit`, or a callback that evaluates, has published; `None` before that."""
        results = self._args.get("eval_results")
        # `fit` overwrites a metric of that name with its own `eval_loss`, from the last batch.
        return None if results is None else {**results, **self._args.get("metrics", {})}

    @property
    def is_published(self) -> bool:
        """Whether something is published other than from an evaluation between two steps."""
        results = self._args.get("eval_results")
        return results is not None and results is not self._between_steps

    def remove_earlier(self) -> None:
        """Remove what an evaluation between two steps has published, so that it is not mistaken for a new one."""
        if self._between_steps is not None and not self.is_published:
            self._args.pop("eval_results", None)
            self._args.pop("metrics", None)
        self._between_steps = None
        self.results = {}

    def read(self, *, at_epoch_end: bool = True) -> dict[str, Any]:
        """Read the published values into `results`; report one that is not a number in a line, once."""
        if not at_epoch_end:
            self._between_steps = self._args.get("eval_results")
        self.results = named(self.published or {}, (*OF_RUN, *self.train_names))
        for name, value in self.results.items():
            if not isinstance(value, float) and name not in self._reported:
                self._reported.add(name)
                log_line(f"Model: the metric {name!r} gave {described(value)}, not a number to monitor or record")
        self.names_so_far = self.names_so_far.union(self.results)
        return self.results


def check_columns(what: str, model: Model, dataset: Any) -> None:
    """Raise if a dataset to evaluate has columns other than data and label, and the Model takes no others."""
    columns = dataset.get_col_names()
    if isinstance(model.eval_network, nn.WithEvalCell) and len(columns) != 2:
        raise ValueError(
            f"{what} must have two columns, data and label, but it has {len(columns)}: {columns}; "
            f"name them with project(), or give the Model an eval_network that takes them"
        )


def find_caller() -> Optional[Caller]:
    """Return what the current call of `Model.train` or `Model.fit` was made with; `None` if that is not found.

    This allows a wrong monitor to be refused before the first step instead of after the first epoch.
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
