"""The only reader of MindSpore's `RunContext`: where a training run stands, in plain numbers and tensors.

All callbacks of one run share one `Run`, kept in the run's own parameters, so that whatever costs anything (an
evaluation, a read from the device) happens once an epoch, whoever asks first. That is why the order of our callbacks
in the list does not matter.
"""

from __future__ import annotations

import math
import numbers
import sys
import time
from typing import Any, Callable, Optional

import numpy as np
from mindspore import Tensor, nn
from mindspore.train import Model

from . import _ranks
from ._checks import nearest, quoted
from ._losses import Losses
from ._names import EVAL_LOSS, TRAIN_LOSS, is_train_loss, key_among
from ._rates import Rates
from ._roles import Evaluator, Examiner, Reporter, Restorer, StateKeeper, Writer
from ._step_end import StepEnd

__all__ = ["Run", "check_columns", "eval_labels", "eval_outputs", "metrics_of", "parts_of"]

Clock = Callable[[Any, str, Callable[[Any], None]], Callable[[Any], None]]  # of a callback's act in a hook

_KEY = "_ms_callbacks_run"


class Run:
    """One call of `Model.train` or `Model.fit`.

    Epochs and steps count from 1; `epoch` is absolute, so that a run with `initial_epoch=5` begins at epoch 6.
    """

    def __init__(self, run_context: Any, caller: Optional[tuple[Model, bool]] = None) -> None:
        self._context = run_context
        self._args = run_context.original_args()
        self._started = False
        self._evaluated_epoch = self._mean_epoch = 0
        self._mean_loss: Optional[float] = None
        self._results: dict[str, Any] = {}
        self._rates: Optional[Rates] = None
        self._rates_epoch = 0
        self._epoch_rates: list[float] = []
        self._noted_epoch = self._first_step = 0
        self._steps_per_epoch = 0
        self._epoch_began = self._steps_ended = 0.0
        self._record: dict[str, Any] = {}
        self._resumed: dict[str, Any] = {}
        self._has_ended = self._is_decided = False
        self.losses = Losses()
        self.step_end = StepEnd(self, self._args, self.losses)
        self._follower: Any = None
        self.clocked: Clock = _as_it_is
        self.initial_epoch = 0
        self.resumed_steps = 0  # of its first epoch, those that an earlier run has done
        self.is_interrupted = False
        self.is_state_asked = False  # whether the state is to be kept as soon as it can be
        self._caller = caller or _calling_model()

    @classmethod
    def of(cls, run_context: Any) -> Run:
        """The run that `run_context` belongs to."""
        args = run_context.original_args()
        run = args.get(_KEY)
        if run is None:
            run = args[_KEY] = cls(run_context)
            for keeper in run._keepers:
                keeper.hand_out(run)
        return run

    # What it goes through

    def begin_epoch(self) -> bool:
        """Takes note that an epoch begins; the first callback to say so counts. Whether the run has begun with that."""
        is_first = not self._started
        if is_first:
            self._started = True
            self.initial_epoch = self.epoch - 1  # MindSpore tells it to nobody before the first epoch
        elif self._noted_epoch != self.epoch:
            for keeper in self._keepers:
                keeper.keep_state(self, self.epoch - 1, 0)
        if self._noted_epoch != self.epoch:
            self._note_epoch(first_step=self._args["cur_step_num"] + 1)
        return is_first

    def _note_epoch(self, first_step: int) -> None:
        self._noted_epoch, self._first_step = self.epoch, first_step
        self._epoch_began, self._steps_ended = time.perf_counter(), 0.0
        self.losses.begin_epoch()
        if self._resumed and self.epoch == self.initial_epoch + 1:
            self._first_step -= self.resumed_steps
            self._epoch_began -= self._resumed["seconds"]
            self.losses.load_state_dict(self._resumed["losses"])
        self.step_end.begin_epoch(first_step, self._first_step + self.steps_per_epoch - 1)

    def end_steps(self) -> None:
        """Takes note that the epoch's steps have ended; the first to say so counts."""
        self._steps_ended = self._steps_ended or time.perf_counter()

    def end_epoch(self) -> None:
        """Takes note that an epoch has ended; the first callback to say so counts."""
        self.end_steps()
        if self.is_cut_short and not self._has_ended:
            self._has_ended = True
            for keeper in self._keepers:
                keeper.keep_state(self, self.epoch - 1, self.step_in_epoch)

    def end(self) -> None:
        """Takes note that the run has ended; the first callback to say so counts."""
        if self._has_ended:
            return
        self._has_ended = True
        for callback in self.callbacks:
            if isinstance(callback, Writer):
                callback.finish_writing()
        for keeper in self._keepers:
            if self.is_interrupted and not self._is_decided and self.epoch < self.epochs:
                keeper.keep_state(self, self.epoch, 0)
            else:
                keeper.finish(self)

    def interrupt(self) -> None:
        """Asks MindSpore to stop after this step or epoch, so that a later run can go on."""
        if not self.is_stopping:
            self.is_interrupted = True
            self._context.request_stop()

    @property
    def is_cut_short(self) -> bool:
        """Whether the run was interrupted in the middle of the epoch, which then has not been learnt to its end."""
        return self.is_interrupted and self.step_in_epoch < self.steps_per_epoch

    def state_dict(self) -> dict[str, Any]:
        """How the epoch under way has gone so far."""
        return {"losses": self.losses.state_dict(), "seconds": self.seconds}

    def go_on(self, steps: int, state: dict[str, Any]) -> None:
        """Lets the first epoch go on after `steps` steps, from a state that `state_dict` returned."""
        self.resumed_steps, self._resumed = steps, state

    @property
    def _keepers(self) -> list[StateKeeper]:
        return [callback for callback in self.callbacks if isinstance(callback, StateKeeper)]

    # Where it stands

    @property
    def epoch(self) -> int:
        """The epoch under way."""
        return int(self._args["cur_epoch_num"])

    @property
    def epochs(self) -> int:
        """The last epoch planned."""
        return self.initial_epoch + int(self._args["epoch_num"])  # `epoch_num` counts from `initial_epoch`

    @property
    def steps_per_epoch(self) -> int:
        """The steps of an epoch."""
        if self._steps_per_epoch == 0:
            # With sink mode asked for on a CPU, `batch_num` is `sink_size` while the whole dataset runs.
            sinks = self.is_sinking
            self._steps_per_epoch = self._args["batch_num"] if sinks else self.train_dataset.get_dataset_size()
        return self._steps_per_epoch

    @property
    def step_in_epoch(self) -> int:
        """The step under way, within its epoch."""
        step: int = self._args["cur_step_num"] - self._first_step + 1
        return step

    @property
    def step(self) -> int:
        """The step under way, since the first step of epoch 1."""
        # `cur_step_num` counts from the start of this call, whatever `initial_epoch`.
        return self.steps_before + int(self._args["cur_step_num"])

    @property
    def steps_before(self) -> int:
        """The steps that were done before this call."""
        return self.initial_epoch * self.steps_per_epoch + self.resumed_steps

    @property
    def is_sinking(self) -> bool:
        """Whether steps run on the device without coming back one by one."""
        return bool(self._args.get("dataset_sink_mode", False))

    @property
    def is_stopping(self) -> bool:
        """Whether somebody has asked for the run to stop."""
        return bool(self._context.get_stop_requested())

    def request_stop(self) -> None:
        """Asks MindSpore to stop after this step or epoch, for good."""
        self._is_decided = True
        self._context.request_stop()

    def settle(self) -> None:
        """Lets the network have the weights that it is to end with; for whoever looks at it at the end of the run."""
        for callback in self.callbacks:
            if isinstance(callback, Restorer):
                callback.restore()

    def examine(self) -> None:
        """Lets whoever looks at steps only now and then look now; for whoever keeps the weights."""
        for callback in self.callbacks:
            if isinstance(callback, Examiner):
                callback.examine(self)

    # What takes part in it

    @property
    def callbacks(self) -> list[Any]:
        """Every callback of the run, MindSpore's own and the user's included."""
        return list(self._args["list_callback"])

    @property
    def network(self) -> nn.Cell:
        """The network that the Model was made with."""
        return self._args["network"]

    @property
    def train_network(self) -> nn.Cell:
        """The network with its loss and optimizer."""
        return self._args["train_network"]

    @property
    def loss_fn(self) -> Any:
        """The loss function; `None` where the network computes its own loss."""
        return self._args.get("loss_fn")

    @property
    def train_dataset(self) -> Any:
        """The dataset that the Model trains on."""
        return self._args["train_dataset"]

    @property
    def batch(self) -> Optional[tuple[Any, ...]]:
        """The columns of the step's batch; `None` where they go to the device unseen."""
        element = self._args.get("train_dataset_element")
        return tuple(element) if element else None

    def inputs(self, owner: str) -> tuple[Any, ...]:
        """What the network takes of the step's batch: all columns, or those before the label."""
        batch = self.batch
        if batch is None:
            raise ValueError(
                f"{owner}: in sink mode batches go to the device unseen; train with dataset_sink_mode=False"
            )
        return batch[:-1] if self.loss_fn is not None else batch

    @property
    def optimizer(self) -> Any:
        """The optimizer; `None` where neither the Model nor its network holds one."""
        optimizer = self._args.get("optimizer")
        return optimizer if optimizer is not None else getattr(self.train_network, "optimizer", None)

    # What it yields

    @property
    def outputs(self) -> Any:
        """What the step's train network gave: a loss, or a tuple that begins with one."""
        return self._args.get("net_outputs")

    def is_first_to_follow(self, callback: Any) -> bool:
        """Whether this is the first callback that needs the loss of every step, and hands it over for the others."""
        if self._follower is None:
            self._follower = callback
        return self._follower is callback

    def report_at(self, step: int, reporter: Reporter) -> None:
        """Has `reporter` report at the end of a step of the epoch under way."""
        self.step_end.report_at(self._first_step - 1 + step, reporter)

    @property
    def seconds(self) -> float:
        """The time that the epoch's steps have taken; evaluation does not count."""
        return (self._steps_ended or time.perf_counter()) - self._epoch_began

    @property
    def record(self) -> dict[str, Any]:
        """What there is to tell of the epoch, in plain numbers. For the end of an epoch.

        Its number, the mean training loss, the validation values that are numbers, the learning rate (of the first
        parameter group), the seconds that its steps took, and the samples a second, where batches are seen.
        """
        if self._record.get("epoch") != self.epoch:
            batch, rates = self.batch, self.rates
            samples = self.step_in_epoch * batch[0].shape[0] if batch and batch[0].shape else None
            self._record = {
                "epoch": self.epoch,
                "loss": self.mean_loss,
                **{name: float(np.asarray(value).item()) for name, value in self.results.items() if _is_number(value)},
                "learning_rate": rates[0] if rates else None,
                "seconds": self.seconds,
                "samples_per_second": samples / self.seconds if samples and self.seconds else None,
            }
        return self._record

    @property
    def mean_loss(self) -> Optional[float]:
        """The mean training loss of the epoch, over all processes. For the end of an epoch."""
        if self._mean_epoch != self.epoch:
            self._mean_epoch = self.epoch
            loss, steps = _ranks.total(self.losses.total) if _ranks.count() > 1 else self.losses.total
            self._mean_loss = loss / steps if steps else None
        return self._mean_loss

    @property
    def results(self) -> dict[str, Any]:
        """The epoch's validation values by name; empty where it was not evaluated. For the end of an epoch."""
        if self._evaluated_epoch != self.epoch:
            self._evaluated_epoch = self.epoch
            for callback in self.callbacks:
                if isinstance(callback, Evaluator):
                    callback.evaluate(self)
            self._results = _with_eval_loss(self.fit_results or {}, None)
        return self._results

    @property
    def rates(self) -> list[float]:
        """The learning rates of the epoch's last step; none without an optimizer. For the end of an epoch.

        Who changes the rate at the end of an epoch asks for them first, so that they are the same for all.
        """
        if self._rates_epoch != self.epoch and isinstance(self.optimizer, nn.Optimizer):
            self._rates_epoch = self.epoch
            self._rates = self._rates or Rates(self.optimizer)
            self._epoch_rates = self._rates.read()
        return self._epoch_rates

    def value(self, owner: str, name: str) -> Optional[float]:
        """The epoch's value of a monitor; `None` where the epoch was not evaluated. For the end of an epoch.

        Where the evaluation's loss is NaN, so is each of its values.
        """
        results = self.results
        if is_train_loss(name):
            return self.mean_loss
        if not results:
            return None
        key = key_among(name, results)
        if key is None:
            raise _unknown(owner, name, results)
        value = _as_number(owner, name, results[key])
        # Of logits that are NaN, MindSpore's metrics make a plausible accuracy; the loss tells.
        eval_loss: Any = results.get(EVAL_LOSS)
        return math.nan if _is_number(eval_loss) and np.isnan(eval_loss) else value

    def publish(self, metrics: dict[str, Any], eval_loss: Optional[float]) -> None:
        """Sets this epoch's results where `Model.fit` sets them, for MindSpore's own callbacks as for ours."""
        self._args["metrics"] = metrics
        self._args["eval_results"] = _with_eval_loss(metrics, eval_loss)

    @property
    def fit_results(self) -> Optional[dict[str, Any]]:
        """What `Model.fit`, or our evaluator, has published for this epoch."""
        results = self._args.get("eval_results")
        return None if results is None else dict(results)

    @property
    def evaluates_itself(self) -> bool:
        """Whether this is a `Model.fit` that evaluates, as far as it can be seen."""
        return self._caller is not None and self._caller[1]

    @property
    def result_names(self) -> Optional[list[str]]:
        """The names of the validation values that the run will have; `None` where that cannot be seen ahead."""
        metrics = self._metrics_ahead
        return None if metrics is None else list(metrics)

    def metrics_ahead(self, owner: str, name: str) -> Optional[dict[str, Any]]:
        """The validation values that this run will have, each with its metric, seen from the start of the run.

        `None` where that cannot be seen; an error where the run will never evaluate, for `name` needs it.
        """
        metrics = self._metrics_ahead
        if _ranks.count() > 1 and not any(isinstance(callback, Evaluator) for callback in self.callbacks):
            raise ValueError(
                f"{owner}: {name!r} is to be decided upon by {_ranks.count()} processes together, and Model.fit alone "
                f"gives each its own; add Validate(model, valid_dataset) to the callbacks"
            )
        if metrics is not None and not metrics:
            raise ValueError(
                f"{owner}: {name!r} needs an evaluation, but this run never evaluates; add "
                f"Validate(model, valid_dataset) to the callbacks, or use Model.fit with a valid_dataset and a "
                f"valid_frequency within its epochs, or watch the training loss as 'loss'"
            )
        return metrics

    @property
    def evaluated_model(self) -> Optional[Model]:
        """The Model that the run evaluates, seen from its start; `None` where it never does, or that cannot be seen."""
        evaluators = [callback for callback in self.callbacks if isinstance(callback, Evaluator)]
        if evaluators:
            return evaluators[0].model
        return self._caller[0] if self._caller is not None and self._caller[1] else None

    @property
    def _metrics_ahead(self) -> Optional[dict[str, Any]]:
        model = self.evaluated_model
        if model is None:
            return None if self._caller is None else {}
        metrics = _with_eval_loss(metrics_of(model), None)
        # An evaluation network of the user's own gives its outputs in no fixed order, and the loss cannot be told.
        return metrics if model._eval_indexes is None else {EVAL_LOSS: None, **metrics}

    def metric(self, owner: str, name: str) -> object:
        """Checks at the start that the run will have a monitor `name`; returns its metric where that can be seen."""
        metrics = None if is_train_loss(name) else self.metrics_ahead(owner, name)
        if metrics is None:
            return None
        key = key_among(name, metrics)
        if key is None:
            raise _unknown(owner, name, metrics)
        return metrics[key]


