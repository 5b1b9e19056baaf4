"""How everything here is measured: turn about within one process, so that a noisy machine is noisy for both sides.

What is compared runs in turns, round after round; each round gives one ratio, and a row shows the median of them
with the quartiles beside it, and its target where it has one.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Callable, Optional

__all__ = ["Row", "in_turns", "options", "ratios", "run"]


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, a value a round, and what it should be."""

    what: str
    values: list[float]
    unit: str = "×"
    at_least: Optional[float] = None
    at_most: Optional[float] = None

    @property
    def median(self) -> float:
        """The value that half of the rounds reached."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The values that a quarter and three quarters of the rounds reached."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def holds(self) -> Optional[bool]:
        """Whether the median reaches the target; `None` where the row has none."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most


def in_turns(rounds: int, candidates: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Runs each candidate once a round, in the opposite order every second round, after one round that is not counted.

    Returns:
        The seconds of each candidate, one a round; what a candidate returns as a float counts instead.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name in list(candidates)[:: 1 if turn % 2 else -1]:
            gc.collect()
            began = time.perf_counter()
            measured = candidates[name]()
            passed = time.perf_counter() - began
            if turn:
                seconds[name].append(measured if isinstance(measured, float) else passed)
    return seconds


def ratios(numerators: Iterable[float], denominators: Iterable[float]) -> list[float]:
    """The ratio of each round."""
    return [one / other for one, other in zip(numerators, denominators)]


def options() -> argparse.ArgumentParser:
    """What every benchmark may be told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=("graph", "pynative"), default="graph")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data-dir", help="folder with MNIST's train/ and test/, where a benchmark needs the real one")
    parser.add_argument("--peers-python", help="the Python of an environment that has Keras and Lightning, for peers")
    return parser


def run(measure: Callable[[argparse.Namespace], list[Row]]) -> None:
    """Measures with the options of the command line, and writes the rows as JSON."""
    json.dump([asdict(row) for row in measure(options().parse_args())], sys.stdout)
