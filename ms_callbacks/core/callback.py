"""The base class of every callback: the lifecycle of a run calls its phases, and it can serve a second run."""

from __future__ import annotations

import copy
import inspect
import io
import weakref
from collections.abc import Iterator
from typing import Any, Optional

from mindspore import nn
from mindspore.dataset import Dataset
from mindspore.train import Callback, Model

from .artifacts import FigureArtifact
from .class_checks import check_class, check_hooks
from .configuration import configuration
from .console import log_line
from .lifecycle import Lifecycle
from .names import label
from .phases import Phases
from .placement import Needs
from .run import Run

__all__ = ["TrainCallback", "keeps_state", "only_one"]

_WHILE_IT_LASTS = ("_lifecycle", "_depth", "is_used")
_MADE: list[weakref.ref[TrainCallback]] = []


class TrainCallback(Phases, Callback):
    """Base class of callbacks for `Model.train` and `Model.fit`: override the phases that you need.

    A phase is called in GRAPH and in PYNATIVE mode, in `train` and in `fit`, on each of several processes, in a second
    run of the same object and after a resume. The first callback of this package whose MindSpore hook is called runs
    the phase for all of them, so that their order in the list does not matter:

    .. code-block:: text

        training begins   states are loaded -> check(run) on all -> reset_state(), unless the run continues another
                          -> before_train(run)
        first epoch       check_plan(run) on all: now it is known which epoch is the first
        first step        check_batch(run) on all
        each epoch        before_epoch(run)
        each step         only registered functions: run.step_hooks.on_step_begin(self, function),
                          on_step_end(self, function), on_optimizer_step(self, function), every(n, self, function) or
                          before_every(n, self, function)
        evaluation        before_evaluation(run) -> the Model is evaluated -> after_evaluation(run, evaluation)
                          -> end_evaluation(run)
        epoch ends        the losses are read -> evaluation, where due -> after_epoch(run, summary)
                          -> end_epoch(run, summary)
        weights kept      before_checkpoint(run) on all, when run.before_checkpoint() is called
        training ends     flush() -> states are saved -> finalize_weights(run) -> restore_weights(run)
                          -> after_train(run) -> end_train(run)
        always            teardown(), also after an exception; restore_weights(run) comes first then
        after that        an exception passed to run.request_stop is raised

    Keep each argument of `__init__` under its own name and do not change it; let the names of what a run learns end in
    `_`, set them in `reset_state`, and return them from `state_dict`, so that `TrainingState` can resume them. Set
    `needs_losses = True` to have the training losses: `summary.loss`, `run.losses`.

    An exception in a phase reaches the caller as it was raised, with a note that names callback, phase, epoch and step.

    A copy, or an unpickled callback in another process, has the same arguments and has learnt the same, but does not
    take part in a current run. A copy shares the Model, the dataset or the network that the callback was created with;
    these objects of MindSpore's cannot be pickled.

    Attributes:
        run (Run): the run, while it lasts.
        continues (bool): whether the run continues an earlier one, and `reset_state` was not called.
        in_run (bool): whether the callback is in a run.
        state_key (str | None): distinguishes this callback from others of its class with the same arguments when a
            saved state is loaded. Default: None.
        transient (tuple[str, ...]): the names of attributes that belong to one run; they are `None` in a copy and in a
            pickle. Default: ().

    Raises:
        TypeError: a subclass that overrides `on_train_begin`, `on_train_epoch_begin`, `on_train_epoch_end` or
            `on_train_end` without calling `super()` is defined.

    Example:
        >>> class StopBelow(TrainCallback):
        ...     "Stop training once the mean training loss of an epoch is below `threshold`."
        ...
        ...     needs_losses = True
        ...
        ...     def __init__(self, threshold):
        ...         super().__init__()
        ...         self.threshold = threshold
        ...
        ...     def reset_state(self):
        ...         self.stopped_epoch_ = 0
        ...
        ...     def after_epoch(self, run, summary):
        ...         if summary.loss < self.threshold:
        ...             self.stopped_epoch_ = summary.epoch
        ...             run.request_stop("StopBelow")
        >>> stop = StopBelow(100.0)
        >>> model.train(5, train_dataset, callbacks=[stop])
        >>> stop.stopped_epoch_
        1
    """

    state_key: Optional[str] = None
    continues = False
    reset_on_train_begin = True  # an argument of callbacks that may learn over several runs
    is_used = False  # in a run
    transient: tuple[str, ...] = ()
    _lifecycle: Optional[Lifecycle] = None
    _depth = 0
    _was_given_state = _has_learnt = False  # by `load_state_dict`; in an earlier run
    _epochs_before = _last_epoch = 0  # of earlier runs, if it is not reset

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_hooks(cls)
        if cls.__module__.partition(".")[0] != __name__.partition(".")[0]:  # those of this package are type-checked
            check_class(cls)

    def __init__(self) -> None:
        super().__init__()
        _MADE.append(weakref.ref(self, _MADE.remove))

    @staticmethod
    def made() -> list[TrainCallback]:
        """Return the callbacks of this library that the process has created, in order."""
        alive = [reference() for reference in _MADE]
        return [callback for callback in alive if callback is not None]

    def __getstate__(self) -> dict[str, Any]:
        # An attribute that shadows a method of the class is a hook of a run.
        hooks = {name for name in vars(self) if inspect.isroutine(getattr(type(self), name, None))}
        gone = hooks.union(_WHILE_IT_LASTS)
        kept = {name: value for name, value in vars(self).items() if name not in gone}
        return {**kept, **dict.fromkeys(self.transient)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        TrainCallback.__init__(self)
        self.__dict__.update(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainCallback:
        state = self.__getstate__()
        memo.update((id(each), each) for each in _mindspores(state))
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__setstate__(copy.deepcopy(state, memo))
        return copied

    def __repr__(self) -> str:
        """Return the configuration as it was given."""
        return configuration(self)

    def _repr_html_(self) -> Optional[str]:
        """Return the tables and texts that there are to show, which a notebook displays; `None` if there are none."""
        shown = [each for each in self.artifacts() if not isinstance(each, FigureArtifact)]
        return "".join(each._repr_html_() for each in shown) or None

    def __dir__(self) -> list[str]:
        """Return what a user of a callback may want to type: neither hooks nor what authors of callbacks override."""
        return [name for name in super().__dir__() if name not in _OF_AUTHORS]

    def __enter__(self) -> TrainCallback:
        self._depth += 1
        if self._lifecycle is not None:
            self._lifecycle.enter_evaluation()
        return self

    def __exit__(self, *error: Any) -> None:
        self._depth -= 1
        if self._depth and self._lifecycle is not None:
            self._lifecycle.exit_evaluation()
        if self._depth == 0:
            lifecycle = self._lifecycle
            if lifecycle is None:  # training has not begun
                for each in (self, *self.inner):
                    each.teardown()
                return
            try:
                lifecycle.leave(self, error[1] if error else None)
            finally:
                if lifecycle.callbacks[0] is self:
                    lifecycle.stop()
                for each in (self, *self.inner):
                    each.part()
            if lifecycle.callbacks[0] is self and not any(error):
                lifecycle.raise_requested()

    # What MindSpore calls

    def on_train_begin(self, run_context: Any) -> None:
        """Run the phases of the beginning for all callbacks of the run, unless another callback has."""
        Lifecycle.of(run_context).begin_train()

    def on_train_epoch_begin(self, run_context: Any) -> None:
        """Run `before_epoch` for all callbacks of the run, unless another callback has."""
        Lifecycle.of(run_context).begin_epoch()

    def on_train_epoch_end(self, run_context: Any) -> None:
        """Run `after_epoch` for all callbacks of the run, unless another callback has."""
        Lifecycle.of(run_context).end_epoch()

    def on_train_end(self, run_context: Any) -> None:
        """Run the phases of the end for all callbacks of the run, unless another callback has."""
        Lifecycle.of(run_context).end_train()

    def on_train_step_begin(self, run_context: Any) -> None:
        """Do nothing; this saves MindSpore's fallback to the old name of the hook at every step."""

    def on_train_step_end(self, run_context: Any) -> None:
        """Do nothing, as `on_train_step_begin`."""

    def on_eval_begin(self, run_context: Any) -> None:
        """Run `before_evaluation` for all callbacks of the run, if `Model.fit` evaluates by itself."""
        if self._lifecycle is not None:
            self._lifecycle.begin_fit_evaluation()

    # What the lifecycle calls

    def join(self, lifecycle: Lifecycle) -> None:
        """Called once everything that can be checked by then has been: take part in the run from now on."""
        self._lifecycle = lifecycle
        self.is_used = True
        self.continues = self._was_given_state or (self._has_learnt and not self.reset_on_train_begin)
        is_new, self._was_given_state, self._has_learnt = not self._has_learnt, False, True
        if not self.continues or (is_new and not keeps_state(self)):
            self.reset_state()
        self._epochs_before = 0 if self.reset_on_train_begin else self._last_epoch

    def part(self) -> None:
        """Called when the run is over: no longer take part in it."""
        if self._lifecycle is not None:
            progress = self.run.progress
            self._last_epoch = progress.epochs_ended + (progress.initial_epoch or self._epochs_before)
            del self._lifecycle

    def check(self, run: Run) -> None:
        """Raise if the run would go wrong. Change nothing: `check_callbacks` calls this without a run."""
        name = type(self).__name__
        if sum(callback is self for callback in run.callbacks) > 1:
            raise ValueError(f"{name}: the same {name} is in the list of callbacks twice; remove one")
        run.parts.check_whole(name, self.needs(run), run.callbacks)

    def needs(self, run: Run) -> Needs:
        """Return what has to be whole in this process; for a callback with a state, the whole run."""
        return Needs.RUN if keeps_state(self) else Needs.NOTHING

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, in the next run.

        Example:
            >>> stopping = EarlyStopping("acc")
            >>> stopping.load_state_dict(stopping.state_dict())
        """
        self._was_given_state = True

    def take_results(self, epochs: int) -> None:
        """Called after the state of a finished run of `epochs` epochs was loaded: be as after that run."""
        self.is_used = self._has_learnt = True
        self._was_given_state = False
        self._last_epoch = epochs

    # For a subclass

    @property
    def in_run(self) -> bool:
        """Whether the callback is in a run."""
        return self._lifecycle is not None

    @property
    def run(self) -> Run:
        """The run, while it lasts."""
        if self._lifecycle is None:
            raise AttributeError(f"{type(self).__name__} is in no run; it has one from check_plan to teardown")
        return self._lifecycle.run

    def epoch_of(self, run: Run) -> int:
        """Return the current epoch, counted over all runs if the callback is not reset between them."""
        return run.epoch if run.progress.initial_epoch else self._epochs_before + run.epoch

    def log(self, line: str) -> None:
        """Print a line that begins with the name of the callback."""
        log_line(f"{type(self).__name__}: {line}")


def _mindspores(value: Any) -> Iterator[Any]:
    """Yield MindSpore objects and open files inside a value: they are not copied along with a callback."""
    if isinstance(value, (Model, nn.Cell, Dataset, io.IOBase)):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _mindspores(each)


_OF_AUTHORS = {name for cls in (TrainCallback, Phases, Callback) for name in vars(cls) if not name.startswith("_")} - {
    "load_state_dict",
    "reset_on_train_begin",
    "state_dict",
    "state_key",
}


def keeps_state(callback: Phases) -> bool:
    """Return whether the class of a callback puts what it learns into a state."""
    cls = type(callback)
    return cls.state_dict is not Phases.state_dict or cls.state_arrays is not Phases.state_arrays


def only_one(owner: str, callbacks: list[Any], what: str, hint: str = "") -> None:
    """Raise if there is more than one of `callbacks`, which all do the same."""
    names = [label(callback) for callback in callbacks]
    if len(names) > 1:
        raise ValueError(f"{owner}: {' and '.join(names)} both {what}; keep one of them{hint}")
