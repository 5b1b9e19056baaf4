"""Measure separate processes in turns: each works during its turn and otherwise waits for the next one.

A waiting process blocks on its standard input and takes nothing from the one that works. A turn is requested by a line:
a number of steps, an evaluation of a number of batches, or an epoch. The answer is a line too: the seconds, and an
epoch's accuracy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any, Callable

__all__ = ["Turns", "Worker"]


class Turns:
    """The worker's side, called by its run after each step and each epoch; created when everything is imported."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the run's own output is not an answer
        self._evaluate: Callable[[int], Any] = lambda batches: None
        self._wait()

    def can_evaluate(self, evaluate: Callable[[int], Any]) -> None:
        """Set how to evaluate a given number of batches."""
        self._evaluate = evaluate

    def after_step(self, loss: Any) -> None:
        """End the turn if that was its last step."""
        self._steps_left -= 1
        if self._steps_left == 0:
            loss.asnumpy()  # waits for the device
            self._answer()
            self._wait()

    def after_epoch(self, accuracy: float) -> None:
        """End the turn if it was for an epoch."""
        if self._steps_left < 0:
            self._answer(accuracy)
            self._wait()

    def _wait(self) -> None:
        """Wait for a turn that the run itself must continue for, and evaluate until then."""
        while True:
            kind, *count = sys.stdin.readline().split() or ["end"]
            self._began = time.perf_counter()
            if kind == "end":
                sys.exit()
            if kind != "evaluate":
                self._steps_left = int(count[0]) if kind == "steps" else -1  # an epoch's steps are not counted
                return
            self._evaluate(int(count[0]))
            self._answer()

    def _answer(self, *more: float) -> None:
        print(time.perf_counter() - self._began, *more, file=self._answers, flush=True)


class Worker:
    """The other side: start a process, and give it its turns."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its input, so that it ends

    def steps(self, count: int) -> float:
        """Return the seconds of this many steps."""
        return self._turn(f"steps {count}")[0]

    def evaluation(self, batches: int) -> float:
        """Return the seconds of this many evaluation batches."""
        return self._turn(f"evaluate {batches}")[0]

    def epoch(self) -> tuple[float, float]:
        """Return the seconds of an epoch and its accuracy; raise an EOFError if the run has ended before."""
        seconds, accuracy = self._turn("epoch")
        return seconds, accuracy

    def _turn(self, command: str) -> list[float]:
        print(command, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise EOFError(f"a worker ended before it answered {command!r}")
        return [float(each) for each in answer.split()]
