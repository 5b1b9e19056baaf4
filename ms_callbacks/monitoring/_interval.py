"""The time, steps, samples and tokens of the training steps in an interval, without the time between two epochs."""

from __future__ import annotations

from typing import Any, Optional

from ..core.run import Run

__all__ = ["Interval", "line_of"]


class Interval:
    """The sums of an interval.

    Attributes:
        seconds (float): the time of the training steps.
        waited (float): the part of that time spent waiting for data.
        steps (int): the number of steps.
        samples (int | None): the number of samples; `None` if it is not known.
        tokens (int): the number of tokens.
    """

    def __init__(self, run: Run, now: float) -> None:
        self.seconds = self.waited = 0.0
        self.steps = self.tokens = 0
        self.samples: Optional[int] = 0
        self.mark(run, now)

    def mark(self, run: Run, now: float) -> None:
        """Start to count here; everything since the last mark or addition is left out."""
        self._marked, self._marked_step, self._marked_samples = now, run.step, _samples_of(run)

    def add(self, run: Run, now: float) -> None:
        """Add the time, steps and samples since the last mark or addition."""
        self.seconds += max(now - self._marked, 0.0)  # a mark in an epoch's last step may be later than the epoch's end
        self.steps += run.step - self._marked_step
        before, count = self._marked_samples, _samples_of(run)
        if before is None or count is None or self.samples is None:
            self.samples = None
        else:
            self.samples += count - before
        self.mark(run, now)


def line_of(record: dict[str, Any]) -> str:
    """Return the line that reports an interval."""
    rate, tokens, share, used = (
        record[name] for name in ("samples_per_second", "tokens_per_second", "data_share", "flops_utilization")
    )
    parts = [
        *([] if rate is None else [f"{rate:,.0f} samples/s"]),
        *([] if tokens is None else [f"{tokens:,.0f} tokens/s"]),
        f"{record['step_seconds'] * 1e3:.3f} ms per step",
        *([] if share is None else [f"{share:.1%} of it waiting for data"]),
        *([] if used is None else [f"{used:.2%} of peak FLOPS"]),
    ]
    return f"epoch {record['epoch']}, step {record['step']}: {', '.join(parts)}"


def _samples_of(run: Run) -> Optional[int]:
    return None if run.progress.samples is None else run.progress.samples.count
