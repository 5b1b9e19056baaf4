"""What callbacks ask to be called at in the steps of a run: in order, from then on, and nothing where nobody asks."""

from __future__ import annotations

import time

import pytest
from mindspore import Tensor

from ms_callbacks.core.callback import TrainCallback
from ms_callbacks.core.losses import Losses
from ms_callbacks.core.samples import Samples
from ms_callbacks.core.step_hooks import STEP_BEGIN, STEP_END, StepHooks

RUN = object()  # what functions are called with
CONTEXT = object()  # what MindSpore calls its hooks with


class Steps:
    """The steps of a run, as MindSpore counts them: it calls the two hooks of every callback in the list."""

    def __init__(self, *callbacks):
        self.callbacks = callbacks
        self.args = {"cur_step_num": 0, "net_outputs": 0.5}
        self.losses, self.ended_at = Losses(), [0.0, -1]
        self.hooks = StepHooks(
            RUN, self.args, list(callbacks), self.losses, self.ended_at, lambda output: output != "dropped"
        )

    def start(self, owner=None, samples=None, *, times_steps=False, last_step=None, offset=0):
        self.hooks.start(owner, samples, times_steps=times_steps)
        self.hooks.begin_epoch(self.args["cur_step_num"], last_step, offset)
        return self

    def take(self, count=1, *, sink=1):
        for _ in range(count):
            self.args["cur_step_num"] += sink
            for hook in (STEP_BEGIN, STEP_END):
                for callback in self.callbacks:
                    getattr(callback, hook)(CONTEXT)

    @property
    def installed(self):
        """The hooks that stand before those of the classes."""
        return [hook for each in self.callbacks for hook in (STEP_BEGIN, STEP_END) if hook in vars(each)]


