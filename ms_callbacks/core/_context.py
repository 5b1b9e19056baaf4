"""The only reader of MindSpore's `RunContext`: where a training run stands, in plain numbers and tensors.

All callbacks of one run share one `Run`, kept in the run's own parameters, so that whatever costs anything (an
evaluation, a read from the device) happens once an epoch, whoever asks first. That is why the order of our callbacks
in the list does not matter.
"""

from __future__ import annotations

import math
import sys
import time
from types import FrameType
from typing import Any, Callable, Optional

import numpy as np
from mindspore import Parameter, nn
from mindspore.train import Model

from . import _mindspore_compat, _ranks
from ._checks import quoted
from ._eval_hooks import EvalHooks
from ._losses import Losses
from ._metrics import by_name, described, may_give_several, named, with_eval_loss
from ._model_parts import positional_count, take_apart
from ._names import EVAL_LOSS, OF_RUN, TRAIN_LOSS, alike, hint, is_train_loss, key_among
from ._output import emit
from ._rates import Rates
from ._roles import Evaluator, Examiner, OutputDescriber, Reporter, Restorer, StateKeeper, Writer
from ._step_end import StepEnd

__all__ = ["Run", "check_columns", "eval_labels", "eval_outputs", "metrics_of"]

Clock = Callable[[Any, str, Callable[[Any], None]], Callable[[Any], None]]  # of a callback's act in a hook

_KEY = "_ms_callbacks_run"


