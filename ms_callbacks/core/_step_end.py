"""The end of every step of a run: its output is put aside, and what is due is done.

Of all that callbacks do, only this is done in every step. The processor's caches are cold there, so that each object
that is looked into costs: all that it needs is known before and stands together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import mindspore as ms
from mindspore import Tensor

from ._losses import Losses
from ._roles import Reporter

if TYPE_CHECKING:
    from ._context import Run

__all__ = ["StepEnd"]

_MOST_UNREAD = 1000  # losses, so that memory does not grow with the length of an epoch


class StepEnd:
    """The end of every step of `run`, whose parameters are `args`; steps are counted as MindSpore counts them there."""

    def __init__(self, run: Run, args: dict[str, Any], losses: Losses) -> None:
        self._run, self._args, self._losses = run, args, losses
        self._is_checked = False
        self._last_step = self._read_at = 0
        self._reports: dict[Reporter, int] = {}
        self._due_at = [0]  # the next step at which something is due, where `take` sees it
        # The hook at the end of a step, of the one callback that hands the losses over for all.
        self.take = self._taking(args)

    def begin_epoch(self, first_step: int, last_step: int) -> None:
        """Takes note which steps are the epoch's."""
        self._last_step = last_step
        self._read_at = min(first_step + _MOST_UNREAD, last_step)
        self._due_at[0] = self._read_at if self._is_checked else first_step

    def report_at(self, step: int, reporter: Reporter) -> None:
        """Has `reporter` report at the end of `step`."""
        self._reports[reporter] = step
        self._due_at[0] = min(self._due_at[0], step)

    def _taking(self, args: dict[str, Any]) -> Callable[[Any], None]:
        add, due_at, do_what_is_due = self._losses.add, self._due_at, self._do_what_is_due

        pick = self._losses.reader.take

        def take(run_context: Any) -> None:
            output = args["net_outputs"]
            add(output if type(output) is Tensor else pick(output))
            if args["cur_step_num"] >= due_at[0]:
                do_what_is_due(args["cur_step_num"])

        def take_detached(run_context: Any) -> None:
            output = args["net_outputs"]
            add(output.data if type(output) is Tensor else pick(output))
            if args["cur_step_num"] >= due_at[0]:
                do_what_is_due(args["cur_step_num"])

        return take_detached if ms.get_context("mode") == ms.PYNATIVE_MODE and hasattr(Tensor, "data") else take

    def _do_what_is_due(self, step: int) -> None:
        if not self._is_checked:  # an output that no loss can be told in is an error at the first step
            self._is_checked = True
            self._losses.reader.take(self._args["net_outputs"])
        if step >= self._read_at:
            # Nothing waits for the device before the epoch's last step, so that its time is that of all its work.
            self._losses.read()
            self._read_at = min(step + _MOST_UNREAD, self._last_step)
            if step == self._last_step:
                self._run.end_steps()
        due = [reporter for reporter, at in self._reports.items() if step >= at]
        self._reports = {reporter: at for reporter, at in self._reports.items() if step < at}
        self._due_at[0] = min([self._read_at, *self._reports.values()])
        for reporter in due:
            reporter.report(self._run)
