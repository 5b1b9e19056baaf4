"""Run what callbacks need between steps: store the output of each step, and call the functions they registered.

This is the only work of callbacks that is done in every step. The processor's caches are cold there, so that each
object access is expensive: everything needed is prepared in advance and kept together, and if no callback has
registered anything, nothing runs.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from typing import Any, Callable, Optional

from mindspore import Tensor

from . import distributed
from .arguments import check_int
from .losses import Losses
from .mindspore_compat import holds_its_graph
from .samples import Samples

__all__ = ["STEP_BEGIN", "STEP_END", "StepFunction", "StepHooks", "Wrapper"]

StepFunction = Callable[[Any], None]  # called with the run
Wrapper = Callable[[Any, str, StepFunction], StepFunction]  # takes a callback, the hook, and the function

STEP_BEGIN, STEP_END = "on_train_step_begin", "on_train_step_end"
_OPTIMIZER_STEP = "on_optimizer_step"
_PACKAGE = __name__.partition(".")[0]
_MOST_UNREAD = 1000  # losses, so that memory does not grow with the length of an epoch


class StepHooks:
    """The functions that callbacks have registered for the steps of a run.

    MindSpore calls the two step hooks of one callback, the host, which call the functions of all: at the end of a step,
    first the one that stores its output, then those of `on_step_end` in the order of the list of callbacks, then those
    of `on_optimizer_step` if the step updated the weights, then those of `every` that are due. Before a step, those of
    `before_every` come after those of `on_step_begin`: a state that is saved there is still that of the step before.

    Args:
        run: the argument with which the functions are called.
        args: the parameters of MindSpore's run context, which count steps and hold outputs.
        callbacks: those that may register functions, in the order of the list.
        losses: where outputs are stored.
        ended_at: receives the time at which the last step of an epoch ended, and its number.
        has_updated: returns whether a step with this output has updated the weights.
    """

    def __init__(
        self,
        run: Any,
        args: dict[str, Any],
        callbacks: list[Any],
        losses: Losses,
        ended_at: list[float],
        has_updated: Callable[[Any], bool],
    ) -> None:
        self._run, self._args, self._callbacks = run, args, callbacks
        self._losses, self._ended_at, self._has_updated = losses, ended_at, has_updated
        self._others: list[Any] = []  # that have asked and are not in the list
        # By the position of the callback in the list.
        self._asked: dict[str, dict[int, tuple[Any, StepFunction]]] = {
            STEP_BEGIN: {},
            STEP_END: {},
            _OPTIMIZER_STEP: {},
        }
        self._intervals: dict[int, tuple[Any, int, StepFunction]] = {}
        self._fetch: dict[int, tuple[Any, StepFunction, StepFunction]] = {}
        self._next: dict[int, float] = {}
        self._due: dict[int, StepFunction] = {}
        # The same for what is called before steps; and when the next of that is due.
        self._before_intervals: dict[int, tuple[Any, int, StepFunction]] = {}
        self._before_next: dict[int, int] = {}
        self._before_due: dict[int, StepFunction] = {}
        self._before_at: list[float] = [math.inf]
        self._first: Optional[StepFunction] = None
        self._wrap: Wrapper = _unwrapped
        self._is_live = self._is_storing = False
        self._is_checked = True
        self._last_step: float = math.inf
        # Where the functions see them: the next step at which losses are read, the next at which something else is due,
        # and the earlier of the two.
        self._read_at: list[float] = [math.inf]
        self._due_at: list[float] = [math.inf]
        self._sooner: list[float] = [math.inf]
        self._offset = 0  # by how much the run's count of steps exceeds MindSpore's

    # What callbacks call

    def on_step_begin(self, callback: Any, function: Optional[StepFunction]) -> None:
        """Call `function(run)` before each step from now on, in place of an earlier one; `None` for nothing."""
        self._set(STEP_BEGIN, callback, function)

    def on_step_end(self, callback: Any, function: Optional[StepFunction]) -> None:
        """Call `function(run)` after each step from now on, in place of an earlier one; `None` for nothing."""
        self._set(STEP_END, callback, function)

    def on_optimizer_step(self, callback: Any, function: Optional[StepFunction]) -> None:
        """Call `function(run)` after each step that updates the weights, in place of an earlier function.

        These are all steps, except those that loss scaling drops and those that only accumulate gradients. If the last
        steps of an epoch have accumulated gradients, the epoch ends with an update, which counts too. If loss scaling
        can drop steps, a flag of every step is read, so Python waits for the device.
        """
        self._set(_OPTIMIZER_STEP, callback, function)

    def every(self, n: int, callback: Any, function: StepFunction) -> None:
        """Call `function(run)` after every n-th step, counted from the first step of epoch 1.

        The other steps cost nothing. In sink mode it is called at the end of the first sink that has reached the step.
        """
        check_int(type(callback).__name__, "n of every", n, 1)
        place = self._place(callback)
        self._intervals[place] = callback, n, function
        self._next[place] = self._next_of(n, int(self._args["cur_step_num"]))
        self._update_due()
        self._install()

    def before_every(self, n: int, callback: Any, function: StepFunction) -> None:
        """Call `function(run)` before every n-th step, counted from the first step of epoch 1.

        The other steps only compare two numbers. In sink mode it is called before the first sink that reaches the step.
        """
        check_int(type(callback).__name__, "n of before_every", n, 1)
        self._before_intervals[self._place(callback)] = callback, n, function
        self._plan_before(int(self._args["cur_step_num"]))
        self._install()

    def around_fetch(self, callback: Any, begin: StepFunction, end: StepFunction) -> None:
        """Call `begin(run)` before the training loop fetches the next batch, and `end(run)` after it.

        In a step, `end` is called before all other functions of this package's callbacks, and `begin` after them. For
        the first batch of an epoch, `begin` is not called; use `before_epoch`.
        """
        self._fetch[self._place(callback)] = callback, begin, end
        self._install()

    # What the lifecycle calls

    def start(self, owner: Any, samples: Optional[Samples], *, times_steps: bool) -> None:
        """Start calling functions.

        Args:
            owner: the first callback that needs the outputs stored; `None` if none does.
            samples: counts the samples of each step; `None` for no count.
            times_steps: whether to note the time at which each step ends.
        """
        self._owner, self._samples, self._times_steps = owner, samples, times_steps
        # In a pipeline, only the last stage's steps return a loss.
        self._is_storing = owner is not None and distributed.has_loss()
        self._is_checked = not self._is_storing
        self._make_functions()
        self._is_live = True
        self._install()

    def before_all(self, function: Optional[StepFunction]) -> None:
        """Call `function(run)` before anything else in each step from now on; `None` for nothing."""
        self._first = function
        self._install()

    def begin_epoch(self, done: int, last_step: Optional[int], offset: int) -> None:
        """Begin an epoch.

        Args:
            done: the last step before it, as MindSpore counts.
            last_step: its last step, as MindSpore counts; `None` if that is not known in advance.
            offset: by how much the run's own count of steps exceeds MindSpore's.
        """
        self._offset = offset
        self._last_step = math.inf if last_step is None else last_step
        self._read_at[0] = min(done + 1 + _MOST_UNREAD, self._last_step) if self._is_storing else math.inf
        if not self._is_checked:
            self._read_at[0] = done + 1
        self._next = {place: self._next_of(n, done) for place, (_, n, _) in self._intervals.items()}
        self._update_due()
        self._plan_before(done)

    def call_optimizer_step(self) -> None:
        """Call the functions of `on_optimizer_step` after the update at the end of an epoch."""
        for function in self._functions(_OPTIMIZER_STEP):
            function(self._run)

    def wrap(self, wrapper: Wrapper) -> None:
        """Replace every function by `wrapper(callback, hook, function)`, for example to time it."""
        self._wrap = self._losses.wrap = wrapper
        self._install()

    def stop(self) -> None:
        """Remove the hooks from the host."""
        self._is_live = False
        for hook in (STEP_BEGIN, STEP_END):
            _take_away(self._callbacks[0], hook)

    # How functions are called

    def _place(self, callback: Any) -> int:
        """Return the position of a callback in the list; behind all of them for what is not in it."""
        for place, each in enumerate([*self._callbacks, *self._others]):
            if each is callback:
                return place
        self._others.append(callback)
        return len(self._callbacks) + len(self._others) - 1

    def _set(self, hook: str, callback: Any, function: Optional[StepFunction]) -> None:
        place = self._place(callback)
        if function is None:
            self._asked[hook].pop(place, None)
        else:
            self._asked[hook][place] = callback, function
        self._install()

    def _install(self) -> None:
        """Make the host call what is registered now."""
        if not self._is_live:
            return
        host = self._callbacks[0]
        self._due = {
            place: self._wrap(one, "report", function) for place, (one, _, function) in self._intervals.items()
        }
        self._before_due = {
            place: self._wrap(one, "report", function) for place, (one, _, function) in self._before_intervals.items()
        }
        for hook in (STEP_BEGIN, STEP_END):
            functions = self._functions(hook)
            if hook == STEP_END:
                functions = self._with_core([*functions, *self._after_updates()])
                functions += [self._wrap(one, hook, begin) for one, begin, _ in self._fetch.values()]
            else:
                ends = [self._wrap(one, hook, end) for one, _, end in self._fetch.values()]
                due = [self._do_what_is_due_before] if self._before_intervals else []
                functions = [*ends, *([] if self._first is None else [self._first]), *functions, *due]
            of_class = getattr(type(host), hook)
            is_ours = of_class.__module__.partition(".")[0] == _PACKAGE
            own = None if is_ours else functools.partial(of_class, host)  # the hook of a user's subclass
            if functions == [self._store_and_do_what_is_due] and own is None:
                setattr(host, hook, functions[0])  # which ignores its argument
            elif functions:
                setattr(host, hook, _calling(functions, self._run, own))
            else:
                _take_away(host, hook)

    def _functions(self, hook: str) -> list[StepFunction]:
        """Return the functions of a hook, in the order of the list of callbacks."""
        by_place = self._asked[hook]
        name = STEP_BEGIN if hook == STEP_BEGIN else STEP_END
        return [self._wrap(by_place[at][0], name, by_place[at][1]) for at in sorted(by_place)]

    def _after_updates(self) -> list[StepFunction]:
        """Return functions for the end of a step that call those of `on_optimizer_step` if it updated the weights."""
        functions = self._functions(_OPTIMIZER_STEP)
        if not functions:
            return []
        args, has_updated = self._args, self._has_updated

        def call_after_update(run: Any) -> None:
            if has_updated(args["net_outputs"]):
                for function in functions:
                    function(run)

        return [call_after_update]

    def _with_core(self, functions: list[StepFunction]) -> list[StepFunction]:
        """Return the functions for the end of a step: storing the output comes first, and what is due comes last."""
        stores = self._is_storing or self._samples is not None or self._times_steps
        if stores and not functions:
            return [self._wrap(self._owner, STEP_END, self._store_and_do_what_is_due)]
        first = [self._wrap(self._owner, STEP_END, self._store)] if stores else []
        return [*first, *functions, *([self._do_what_is_due] if self._intervals else [])]

    def _make_functions(self) -> None:
        """Create what is called in every step: closures, which reach what they need fastest."""
        args, ended_at, clock = self._args, self._ended_at, time.perf_counter
        read_at, due_at, sooner = self._read_at, self._due_at, self._sooner
        read, do_due, read_and_do_due = self._read, self._do_due, self._read_and_do_due
        keep, pick = self._losses.add, self._losses.reader.take
        add = keep if self._is_storing else _leave_out
        count = None if self._samples is None else self._samples.add

        def add_picked(output: Any) -> None:
            keep(pick(output))

        def add_detached(output: Any) -> None:
            keep(output.data if type(output) is Tensor else pick(output))

        def pick_from_now_on() -> None:
            nonlocal add
            add = add_picked

        is_detached = self._is_storing and holds_its_graph()
        if is_detached:
            add = add_detached

        def store(run: Any) -> None:
            add(args["net_outputs"])
            if args["cur_step_num"] >= read_at[0]:
                read(args["cur_step_num"])

        def do_what_is_due(run: Any) -> None:
            if args["cur_step_num"] >= due_at[0]:
                do_due(args["cur_step_num"])

        before_at, do_due_before = self._before_at, self._do_due_before

        def do_what_is_due_before(run: Any) -> None:
            if args["cur_step_num"] >= before_at[0]:
                do_due_before(args["cur_step_num"])

        def store_and_do_what_is_due(run: Any) -> None:
            add(args["net_outputs"])
            if args["cur_step_num"] >= sooner[0]:
                read_and_do_due(args["cur_step_num"])

        def store_detached_and_do_what_is_due(run: Any) -> None:
            output = args["net_outputs"]
            keep(output.data if type(output) is Tensor else pick(output))
            if args["cur_step_num"] >= sooner[0]:
                read_and_do_due(args["cur_step_num"])

        def counting(function: StepFunction) -> StepFunction:
            def count_and_call(run: Any) -> None:
                if count is not None:
                    count(args.get("train_dataset_element"))
                function(run)
                ended_at[0] = clock()

            return count_and_call

        is_plain = count is None and not self._times_steps
        self._pick_from_now_on = pick_from_now_on
        self._do_what_is_due = do_what_is_due
        self._do_what_is_due_before = do_what_is_due_before
        self._store = store if is_plain else counting(store)
        both = store_detached_and_do_what_is_due if is_detached else store_and_do_what_is_due
        self._store_and_do_what_is_due = both if is_plain else counting(both)

    def _read_and_do_due(self, step: int) -> None:
        if step >= self._read_at[0]:
            self._read(step)
        if step >= self._due_at[0]:
            self._do_due(step)

    def _read(self, step: int) -> None:
        if not self._is_checked:  # an output without an identifiable loss is an error at the first step
            self._is_checked = True
            self._losses.check_first(self._args["net_outputs"])
            if not isinstance(self._args["net_outputs"], Tensor):
                self._pick_from_now_on()
            self._read_at[0] = min(step + _MOST_UNREAD, self._last_step)
        if step >= self._read_at[0]:
            self._losses.read()
            if step >= self._last_step:  # now that all of the device's work is done
                self._ended_at[:] = time.perf_counter(), step
            self._read_at[0] = step + _MOST_UNREAD
            if step < self._last_step:
                self._read_at[0] = min(self._read_at[0], self._last_step)
        self._update_due()

    def _do_due(self, step: int) -> None:
        due = [place for place, at in sorted(self._next.items()) if step >= at]
        self._next.update((place, self._next_of(self._intervals[place][1], step)) for place in due)
        self._update_due()
        for place in due:
            self._due[place](self._run)

    def _do_due_before(self, step: int) -> None:
        due = [place for place, at in sorted(self._before_next.items()) if step >= at]
        self._plan_before(step)
        for place in due:
            self._before_due[place](self._run)

    def _plan_before(self, done: int) -> None:
        """Plan what is called before the steps after those that are done, or have begun."""
        self._before_next = {place: self._next_of(n, done) for place, (_, n, _) in self._before_intervals.items()}
        self._before_at[0] = min(self._before_next.values(), default=math.inf)

    def _next_of(self, n: int, done: int) -> int:
        """Return the next multiple of `n` in the run's steps after those that are done, as MindSpore counts."""
        return done + n - (done + self._offset) % n

    def _update_due(self) -> None:
        self._due_at[0] = min(self._next.values(), default=math.inf)
        self._sooner[0] = min(self._read_at[0], self._due_at[0])


def _leave_out(output: Any) -> None:
    """Drop an output that is not a loss."""


def _unwrapped(callback: Any, hook: str, function: StepFunction) -> StepFunction:
    return function


def _calling(functions: list[StepFunction], run: Any, own: Optional[Callable[[Any], None]]) -> Callable[[Any], None]:
    """Return a MindSpore hook that calls functions with the run, and then the host class's own hook."""
    if len(functions) == 1 and own is None:
        (only,) = functions

        def call_one(run_context: Any) -> None:
            only(run)

        return call_one

    def call_all(run_context: Any) -> None:
        for function in functions:
            function(run)
        if own is not None:
            own(run_context)

    return call_all


def _take_away(callback: Any, name: str) -> None:
    # Not via `__dict__`: once that was accessed, Python looks up every attribute in more places.
    with contextlib.suppress(AttributeError):
        delattr(callback, name)
