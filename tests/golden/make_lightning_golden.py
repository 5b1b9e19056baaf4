"""Writes lightning.json: where Lightning's own range test finds the steepest fall on fixed curves.

`index` is where its formula finds it on an axis of the logarithm of the rate, `index_over_rate` where Lightning itself
does, which gives it the rates as they are. Run with Lightning installed:

    python tests/golden/make_lightning_golden.py
"""

from __future__ import annotations

import json
import math
import pathlib
import random

import lightning
from lightning.pytorch.tuner.lr_finder import _LRFinder


def index_of(axis: list[float], losses: list[float]) -> int:
    finder = _LRFinder("exponential", axis[0], axis[-1], len(axis))
    finder.results = {"lr": axis, "loss": losses}
    finder.suggestion()
    return finder._optimal_idx


def curve(seed: int, steps: int, low: float, high: float, noise: float, rises: bool, tail: int) -> dict:
    draw = random.Random(seed)
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    losses = []
    for step in range(steps):
        place = step / (steps - 1)
        loss = 2.3 - 1.5 / (1 + math.exp(-18 * (place - 0.35 - 0.03 * (seed % 9))))
        loss += 4 * max(place - 0.85, 0) if rises else 0
        losses.append(round(loss + draw.gauss(0, noise), 6))
    losses[steps - tail :] = [math.nan] * tail
    over_log = index_of([math.log(rate) for rate in rates], losses)
    return {
        "min_lr": low,
        "max_lr": high,
        "losses": [None if math.isnan(loss) else loss for loss in losses],
        "index": over_log,
        "index_over_rate": index_of(rates, losses),
    }


if __name__ == "__main__":
    curves = [
        curve(seed, steps, low, high, noise, seed % 2 == 0, tail)
        for seed, (steps, low, high, noise, tail) in enumerate(
            (steps, low, high, noise, tail)
            for steps in (30, 60, 100)
            for low, high in ((1e-7, 1.0), (1e-4, 10.0))
            for noise in (0.0, 0.002, 0.01)
            for tail in (0, 1)
        )
    ]
    golden = {"lightning": lightning.__version__, "curves": curves}
    pathlib.Path(__file__).with_name("lightning.json").write_text(json.dumps(golden) + "\n")