class Log(list):
    """A list of what was called, with the step of the time."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def of(self, text):
        def function(run):
            assert run is RUN
            self.append((self.steps.args["cur_step_num"], text))

        return function


def made(count=2):
    """So many callbacks, the steps of their run, and a log."""
    callbacks = [TrainCallback() for _ in range(count)]
    steps = Steps(*callbacks)
    return (*callbacks, steps, Log(steps))


def test_where_nobody_asks_nothing_stands_before_the_hooks_of_the_class():
    """Nor before the run starts to call; nor after the last that has asked asks no more, and after the end."""
    one, _, steps, log = made()
    steps.hooks.on_step_end(one, log.of("early"))
    steps.take()
    assert (steps.installed, log) == ([], [])
    steps.start()
    assert steps.installed == [STEP_END]
    steps.hooks.on_step_end(one, None)
    assert steps.installed == []
    steps.hooks.on_step_begin(one, log.of("begin"))
    assert steps.installed == [STEP_BEGIN]
    steps.hooks.stop()
    steps.hooks.on_step_end(one, log.of("late"))
    steps.take()
    assert (steps.installed, log) == ([], [])


def test_functions_are_called_in_the_order_of_the_list():
    """Whenever they were asked for; in a step all of its end come before those that are due every n steps."""
    one, other, third, steps, log = made(3)
    hooks = steps.start().hooks
    hooks.every(1, one, log.of("every one"))
    for callback, name in ((third, "third"), (one, "one"), (other, "other")):
        hooks.on_step_end(callback, log.of(f"end {name}"))
        hooks.on_step_begin(callback, log.of(f"begin {name}"))
    steps.take()
    names = ["one", "other", "third"]
    assert [text for _, text in log] == [
        *(f"begin {name}" for name in names),
        *(f"end {name}" for name in names),
        "every one",
    ]


def test_a_function_stands_in_place_of_an_earlier_one_of_the_same_callback():
    """At the same moment; `None` stands for nothing, asked for once or twice."""
    one, other, steps, log = made()
    hooks = steps.start().hooks
    hooks.on_step_end(one, log.of("a"))
    hooks.on_step_end(other, log.of("other"))
    hooks.on_step_begin(one, log.of("begin"))
    hooks.on_step_end(one, log.of("b"))
    steps.take()
    for _ in range(2):
        hooks.on_step_end(one, None)
    steps.take()
    assert log == [(1, "begin"), (1, "b"), (1, "other"), (2, "begin"), (2, "other")]


def test_what_is_asked_for_in_a_step_holds_from_the_next_call_on():
    """One function removes itself and asks for others, of a callback before it and of one behind."""
    one, other, third, steps, log = made(3)
    hooks = steps.start().hooks

    def change(run):
        log.of("change")(run)
        hooks.on_step_end(other, None)
        hooks.on_step_end(one, log.of("one"))
        hooks.on_step_end(third, log.of("new"))

    hooks.on_step_end(other, change)
    hooks.on_step_end(third, log.of("old"))
    steps.take(2)
    assert log == [(1, "change"), (1, "old"), (2, "one"), (2, "new")]


def test_the_end_of_a_step_may_be_asked_for_at_its_beginning():
    """Then it is called in the same step already."""
    one, steps, log = made(1)
    hooks = steps.start().hooks
    hooks.on_step_begin(one, lambda run: hooks.on_step_end(one, log.of("end")))
    steps.take()
    assert log == [(1, "end")]


def test_a_fetch_is_what_lies_between_all_that_callbacks_do():
    """The end of it comes before the first of them in a step, its begin after the last; the list does not matter."""
    one, other, steps, log = made()
    hooks = steps.start().hooks
    hooks.around_fetch(other, log.of("fetch"), log.of("fetched"))
    hooks.every(1, one, log.of("every"))
    hooks.on_step_end(one, log.of("end"))
    hooks.on_step_begin(one, log.of("begin"))
    hooks.before_all(log.of("first"))
    steps.take()
    assert [text for _, text in log] == ["fetched", "first", "begin", "end", "every", "fetch"]


@pytest.mark.parametrize("stores", [False, True])
def test_a_fetch_alone_may_be_asked_for(stores):
    """Also where outputs are stored."""
    one, steps, log = made(1)
    steps.start(one if stores else None)
    steps.hooks.around_fetch(one, log.of("fetch"), log.of("fetched"))
    steps.take(2)
    assert log == [(1, "fetched"), (1, "fetch"), (2, "fetched"), (2, "fetch")]
    assert steps.losses.mean == (0.5 if stores else None)


# Every n steps


@pytest.mark.parametrize(
    ("n", "offset", "steps_before", "due"),
    [
        (1, 0, 0, [1, 2, 3, 4, 5, 6]),
        (2, 0, 0, [2, 4, 6]),
        (4, 0, 0, [4]),
        (6, 0, 0, [6]),
        (7, 0, 0, []),
        # Asked for in the middle of a run: a step that is over is not due any more.
        (2, 0, 1, [2, 4, 6]),
        (2, 0, 2, [4, 6]),
        (3, 0, 5, [6]),
        # A run that continues another one counts on: MindSpore's first step is the run's fifth.
        (2, 4, 0, [2, 4, 6]),
        (3, 4, 0, [2, 5]),
        (5, 4, 0, [1, 6]),
        (4, 4, 0, [4]),
        (4, 3, 2, [5]),
    ],
)
def test_every_nth_step_counts_from_the_first_of_the_run(n, offset, steps_before, due):
    """Whenever it was asked for, and wherever the run has begun."""
    one, steps, log = made(1)
    steps.start(offset=offset).take(steps_before)
    steps.hooks.every(n, one, log.of("due"))
    steps.take(6 - steps_before)
    assert [step for step, _ in log] == due


@pytest.mark.parametrize(("n", "steps_each", "due"), [(3, [2, 2, 2], [3, 6]), (4, [3, 5], [4, 8]), (2, [1, 1], [2])])
def test_intervals_go_on_over_epochs(n, steps_each, due):
    """Of any length, known before or not."""
    for is_known in (True, False):
        one, steps, log = made(1)
        steps.start()
        steps.hooks.every(n, one, log.of("due"))
        for count in steps_each:
            done = steps.args["cur_step_num"]
            steps.hooks.begin_epoch(done, done + count if is_known else None, 0)
            steps.take(count)
        assert [step for step, _ in log] == due


@pytest.mark.parametrize(
    ("n", "sink", "due"),
    [(3, 5, [5, 10, 15]), (5, 5, [5, 10, 15]), (7, 5, [10, 15]), (10, 5, [10]), (1, 5, [5, 10, 15])],
)
def test_a_sink_that_has_reached_the_step_calls_once(n, sink, due):
    """However many of the steps are in it."""
    one, steps, log = made(1)
    steps.start().hooks.every(n, one, log.of("due"))
    steps.take(3, sink=sink)
    assert [step for step, _ in log] == due


def test_intervals_of_several_callbacks():
    """Each has its own; where two are due in one step, they are called in the order of the list."""
    one, other, steps, log = made()
    hooks = steps.start().hooks
    hooks.every(2, other, log.of("other"))
    hooks.every(3, one, log.of("one"))
    steps.take(6)
    assert log == [(2, "other"), (3, "one"), (4, "other"), (6, "one"), (6, "other")]


def test_another_interval_of_a_callback_stands_in_place_of_the_earlier():
    """Also one that it asks for when it is called."""
    one, steps, log = made(1)
    hooks = steps.start().hooks

    def slow_down(run):
        log.of("first")(run)
        hooks.every(4, one, log.of("then"))

    hooks.every(2, one, slow_down)
    steps.take(9)
    assert log == [(2, "first"), (4, "then"), (8, "then")]


def test_what_is_none_of_the_callbacks_is_called_behind_all():
    """As the evaluation between two steps."""
    one, steps, log = made(1)
    hooks = steps.start().hooks
    hooks.every(1, object(), log.of("every outside"))
    hooks.every(1, one, log.of("every one"))
    hooks.on_step_end(object(), log.of("end outside"))
    hooks.on_step_end(one, log.of("end one"))
    steps.take()
    assert [text for _, text in log] == ["end one", "end outside", "every one", "every outside"]


def test_two_that_are_none_of_the_callbacks_do_not_meet():
    """Each is called, as a callback's helper beside the evaluation between two steps."""
    _, steps, log = made(1)
    hooks = steps.start().hooks
    first, last = object(), object()
    for each, name in ((first, "first"), (last, "last")):
        hooks.every(1, each, log.of(f"every {name}"))
        hooks.on_step_end(each, log.of(f"end {name}"))
    steps.take()
    assert [text for _, text in log] == ["end first", "end last", "every first", "every last"]


