"""How everything is measured: candidates alternate within one process, so that noise affects them equally.

They run in turns, round after round. Each round gives one ratio; a row shows the median with its quartiles, and its
target if it has one.
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
    """One figure: what was measured, a value per round, and the target."""

    what: str
    values: list[float]
    unit: str = "×"
    at_least: Optional[float] = None
    at_most: Optional[float] = None

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The quartiles of the rounds."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def holds(self) -> Optional[bool]:
        """Whether the median reaches the target; `None` if the row has none."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most


def in_turns(rounds: int, candidates: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Run each candidate once per round, in the opposite order every second round, after one uncounted round.

    Returns:
        The seconds of each candidate, one per round; if a candidate returns a float, that value is used instead.
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
    """Return the ratio of each round."""
    return [one / other for one, other in zip(numerators, denominators)]


def options() -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=("graph", "pynative"), default="graph")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data-dir", help="folder with MNIST's train/ and test/, if a benchmark needs the real data")
    parser.add_argument("--peers-python", help="Python of an environment with Keras and Lightning, for peers")
    return parser


def run(measure: Callable[[argparse.Namespace], list[Row]]) -> None:
    """Measure with the options of the command line, and write the rows as JSON."""
    json.dump([asdict(row) for row in measure(options().parse_args())], sys.stdout)
