"""What every callback of ours is: a MindSpore `Callback` that knows its run and can serve a second one."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
import weakref
from collections.abc import Iterator
from typing import Any, Callable, Optional

import numpy as np
from mindspore import nn
from mindspore.dataset import Dataset
from mindspore.train import Callback, Model

from . import signals
from .agreement import check_agreement
from .configuration import configuration
from .console import emit
from .mindspore_compat import COUNTS_STEPS, stop_recording
from .names import key_among, label
from .placement import Needs
from .preflight import check_together, tell_of_eval_loss, tell_of_sunk_losses
from .run import Run
from .samples import Samples

__all__ = ["STEP_BEGIN", "STEP_END", "Act", "TrainCallback", "only_one"]

Act = Callable[[Any], None]  # what a hook calls with its run context
STEP_BEGIN, STEP_END = "on_train_step_begin", "on_train_step_end"
_HANDED_OUT = ("_handing_over", "_finding_place", "_own_acts", "_run", "_unguard")  # by a run, and gone with it
_WHILE_IT_LASTS = (*_HANDED_OUT, "_depth", "is_used")
_MADE: list[weakref.ref[TrainCallback]] = []
# What to override, where MindSpore's hook runs a phase of the callback.
_PHASES = {
    "on_train_begin": "before_train",
    "on_train_epoch_begin": "before_epoch",
    "on_train_epoch_end": "after_epoch",
    "on_train_end": "after_train",
}
_EPOCH_BEGIN = ("on_train_epoch_begin", "epoch_begin")  # and its name before MindSpore 2.0


def _nothing() -> None:
    """Where a class does not have a hook of its own."""


class TrainCallback(Callback):
    """Base of our callbacks: finds the run, refuses to stand in a list twice, and learns when the run is over.

    MindSpore calls `on_train_end` only where nothing was raised, and `__exit__` always; but `Model.fit` also enters
    and leaves callbacks around each evaluation, so the depth is counted.

    It has a hook in a step only while it has something to do there, by `at_step`: what runs between two steps of a
    network finds the processor's caches cold, and even to ask whether there is something takes most of a microsecond.

    A copy, or what comes out of pickle in another process, is made as this one and has learnt the same, and has no part
    in a run that is under way. A Model, a dataset or a network that a callback was made with is the same in a copy;
    MindSpore's cannot be pickled.
    """

    _run_only: tuple[str, ...] = ()  # attributes that hold what belongs to a run, and may be `None` outside of one
    state_key: Optional[str] = None  # tells it from others of its class when a saved state is given back
    _depth = 0
    _is_planned = False
    is_used = False  # in a run
    _was_given_state = False
    continues = False  # whether the run continues an earlier one
    reset_on_train_begin = True  # an argument of those that may learn over several runs
    _has_learnt = False  # in a run before this one
    _epochs_before = _last_epoch = 0  # of those runs, where it is not reset
    _run: Run  # while it lasts; a step asks for nothing that could be known before
    inner: tuple[TrainCallback, ...] = ()  # callbacks that this one runs, and that stand in no list
    _handing_over: tuple[Act, ...] = ()
    _finding_place: tuple[Act, ...] = ()
    _own_acts: tuple[Act, ...] = ()
    _unguard: Optional[Callable[[], None]] = None  # of the first callback of a run, which guards for all

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for hook, phase in _PHASES.items():
            method = inspect.unwrap(vars(cls).get(hook, _nothing))
            if inspect.isfunction(method) and method is not _nothing and hook not in method.__code__.co_names:
                raise TypeError(
                    f"{cls.__name__}: {hook} is overridden without a call of super().{hook}(run_context), and what its "
                    f"base class does there would be lost; override {phase}(run) instead"
                )

    def __init__(self) -> None:
        super().__init__()
        _MADE.append(weakref.ref(self, _MADE.remove))

    @staticmethod
    def made() -> list[TrainCallback]:
        """The callbacks of this library that the process has made, in their order."""
        alive = [reference() for reference in _MADE]
        return [callback for callback in alive if callback is not None]

    def __getstate__(self) -> dict[str, Any]:
        # What stands before a method of the class is a hook of a run.
        hooks = {name for name in vars(self) if inspect.isroutine(getattr(type(self), name, None))}
        gone = hooks.union(_WHILE_IT_LASTS)
        kept = {name: value for name, value in vars(self).items() if name not in gone}
        return {**kept, **dict.fromkeys(self._run_only)}

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
        """The configuration as it was given."""
        return configuration(self)

    def __dir__(self) -> list[str]:
        """What a user of a callback may want to type: neither hooks nor what those who write callbacks override."""
        return [name for name in super().__dir__() if name not in _OF_AUTHORS]

    def __enter__(self) -> TrainCallback:
        self._depth += 1
        return self

    def __exit__(self, *error: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            if error and error[0] is not None:
                stop_recording()
            try:
                self.teardown()
            finally:
                if self._unguard is not None:
                    self._unguard()
                for name in (STEP_BEGIN, STEP_END, *_HANDED_OUT):
                    _take_away(self, name)

    def on_train_begin(self, run_context: Any) -> None:
        """Checks what can be told before the first epoch."""
        self._run = Run.of(run_context)
        if self._run.is_first_to_begin(self):
            check_agreement(_ours(self._run), self._run.steps_per_epoch, self._run.epochs)
            self._run.load_run_state()
        self.check(self._run)
        self.is_used = True
        self.continues = self._was_given_state or (self._has_learnt and not self.reset_on_train_begin)
        self._was_given_state, self._has_learnt = False, True
        if not self.continues:
            self.reset_state()
        self._is_planned = False
        self._epochs_before = 0 if self.reset_on_train_begin else self._last_epoch
        self._handing_over = self._finding_place = ()
        # The first in the list that needs losses hands them over for all.
        if self.needs_losses and self._run.is_first_to_need_losses(self):
            if any(callback.needs_samples for callback in _ours(self._run)):
                self._run.samples = Samples()
            self._handing_over = (self._run.step_end.hook(self._run.samples),)
        if self._run.is_first_to_begin(self):
            self._unguard = signals.guard()
            self._run.hear_first()
            if _may_be_moved(self, self._run.callbacks):
                self._run.is_place_known = False
                self._finding_place = (self._find_place,)
        self.at_step(STEP_BEGIN)
        self.at_step(STEP_END)
        with self._noted("before_train"):
            self.before_train(self._run)
        for each in self.inner:
            each.on_train_begin(run_context)

    def reset_state(self) -> None:
        """Called when a run begins that knows of none before it: forgets what earlier ones have taught."""

    def before_train(self, run: Run) -> None:
        """Called when a run begins, once all is checked that can be told by then."""

    def on_train_epoch_begin(self, run_context: Any) -> None:
        """Calls `before_epoch`, once it is known which epoch it is."""
        self._run.begin_epoch()
        if self._run.is_place_known:
            self.begin_epoch()

    def begin_epoch(self) -> None:
        """Begins an epoch; before the first, checks what its place in the run tells."""
        run = self._run
        if not self._is_planned:
            self._is_planned = True
            if run.is_first_to_begin(self):
                check_together(run)
                _say_if_nothing_was_loaded(run)
                tell_of_eval_loss(run)
                tell_of_sunk_losses(run)
            self.check_plan(run)
        with self._noted("before_epoch"):
            self.before_epoch(run)

    def _find_place(self, run_context: Any) -> None:
        """Begins the first epoch for all of ours, now that every callback after them has had its say on its number."""
        self._finding_place = ()
        self.at_step(STEP_BEGIN, *self._own_acts)
        self._run.is_place_known = True
        self._run.find_place()
        for callback in _ours(self._run):
            callback.begin_epoch()

    def on_train_epoch_end(self, run_context: Any) -> None:
        """Calls `after_epoch`, where the epoch ran to its end."""
        for find_place in self._finding_place:  # of an epoch without a step
            find_place(run_context)
        self._run.end_epoch()
        self._last_epoch = self.epoch_of(self._run)
        if not self._run.stopped_mid_epoch:
            with self._noted("after_epoch"):
                self.after_epoch(self._run)

    def on_train_end(self, run_context: Any) -> None:
        """Calls `after_train`."""
        self._run.end()
        with self._noted("after_train"):
            self.after_train(self._run)

    @contextlib.contextmanager
    def _noted(self, phase: str) -> Iterator[None]:
        """Notes at an exception where it was raised; Python before 3.11 keeps the note and does not print it."""
        try:
            yield
        except Exception as error:
            run = self._run
            note = f"raised in {type(self).__name__}.{phase}, epoch {run.epoch}, step {run.step_in_epoch}"
            error.__notes__ = [*getattr(error, "__notes__", ()), note]  # type: ignore[attr-defined]
            raise

    def check(self, run: Run) -> None:
        """Raises where the run could not go well; changes nothing, so that it can be asked without a run."""
        name = type(self).__name__
        if sum(callback is self for callback in run.callbacks) > 1:
            raise ValueError(f"{name}: the same {name} stands in the list of callbacks twice; remove one")
        run.check_whole(name, self.needs(run))

    def needs(self, run: Run) -> Needs:
        """What has to be whole in this process: where it is not, the run is refused. Where it has a state, the run."""
        return Needs.RUN if type(self).state_dict is not TrainCallback.state_dict else Needs.NOTHING

    def check_plan(self, run: Run) -> None:
        """Raises as `check` does, for what needs the first and the last epoch to be known."""

    def check_batch(self, run: Run) -> None:
        """Raises as `check` does, for what needs a batch of the training data to be seen, as before the first step."""

    def disk_space(self, run: Run) -> dict[str, int]:
        """The bytes that it will take at most, by folder."""
        return {}

    @property
    def needs_losses(self) -> bool:
        """Whether it needs the loss of every step; asked once, when the run begins."""
        return False

    @property
    def needs_samples(self) -> bool:
        """Whether it needs the number of samples that an epoch has seen; asked once, as `needs_losses`."""
        return False

    def tells_of(self, name: str) -> bool:
        """Whether it watches, records or prints a validation value of every epoch; asked once, as `needs_losses`."""
        return key_among(getattr(self, "monitor", ""), (name,)) is not None

    def before_epoch(self, run: Run) -> None:
        """Called at the beginning of an epoch, before its first step."""

    def after_epoch(self, run: Run) -> None:
        """Called at the end of an epoch, unless the run is interrupted in its middle."""

    def after_train(self, run: Run) -> None:
        """Called at the end of a run, unless an exception ended it."""

    def teardown(self) -> None:
        """Called once when the run is over, however it ended."""

    def state_dict(self) -> dict[str, Any]:
        """What the callback has learnt in its run, as plain numbers, strings, lists and `None`.

        Example:
            >>> stopping = EarlyStopping("acc")
            >>> stopping.load_state_dict(stopping.state_dict())
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Has the next run continue from a state that `state_dict` returned."""
        self._was_given_state = True

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """What of the state is arrays, such as the best weights; to be copied before the run continues."""
        return {}

    def load_state_arrays(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Takes what `state_arrays` returned, after `load_state_dict`."""

    def take_results(self, epochs: int) -> None:
        """Called where it was given what it came to in a run of so many epochs that is over: it is as after that."""
        self.is_used = self._has_learnt = True
        self._was_given_state = False
        self._last_epoch = epochs

    def epoch_of(self, run: Run) -> int:
        """The epoch under way; over all runs where it is not reset between them, unless `initial_epoch` counts them."""
        return run.epoch if run.initial_epoch else self._epochs_before + run.epoch

    def say(self, line: str) -> None:
        """Prints a line of the callback's own, at once."""
        emit(f"{type(self).__name__}: {line}")

    def on_train_step_begin(self, run_context: Any) -> None:
        """Nothing; saves MindSpore's detour over the old name of the hook at every step."""

    def on_train_step_end(self, run_context: Any) -> None:
        """Nothing, as `on_train_step_begin`."""

    def at_step(self, hook: str, *acts: Act) -> None:
        """Has `STEP_BEGIN` or `STEP_END` do this from now on, until the run is over or it is told otherwise.

        The hook that a subclass of a user's may have comes after.
        """
        if hook == STEP_END:
            acts = (*self._handing_over, *acts)
        else:
            self._own_acts = acts
            acts = (*self._finding_place, *acts)
        of_class = getattr(type(self), hook)
        if of_class is not getattr(TrainCallback, hook):
            acts = (*acts, functools.partial(of_class, self))
        if acts:
            act = acts[0] if len(acts) == 1 else _one_after_another(acts)
            setattr(self, hook, self._run.wrap_handler(self, hook, act))
        else:
            _take_away(self, hook)


