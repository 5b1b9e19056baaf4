"""The end of every step of a run: its output is put aside, and what is due is done.

Of all that callbacks do, only this is done in every step. The processor's caches are cold there, so that each object
that is looked into costs: all that it needs is known before and stands together.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

from mindspore import Tensor

from . import distributed
from .hooks import Reporter
from .losses import Losses
from .mindspore_compat import holds_its_graph
from .samples import Samples

if TYPE_CHECKING:
    from .run import Run

__all__ = ["StepEnd"]

_MOST_UNREAD = 1000  # losses, so that memory does not grow with the length of an epoch


def _leave_out(output: Any) -> None:
    """Nothing."""


class StepEnd:
    """The end of every step of `run`, whose parameters are `args`; steps are counted as MindSpore counts them there.

    The time at which the last step of an epoch ended goes into `ended_at`, with its number; with `run.times_steps`, the
    time of every step does.
    """

    def __init__(self, run: Run, args: dict[str, Any], losses: Losses, ended_at: list[float]) -> None:
        self._run, self._args, self._losses, self._ended_at = run, args, losses, ended_at
        self._has_loss = distributed.has_loss()
        self._is_checked = not self._has_loss
        self._last_step = math.inf
        self._read_at: float = 0
        self._reports: dict[Reporter, int] = {}
        self._due_at: list[float] = [0]  # the next step at which something is due, where the hook sees it

    def begin_epoch(self, first_step: int, last_step: Optional[int]) -> None:
        """Sets which steps are the epoch's; `None` where its last step is not known ahead."""
        self._last_step = math.inf if last_step is None else last_step
        self._read_at = min(first_step + _MOST_UNREAD, self._last_step)
        self._due_at[0] = self._read_at if self._is_checked else first_step

    def report_at(self, step: int, reporter: Reporter) -> None:
        """Has `reporter` report at the end of `step`."""
        self._reports[reporter] = step
        self._due_at[0] = min(self._due_at[0], step)

    def hook(self, samples: Optional[Samples]) -> Callable[[Any], None]:
        """What is to be called at the end of every step, by one callback for all; counts the samples, if asked to."""
        args, due_at, do_what_is_due = self._args, self._due_at, self._do_what_is_due
        # In a pipeline, what a step of another stage than the last returns is no loss.
        add = self._losses.add if self._has_loss else _leave_out
        keep, pick = self._losses.add, self._losses.reader.take

        def add_picked(output: Any) -> None:
            keep(pick(output))

        def pick_from_now_on() -> None:
            nonlocal add
            add = add_picked

        self._pick_from_now_on = pick_from_now_on

        def take(run_context: Any) -> None:
            add(args["net_outputs"])
            if args["cur_step_num"] >= due_at[0]:
                do_what_is_due(args["cur_step_num"])

        def take_detached(run_context: Any) -> None:
            output = args["net_outputs"]
            keep(output.data if type(output) is Tensor else pick(output))
            if args["cur_step_num"] >= due_at[0]:
                do_what_is_due(args["cur_step_num"])

        is_detached = self._has_loss and holds_its_graph()
        take_output = take_detached if is_detached else take
        if samples is None and not self._run.times_steps:
            return take_output
        ended_at, clock = self._ended_at, time.perf_counter
        count = None if samples is None else samples.add

        def take_and_count(run_context: Any) -> None:
            if count is not None:
                count(args.get("train_dataset_element"))
            take_output(run_context)
            ended_at[0] = clock()

        return take_and_count

    def _do_what_is_due(self, step: int) -> None:
        if not self._is_checked:  # an output that no loss can be told in is an error at the first step
            self._is_checked = True
            self._losses.check_first(self._args["net_outputs"])
            if not isinstance(self._args["net_outputs"], Tensor):
                self._pick_from_now_on()
        if step >= self._read_at:
            self._losses.read()
            if step >= self._last_step:  # of all its work, now that the device was waited for
                self._ended_at[:] = time.perf_counter(), step
            self._read_at = step + _MOST_UNREAD
            if step < self._last_step:
                self._read_at = min(self._read_at, self._last_step)
        due = [reporter for reporter, at in self._reports.items() if step >= at]
        self._reports = {reporter: at for reporter, at in self._reports.items() if step < at}
        self._due_at[0] = min([self._read_at, *self._reports.values()])
        for reporter in due:
            reporter.report(self._run)