class Run:
    """One call of `Model.train` or `Model.fit`.

    Epochs and steps count from 1; `epoch` is absolute, so that a run with `initial_epoch=5` begins at epoch 6.
    """

    def __init__(self, run_context: Any, caller: Optional[tuple[Model, bool]] = None) -> None:
        self._context = run_context
        self._args = run_context.original_args()
        _mindspore_compat.give_unique_names(self.train_network)
        self._parts = take_apart(self._args["network"], self._args.get("loss_fn"), self._args.get("optimizer"))
        self._started = False
        self._evaluated_epoch = self._mean_epoch = 0
        self._train_means: dict[str, Optional[float]] = {}
        self._results: dict[str, Any] = {}
        self._seen: set[str] = set()  # the names of results so far
        self._told: set[str] = set()  # those of which it was told that they are no numbers
        self._rates: Optional[Rates] = None
        self._rates_epoch = 0
        self._epoch_rates: list[float] = []
        self._noted_epoch = self._first_step = 0
        self._steps_per_epoch = 0
        self._epoch_began = self._steps_ended = 0.0
        self._record: dict[str, Any] = {}
        self._resumed: dict[str, Any] = {}
        self._has_ended = self._is_decided = False
        describers = [callback for callback in self.callbacks if isinstance(callback, OutputDescriber)]
        self.losses = Losses(describers[0].output_reader() if describers else None)
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
        """The network that is trained, found inside the training cell where the Model was given one."""
        network = self._parts.network
        if network is None:
            cell = type(self._args["network"]).__name__
            raise ValueError(
                f"cannot tell which of the cells inside {cell} is the network to look at; pass network=..., "
                f"or let {cell} hold it as self.network"
            )
        return network

    @property
    def weights(self) -> dict[str, Parameter]:
        """What is learnt, by name: the parameters of the network and of its loss, and none of an optimizer's."""
        return self._parts.weights

    @property
    def weights_beside(self) -> list[str]:
        """Which of `weights` are not the network's, but its loss's or another network's."""
        return sorted(self._parts.beside)

    @property
    def train_network(self) -> nn.Cell:
        """The network with its loss and optimizer."""
        return self._args["train_network"]

    @property
    def loss_fn(self) -> Any:
        """The loss function; `None` where the network computes its own loss."""
        return self._parts.loss_fn

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
        return batch[:-1] if self.loss_fn is not None else batch[: positional_count(self.network)]

    @property
    def optimizers(self) -> tuple[Any, ...]:
        """The optimizers, the Model's or those that its training cell holds; none where it trains by other means."""
        return self._parts.optimizers

    @property
    def optimizer(self) -> Any:
        """The first of the optimizers; `None` where there is none."""
        return self.optimizers[0] if self.optimizers else None

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
                **self.train_means,
                **{name: value for name, value in self.results.items() if isinstance(value, float)},
                "learning_rate": rates[0] if rates else None,
                "seconds": self.seconds,
                "samples_per_second": samples / self.seconds if samples and self.seconds else None,
            }
        return self._record

    @property
    def mean_loss(self) -> Optional[float]:
        """The mean training loss of the epoch, over all processes. For the end of an epoch."""
        return self.train_means[TRAIN_LOSS]

    @property
    def train_means(self) -> dict[str, Optional[float]]:
        """The means of the epoch's training steps, over all processes: `loss`, and what else of them is followed.

        For the end of an epoch.
        """
        if self._mean_epoch != self.epoch:
            self._mean_epoch = self.epoch
            sums: list[float] = [*self.losses.total, *self.losses.other_sums.values()]
            loss, steps, *others = _ranks.total(sums) if _ranks.count() > 1 else sums
            means = (one / steps if steps else None for one in (loss, *others))
            self._train_means = dict(zip(self.train_names, means))
        return self._train_means

    @property
    def train_names(self) -> tuple[str, ...]:
        """The names of `train_means`."""
        return (TRAIN_LOSS, *self.losses.reader.names)

    def follows(self, name: str) -> bool:
        """Whether a value's name means one that each training step gives: the loss, or another that was named."""
        return is_train_loss(name) or name in self.losses.reader.names

    @property
    def results(self) -> dict[str, Any]:
        """The epoch's validation values by name, numbers as `float`; empty where it was not evaluated.

        For the end of an epoch.
        """
        if self._evaluated_epoch != self.epoch:
            self._evaluated_epoch = self.epoch
            for callback in self.callbacks:
                if isinstance(callback, Evaluator):
                    callback.evaluate(self)
            self._results = named(self.fit_results or {}, (*OF_RUN, *self.train_names))
            for name, value in self._results.items():
                if not isinstance(value, float) and name not in self._told:
                    self._told.add(name)
                    emit(f"Model: the metric {name!r} gave {described(value)}, which is no number to monitor or record")
            self._seen.update(self._results)
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
        if self.follows(name):
            return self.train_means[TRAIN_LOSS if is_train_loss(name) else name]
        if not results:
            return None
        key = key_among(name, results)
        if key is None:
            if key_among(name, self._seen) is not None:
                return None  # a metric need not give it every time
            raise _unknown(owner, name, results)
        value, eval_loss = results[key], results.get(EVAL_LOSS)
        if not isinstance(value, float):
            raise TypeError(
                f"{owner}: monitor {name!r} must be a single number, but the metric returned {value!r} "
                f"({type(value).__name__}); monitor another, or make the metric return its mean"
            )
        # Of logits that are NaN, MindSpore's metrics make a plausible accuracy; the loss tells.
        return math.nan if isinstance(eval_loss, float) and math.isnan(eval_loss) else value

    def publish(self, metrics: dict[str, Any], eval_loss: Optional[float]) -> None:
        """Sets this epoch's results where `Model.fit` sets them, for MindSpore's own callbacks as for ours."""
        self._args["metrics"] = metrics
        self._args["eval_results"] = with_eval_loss(metrics, eval_loss)

    def evaluate_first(self) -> None:
        """Has each epoch evaluated before the first callback hears of its end, as `Model.fit` does.

        Without it, the callbacks that stand before the first of ours would hear of it before.
        """
        frame = _training_frame()
        manager: Any = frame.f_locals.get("list_callback") if frame is not None else None
        end_epoch = getattr(manager, "on_train_epoch_end", None)
        if end_epoch is None:  # not MindSpore's own loop
            return

        def evaluate_and_end_epoch(run_context: Any) -> None:
            self.end_steps()
            if not self.is_cut_short:
                self.results  # noqa: B018
            end_epoch(run_context)

        manager.on_train_epoch_end = evaluate_and_end_epoch

    def evaluating(self) -> EvalHooks:
        """A callback for `Model.eval` that calls the evaluation hooks of the run's callbacks, as `Model.fit` does."""
        return EvalHooks(self._args)

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
        """The names of the validation values that the run will have; `None` where that cannot be seen ahead.

        A metric that gives several in a dictionary stands for them by its own name.
        """
        metrics = self._metrics_ahead
        return None if metrics is None else list(metrics)

    @property
    def may_have_others(self) -> bool:
        """Whether validation values may come whose names cannot be seen ahead, as in the dictionary of a metric."""
        metrics = self._metrics_ahead
        return metrics is None or any(may_give_several(metric) for metric in metrics.values() if metric is not None)

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
    def _metrics_ahead(self) -> Optional[dict[str, Any]]:
        evaluators = [callback for callback in self.callbacks if isinstance(callback, Evaluator)]
        if evaluators:
            model = evaluators[0].model
        elif self._caller is None:
            return None
        elif self._caller[1]:
            model = self._caller[0]
        else:
            return {}
        metrics = by_name(metrics_of(model))
        # An evaluation network of the user's own gives its outputs in no fixed order, and the loss cannot be told.
        return metrics if model._eval_indexes is None else {EVAL_LOSS: None, **metrics}

    def metric(self, owner: str, name: str) -> object:
        """Checks at the start that the run will have a monitor `name`; returns its metric where that can be seen."""
        metrics = None if self.follows(name) else self.metrics_ahead(owner, name)
        if metrics is None:
            return None
        key = key_among(name, metrics)
        if key is not None:
            return metrics[key]
        if self.may_have_others and alike(name, metrics) is None:
            return None  # the first evaluation tells
        raise _unknown(owner, name, metrics)


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