def _mindspores(value: Any) -> Iterator[Any]:
    """What of a value is MindSpore's own, or an open file: it is not copied with a callback that was given it."""
    if isinstance(value, (Model, nn.Cell, Dataset, io.IOBase)):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _mindspores(each)


_OF_AUTHORS = {name for cls in (TrainCallback, Callback) for name in vars(cls) if not name.startswith("_")} - {
    "load_state_dict",
    "reset_on_train_begin",
    "state_dict",
    "state_key",
}


def _ours(run: Run) -> list[TrainCallback]:
    return [callback for callback in run.callbacks if isinstance(callback, TrainCallback)]


def _say_if_nothing_was_loaded(run: Run) -> None:
    """Says that a run begins late with what a new one begins with."""
    rates = None if run.is_resumed or not run.initial_epoch else run.all_rates()
    if COUNTS_STEPS and rates is not None and rates.steps == 0:
        emit(
            f"Model: the run begins with epoch {run.epoch}, but its optimizer has done no step: load the weights and "
            f"the optimizer of epoch {run.initial_epoch} before, as TrainingState.resume does, or leave initial_epoch "
            f"out"
        )


def _may_be_moved(first: TrainCallback, callbacks: list[Any]) -> bool:
    """Whether a callback after the first of ours may move the run to another epoch when one begins.

    As the `ResumeCallback` of MindSpore's model repository does. What ours do at the beginning of the first epoch then
    has to wait until it has.
    """
    after = callbacks[[callback is first for callback in callbacks].index(True) + 1 :]
    return any(
        any(name in vars(other) for name in _EPOCH_BEGIN)  # as in MindSpore's LambdaCallback
        or (
            not type(other).__module__.startswith("mindspore.")
            and any(getattr(type(other), name, None) is not getattr(Callback, name) for name in _EPOCH_BEGIN)
        )
        for other in after
        if not isinstance(other, TrainCallback)
    )


def _take_away(callback: TrainCallback, name: str) -> None:
    # Not by way of `__dict__`: where that was asked for once, Python looks up every attribute in more places.
    with contextlib.suppress(AttributeError):
        delattr(callback, name)


def _one_after_another(acts: tuple[Act, ...]) -> Act:
    def act_all(run_context: Any) -> None:
        for act in acts:
            act(run_context)

    return act_all


def only_one(owner: str, callbacks: list[Any], kinds: tuple[type, ...], what: str, hint: str = "") -> None:
    """Raises where more than one of `callbacks` is of `kinds`."""
    names = [label(callback) for callback in callbacks if isinstance(callback, kinds)]
    if len(names) > 1:
        raise ValueError(f"{owner}: {' and '.join(names)} both {what}; keep one of them{hint}")