def eval_outputs(run_context: Any) -> tuple[Any, Any]:
    """In a hook of an evaluation: the outputs of the evaluation network for a batch, and the batch's columns."""
    args = run_context.original_args()
    return args["net_outputs"], args.get("eval_dataset_element")


def eval_labels(run_context: Any) -> Optional[np.ndarray[Any, Any]]:
    """In the hook at the beginning of an evaluation's step: the batch's labels; `None` where they cannot be told."""
    args = run_context.original_args()
    element = args.get("eval_dataset_element")
    if not isinstance(args.get("eval_network"), nn.WithEvalCell) or not element or len(element) != 2:
        return None
    labels: np.ndarray[Any, Any] = element[1].asnumpy()
    return labels


def check_columns(what: str, model: Model, dataset: Any) -> None:
    """Raises where a dataset to evaluate has other columns than data and label, and the Model takes no others."""
    columns = dataset.get_col_names()
    if isinstance(model.eval_network, nn.WithEvalCell) and len(columns) != 2:
        raise ValueError(
            f"{what} must have two columns, data and label, but it has {len(columns)}: {columns}; "
            f"name them with project(), or give the Model an eval_network that takes them"
        )


def metrics_of(model: Model) -> dict[str, Any]:
    """The metrics that a Model was made with, by name."""
    return dict(getattr(model, "_metric_fns", None) or {})


