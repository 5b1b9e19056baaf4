"""A user's program, for mypy and pyright: what it says of the package is typed, and its mistakes are found."""

from __future__ import annotations

import ms_callbacks
from ms_callbacks import BestCheckpoint, EarlyStopping, EpochSummary, Evaluation, Run, TrainCallback
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


stopping = EarlyStopping("acc", patience=3)
epoch: int = stopping.best_epoch_
best = BestCheckpoint("best.ckpt", monitor="acc")
done: dict[str, str] = ms_callbacks.cpu.fast_cpu()
digits = ms_callbacks.vision.Mnist("data", "train", batch_size=32)
ScriptedRun([{"acc": 0.5}]).play([Stop(), stopping])

# Each of these is an error; a checker that sees no types would report the comments as unused.
EarlyStopping("acc", patience="three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
EarlyStopping("acc", patients=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
print(ms_callbacks.EarlyStoping)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
