"""The only reader of MindSpore's `RunContext`: what a training run is made of and what it yields, in plain values.

All callbacks of one run share one `Run`, kept in the run's own parameters, so that whatever costs anything (an
evaluation, a read from the device) happens once an epoch, at the first request. That is why the order of our callbacks
in the list does not matter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
from mindspore import Parameter, nn
from mindspore.train import Model

from . import distributed, mindspore_compat
from .arguments import quoted
from .background import BackgroundThread
from .console import emit
from .eval_hooks import EvalHooks
from .hooks import Evaluator, Examiner, OutputDescriber, Reporter, Restorer, StateKeeper, Writer
from .learning_rates import Rates
from .losses import Losses
from .metrics import by_name, described, may_give_several, named, with_eval_loss
from .mindspore_compat import eval_indexes_of, metrics_of, training_call
from .model_parts import positional_count, take_apart
from .names import EVAL_LOSS, OF_RUN, TRAIN_LOSS, alike, hint, is_train_loss, key_among
from .placement import ALL_SEE_THE_SAME, Needs, check_whole
from .progress import Progress
from .shared_copies import Copies
from .step_hooks import StepEnd
from .trial import Trial, try_evaluation

__all__ = ["Caller", "Run", "check_columns", "eval_labels", "eval_outputs"]

Clock = Callable[[Any, str, Callable[[Any], None]], Callable[[Any], None]]  # of a callback's act in a hook

_KEY = "_ms_callbacks_run"


class Caller(NamedTuple):
    """The Model whose `train` or `fit` is under way, and the dataset that it evaluates by itself; `None` for none."""

    model: Model
    valid_dataset: Any


class Run(Progress):
    """One call of `Model.train` or `Model.fit`: where it stands, who takes part in it, and what it yields."""

    def __init__(self, run_context: Any, caller: Optional[Caller] = None) -> None:
        super().__init__(run_context.original_args())
        self._context = run_context
        mindspore_compat.give_unique_names(self.train_network)
        self._parts = take_apart(self._args["network"], self._args.get("loss_fn"), self._args.get("optimizer"))
        self._evaluated_epoch = self._mean_epoch = 0
        self._train_means: dict[str, Optional[float]] = {}
        self._results: dict[str, Any] = {}
        self._seen: set[str] = set()  # the names of results so far
        self._told: set[str] = set()  # those of which it was told that they are no numbers
        self._rates: Optional[Rates] = None
        self._rates_epoch = 0
        self._epoch_rates: list[float] = []
        self._record: dict[str, Any] = {}
        self._resumed_losses: dict[str, Any] = {}
        self._has_ended = False
        self.is_over = False  # whether it has ended, and what is kept now is what it ended with
        self._decided_by = ""
        self.copies = Copies()
        self.background = BackgroundThread()
        describers = [callback for callback in self.callbacks if isinstance(callback, OutputDescriber)]
        self.losses = Losses(describers[0].output_reader() if describers else None)
        self.step_end = StepEnd(self, self._args, self.losses, self.ended_at)
        self._follower: Any = None
        self._first: Any = None
        self.is_place_known = True  # whether nobody is left who may move the run to another epoch
        self.wrap_handler: Clock = _as_it_is
        self.is_interrupted = False
        self.stopped_mid_epoch = False  # whether that was in the middle of an epoch, which was not learnt to its end
        self._trial: Optional[Trial] = None
        self.is_state_asked = False  # whether the state is to be kept as soon as it can be
        self._caller = caller or _caller()
        self.times_steps = self.evaluates_itself  # `fit` evaluates before anybody hears of the end

    @classmethod
    def of(cls, run_context: Any) -> Run:
        """The run that `run_context` belongs to."""
        args = run_context.original_args()
        run = args.get(_KEY)
        if run is None:
            run = args[_KEY] = cls(run_context)
        return run

    # What it goes through

    def load_run_state(self) -> None:
        """Gives the callbacks the state that they go on from, before any of them begins."""
        for keeper in self._keepers:
            keeper.load_run_state(self)

    def begin_epoch(self) -> None:
        """Begins an epoch, when the first callback reports it."""
        if not self.open_epoch():
            return
        if self.epoch > self.initial_epoch + 1:
            for keeper in self._keepers:
                keeper.save_run_state(self, self.epoch - 1, 0)
        self.losses.begin_epoch()
        if self._resumed_losses and self.steps_skipped:
            self.losses.load_state_dict(self._resumed_losses)
        self.step_end.begin_epoch(self._args["cur_step_num"] + 1, self.last_step)

    def end_epoch(self) -> None:
        """Ends an epoch, when the first callback reports it."""
        began = time.perf_counter()
        self.losses.read()  # which waits for the device
        # An epoch whose steps are not known ahead may have had another, had it not been interrupted. A stop that none
        # of ours has decided on is an interruption too, where the state is kept to continue from.
        is_interrupted = self.is_interrupted or bool(self.is_stopping and self._keepers and not self._decided_by)
        stopped_mid_epoch = is_interrupted and self.step_in_epoch != self.known_steps
        if self.close_epoch(began, time.perf_counter() - began, self.is_stopping) and stopped_mid_epoch:
            self.stopped_mid_epoch = True
            self._end(self.epoch - 1, self.step_in_epoch)

    def end(self) -> None:
        """Ends the run, when the first callback reports it."""
        self._end(self.epoch, 0)

    def _end(self, epochs: int, steps: int) -> None:
        if self._has_ended:
            return
        self._has_ended = self.is_over = True
        for callback in self.callbacks:
            if isinstance(callback, Writer):
                callback.flush()
        for keeper in self._keepers:
            keeper.save_run_state(self, epochs, steps)

    @property
    def finished_by(self) -> str:
        """What has finished the run: a callback's name, or that its last epoch is over; empty where nothing has."""
        is_complete = self.is_over and not self.stopped_mid_epoch and self.epoch >= self.epochs
        return self._decided_by or ("its last epoch" if is_complete else "")

    def interrupt(self) -> None:
        """Asks MindSpore to stop after this step or epoch, so that a later run can go on."""
        if not self.is_stopping:
            self.is_interrupted = True
            self._context.request_stop()

    def state_dict(self) -> dict[str, Any]:
        """How the epoch under way has gone so far."""
        return {"losses": self.losses.state_dict(), **super().state_dict()}

    def go_on(self, steps: int, state: dict[str, Any]) -> None:
        """Lets the first epoch go on after `steps` steps, from a state that `state_dict` returned."""
        super().go_on(steps, state)
        self._resumed_losses = state.get("losses", {})

    @property
    def _keepers(self) -> list[StateKeeper]:
        return [callback for callback in self.callbacks if isinstance(callback, StateKeeper)]

    @property
    def is_stopping(self) -> bool:
        """Whether somebody has asked for the run to stop."""
        return bool(self._context.get_stop_requested())

    def request_stop(self, by: str) -> None:
        """Asks MindSpore to stop after this step or epoch, for good; `by` is the callback that has decided so."""
        self._decided_by = self._decided_by or by
        self._context.request_stop()

    def restore_weights(self) -> None:
        """Gives the network the weights that it ends with, for what looks at it at the end of the run."""
        for callback in self.callbacks:
            if isinstance(callback, Restorer):
                callback.restore()

    def before_checkpoint(self) -> None:
        """Has the steps checked that are still unchecked, before weights are kept."""
        for callback in self.callbacks:
            if isinstance(callback, Examiner):
                callback.before_checkpoint(self)

    # What takes part in it

    @property
    def callbacks(self) -> list[Any]:
        """Every callback of the run, MindSpore's own and the user's included."""
        return list(self._args["list_callback"])

    @property
    def network(self) -> nn.Cell:
        """The network that is trained, found inside the training cell where the Model was given one."""
        return self.network_for(type(self).__name__)

    @property
    def has_network(self) -> bool:
        """Whether it can be told which network is trained."""
        return self._parts.network is not None

    def network_for(self, owner: str, given: Optional[nn.Cell] = None) -> nn.Cell:
        """The network to look at: the one that was given, or the one that is trained, where that can be told."""
        network = self._parts.network if given is None else given
        if network is None:
            cell = type(self._args["network"]).__name__
            raise ValueError(
                f"{owner}: cannot tell which of the cells inside {cell} is the network to look at; pass network=..., "
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
    def parallel_mode(self) -> str:
        """How the Model shares its work out over processes, as MindSpore names it."""
        return str(self._args.get("parallel_mode") or "stand_alone")

    @property
    def is_split(self) -> bool:
        """Whether processes share out one network between them, and not the samples."""
        return self.parallel_mode in ALL_SEE_THE_SAME

    def check_whole(self, owner: str, needs: Needs) -> None:
        """Raises where something that `owner` needs is not whole in this process."""
        repair = mindspore_compat.repair_among(self.callbacks)
        if Needs.RUN in needs and repair is not None:
            raise ValueError(
                f"{owner}: with {repair}, MindSpore repairs a fault and begins to train again in the middle of the "
                f"run, and what {owner} has learnt or written of it until then would be lost; leave one of the two out"
            )
        check_whole(owner, needs, self._args["train_network"], self.parallel_mode)

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

    def inputs(self, owner: str, network: Optional[nn.Cell] = None) -> tuple[Any, ...]:
        """What a network takes of the step's batch: those before the label, or as many as its `construct` has."""
        batch = self.batch
        if batch is None:
            raise ValueError(
                f"{owner}: in sink mode batches go to the device unseen; train with dataset_sink_mode=False"
            )
        if self.loss_fn is not None and network in (None, self._parts.network):
            return batch[:-1]
        return batch[: positional_count(self.network_for(owner, network))]

    @property
    def optimizers(self) -> tuple[Any, ...]:
        """The optimizers, the Model's or those that its training cell holds; none where it trains by other means."""
        return self._parts.optimizers

    @property
    def optimizer(self) -> Any:
        """The first of the optimizers; `None` where there is none."""
        return self.optimizers[0] if self.optimizers else None

    def all_rates(self) -> Optional[Rates]:
        """The learning rates of all optimizers; `None` where they are not all of `mindspore.nn`, or there is none."""
        known = self.optimizers and all(isinstance(one, nn.Optimizer) for one in self.optimizers)
        return Rates(self.optimizers) if known else None

    # What it yields

    @property
    def outputs(self) -> Any:
        """What the step's train network gave: a loss, or a tuple that begins with one."""
        return self._args.get("net_outputs")

    def is_first_to_need_losses(self, callback: Any) -> bool:
        """Whether this is the first callback that needs the loss of every step, and hands it over for the others."""
        if self._follower is None:
            self._follower = callback
        return self._follower is callback

    def is_first_to_begin(self, callback: Any) -> bool:
        """Whether this is the first callback of ours in the list, which begins the run for the others."""
        if self._first is None:
            self._first = callback
        return self._first is callback

    def report_at(self, step: int, reporter: Reporter) -> None:
        """Has `reporter` report at the end of a step of the epoch under way."""
        self.step_end.report_at(self._first_step - 1 + step, reporter)

    @property
    def record(self) -> dict[str, Any]:
        """What there is to tell of the epoch, in plain numbers. For the end of an epoch.

        Its number, the mean training loss, the validation values that are numbers, the learning rate (of the first
        parameter group), the seconds that its steps took, and the samples a second over all processes, where they are
        counted and each process has its own.
        """
        if self._record.get("epoch") != self.epoch:
            rates, samples = self.rates, self._all_samples
            self._record = {
                "epoch": self.epoch,
                **self.train_means,
                **{name: value for name, value in self.results.items() if isinstance(value, float)},
                "learning_rate": rates[0] if rates else None,
                "seconds": self.seconds,
                "samples_per_second": samples / self.seconds if samples is not None and self.seconds else None,
            }
        return self._record

    @property
    def _all_samples(self) -> Optional[int]:
        """The samples that the epoch's steps have seen in all processes; `None` where nobody has asked for them."""
        count = None if self.samples is None else self.samples.count
        if count is None or self.is_split:
            return None
        # In two halves that single precision holds: AllReduce takes no whole numbers on a CPU (MindSpore 2.10).
        high, low = (
            distributed.gathered(np.array(divmod(count, 2**20), np.float32)).reshape(-1, 2).astype(np.int64).sum(0)
        )
        return int(high * 2**20 + low)

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
            loss, steps, *others = distributed.total(sums) if distributed.count() > 1 else sums
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
        if self._rates_epoch != self.epoch:
            self._rates_epoch = self.epoch
            self._rates = self._rates or self.all_rates()
            self._epoch_rates = [] if self._rates is None else self._rates.read()
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

    def hear_first(self) -> None:
        """Hears of each epoch's end before the first callback does, and evaluates then, as `Model.fit` does.

        Without it, the callbacks that stand before the first of ours would hear of it before.
        """
        evaluates = any(isinstance(callback, Evaluator) for callback in self.callbacks)
        call = training_call()
        manager: Any = None if call is None else call.list_callback
        end_epoch = getattr(manager, "on_train_epoch_end", None)
        if end_epoch is None:  # not MindSpore's own loop
            return

        def evaluate_and_end_epoch(run_context: Any) -> None:
            if self.is_place_known:  # else the epoch had no step, and the callbacks are still to begin it
                self.end_epoch()
                if evaluates and not self.stopped_mid_epoch:
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
        # `fit` puts an `eval_loss` of its own, from the last batch, over a metric of that name.
        return None if results is None else {**results, **self._args.get("metrics", {})}

    @property
    def evaluates_itself(self) -> bool:
        """Whether this is a `Model.fit` that evaluates, as far as it can be seen."""
        return self._caller is not None and self._caller.valid_dataset is not None

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
        if metrics is None:
            return True
        if not any(may_give_several(metric) for metric in metrics.values() if metric is not None):
            return False
        try:
            trial = self.trial()
        except ValueError:  # which is told as soon as all else is in order
            return True
        return trial.results is None or any(isinstance(value, Mapping) for value in trial.results.values())

    @property
    def classes(self) -> Optional[int]:
        """How many classes the network tells apart, where the trial was made and has told it."""
        return None if self._trial is None else self._trial.classes

    def trial(self) -> Trial:
        """What one batch of the validation data shows; raises where it does not get through.

        Nothing is tried where a network is split: what compiles first decides there how its parameters are cut.
        """
        model, dataset = self.evaluated_model, self.valid_dataset
        if model is None or dataset is None or model.eval_network is None or self.is_split:
            return Trial(None, None)
        if self._trial is None:
            self._trial = try_evaluation(model, dataset)
        return self._trial

    def metrics_ahead(self, owner: str, name: str) -> Optional[dict[str, Any]]:
        """The validation values that this run will have, each with its metric, seen from the start of the run.

        `None` where that cannot be seen; an error where the run will never evaluate, for `name` needs it.
        """
        metrics = self._metrics_ahead
        if distributed.count() > 1 and not any(isinstance(callback, Evaluator) for callback in self.callbacks):
            raise ValueError(
                f"{owner}: {name!r} is to be decided upon by {distributed.count()} processes together, and Model.fit "
                f"alone gives each its own; add Validate(model, valid_dataset) to the callbacks"
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
        return self._caller.model if self._caller is not None and self.evaluates_itself else None

    @property
    def valid_dataset(self) -> Any:
        """The dataset that the run evaluates, seen from its start; `None` as for `evaluated_model`."""
        evaluators = [callback for callback in self.callbacks if isinstance(callback, Evaluator)]
        if evaluators:
            return evaluators[0].dataset
        return None if self._caller is None else self._caller.valid_dataset

    @property
    def _metrics_ahead(self) -> Optional[dict[str, Any]]:
        model = self.evaluated_model
        if model is None:
            return None if self._caller is None else {}
        metrics = by_name(metrics_of(model))
        # An evaluation network of the user's own gives its outputs in no fixed order, and the loss cannot be told.
        return metrics if eval_indexes_of(model) is None else {EVAL_LOSS: None, **metrics}

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


def _as_it_is(callback: Any, hook: str, act: Callable[[Any], None]) -> Callable[[Any], None]:
    """What a callback does in a hook, where nobody wants to know what it costs."""
    return act


def _caller() -> Optional[Caller]:
    """Who calls; `None` where that is not found.

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
    return Caller(call.model, valid_dataset if evaluated else None)


def _unknown(owner: str, name: str, results: dict[str, Any]) -> ValueError:
    names = sorted({*results, TRAIN_LOSS})
    return ValueError(f"{owner}: monitor {name!r} is not among this run's values ({quoted(names)}){hint(name, names)}")
