"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended. Callbacks find it in `run.outcome`, at the latest in `teardown`.

    Attributes:
        status (str): `running`; `finished` after the last epoch planned; `stopped` if a callback has ended the run for
            good; `interrupted` if a later run may continue it, as after a signal or `KeyboardInterrupt`; `failed` if
            another exception ended it.
        by (str): the callback that has stopped or interrupted the run; empty if none did or it is not known.
        error (BaseException | None): the exception that the caller of `Model.train` receives: the one that ended the
            run, or the one passed to `run.request_stop`; the status is then `stopped`.

    Example:
        >>> class Report(TrainCallback):
        ...     def after_train(self, run):
        ...         self.log(f"the run has {run.outcome.status}")
        >>> model.train(1, train_dataset, callbacks=[Report()])
        Report: the run has finished
    """

    status: str = "running"
    by: str = ""
    error: Optional[BaseException] = None
