"""The result of a learning rate range test: the losses by rate, and the suggested rates."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np

from ..core.atomic_files import check_folder
from ..core.plotting import Picture, check_png, figure, has_matplotlib, save

__all__ = ["FEWEST_POINTS", "METHODS", "SKIP_BEGIN", "SKIP_END", "LRCurve", "make_curve"]

METHODS = ("valley", "steepest")
# As in Lightning: the first points average too few losses, and at the last one the test may have stopped early.
SKIP_BEGIN, SKIP_END = 10, 1
FEWEST_POINTS = 5  # the least number of remaining points for a suggestion

_Point = tuple[float, float, float]  # rate, smoothed loss, loss


@dataclass(frozen=True)
class LRCurve:
    """The result of `lr_find`: the losses by learning rate, and the suggested rates.

    A notebook shows the curve, if matplotlib is installed.

    Attributes:
        rates (tuple[float, ...]): the learning rate of each step, as the shortest decimal of the optimizer's 32-bit
            number. With several parameter groups, the highest rate among them.
        losses (tuple[float, ...]): the loss of each step, before its update; the mean over all processes. NaN for a
            step that loss scaling dropped. If a loss was NaN or infinite, it is the last.
        smoothed (tuple[float, ...]): the exponentially weighted mean of the losses up to each step, bias-corrected; NaN
            where the loss is not finite.
        suggestions (dict[str, float | None]): the suggested rate by method, `"valley"` and `"steepest"`.
        method (str): the method of `suggestion`.
        reason (str): why there is no suggestion; empty if there is one.
        has_diverged (bool): whether the test ended early because the loss diverged.
        notes (tuple[str, ...]): the parts of the Model that could not be restored bit for bit, one line for each.
    """

    rates: tuple[float, ...] = field(repr=False)
    losses: tuple[float, ...] = field(repr=False)
    smoothed: tuple[float, ...] = field(repr=False)
    suggestions: dict[str, Optional[float]]
    method: str
    reason: str = ""
    has_diverged: bool = False
    notes: tuple[str, ...] = ()

    @property
    def suggestion(self) -> Optional[float]:
        """The rate that `method` suggests; `None` if there is none, and `reason` says why."""
        return self.suggestions[self.method]

    @property
    def is_exact(self) -> bool:
        """Whether the Model was restored bit for bit after the test."""
        return not self.notes

    def plot(self, path: Union[str, os.PathLike[str]]) -> None:
        """Draw the losses by learning rate as a PNG, with a mark at each suggestion.

        NaN and infinite losses are left out. Losses above the maximum of the smoothed curve are cut off.

        Args:
            path: where to save, ending in `.png`; its folder must exist. The picture is written completely or not at
                all.

        Raises:
            TypeError, ValueError: the path is not as described, or no loss is finite.
            ImportError: matplotlib is not installed.
            OSError: the picture cannot be written.
        """
        picture = check_png("lr_find", "path", path)
        check_folder("lr_find", picture)
        save(self._draw(), picture)

    def _repr_png_(self) -> Any:
        is_drawable = has_matplotlib() and any(map(math.isfinite, self.smoothed))
        return Picture(self._draw())._repr_png_() if is_drawable else None

    def _draw(self) -> Any:
        smoothed, losses = (
            [(rate, loss) for rate, loss in zip(self.rates, values) if math.isfinite(loss)]
            for values in (self.smoothed, self.losses)
        )
        if not smoothed:
            raise ValueError(f"lr_find: there is no loss to draw: {self.reason}")
        canvas = figure(7, 4.2)
        axes = canvas.add_subplot()
        axes.plot(*zip(*losses), color="0.65", linewidth=0.8, label="loss")
        axes.plot(*zip(*smoothed), color="#0072B2", linewidth=1.8, label="smoothed loss")
        for (method, rate), colour, marker in zip(self.suggestions.items(), ("#D55E00", "#009E73"), ("o", "^")):
            if rate is not None:
                at = dict(smoothed)[rate]
                axes.plot([rate], [at], color=colour, marker=marker, markersize=9, linestyle="", zorder=3)
                axes.axvline(rate, color=colour, linewidth=0.8, linestyle=":", label=f"{method}: {rate:.2g}")
        low, high = min(loss for _, loss in losses), max(loss for _, loss in smoothed)
        margin = 0.1 * (high - low) or 0.1 * abs(high) or 0.1
        axes.set_ylim(low - margin, high + margin)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # the default writes formulas, which the fonts cannot draw
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        if self.reason:
            axes.set_title(textwrap.fill(f"no suggestion: {self.reason}", 90), fontsize=9)
        axes.grid(color="0.85")
        axes.legend()
        return canvas


def make_curve(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    method: str,
    *,
    has_diverged: bool = False,
    notes: tuple[str, ...] = (),
) -> LRCurve:
    """Return the result of a range test with its suggestions."""
    finite = [(rate, mean, loss) for rate, mean, loss in zip(rates, smoothed, losses) if math.isfinite(mean)]
    points = finite[SKIP_BEGIN : len(finite) - SKIP_END]
    reason = _reason(rates, finite, points, has_diverged)
    found: dict[str, Optional[float]] = dict.fromkeys(METHODS)
    if not reason:
        of_points, values, _ = (np.array(column, np.float64) for column in zip(*points))
        found = {
            "valley": points[_middle_of_valley(values)][0],
            "steepest": points[int(np.gradient(values, np.log(of_points)).argmin())][0],
        }
    return LRCurve(
        tuple(rates), tuple(losses), tuple(smoothed), found, method, reason, has_diverged=has_diverged, notes=notes
    )


def _reason(rates: Sequence[float], finite: list[_Point], points: list[_Point], has_diverged: bool) -> str:
    """Return why the points suggest no rate; empty if they do."""
    if len(points) < FEWEST_POINTS:
        if has_diverged:
            return (
                f"diverged at once: the test ended at step {len(rates)}, at a rate of {rates[-1]:.3g}; "
                f"lower min_lr, or look for NaN in the data"
            )
        return (
            f"fewer than {FEWEST_POINTS} points: {len(finite)} steps gave a loss, and the first {SKIP_BEGIN} and the "
            f"last are left out"
        )
    means = [mean for _, mean, _ in points]
    until_lowest = [loss for _, _, loss in finite[: SKIP_BEGIN + means.index(min(means)) + 1]]
    noise = float(np.median(np.abs(np.diff(until_lowest))))
    fall = means[0] - min(means)
    if fall <= noise:
        what = "lower min_lr" if has_diverged else "raise max_lr, or take more steps"
        return (
            f"the loss never fell by more than it varies from step to step ({fall:.2g} against {noise:.2g}) "
            f"between the rates {points[0][0]:.3g} and {points[-1][0]:.3g}; {what}"
        )
    return ""


def _middle_of_valley(losses: np.ndarray[Any, Any]) -> int:
    """Return the index of the middle of the valley, which is also the middle of its second third.

    The valley ends where the longest decreasing subsequence of the losses ends, and has the same number of points. If
    several subsequences have that length, it is the one that ends first. Losses are compared as 32-bit numbers.
    """
    losses = losses.astype(np.float32)
    lengths = np.ones(len(losses), np.int64)
    for index in range(1, len(losses)):
        higher = lengths[:index][losses[:index] > losses[index]]
        if higher.size:
            lengths[index] = higher.max() + 1
    end = int(lengths.argmax())
    return end - int(lengths[end]) // 2
