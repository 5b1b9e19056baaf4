"""Call an experiment tracker in a thread of its own, so that a slow, failing or hanging client never stops training."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from ..core.tracker import TrackedRun, Tracker

__all__ = ["TrackerThread"]

MOST_QUEUED = 10_000  # calls
MOST_LARGE = 16  # calls with figures or arrays


class _Call(NamedTuple):
    """A call of the tracker that is waiting."""

    number: int
    function: Callable[[], None]
    values: int  # how many values are lost if it is not made


class TrackerThread:
    """Calls a tracker in order, in one thread.

    A call is one of three kinds: the numbers of steps, large ones (figures, arrays), and all others. If the queue is
    full, the oldest call with numbers of a step is dropped, or the oldest at all if there are none. Of large calls, at
    most 16 wait.

    Args:
        tracker: the tracker.

    Attributes:
        error (BaseException | None): the first exception that the tracker has raised after its start.
        lost (int): how many values were dropped, or not stored because the tracker raised an exception.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._steps: deque[_Call] = deque()
        self._large: deque[_Call] = deque()
        self._others: deque[_Call] = deque()
        self._under_way = 0  # values in the call that is being made
        self._count = 0
        self._logged: deque[tuple[int, int, dict[str, float]]] = deque(maxlen=MOST_QUEUED)  # and not flushed yet
        self._text_number = self._flushed = 0  # the call with the last text, and the last call that was flushed
        self._changed = threading.Condition()
        self._started = threading.Event()
        self._start_error: Optional[BaseException] = None
        self._id: Optional[str] = None
        self._status: Optional[str] = None  # with which to close, once that is known
        self.error: Optional[BaseException] = None
        self.lost = 0

    def start(self, run: TrackedRun, timeout: float) -> Optional[str]:
        """Start the tracker and return the id of its run; raise what it raises, or `TimeoutError`."""
        # A daemon, because a client that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, args=(run,), name="ms_callbacks tracker", daemon=True)
        self._thread.start()
        try:
            if not self._started.wait(timeout):
                raise TimeoutError(f"it did not start within {timeout:g} s")
        except BaseException:  # also if the user interrupts the wait
            self.close("failed", 0)  # if it ever starts
            raise
        if self._start_error is not None:
            raise self._start_error
        return self._id

    def log(self, values: Mapping[str, float], step: int, *, of_step: bool = False) -> None:
        """Queue numbers."""
        lane = self._steps if of_step else self._others
        number = self._put(lane, lambda: self._tracker.log(values, step), len(values))
        self._logged.append((number, step, dict(values)))

    def log_text(self, name: str, text: str, step: int) -> None:
        """Queue a text."""
        self._text_number = self._put(self._others, lambda: self._tracker.log_text(name, text, step), 1)

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Queue a figure."""
        self._put(self._large, lambda: self._tracker.log_figure(name, figure, step), 1)

    def log_histograms(self, arrays: Mapping[str, Any], step: int) -> None:
        """Queue the distributions of arrays."""

        def call() -> None:
            for name, array in arrays.items():
                self._tracker.log_histogram(name, array, step)

        self._put(self._large, call, len(arrays))

    def flush(self) -> None:
        """Queue a flush."""
        number = self._count

        def call() -> None:
            self._tracker.flush()
            self._flushed = number

        self._put(self._others, call, 0)

    def unflushed(self) -> list[tuple[int, dict[str, float]]]:
        """Return the numbers that were queued, with their steps, and that the tracker may lose if the process dies."""
        while self._logged and self._logged[0][0] <= self._flushed:
            self._logged.popleft()
        return [(step, values) for _, step, values in self._logged]

    @property
    def kept_texts(self) -> bool:
        """Whether the tracker cannot lose a text any more."""
        return self._text_number <= self._flushed

    def close(self, status: str, timeout: float) -> bool:
        """Make the calls that wait, then close the tracker; return whether that was done within `timeout` seconds."""
        with self._changed:
            self._status = self._status or status
            self._changed.notify()
        if self.has_ended(timeout):
            return True
        with self._changed:  # at least no further call
            waiting = (*self._steps, *self._large, *self._others)
            self.lost += sum(call.values for call in waiting) + self._under_way
            for lane in (self._steps, self._large, self._others):
                lane.clear()
        return False

    def has_ended(self, timeout: float) -> bool:
        """Return whether the tracker is closed, within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _put(self, lane: deque[_Call], function: Callable[[], None], values: int) -> int:
        with self._changed:
            self._count += 1
            lane.append(_Call(self._count, function, values))
            if len(self._large) > MOST_LARGE:
                self.lost += self._large.popleft().values
            if len(self._steps) + len(self._others) > MOST_QUEUED:
                self.lost += (self._steps or self._others).popleft().values
            self._changed.notify()
            return self._count

    def _run(self, run: TrackedRun) -> None:
        try:
            self._id = self._tracker.start(run)
        except BaseException as error:  # a client may call sys.exit
            self._start_error = error
            with contextlib.suppress(BaseException):
                self._tracker.close("failed")
            return
        finally:
            self._started.set()
        while (call := self._next()) is not None:
            self._make(call.function, call.values)
        assert self._status is not None
        self._make(lambda: self._tracker.close(str(self._status)), 0)

    def _next(self) -> Optional[_Call]:
        """Return the oldest call, once there is one; `None` if the tracker is to be closed."""
        with self._changed:
            while True:
                lanes = [lane for lane in (self._steps, self._large, self._others) if lane]
                if lanes:
                    call = min(lanes, key=lambda lane: lane[0].number).popleft()
                    self._under_way = call.values
                    return call
                if self._status is not None:
                    return None
                self._changed.wait()

    def _make(self, function: Callable[[], None], values: int) -> None:
        try:
            function()
        except BaseException as error:
            with self._changed:
                self.error = self.error or error
                self.lost += values
        finally:
            self._under_way = 0
