"""Write files in the background, so that a run continues as soon as the weights are copied."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Callable, Generic, Optional, TypeVar

import numpy as np
from mindspore import Parameter

from ..core.background import BackgroundThread
from ..core.parameters import Snapshot
from ..core.shared_copies import Copies

__all__ = ["BackgroundWriter"]

_What = TypeVar("_What")
Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class _Job(Generic[_What]):
    what: _What
    snapshot: Optional[Snapshot]  # `None` for a cancelled job that is still in the thread's queue
    future: Future[None]


class BackgroundWriter(Generic[_What]):
    """Writes copies of `parameters` in the thread of a run, in order: one is being written, one may wait.

    So it holds two copies at most, and only one if each is written before the next is made.
    """

    def __init__(
        self,
        copies: Copies,
        thread: BackgroundThread,
        parameters: dict[str, Parameter],
        write: Callable[[Arrays, _What], None],
    ) -> None:
        self._copies = copies
        self._thread = thread
        self._parameters = parameters
        self._write = write
        self._jobs: list[_Job[_What]] = []

    @property
    def is_idle(self) -> bool:
        """Whether everything that was put has been returned by `written`."""
        return not self._jobs

    def try_reserve(self, is_superseded: Callable[[_What], bool]) -> bool:
        """Drop the waiting job if it is superseded; return whether there is room for another now."""
        if len(self._jobs) == 2 and is_superseded(self._jobs[1].what) and self._jobs[1].future.cancel():
            self._jobs.pop().snapshot = None
        return len(self._jobs) < 2

    def put(self, what: _What) -> None:
        """Copy the current parameters and queue the copy for writing; there must be room."""
        job: _Job[_What] = _Job(what, self._copies.take(self._parameters), Future())
        job.future = self._thread.submit(self._write_job, job)
        self._jobs.append(job)

    def _write_job(self, job: _Job[_What]) -> None:
        if job.snapshot is not None:
            self._write(job.snapshot.arrays, job.what)

    def written(self, *, to_the_end: bool = False) -> Iterator[_What]:
        """Yield what has been written since the last call, in order; raise what writing raised.

        Args:
            to_the_end: whether to wait until everything is written.
        """
        while self._jobs and (to_the_end or self._jobs[0].future.done()):
            wait([self._jobs[0].future])  # if this is interrupted, the job is still reported later
            job = self._jobs.pop(0)
            try:
                job.future.result()
            except BaseException:
                self._give_up()
                raise
            yield job.what

    def _give_up(self) -> None:
        """Cancel everything else after a failure, so that the first error is the one reported."""
        for job in self._jobs:
            job.future.cancel()
        wait([job.future for job in self._jobs])
        self._jobs.clear()