# Hooks of the user's own, clocks, and the first step


class Own(TrainCallback):
    """Has hooks of its own in a step."""

    def __init__(self, log):
        super().__init__()
        self.log_of_own = log

    def on_train_step_begin(self, run_context):
        self.log_of_own.append(("begin", run_context))

    def on_train_step_end(self, run_context):
        self.log_of_own.append(("end", run_context))


@pytest.mark.parametrize("asks", [(), ("begin",), ("end",), ("begin", "end"), ("every",)])
@pytest.mark.parametrize("stores", [False, True])
def test_hooks_of_the_hosts_class_are_called_too(asks, stores):
    """After what was asked for, once a step, with MindSpore's own context."""
    log = []
    one = Own(log)
    steps = Steps(one)
    steps.start(one if stores else None)
    if "begin" in asks:
        steps.hooks.on_step_begin(one, lambda run: log.append("asked begin"))
    if "end" in asks:
        steps.hooks.on_step_end(one, lambda run: log.append("asked end"))
    if "every" in asks:
        steps.hooks.every(1, one, lambda run: log.append("asked end"))
    steps.take(2)
    begin = ["asked begin"] if "begin" in asks else []
    end = ["asked end"] if {"end", "every"} & set(asks) else []
    assert log == [*begin, ("begin", CONTEXT), *end, ("end", CONTEXT)] * 2


def test_every_function_goes_through_the_wrapper():
    """With its callback and its hook: those that were asked for before, and those after."""
    one, other, steps, log = made()
    hooks = steps.start().hooks
    wrapped = []

    def wrapper(callback, hook, function):
        def clocked(run):
            wrapped.append((callback, hook))
            function(run)

        return clocked

    hooks.on_step_begin(one, log.of("begin"))
    hooks.every(1, one, log.of("every"))
    hooks.wrap(wrapper)
    hooks.on_step_end(other, log.of("end"))
    steps.take()
    assert wrapped == [(one, STEP_BEGIN), (other, STEP_END), (one, "report")]
    assert [text for _, text in log] == ["begin", "end", "every"]


def test_a_wrapper_sees_what_stores_the_outputs_as_the_owners():
    """So that its time is told too."""
    one, other, steps, _ = made()
    owners = []
    steps.start(other)
    steps.hooks.wrap(lambda callback, hook, function: owners.append((callback, hook)) or function)
    assert owners == [(other, STEP_END)]
    steps.take()
    assert steps.losses.total == (0.5, 1)
    assert one is not other


def test_what_comes_before_all_is_called_until_it_asks_no_more():
    """Before the functions of the first callback."""
    one, steps, log = made(1)
    hooks = steps.start().hooks

    def first(run):
        log.of("first")(run)
        if steps.args["cur_step_num"] == 2:
            hooks.before_all(None)

    hooks.before_all(first)
    hooks.on_step_begin(one, log.of("begin"))
    steps.take(3)
    assert log == [(1, "first"), (1, "begin"), (2, "first"), (2, "begin"), (3, "begin")]


