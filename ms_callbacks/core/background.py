"""The thread of a run that writes files while training continues; what is handed to it is written in order."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Optional

__all__ = ["BackgroundThread"]


class BackgroundThread:
    """Runs what it is given one after the other, and nothing more after the first that failed.

    So whatever is written refers to files that are there: a state comes after the best weights that it tells of.
    """

    def __init__(self) -> None:
        self._thread: Optional[ThreadPoolExecutor] = None
        self._error: Optional[BaseException] = None

    def submit(self, write: Callable[..., None], *arguments: Any) -> Future[None]:
        """Has `write(*arguments)` called; its future raises what it raises, or what one before it has raised."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "ms_callbacks")
        return self._thread.submit(self._run, write, *arguments)

    def _run(self, write: Callable[..., None], *arguments: Any) -> None:
        if self._error is not None:
            raise self._error
        try:
            write(*arguments)
        except BaseException as error:
            self._error = error
            raise
