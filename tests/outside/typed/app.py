"""A user's program, for mypy and pyright: what it says of the package is typed, and its mistakes are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ms_callbacks
from ms_callbacks import (
    BestCheckpoint,
    EarlyStopping,
    EpochSummary,
    Evaluation,
    Run,
    RunReport,
    TrackedRun,
    Tracker,
    TrackerLogger,
    TrainCallback,
)
from ms_callbacks.testing import ScriptedRun


class Stop(TrainCallback):
    """A callback of the user's own."""

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        value: float | None = evaluation.value("acc", "Stop")
        if value is not None and value > 0.9:
            run.request_stop("Stop")

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        epoch: int = summary.epoch
        print(epoch)


class Silent:
    """A tracker of the user's own, which is one by its methods."""

    def start(self, run: TrackedRun) -> str | None:
        return None

    def log(self, values: Mapping[str, float], step: int) -> None:
        pass

    def log_text(self, name: str, text: str, step: int) -> None:
        pass

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        pass

    def log_histogram(self, name: str, values: Any, step: int) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self, status: str) -> None:
        pass


tracker: Tracker = Silent()
logger = TrackerLogger(tracker, every_n_steps=10)
report = RunReport("report.html", language="zh")
stopping = EarlyStopping("acc", patience=3)
epoch: int = stopping.best_epoch_
best = BestCheckpoint("best.ckpt", monitor="acc")
done: dict[str, str] = ms_callbacks.cpu.fast_cpu()
digits = ms_callbacks.vision.Mnist("data", "train", batch_size=32)
ScriptedRun([{"acc": 0.5}]).play([Stop(), stopping])

# Each of these is an error; a checker that sees no types would report the comments as unused.
EarlyStopping("acc", patience="three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
EarlyStopping("acc", patients=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
TrackerLogger("mlflow")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
print(ms_callbacks.EarlyStoping)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
