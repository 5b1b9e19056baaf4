"""Write files in order, in one thread per run, while training continues."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Optional

__all__ = ["BackgroundThread"]


class BackgroundThread:
    """Runs jobs one after the other, and none after the first that fails.

    So whatever is written refers only to files that exist: a state is written after the best weights that it lists.

    Attributes:
        longest (float): the longest time in seconds from submitting a job to its end.
    """

    def __init__(self) -> None:
        self._thread: Optional[ThreadPoolExecutor] = None
        self._error: Optional[BaseException] = None
        self.longest = 0.0

    def submit(self, write: Callable[..., None], *arguments: Any) -> Future[None]:
        """Queue a call of `write(*arguments)`; its future raises what it raises, or what an earlier one has raised."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "ms_callbacks")
        return self._thread.submit(self._run, time.monotonic(), write, *arguments)

    def _run(self, submitted: float, write: Callable[..., None], *arguments: Any) -> None:
        if self._error is not None:
            raise self._error
        try:
            write(*arguments)
        except BaseException as error:
            self._error = error
            raise
        self.longest = max(self.longest, time.monotonic() - submitted)
