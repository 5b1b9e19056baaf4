"""Tools for authors of callbacks: the contract that every callback of this package passes, and scripted runs.

`check_callback` trains a tiny network with and without a callback, in every way that a user may, and compares.
`ScriptedRun` plays a run with given losses and validation values, without training, to test what a callback decides.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore import dataset as ds
from mindspore.train import Callback, Model, RunContext

from .checkpointing.training_state import TrainingState
from .control.validate import Validate
from .core.callback import TrainCallback
from .core.configuration import parameters_of
from .core.metrics import EvaluationSource
from .core.mindspore_compat import RunArguments
from .core.model_parts import named_parameters
from .core.parameters import Snapshot
from .core.run import Run
from .diagnostics._device_reads import noticed

__all__ = ["ScriptedRun", "check_callback"]

_CLASSES, _SIZE = 3, 4
_MODES = {"GRAPH_MODE": ms.GRAPH_MODE, "PYNATIVE_MODE": ms.PYNATIVE_MODE}


class ScriptedRun:
    """A run with given training losses and validation values; no network is trained.

    To callbacks it looks like `Model.train`: phases, hooks, an optimizer with a learning rate, a stop request.

    Args:
        metrics: the validation values of each epoch by name, or `None` for an epoch without an evaluation.
        losses: the losses of each epoch's steps, numbers or tensors. Default: None, a loss of 1.0 in each step.
        steps_per_epoch: the number of steps per epoch. Default: 1.
        evaluations: the validation values of evaluations between two steps, by step, counted from the first step of
            epoch 1. Default: None.
        learning_rate: the initial rate of the optimizer. Default: 0.1.
        initial_epoch: the number of epochs that an earlier run has done. Default: 0.
        network: a network whose parameters callbacks may keep and restore. Default: None, a small one.
        optimizer: its optimizer. Default: None, `nn.SGD`.

    Attributes:
        network (nn.Cell): the network.
        optimizer (nn.Optimizer): the optimizer.
        stopped_epoch (int): how many epochs had been played when a callback stopped the run; 0 if none did.
        learning_rates (list[float]): the rate of the first parameter group after each epoch.

    Example:
        >>> stopping = EarlyStopping("acc", patience=1, verbose=0)
        >>> run = ScriptedRun([{"acc": 0.5}, {"acc": 0.4}, {"acc": 0.9}])
        >>> run.play([stopping])
        >>> run.stopped_epoch, stopping.best_
        (2, 0.5)
    """

    def __init__(
        self,
        metrics: Sequence[Optional[Mapping[str, Any]]],
        losses: Optional[Sequence[Sequence[Any]]] = None,
        *,
        steps_per_epoch: int = 1,
        evaluations: Optional[Mapping[int, Mapping[str, Any]]] = None,
        learning_rate: Any = 0.1,
        initial_epoch: int = 0,
        network: Optional[nn.Cell] = None,
        optimizer: Optional[nn.Cell] = None,
    ) -> None:
        self.metrics = metrics
        self.losses = losses
        self.steps_per_epoch = steps_per_epoch
        self.evaluations = evaluations
        self.initial_epoch = initial_epoch
        self.network = nn.Dense(1, 1) if network is None else network
        self.optimizer = nn.SGD(self.network.trainable_params(), learning_rate) if optimizer is None else optimizer
        self.stopped_epoch = 0
        self.learning_rates: list[float] = []

    def play(self, callbacks: Iterable[Callback]) -> None:
        """Play the run with a list of callbacks."""
        listed = [*callbacks, *([] if self.evaluations is None else [_Evaluations(self.evaluations)])]
        args = RunArguments(
            cur_step_num=0,
            epoch_num=len(self.metrics),
            batch_num=self.steps_per_epoch,
            dataset_sink_mode=False,
            list_callback=listed,
            network=self.network,
            train_network=self.network,
            optimizer=self.optimizer,
            loss_fn=None,
            train_dataset=_dataset(self.steps_per_epoch, batch_size=1),
        )
        context = RunContext(args)
        self.stopped_epoch, self.learning_rates = 0, []

        def call(hook: str) -> None:
            for callback in listed:
                getattr(callback, hook)(context)

        with contextlib.ExitStack() as stack:
            for callback in listed:
                stack.enter_context(callback)
            call("on_train_begin")
            for epoch, results in enumerate(self.metrics, 1):
                args["cur_epoch_num"] = self.initial_epoch + epoch
                call("on_train_epoch_begin")
                for step in range(self.steps_per_epoch):
                    args["cur_step_num"] += 1
                    args["net_outputs"] = Tensor(1.0) if self.losses is None else self.losses[epoch - 1][step]
                    call("on_train_step_begin")
                    call("on_train_step_end")
                    if context.get_stop_requested():
                        break
                if results is not None:
                    args["eval_results"] = args["metrics"] = dict(results)
                call("on_train_epoch_end")
                args.pop("eval_results", None)
                args.pop("metrics", None)
                rate = getattr(self.optimizer, "learning_rate", None)
                first = rate[0] if isinstance(rate, (list, tuple)) else rate
                if isinstance(first, ms.Parameter):
                    self.learning_rates.append(float(str(first.asnumpy())))
                if context.get_stop_requested():
                    self.stopped_epoch = epoch
                    break
            call("on_train_end")


class _Evaluations(TrainCallback):
    """Publishes the scripted values of evaluations between two steps."""

    def __init__(self, by_step: Mapping[int, Mapping[str, Any]]) -> None:
        super().__init__()
        self.by_step = by_step

    @property
    def evaluation_source(self) -> EvaluationSource:
        """The steps alone; there is no Model that could be asked for the names of its metrics."""
        return EvaluationSource(None, None, math.gcd(*self.by_step))

    def run_evaluation(self, run: Run) -> None:
        """Publish the script's values for the step."""
        if run.metrics.published is None and run.step in self.by_step:
            run.metrics.publish(dict(self.by_step[run.step]), None)