# The outputs of steps


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("kind", [float, Tensor, lambda value: (Tensor(value), Tensor(False))])
def test_outputs_are_stored_before_anything_that_was_asked_for(asks, kind, mode):
    """So that what is called finds the loss of its step; they are a loss, or a tuple that begins with one."""
    one, steps, _ = made(1)
    found = []
    steps.start(one, last_step=3)
    if asks:
        steps.hooks.on_step_end(one, lambda run: found.append(steps.losses.last))
    for value in (1.0, 2.0, 6.0):
        steps.args["net_outputs"] = kind(value)
        steps.take()
    assert (steps.losses.total, steps.losses.last) == ((9.0, 3), 6.0)
    assert found == ([1.0, 2.0, 6.0] if asks else [])


@pytest.mark.parametrize(("last_step", "noted"), [(3, [-1, -1, 3, 3]), (None, [-1] * 4), (9, [-1] * 4)])
def test_losses_are_read_in_the_last_step_where_it_is_known(last_step, noted):
    """Then the time is noted, for the device has done its work."""
    one, steps, _ = made(1)
    steps.start(one, last_step=last_step)
    found = []
    for _ in range(4):
        steps.take()
        found.append(steps.ended_at[1])
    assert found == noted
    assert steps.losses.total == (2.0, 4)


@pytest.mark.parametrize("stores", [True, False])
def test_samples_are_counted_and_steps_timed_where_somebody_asks(stores):
    """Whether their losses are stored or not."""
    one, steps, _ = made(1)
    samples = Samples()
    steps.start(one if stores else None, samples, times_steps=True)
    before = time.perf_counter()
    for columns in ([[1, 2, 3]], [[4]]):
        steps.args["train_dataset_element"] = columns
        steps.take()
        assert before < steps.ended_at[0] <= time.perf_counter()
        before = steps.ended_at[0]
    assert samples.count == 4
    assert steps.losses.total == ((1.0, 2) if stores else (0.0, 0))


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("2", TypeError)])
def test_an_interval_that_is_no_number_of_steps_is_refused(n, error):
    """Where it is asked for."""
    one, steps, log = made(1)
    with pytest.raises(error, match="n of every must be"):
        steps.hooks.every(n, one, log.of("every"))


@pytest.mark.parametrize(
    ("n", "done", "expected"), [(1, 0, [1, 2, 3, 4, 5]), (2, 0, [2, 4]), (3, 1, [2, 5]), (9, 0, [])]
)
def test_before_every_nth_step_counted_from_the_first_of_the_run(n, done, expected):
    """Also where an earlier run has done some; a later registration takes the place of an earlier one."""
    one, steps, log = made(1)
    hooks = steps.start(offset=done).hooks
    hooks.before_every(7, one, log.of("early"))
    hooks.before_every(n, one, log.of("before"))
    steps.take(5)
    assert log == [(step, "before") for step in expected]


def test_what_is_due_before_a_step_comes_after_what_each_step_begins_with():
    """A state that is saved there is still that of the step before."""
    one, other, steps, log = made()
    hooks = steps.start().hooks
    hooks.before_all(lambda run: (hooks.before_all(None), log.of("first")(run)))
    hooks.on_step_begin(one, log.of("begin"))
    hooks.before_every(2, other, log.of("before other"))
    hooks.before_every(1, one, log.of("before one"))
    hooks.every(2, one, log.of("every"))
    steps.take(2)
    assert log == [
        (1, "first"),
        (1, "begin"),
        (1, "before one"),
        (2, "begin"),
        (2, "before one"),
        (2, "before other"),
        (2, "every"),
    ]


def test_before_a_sink_that_reaches_the_step():
    """Once for each."""
    one, steps, log = made(1)
    steps.start().hooks.before_every(3, one, log.of("before"))
    steps.take(4, sink=4)
    assert log == [(4, "before"), (8, "before"), (12, "before"), (16, "before")]


def test_before_every_refuses_what_is_no_interval():
    """In the name of the callback."""
    one, steps, _ = made(1)
    with pytest.raises(ValueError, match="TrainCallback: n of before_every must be at least 1"):
        steps.hooks.before_every(0, one, print)


def test_an_optimizer_step_is_one_that_has_updated_the_weights():
    """Called after the functions for the end of the step, whatever the order in which they were registered."""
    one, two, steps, log = made()
    steps.hooks.on_optimizer_step(one, log.of("updated"))
    steps.hooks.on_step_end(two, log.of("end"))
    steps.start()
    steps.take()
    steps.args["net_outputs"] = "dropped"
    steps.take()
    assert log == [(1, "end"), (1, "updated"), (2, "end")]
    steps.hooks.call_optimizer_step()  # at the end of an epoch
    assert log[-1] == (2, "updated")
    steps.hooks.on_optimizer_step(one, None)
    steps.args["net_outputs"] = 0.5
    steps.take()
    assert log[-2:] == [(2, "updated"), (3, "end")]
