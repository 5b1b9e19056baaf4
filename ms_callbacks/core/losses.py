"""The training losses of one epoch, read from the device together and only on demand.

Each step stores its output as it is, without waiting for the device. When a line is printed or a decision is made, all
stored losses are read at once.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Optional

from .step_outputs import OutputReader, StepOutput, loss_of
from .tensors import is_plain, number

__all__ = ["MOST_DROPPED", "Losses", "ReadFunction"]

ReadFunction = Callable[[int, list[Optional[float]]], None]

# A loss scale that begins at 2**24, MindSpore's default, is 1 after this many dropped steps in a row and one more: if
# a step still overflows then, the network itself is the cause.
MOST_DROPPED = 25


class Losses:
    """The losses of the current epoch.

    A step that loss scaling dropped does not count. After `MOST_DROPPED` of them in a row, each further one counts as a
    loss that is NaN.
    """

    def __init__(self, reader: Optional[OutputReader] = None) -> None:
        self.reader = reader or OutputReader()
        self.dropped_in_row = 0
        self._resumed: dict[str, Any] = {}
        self._functions: dict[int, tuple[Any, ReadFunction]] = {}  # by the id of the callback, which is kept alive
        self.wrap: Callable[[Any, str, Any], Any] = _unwrapped  # wraps each function, for example in a timer
        self._unread: list[Any] = []
        # Takes the output of the epoch's next step: called in every step, so it is the list's own method.
        self.add: Callable[[Any], None] = self._unread.append
        self.begin_epoch()

    def on_read(self, callback: Any, function: Optional[ReadFunction]) -> None:
        """Call `function(first, losses)` each time losses have been read, in place of an earlier function.

        Each step's loss is passed once, in order: after 1000 steps or at the end of the epoch, whichever comes first,
        and sooner if anything else reads the losses. Nothing is read for the function itself. The callback must have
        `needs_losses = True`.

        Args:
            callback: the callback that registers the function.
            function: takes the step of the first loss, counted within its epoch, and the list of losses; a loss is
                `None` if loss scaling dropped the step. With several processes, they are the losses of this process,
                and other processes may read at other times. `None` removes the function.
        """
        if function is None:
            self._functions.pop(id(callback), None)
        else:
            self._functions[id(callback)] = callback, function

    def check_first(self, output: Any) -> None:
        """Raise if a step's output has no identifiable loss; reduce one that was stored as it is to what is needed."""
        taken = self.reader.take(output)
        if self._unread and self._unread[-1] is output:
            self._unread[-1] = taken

    def begin_epoch(self, *, done: int = 0) -> None:
        """Reset the losses; if an earlier run did the first `done` steps of the epoch, continue with its losses."""
        self._unread.clear()
        self._number: Optional[Callable[[Any], Optional[float]]] = None  # reads one loss
        self._step = 0  # the last step that was read
        self._sum = 0.0
        self._count = 0
        self._last: Optional[float] = None
        self._nonfinite_step: Optional[int] = None
        self._other_sums = dict.fromkeys(self.reader.names, 0.0)
        if done and self._resumed:
            self._continue_from(self._resumed)
        self._step = self._step or done  # if the earlier run has kept no losses

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch so far, in plain numbers."""
        self.read()
        return {
            "step": self._step,
            "sum": self._sum,
            "count": self._count,
            "last": self._last,
            "nonfinite_step": self._nonfinite_step,
            "dropped_in_row": self.dropped_in_row,
            "others": dict(self._other_sums),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, in the first epoch, if that is resumed in its middle."""
        self._resumed = state

    def _continue_from(self, state: dict[str, Any]) -> None:
        self._step, self._last, self._nonfinite_step = state["step"], state["last"], state["nonfinite_step"]
        self._sum, self._count = state["sum"], state["count"]
        self.dropped_in_row = state.get("dropped_in_row", 0)
        self._other_sums.update(state.get("others", {}))

    @property
    def mean(self) -> Optional[float]:
        """The mean loss of the epoch's steps so far; `None` before the first."""
        self.read()
        return self._sum / self._count if self._count else None

    @property
    def total(self) -> tuple[float, int]:
        """The sum of the losses of the epoch's steps so far, and their count."""
        self.read()
        return self._sum, self._count

    @property
    def other_sums(self) -> dict[str, float]:
        """The sums of the other tracked numbers, by name, over the steps that count."""
        self.read()
        return dict(self._other_sums)

    @property
    def last(self) -> Optional[float]:
        """The loss of the last step; `None` before the first."""
        self.read()
        return self._last

    @property
    def nonfinite_step(self) -> Optional[int]:
        """The first step of the epoch whose loss was NaN or infinite; `None` if there was none."""
        self.read()
        return self._nonfinite_step

    def read(self) -> None:
        """Read all stored losses at once."""
        unread = self._unread
        if not unread:
            return
        # All outputs of a network are of the same kind.
        if self._number is None:
            self._number = float if is_plain(unread[0]) else loss_of
        losses = list(map(self._number, unread))
        if isinstance(unread[0], StepOutput):
            self._count_dropped(losses)
            self._add_others(unread, losses)
        unread.clear()
        total = self._sum
        for loss in losses:
            if loss is not None:
                total += loss
                self._count += 1
                self._last = loss
        self._sum = total
        if self._nonfinite_step is None and not math.isfinite(total):
            finite = [loss is None or math.isfinite(loss) for loss in losses]
            self._nonfinite_step = self._step + finite.index(False) + 1
        first, self._step = self._step + 1, self._step + len(losses)
        for callback, function in list(self._functions.values()):
            self.wrap(callback, "report", function)(first, losses)

    def _count_dropped(self, losses: list[Optional[float]]) -> None:
        for index, loss in enumerate(losses):
            self.dropped_in_row = self.dropped_in_row + 1 if loss is None else 0
            if self.dropped_in_row >= MOST_DROPPED:
                losses[index] = math.nan

    def _add_others(self, outputs: list[StepOutput], losses: list[Optional[float]]) -> None:
        for place, name in enumerate(self.reader.names):
            counted = [output.others[place] for output, loss in zip(outputs, losses) if loss is not None]
            self._other_sums[name] += sum(map(number, counted))


def _unwrapped(callback: Any, hook: str, function: Any) -> Any:
    return function
