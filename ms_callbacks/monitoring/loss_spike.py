"""Report steps whose loss jumps far above the previous losses, with the number of the batch."""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np

from ..core import distributed
from ..core.arguments import check_choice, check_int, check_number
from ..core.callback import TrainCallback
from ..core.placement import Needs
from ..core.run import Run
from ._baseline import Baseline

__all__ = ["LossSpike"]

_OWNER = "LossSpike"
_MOST_WAITING = 1000  # the interval in steps at which several processes compare their losses


class LossSpike(TrainCallback):
    """Report each training step whose loss is far above the previous losses, and optionally stop the run.

    A loss is a spike if it is more than `threshold` deviations above the median of the last `window` accepted losses:

    .. code-block:: text

        loss - median > threshold * max(1.4826 * MAD, 0.01 * |median|)

    MAD is the median of the absolute differences from the median. The factor 1.4826 makes it equal to the standard
    deviation if losses are normally distributed (Rousseeuw and Croux, 1993). Unlike mean and standard deviation, median
    and MAD hardly change with a single spike. The second term is for losses that are almost equal. Before there are
    `window` losses, a finite loss is never a spike. A loss that is NaN or infinite is always a spike.

    A spike does not enter the baseline, which is the list of accepted losses. After `accept_after` finite spikes in a
    row, their level is accepted: they become the new baseline, so that a change of the data or of the learning rate is
    not reported again and again. At most `accept_after` spikes in a row are reported. A step that loss scaling dropped
    is ignored.

    No step waits for the device. Losses are compared when they are read: after 1000 steps or at the end of the epoch,
    whichever comes first. Only then is a spike reported, and only then can it stop the run. `every_n_steps` reads them
    sooner. With several processes, the loss of a step is the mean over all processes. They compare losses every 1000
    steps or `every_n_steps`, whenever weights are saved, and at the end of an epoch, and all make the same decision.

    Args:
        window: the number of losses in the baseline, at least 2. Default: 200.
        threshold: the number of deviations above the median, above 0; a loss beyond it is a spike. The losses of small
            batches vary widely late in training: of 3,000 steps of LeNet with 32 MNIST images each, 6 exceed 10
            deviations, and 1 exceeds the default; with 128 images, none exceeds 5. Default: 15.0.
        accept_after: the number of spikes in a row after which their level is accepted. Default: 10.
        every_n_steps: reads the losses after every n-th step, which waits for the device. Default: None, only when they
            are read anyway.
        action: `"report"` only reports; `"stop"` also stops the run at the first spike. Default: "report".
        verbose: 1 prints a line for each spike and for each accepted level; 0 prints nothing. Default: 1.

    Attributes:
        spikes_ (list[dict]): the reported spikes, each with `epoch`, `step` (counted from the first step of epoch 1),
            `batch` (the step within its epoch, from 1), `loss`, the `median` of the baseline (`None` if it is empty),
            and `excess`, the number of deviations above the median (`None` if the loss is not finite).

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: sink mode on GPU or Ascend (in
            GRAPH mode), or a pipeline of several processes, where not every loss is returned.

    Example:
        >>> spike = LossSpike(window=50)
        >>> model.train(2, train_dataset, callbacks=[spike])
        >>> spike.spikes_
        []
    """

    needs_losses = True
    spikes_: list[dict[str, Any]]

    def __init__(
        self,
        *,
        window: int = 200,
        threshold: float = 15.0,
        accept_after: int = 10,
        every_n_steps: Optional[int] = None,
        action: str = "report",
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.window = check_int(_OWNER, "window", window, 2)
        self.threshold = check_number(_OWNER, "threshold", threshold, above=0)
        self.accept_after = check_int(_OWNER, "accept_after", accept_after, 1)
        self.every_n_steps = None if every_n_steps is None else check_int(_OWNER, "every_n_steps", every_n_steps, 1)
        self.action = check_choice(_OWNER, "action", action, ("report", "stop"))
        self.verbose = check_choice(_OWNER, "verbose", verbose, (0, 1))
        self.reset_state()

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        self.spikes_ = []
        self._baseline = Baseline(self.window)
        self._in_row = 0  # the number of spikes in a row, up to the latest loss
        self._row: list[float] = []  # the finite losses among them

    def needs(self, run: Run) -> Needs:
        """Require the loss of each step in this process."""
        return super().needs(run) | Needs.LOSS

    def check(self, run: Run) -> None:
        """Raise if the device does not return every loss."""
        super().check(run)
        run.progress.check_sees_each_loss(_OWNER, "leave it out")

    def before_train(self, run: Run) -> None:
        """Register to receive the losses."""
        self._is_alone = distributed.count() == 1
        self._waiting: list[Optional[float]] = []
        run.losses.on_read(self, self._take)
        interval = self.every_n_steps or (None if self._is_alone else _MOST_WAITING)
        if interval is not None:
            run.step_hooks.every(interval, self, self._read)

    def before_checkpoint(self, run: Run) -> None:
        """Average the losses over the processes and compare them; all processes reach this point."""
        if not self._is_alone:
            self._read(run)

    def state_dict(self) -> dict[str, Any]:
        """Return the spikes, and the baseline for later losses."""
        return {
            "spikes": [dict(each) for each in self.spikes_],
            "baseline": self._baseline.losses,
            "in_row": self._in_row,
            "row": list(self._row),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.reset_state()
        self.spikes_ = [dict(each) for each in state["spikes"]]
        self._baseline.restart(state["baseline"])
        self._in_row, self._row = state["in_row"], list(state["row"])

    def _read(self, run: Run) -> None:
        run.losses.read()
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._compare(self._first_waiting, _means(waiting))

    def _take(self, first: int, losses: list[Optional[float]]) -> None:
        """Receive losses; with several processes, store them, because other processes may receive theirs later."""
        if self._is_alone:
            self._compare(first, losses)
            return
        if not self._waiting:
            self._first_waiting = first
        self._waiting += losses

    def _compare(self, first: int, losses: list[Optional[float]]) -> None:
        for batch, loss in enumerate(losses, first):
            if loss is not None:
                self._judge(batch, loss)

    def _judge(self, batch: int, loss: float) -> None:
        is_finite = math.isfinite(loss)
        excess = self._baseline.excess(loss, self.threshold) if is_finite else None
        if is_finite and excess is None:
            self._in_row, self._row = 0, []
            self._baseline.accept(loss)
            return
        self._in_row += 1
        if self._in_row <= self.accept_after:
            self._report(batch, loss, excess)
        if is_finite:
            self._row.append(loss)
        if len(self._row) == self.accept_after:
            self._tell(f"{self._in_row} spikes in a row up to {self._place(batch)}; their level is accepted")
            self._baseline.restart(self._row)
            self._in_row, self._row = 0, []

    def _report(self, batch: int, loss: float, excess: Optional[float]) -> None:
        run = self.run
        median = self._baseline.median if len(self._baseline) else None
        step = run.step - run.step_in_epoch + batch
        self.spikes_.append(
            {"epoch": run.epoch, "step": step, "batch": batch, "loss": loss, "median": median, "excess": excess}
        )
        what = "not finite" if excess is None else f"{excess:.1f} deviations above the median {median:.4g}"
        self._tell(f"loss {loss:.4g} in {self._place(batch)}: {what}")
        if self.action == "stop":
            run.request_stop(_OWNER)

    def _place(self, batch: int) -> str:
        run = self.run
        return f"epoch {run.epoch}, step {run.step - run.step_in_epoch + batch} (batch {batch} of the epoch)"

    def _tell(self, line: str) -> None:
        if self.verbose:
            self.log(line)


def _means(losses: list[Optional[float]]) -> list[Optional[float]]:
    """Return the mean over all processes of the loss of each step; `None` if it was dropped in all of them."""
    own = np.array([[loss or 0.0, loss is not None] for loss in losses], np.float32)
    return [total / count if count else None for total, count in distributed.sums(own).tolist()]