def _as_it_is(callback: Any, hook: str, act: Callable[[Any], None]) -> Callable[[Any], None]:
    """What a callback does in a hook, where nobody wants to know what it costs."""
    return act


def _calling_model() -> Optional[tuple[Model, bool]]:
    """The Model whose `train` or `fit` is under way, and whether it evaluates by itself; `None` where none is found.

    MindSpore 2.0 to 2.10 give a callback neither, so the calling frames are asked: a wrong monitor can then be
    refused before the first step instead of after the first epoch.
    """
    frame = _training_frame()
    if frame is None:
        return None
    model: Model = frame.f_locals["self"]
    valid_dataset, frequency, _ = frame.f_locals["valid_infos"] or (None, 1, None)
    if valid_dataset is not None and not valid_dataset:
        raise ValueError(
            "Model.fit: the valid_dataset is empty and would never be evaluated; a batch_size above its length "
            "with drop_remainder=True drops it all"
        )
    if valid_dataset is not None:
        check_columns("Model.fit: the valid_dataset", model, valid_dataset)
    epochs = range(frame.f_locals["initial_epoch"] + 1, frame.f_locals["epoch"] + 1)
    evaluated = [e for e in epochs if (e % frequency == 0 if isinstance(frequency, int) else e in frequency)]
    return model, valid_dataset is not None and bool(evaluated)


def _training_frame() -> Optional[FrameType]:
    """The frame of the loop of MindSpore's that calls this."""
    frame: Optional[FrameType] = sys._getframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), Model) and "valid_infos" in frame.f_locals:
            return frame
        frame = frame.f_back
    return None


def _unknown(owner: str, name: str, results: dict[str, Any]) -> ValueError:
    names = sorted({*results, TRAIN_LOSS})
    return ValueError(f"{owner}: monitor {name!r} is not among this run's values ({quoted(names)}){hint(name, names)}")