def parts_of(model: Model) -> tuple[nn.Cell, Any]:
    """The network that a Model was made with, and its loss function; `None` where the network computes its own loss."""
    return model._network, model._loss_fn


def _as_it_is(callback: Any, hook: str, act: Callable[[Any], None]) -> Callable[[Any], None]:
    """What a callback does in a hook, where nobody wants to know what it costs."""
    return act


def _calling_model() -> Optional[tuple[Model, bool]]:
    """The Model whose `train` or `fit` is under way, and whether it evaluates by itself; `None` where none is found.

    MindSpore 2.0 to 2.10 give a callback neither, so the calling frames are asked: a wrong monitor can then be
    refused before the first step instead of after the first epoch.
    """
    frame = sys._getframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Model) and "valid_infos" in frame.f_locals:
            valid_dataset, frequency, _ = frame.f_locals["valid_infos"] or (None, 1, None)
            if valid_dataset is not None and not valid_dataset:
                raise ValueError(
                    "Model.fit: the valid_dataset is empty and would never be evaluated; a batch_size above its length "
                    "with drop_remainder=True drops it all"
                )
            if valid_dataset is not None:
                check_columns("Model.fit: the valid_dataset", caller, valid_dataset)
            epochs = range(frame.f_locals["initial_epoch"] + 1, frame.f_locals["epoch"] + 1)
            evaluated = [e for e in epochs if (e % frequency == 0 if isinstance(frequency, int) else e in frequency)]
            return caller, valid_dataset is not None and bool(evaluated)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _with_eval_loss(metrics: dict[str, Any], eval_loss: Optional[float]) -> dict[str, Any]:
    """`metrics` with the validation loss under its one name: the Model's own where it has one, whatever its name."""
    results = dict(metrics)
    # `fit` has an `eval_loss` beside a metric `loss`, from the last batch alone; the metric covers all.
    own = results.pop(TRAIN_LOSS, results.get(EVAL_LOSS, eval_loss))
    return results if own is None else {**results, EVAL_LOSS: own}


def _unknown(owner: str, name: str, results: dict[str, Any]) -> ValueError:
    names = sorted({*results, TRAIN_LOSS})
    return ValueError(
        f"{owner}: monitor {name!r} is not among this run's values ({quoted(names)}){nearest(name, names)}"
    )


def _as_number(owner: str, name: str, value: Any) -> float:
    if isinstance(value, Tensor):
        value = value.asnumpy()
    if _is_number(value):
        return float(np.asarray(value).item())
    raise TypeError(
        f"{owner}: monitor {name!r} must be a single number, but the metric returned {value!r} "
        f"({type(value).__name__}); monitor another, or make the metric return its mean"
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.size == 1 and np.issubdtype(value.dtype, np.number)
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
