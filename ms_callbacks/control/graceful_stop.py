"""End a run cleanly when the process is told to stop."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Optional, Union

from ..core import distributed, signals
from ..core.arguments import check_choice
from ..core.callback import TrainCallback, only_one
from ..core.mindspore_compat import SIGNAL_CALLBACKS
from ..core.observations import EpochSummary
from ..core.phases import Phases
from ..core.rounds import Rounds
from ..core.run import Run

__all__ = ["GracefulStop"]

_OWNER = "GracefulStop"


class GracefulStop(TrainCallback):
    """Stop a run cleanly when the process is told to end, so that nothing is lost.

    On SIGTERM (as a cluster sends it) or SIGINT (Ctrl-C) the current step is completed; `TrainingState`, if it is in
    the list, saves the state, even in the middle of an epoch; every callback's `on_train_end` runs, and the previous
    signal handlers are restored. An epoch that was cut short is not evaluated, and no other callback of this package
    counts it. Under `Model.fit`, MindSpore itself still makes the evaluation that is due. On SIGUSR1, `TrainingState`
    saves, and training continues.

    A second SIGINT ends the process at once; the files on disk are still whole. Python cannot handle signals while
    MindSpore compiles or runs a long step; at a terminal a second Ctrl-C ends the process even then, and elsewhere (a
    SIGINT sent by `kill`) both take effect when the step is over. A second SIGTERM changes nothing.

    In every graph that they run, MindSpore 2.8 and newer install a SIGINT handler of their own, which sends the process
    a SIGTERM. On Linux on x86-64 and aarch64, `signal_` and the printed line still name the signal that was sent.
    Without this callback, Ctrl-C ends a script at once on those versions, without `KeyboardInterrupt`.

    In a notebook (and in IPython and at Python's prompt) the stop button sends SIGINT, with which MindSpore would end
    the kernel. With any callback of this package in the list, it raises `KeyboardInterrupt` in the cell instead, as
    without MindSpore, unless you have set a handler of your own; with this callback the cell ends cleanly, and a second
    press raises `KeyboardInterrupt`. That holds during `Model.train` and `Model.fit`, but not for `Model.eval` or
    `predict` outside of them, which install MindSpore's handler again.

    Works under `nohup` (SIGHUP is left alone). With several processes, it is enough that one gets the signal: they
    exchange signals once a second, or after every step if steps take longer (after 20 steps at the latest), and at the
    end of every epoch. All stop after the same step and have the same `signal_`. A signal that arrives after the last
    epoch is noticed only by the process that got it, and changes nothing.

    `msrun` itself forwards no signal: Ctrl-C makes it kill its workers and exit with status 0, and after a SIGTERM the
    workers continue without it. Send the signal to a worker, or start `msrun` with `examples/run_distributed.sh`, which
    a scheduler or a person at a terminal can stop. A signal that arrives before `Model.train`, while a process imports
    or builds its network, acts as it does without this callback: it ends the process; if it is ignored, as in that
    script, which sends it again every second, it does nothing. A graph compilation, an evaluation or a save is
    completed first.

    Args:
        exit_with: what to do once the run is over and every callback is done: `None` returns from `Model.train`, `0`
            ends the process with that status, and `"signal"` with 128 + the signal's number, as shells report it. If an
            exception ends the run, that is raised instead. As soon as one process has exited with a status other than
            0, `msrun` kills the others: with `"signal"`, each waits until the callbacks of all are done. `msrun` itself
            then exits with 1, half a minute later if it had to kill one. Default: None.

    Attributes:
        signal_ (int): the number of the signal that stopped the run; 0 if none did. If processes got different ones,
            the highest.

    Raises:
        TypeError, ValueError: an argument is not as described.
        RuntimeError: before the first step: the run is not in the main thread, the only one in which Python can set
            signal handlers.

    Example:
        >>> stop = GracefulStop()
        >>> model.train(1, train_dataset, callbacks=[TrainingState(folder + "/state"), stop])
        >>> stop.signal_
        0
    """

    def __init__(self, *, exit_with: Union[int, str, None] = None) -> None:
        super().__init__()
        self.exit_with = check_choice(_OWNER, "exit_with", exit_with, (None, 0, "signal"))
        self.signal_ = 0
        self._earlier: dict[signal.Signals, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_earlier": {}}  # a run in progress restores its own

    def before_train(self, run: Run) -> None:
        """Install the handlers."""
        self.signal_ = self._agreed_on = 0
        self._is_asked = False
        self._is_alone = distributed.count() == 1
        self._rounds = Rounds()
        run.step_hooks.on_step_end(self, self._look)
        self._has_stopped_it = False
        self._process = os.getpid()
        handlers = {"SIGTERM": self._stop, "SIGINT": self._stop, "SIGUSR1": self._ask}  # Windows has no SIGUSR1
        for name in filter(signal.Signals.__members__.__contains__, handlers):
            self._earlier[signal.Signals[name]] = signals.handle(signal.Signals[name], handlers[name])

    def check(self, run: Run) -> None:
        """Raise if handlers cannot be installed, or another callback installs them too."""
        super().check(run)
        alike = [one for one in run.callbacks if isinstance(one, (GracefulStop, *SIGNAL_CALLBACKS))]
        only_one(_OWNER, alike, "handle signals")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                f"{_OWNER}: signals can be handled in the main thread only, and this run is in "
                f"{threading.current_thread().name!r}; call Model.train from the main thread, or leave {_OWNER} out"
            )

    def _look(self, run: Run) -> None:
        """Stop if a signal has arrived; several processes ask each other about once a second."""
        if self._rounds.is_due():
            self._act(run)

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Stop if a signal has arrived during the evaluation."""
        self._act(run)

    def after_train(self, run: Run) -> None:
        """Print what stopped the run."""
        if self._has_stopped_it:
            self.log(f"stopped by {signal.Signals(self.signal_).name} in epoch {run.epoch}, step {run.step_in_epoch}")

    def teardown(self) -> None:
        """Restore the previous handlers; end the process if that was asked for and the run ended cleanly."""
        exits_with = 0
        if self._earlier and self.exit_with is not None and self.run.progress.is_over:
            exits_with = self.signal_ if self._is_alone else self._agreed_on
        if exits_with and self.exit_with == "signal" and not self._is_alone:
            distributed.total([0.0])  # returns once every process has reached this line
        for each, handler in self._earlier.items():
            # A handler that was not set from Python is not known to Python, and cannot be restored.
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
        self._earlier = {}
        if exits_with:
            raise SystemExit(0 if self.exit_with == 0 else 128 + exits_with)

    def _act(self, run: Run) -> None:
        """Do what a signal has asked for; with several processes, in all or in none."""
        stopping, asked = self._agreed()
        if asked:
            self._is_asked = False
            for each in run.callbacks:
                if isinstance(each, Phases):
                    each.request_state()
        if stopping:
            self.signal_ = self._agreed_on = stopping
            signals.let_next_ctrl_c_end_it()  # MindSpore may have set its own in this step
            self._has_stopped_it = run.request_stop(_OWNER, interrupt=True) or self._has_stopped_it

    def _agreed(self) -> tuple[int, bool]:
        """Return the signal to stop for, and whether to save the state; the same in all processes."""
        stopping, asked = self._rounds.highest([self.signal_, self._is_asked])
        return int(stopping), bool(asked)

    def _stop(self, number: int, frame: Optional[FrameType]) -> None:
        if os.getpid() != self._process:  # a worker of the dataset, forked during the run
            signals.die_of(number)
        sent = signals.as_sent(number)
        signals.let_next_ctrl_c_end_it()
        if self.signal_ and sent == signal.SIGINT:
            signal.raise_signal(sent)
        self.signal_ = self.signal_ or sent
        signals.handle(signal.SIGTERM, self._stop)

    def _ask(self, number: int, frame: Optional[FrameType]) -> None:
        self._is_asked = True
