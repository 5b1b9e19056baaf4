"""Measure what each callback of a run costs, to find those that slow training down."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable

from mindspore.train import Callback

from ..core.arguments import check_choice
from ..core.artifacts import Artifact, TableArtifact
from ..core.callback import TrainCallback, only_one
from ..core.console import counted, log_line
from ..core.names import labelled
from ..core.run import Run
from ._device_reads import noticed

__all__ = ["CallbackProfiler", "HookCost"]

_TIMES = ("begin", "epoch_begin", "step_begin", "step_end", "epoch_end", "end")
_HOOKS = {f"on_{part}_{when}": when for part in ("train", "eval") for when in _TIMES}
# The phases of the callbacks of this package, and the columns in which they are counted.
_PHASES = {
    "before_train": "on_train_begin",
    "before_epoch": "on_train_epoch_begin",
    "before_evaluation": "evaluate",
    "run_evaluation": "evaluate",
    "end_evaluation": "evaluate",
    "after_evaluation": "after_evaluation",
    "after_epoch": "on_train_epoch_end",
    "end_epoch": "on_train_epoch_end",
    "before_checkpoint": "save",
    "save_run_state": "save",
    "flush": "on_train_end",
    "finalize_weights": "on_train_end",
    "restore_weights": "on_train_end",
    "after_train": "on_train_end",
    "end_train": "on_train_end",
}
_COLUMNS = (*_HOOKS, "report", "evaluate", "after_evaluation", "save")


@dataclass
class HookCost:
    """The cost of one hook of one callback in a run: how often it was called, its total seconds, its device reads.

    The name of a MindSpore callback is prefixed with `mindspore`, and the second callback of the same name gets a 2.
    Time that another callback took within it, such as an evaluation that it was the first to trigger, counts for that
    other one.
    """

    callback: str
    hook: str
    calls: int = 0
    seconds: float = 0.0
    device_reads: int = 0


@dataclass
class _Open:
    """A hook that is running."""

    cost: HookCost
    within: float = 0.0  # the seconds of the hooks that it has called


class CallbackProfiler(TrainCallback):
    """Print, at the end of a run, the time that each callback has taken in each hook, including MindSpore's own.

    There is a column per hook, in milliseconds per call; then the callback's total milliseconds, their share of the
    run's time (for what happens in every step, this is the share of a step), and how often the callback made Python
    wait for the device by reading a tensor. The callbacks of this package have some additional columns: `report` for
    what they do after every n-th step, such as a line of `LossMonitor`, `evaluate` for the evaluation of `Validate`,
    `after_evaluation` for processing its results, and `save` for `TrainingState`.

    Hooks that a callback does not have are not measured. Each of the others is wrapped in a timer, which costs about a
    microsecond per call. During the run, the methods by which `mindspore.Tensor` passes its values to Python are
    wrapped too, to count reads. What callbacks before it in the list do in `on_train_begin` is not measured, so it is
    best placed first.

    Args:
        verbose: 1 prints the table when the run is over, however it ends; 0 prints nothing. Default: 1.

    Attributes:
        rows_ (list[HookCost]): the cost of each hook that was called, in the order of the list of callbacks.
        seconds_ (float): the time of the run.
        steps_ (int): the number of its steps.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: two of them in one list.

    Example:
        >>> profiler = CallbackProfiler(verbose=0)
        >>> model.train(2, train_dataset, callbacks=[profiler, History()])
        >>> print(profiler)
        Callback...step_end  epoch_end  Total ms  Share  Device reads
        ...
        8 steps, ... ms each including the time between them; callbacks took ... ms of it
    """

    def __init__(self, *, verbose: int = 1) -> None:
        super().__init__()
        self.verbose = check_choice("CallbackProfiler", "verbose", verbose, (0, 1))
        self._undo = contextlib.ExitStack()
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        # A run removes its own timers.
        return {**super().__getstate__(), "_undo": contextlib.ExitStack()}

    def before_train(self, run: Run) -> None:
        """Wrap every hook in a timer."""
        self._reset()
        self._undo.enter_context(noticed(self._notice_read))
        for name, callback in labelled(run.callbacks):
            if callback is not self:
                self._clock(name, callback)
        run.step_hooks.wrap(self._clocked)
        run.step_hooks.on_step_end(self, self._count)
        self._began = time.perf_counter()

    def check(self, run: Run) -> None:
        """Raise if another callback measures too."""
        super().check(run)
        alike = [one for one in run.callbacks if isinstance(one, CallbackProfiler)]
        only_one("CallbackProfiler", alike, "measure the callbacks")

    def _count(self, run: Run) -> None:
        self.steps_ += 1

    def teardown(self) -> None:
        """Remove the timers, and print the table."""
        self._undo.close()
        if self._began:
            self.seconds_ = time.perf_counter() - self._began
        if self.verbose:
            log_line(str(self))

    @property
    def rows_(self) -> list[HookCost]:
        """The cost of each hook that was called."""
        return [cost for cost in self._costs.values() if cost.calls]

    def __str__(self) -> str:
        """Return the table, or a line that says that there is none yet."""
        return str(self._table()) if self.rows_ else "CallbackProfiler: no callback has been measured yet"

    def artifacts(self) -> list[Artifact]:
        """Return the table."""
        return [self._table()] if self.rows_ else []

    def _table(self) -> TableArtifact:
        hooks = sorted({cost.hook for cost in self.rows_}, key=_COLUMNS.index)
        header = ["Callback", *(hook[len("on_train_") :] if "train" in hook else hook for hook in hooks)]
        header += ["Total ms", "Share", "Device reads"]
        whole = self.seconds_ or time.perf_counter() - self._began  # of the run so far
        cells = []
        for name in dict.fromkeys(cost.callback for cost in self.rows_):
            own = {cost.hook: cost for cost in self.rows_ if cost.callback == name}
            seconds = sum(cost.seconds for cost in own.values())
            cells.append(
                [
                    name,
                    *(f"{own[hook].seconds / own[hook].calls * 1e3:.3f}" if hook in own else "-" for hook in hooks),
                    f"{seconds * 1e3:,.1f}",
                    f"{seconds / whole:.2%}",
                    f"{sum(cost.device_reads for cost in own.values()):,}",
                ]
            )
        steps = max(self.steps_, 1)
        total = sum(cost.seconds for cost in self.rows_)
        note = (
            f"{counted(self.steps_, 'step')}, {whole / steps * 1e3:.3f} ms each including the time between "
            f"them; callbacks took {total / steps * 1e3:.3f} ms of it"
        )
        return TableArtifact("callback_times", "Time per callback (ms per call)", header, cells, header[1:], note)

    def _reset(self) -> None:
        self._costs: dict[tuple[int, str], HookCost] = {}
        self._open: list[_Open] = []
        self._thread = threading.get_ident()
        self._began = self.seconds_ = 0.0
        self.steps_ = 0

    def _clock(self, name: str, callback: Any) -> None:
        self._costs.update({(id(callback), column): HookCost(name, column) for column in _COLUMNS})
        if isinstance(callback, TrainCallback):
            measured = {each: column for each, column in _PHASES.items() if _overrides(callback, each)}
            measured.update((hook, hook) for hook in _HOOKS if "eval" in hook and _overrides(callback, hook))
        else:
            measured = {hook: hook for hook in _HOOKS if _does_something(callback, hook)}
        for method, column in measured.items():
            if method in vars(callback):  # as in MindSpore's LambdaCallback
                self._undo.callback(setattr, callback, method, vars(callback)[method])
            else:
                self._undo.callback(delattr, callback, method)
            setattr(callback, method, self._clocked(callback, column, getattr(callback, method)))

    def _clocked(self, callback: Any, hook: str, act: Callable[..., Any]) -> Callable[..., Any]:
        cost = self._costs.get((id(callback), hook))
        if cost is None:  # a hook of the lifecycle, within which others are measured
            return act
        under_way, clock = self._open, time.perf_counter

        @functools.wraps(act)
        def timed(*arguments: Any) -> Any:
            this = _Open(cost)
            under_way.append(this)
            began = clock()
            try:
                return act(*arguments)
            finally:
                passed = clock() - began
                under_way.pop()
                cost.calls += 1
                cost.seconds += passed - this.within
                if under_way:
                    under_way[-1].within += passed

        return timed

    def _notice_read(self) -> None:
        if self._open and threading.get_ident() == self._thread:
            self._open[-1].cost.device_reads += 1


def _overrides(callback: TrainCallback, name: str) -> bool:
    """Return whether a callback of this package overrides a phase or a hook."""
    return getattr(type(callback), name) is not getattr(TrainCallback, name)


def _does_something(callback: Any, hook: str) -> bool:
    """Return whether a callback has the hook, under this name or the one from before MindSpore 2.0."""
    if hook in vars(callback):
        return True
    return any(getattr(type(callback), name) is not getattr(Callback, name) for name in (hook, _HOOKS[hook]))