class _Images:
    """Small images around three centres, with the numbers of the centres as labels."""

    def __init__(self, count: int) -> None:
        random = np.random.RandomState(3)
        self.labels = (np.arange(count) % _CLASSES).astype(np.int32)
        centres = random.randn(_CLASSES, 1, _SIZE, _SIZE) * 0.5
        self.images = (centres[self.labels] + random.randn(count, 1, _SIZE, _SIZE)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        # A 0-dimensional array, not a NumPy scalar: MindSpore 2.10 fails on those with NumPy 2.
        return self.images[index], self.labels[index : index + 1].reshape(())


def check_callback(
    factory: Callable[..., TrainCallback],
    *,
    changes_training: bool = False,
    reads_each_step: bool = False,
    has_state: bool = True,
    varying: Collection[str] = (),
    modes: Sequence[str] = ("GRAPH_MODE", "PYNATIVE_MODE"),
) -> None:
    """Check that a callback fulfils the contract of every callback of this package, on a tiny network.

    In each mode, and in `Model.train` with `Validate` as in `Model.fit`:

    - a second run of the same object learns what the first has learnt;
    - weights, statistics and losses are bit for bit those of a run without it;
    - the order of the list of callbacks makes no difference;
    - after an exception in the middle of an epoch, the same object serves a new run.

    And once: no step within an epoch reads from the device; arguments are documented, kept under their own names, and
    not changed; what a run learns is in `state_dict`, as plain values; a run that is interrupted and resumed with
    `TrainingState` ends with the state of one that was not.

    Args:
        factory: returns the callback, always with the same arguments. It may take any of `model` (the Model that is
            trained), `valid_dataset`, and `folder` (a new folder, as a string).
        changes_training: whether the callback may change what is learnt, as a schedule does. Default: False.
        reads_each_step: whether it may read from the device in every step. Default: False.
        has_state: whether what it learns must be in its state, so that a resume continues with it. Default: True.
        varying: names in its state that differ from run to run, such as times. Default: ().
        modes: the MindSpore modes to test. Default: both.

    Raises:
        AssertionError: the callback breaks the contract; the message says how.

    Example:
        >>> check_callback(lambda: EarlyStopping("acc", restore_best_weights=True), changes_training=True)
    """
    contract = _Contract(factory, changes_training, has_state, frozenset(varying))
    mode = ms.get_context("mode")
    try:
        ms.set_context(mode=_MODES[modes[-1]])  # for what is checked once
        contract.check_arguments()
        for name in modes:
            ms.set_context(mode=_MODES[name])
            contract.check_runs(name)
        contract.check_resume()
        if not reads_each_step:
            contract.check_reads()
    finally:
        ms.set_context(mode=mode)


class _Outcome(NamedTuple):
    """The result of a run: the state of the callback, and the parameters."""

    state: dict[str, Any]
    parameters: dict[str, np.ndarray[Any, Any]]


class _Contract:
    """The checks of `check_callback`."""

    def __init__(
        self, factory: Callable[..., TrainCallback], changes_training: bool, has_state: bool, varying: frozenset[str]
    ) -> None:
        self._factory, self._changes_training = factory, changes_training
        self._has_state, self._varying = has_state, varying
        self._asked = {"model", "valid_dataset", "folder"} & set(inspect.signature(factory).parameters)

    def check_arguments(self) -> None:
        """Check that arguments are documented, kept and unchanged, and what is learnt is in a plain state."""
        with self._made() as (callback, model):
            name = type(callback).__name__
            documentation = inspect.getdoc(type(callback)) or ""
            arguments = [each.name for each in parameters_of(type(callback))]
            for each in arguments:
                assert f"    {each}" in documentation, f"{name}: {each} is missing in the Args of its docstring"
                assert hasattr(callback, each), f"{name}: the argument {each} is not kept under its own name"
            before = {each: getattr(callback, each) for each in arguments}
            self._train(model, [callback])
            for each, value in before.items():
                assert getattr(callback, each) is value or getattr(callback, each) == value, (
                    f"{name}: the argument {each} was {value!r} and is {getattr(callback, each)!r} after a run"
                )
            learnt = [each for each in vars(callback) if each.endswith("_") and not each.startswith("_")]
            state = callback.state_dict()
            has_own = type(callback).state_dict is not TrainCallback.state_dict
            assert not has_own or type(callback).load_state_dict is not TrainCallback.load_state_dict, (
                f"{name}: has state_dict and no load_state_dict, which is to take what that returns"
            )
            assert state or callback.state_arrays() or not (learnt and self._has_state), (
                f"{name}: learns {', '.join(learnt)}, but state_dict does not return it"
            )
            try:
                plain = json.loads(json.dumps(state))
            except (TypeError, ValueError) as error:
                raise AssertionError(f"{name}: state_dict does not return plain values: {error}") from None
        with self._made() as (other, _):
            other.load_state_dict(plain)
            found, given = self._comparable(json.loads(json.dumps(other.state_dict()))), self._comparable(plain)
            assert found == given, f"{name}: was given the state {given} but returns {found}"

    def check_runs(self, mode: str) -> None:
        """Check that two runs, both orders, `train` and `fit`, and a run after an exception learn the same."""
        with self._made() as (callback, model):
            name = type(callback).__name__
            bare = self._outcome(model, [])
            first = self._outcome(model, [callback], callback)
            if not self._changes_training:
                self._assert_same_parameters(bare, first, f"{name} in {mode}: a run with it")
            second = self._outcome(model, [callback], callback)
            self._assert_same(first, second, f"{name} in {mode}: a second run", "set in reset_state what a run learns")
            with self._made(model) as (other, _):
                found = self._outcome(model, [other], other, reverse=True)
                self._assert_same(first, found, f"{name} in {mode}: a run with the callbacks in reverse order")
            with self._made(model) as (other, _):
                fitted = self._outcome(model, [other], other, fits=True)
                self._assert_same_parameters(first, fitted, f"{name} in {mode}: Model.fit")
            with contextlib.suppress(_StepError):
                self._outcome(model, [callback, _Fail(5)], callback)
            found = self._outcome(model, [callback], callback)
            self._assert_same(first, found, f"{name} in {mode}: a run after one that an exception has ended")

    def check_resume(self) -> None:
        """Check that an interrupted and resumed run ends with the state and the weights of one that was not."""
        with self._made() as (callback, model):
            if callback.saves_run_states:
                return
            name, whole = type(callback).__name__, self._outcome(model, [callback], callback, epochs=4)
        with tempfile.TemporaryDirectory() as states, tempfile.TemporaryDirectory() as folder:
            with self._made(folder=folder) as (callback, model), contextlib.suppress(_StepError):
                self._train(model, [callback, TrainingState(states), _Fail(10)], epochs=4)
            with self._made(folder=folder) as (callback, model):
                state, train = TrainingState(states), _dataset()
                begun = state.resume(model, train, epochs=4)
                if not state.finished_:  # as where the callback has stopped the run before its interruption
                    self._train(model, [callback, state], epochs=4, initial_epoch=begun, dataset=train)
                found = _Outcome(callback.state_dict(), _parameters(model))
                self._assert_same(
                    whole,
                    found,
                    f"{name}: a run that was interrupted and resumed",
                    "load_state_dict must call super().load_state_dict(state), and take all that state_dict returns",
                )

    def check_reads(self) -> None:
        """Check that no step except the first and the last of an epoch reads from the device."""
        without, with_ = _Probe(), _Probe()
        with self._made() as (callback, model):
            for probe, callbacks in ((without, []), (with_, [callback])):
                with noticed(probe.count):
                    self._train(model, [probe, *callbacks])
        reads = with_.reads - without.reads
        assert reads <= 0, (
            f"{type(callback).__name__}: reads from the device {reads} times in 4 steps within an epoch; read at the "
            f"end of an epoch or at an interval of more than its 4 steps, or pass reads_each_step=True"
        )

    @contextlib.contextmanager
    def _made(
        self, model: Optional[Model] = None, folder: Optional[str] = None
    ) -> Iterator[tuple[TrainCallback, Model]]:
        """Provide a new callback, and its Model."""
        model = _model() if model is None else model
        with tempfile.TemporaryDirectory() as own:
            given = {"model": model, "valid_dataset": _dataset(12), "folder": own if folder is None else folder}
            yield self._factory(**{name: given[name] for name in self._asked}), model

    def _outcome(
        self,
        model: Model,
        callbacks: list[Any],
        callback: Optional[TrainCallback] = None,
        *,
        reverse: bool = False,
        **how: Any,
    ) -> _Outcome:
        """Train from the same initial weights, and return the outcome."""
        before = Snapshot(named_parameters(model.train_network))
        before.take()
        try:
            self._train(model, callbacks, reverse=reverse, **how)
            return _Outcome({} if callback is None else callback.state_dict(), _parameters(model))
        finally:
            before.restore()

    def _train(
        self,
        model: Model,
        callbacks: list[Any],
        *,
        epochs: int = 2,
        initial_epoch: int = 0,
        fits: bool = False,
        reverse: bool = False,
        dataset: Any = None,
    ) -> None:
        train = _dataset() if dataset is None else dataset
        has_own = any(isinstance(each, TrainCallback) and each.evaluation_source is not None for each in callbacks)
        if fits:
            model.fit(epochs, train, _dataset(12), callbacks=callbacks, initial_epoch=initial_epoch)
            return
        listed = [*callbacks, *([] if has_own else [Validate(model, _dataset(12))])]
        model.train(epochs, train, callbacks=listed[::-1] if reverse else listed, initial_epoch=initial_epoch)

    def _assert_same(self, expected: _Outcome, found: _Outcome, what: str, hint: str = "") -> None:
        one, other = self._comparable(expected.state), self._comparable(found.state)
        assert one == other, f"{what} has learnt {other}, not {one}{hint and '; '}{hint}"
        self._assert_same_parameters(expected, found, what)

    def _assert_same_parameters(self, expected: _Outcome, found: _Outcome, what: str) -> None:
        for name, array in expected.parameters.items():
            assert np.array_equal(array, found.parameters[name], equal_nan=True), f"{what} ends with another {name}"

    def _comparable(self, state: Any) -> Any:
        """Return a state without what differs from run to run."""
        if isinstance(state, Mapping):
            return {key: self._comparable(each) for key, each in state.items() if key not in self._varying}
        return [self._comparable(each) for each in state] if isinstance(state, (list, tuple)) else state


class _Probe(Callback):
    """Counts reads from the device in the steps within an epoch; comes first in the list."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self._is_counting = False

    def count(self) -> None:
        """Called at each read."""
        self.reads += self._is_counting

    def on_train_step_begin(self, run_context: Any) -> None:
        """Count from the second step of the epoch until the last begins."""
        args = run_context.original_args()
        self._is_counting = args["cur_step_num"] % args["batch_num"] not in (0, 1)

    def on_train_epoch_end(self, run_context: Any) -> None:
        """Stop counting."""
        self._is_counting = False


class _StepError(Exception):
    """What `_Fail` raises."""


class _Fail(Callback):
    """Raises after a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def on_train_step_end(self, run_context: Any) -> None:
        """Raise."""
        if run_context.original_args()["cur_step_num"] == self._step:
            raise _StepError


def _dataset(count: int = 24, batch_size: int = 6) -> Any:
    return ds.GeneratorDataset(_Images(count), ["image", "label"], shuffle=False).batch(batch_size)


def _model() -> Model:
    ms.set_seed(1)
    network = nn.SequentialCell(
        nn.Conv2d(1, 3, 3, pad_mode="valid"), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dense(12, _CLASSES)
    )
    for place, one in enumerate(network.trainable_params()):
        values = np.random.RandomState(place).randn(*one.shape) * 0.5
        one.set_data(Tensor(values.astype(np.float32)))
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    return Model(network, loss_fn, nn.Adam(network.trainable_params(), 0.05), metrics={"acc"})


def _parameters(model: Model) -> dict[str, np.ndarray[Any, Any]]:
    return {name: one.asnumpy().copy() for name, one in named_parameters(model.train_network).items()}
