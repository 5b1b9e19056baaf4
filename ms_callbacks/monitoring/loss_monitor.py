"""Print loss, time and learning rate at an interval, and stop a run whose loss is no longer finite."""

from __future__ import annotations

import math
from typing import Any, Optional

import numpy as np

from ..core import distributed
from ..core.arguments import check_choice, check_int
from ..core.callback import TrainCallback
from ..core.console import known, log_line
from ..core.initial_rates import first_rates
from ..core.learning_rates import Rates, shortest
from ..core.losses import MOST_DROPPED
from ..core.observations import EpochSummary, Evaluation, Observation
from ..core.parameters import first_nonfinite
from ..core.placement import Needs
from ..core.rate_setter import RateSetter
from ..core.run import Run

__all__ = ["LossMonitor"]


class LossMonitor(TrainCallback):
    """Print the training loss at an interval, and for each epoch together with the validation results.

    The lines are those of mindvision's `LossMonitor`, so that replacing the import is enough, except that epochs count
    from 1 and the learning rate is read from the optimizer:

    .. code-block:: text

        Epoch:[  1/ 10], step:[ 1875/ 1875], loss:[0.189/1.176], time:2.254 ms, lr:0.01000
        Epoch time: 4286.163 ms, per step time: 2.286 ms, avg loss: 1.176
        Validation: acc: 0.9811, eval_loss: 0.0593

    In a line, the losses are that of the last step and the mean of the epoch so far; the time is the mean of a step
    since the previous line. A dash stands for an epoch's number of steps if it is known only at its end: from the step
    on at which an epoch was found to have another number of batches than the dataset declares. The epoch's time is that
    of its training steps: evaluation does not count. Losses are read from the device together when a line is printed,
    not at every step. The loss is the first element of a tuple output, and the mean of a vector; a step that loss
    scaling dropped because of overflow does not count. In sink mode on GPU and Ascend, in GRAPH mode, the device
    returns only the loss of the last step of each sink, and a sink is an epoch: the epoch's line says
    `loss of the last step`, and a line is printed at the end of the first sink that has reached it. With several
    processes, only the first prints; the losses of a step are its own, the epoch's mean is over all.

    Args:
        learning_rate: accepted for compatibility with mindvision's: the rate (or list of rates) that the optimizer was
            created with. One that differs is an error. Default: None.
        per_print_times: the number of steps between lines, counted from the first step of epoch 1; 0 prints only the
            epoch's lines. Default: 1.
        mean_of: the steps that the mean in a line covers: those of the `"epoch"` so far, or those of the `"interval"`
            since the previous line. Default: "epoch".
        on_nonfinite: what to do when the loss is NaN or infinite: `"raise"` an error that names epoch, step and the
            first parameter that is not finite, `"stop"` the run with a line that says the same, or `"warn"` with that
            line once per epoch and continue. It is detected when the losses are read. Default: "raise".

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: `learning_rate` is not the
            optimizer's; while training: the loss is not finite.

    Example:
        >>> model.train(1, train_dataset, callbacks=[LossMonitor(0.01, 4)])
        Epoch:[  1/  1], step:[    4/    4], loss:[...], time:... ms, lr:0.01000
        Epoch time: ... ms, per step time: ... ms, avg loss: ...
    """

    needs_losses = True
    transient = ("_rates",)

    def __init__(
        self,
        learning_rate: Any = None,
        per_print_times: int = 1,
        *,
        mean_of: str = "epoch",
        on_nonfinite: str = "raise",
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self._given = None if learning_rate is None else _numbers(learning_rate)
        self.per_print_times = check_int("LossMonitor", "per_print_times", per_print_times, 0)
        self.mean_of = check_choice("LossMonitor", "mean_of", mean_of, ("epoch", "interval"))
        self.on_nonfinite = check_choice("LossMonitor", "on_nonfinite", on_nonfinite, ("raise", "stop", "warn"))
        self._total_at_line = (0.0, 0)

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        self._total_at_line = (0.0, 0)

    def before_train(self, run: Run) -> None:
        """Find the optimizer."""
        # A Model without a MindSpore optimizer trains by other means, and no rate is printed.
        self._rates = run.parts.rates
        if self._given is not None:
            run.step_hooks.on_step_begin(self, self._check_given)  # a schedule has set its first rate by then
        if self.per_print_times:
            run.step_hooks.every(self.per_print_times, self, self._print_line)

    def before_epoch(self, run: Run) -> None:
        """Start the clock for the lines."""
        self._has_warned = False
        self._line_printed, self._steps_at_line = run.progress.clock(), run.progress.steps_skipped
        if not run.progress.steps_skipped:  # not an epoch that is resumed in its middle
            self._total_at_line = (0.0, 0)

    def needs(self, run: Run) -> Needs:
        """Require nothing: it prints only what this process sees."""
        return Needs.NOTHING

    def monitors(self, name: str) -> bool:
        """Return true: every value is printed."""
        return True

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Print the results of an evaluation between two steps; those of an epoch's end follow the epoch's line."""
        if not evaluation.at_epoch_end:
            total = known(run.progress.known_steps)
            log_line(
                f"Epoch:[{run.epoch:3d}/{run.epochs:3d}], step:[{evaluation.step_in_epoch:5d}/{total:>5}], "
                f"validation: {_results_text(evaluation)}"
            )

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Print the epoch's lines."""
        self._check_finite(run)
        milliseconds, steps = summary.seconds * 1000, summary.step_in_epoch
        per_step = f"{milliseconds / steps:5.3f}" if steps else "-"
        what = "avg loss" if run.progress.sees_each_loss else "loss of the last step"
        log_line(
            f"Epoch time: {milliseconds:5.3f} ms, per step time: {per_step} ms, {what}: {_loss_text(summary.loss)}"
        )
        if summary.results:
            log_line(f"Validation: {_results_text(summary)}")

    def state_dict(self) -> dict[str, Any]:
        """Return the sum and the count of the losses at the last line."""
        return {"total_at_line": list(self._total_at_line)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        total, count = state["total_at_line"]
        self._total_at_line = (total, count)

    def teardown(self) -> None:
        """Release the optimizer."""
        self._rates = None

    def _print_line(self, run: Run) -> None:
        step = run.step_in_epoch
        last, (total, count) = run.losses.last, run.losses.total  # waits for the device
        since = self._total_at_line if self.mean_of == "interval" else (0.0, 0)
        mean = (total - since[0]) / (count - since[1]) if count > since[1] else None
        self._total_at_line = total, count
        now = run.progress.clock()
        milliseconds = (now - self._line_printed) * 1000 / (step - self._steps_at_line)
        self._line_printed, self._steps_at_line = now, step
        rates = "/".join(_rate_text(rate) for rate in self._rates.read()) if self._rates is not None else "-"
        log_line(
            f"Epoch:[{run.epoch:3d}/{run.epochs:3d}], step:[{step:5d}/{known(run.progress.known_steps):>5}], "
            f"loss:[{_loss_text(last)}/{_loss_text(mean)}], time:{milliseconds:5.3f} ms, lr:{rates}"
        )
        self._check_finite(run)

    def _check_finite(self, run: Run) -> None:
        step = run.losses.nonfinite_step
        if self._has_warned or not distributed.total([step is not None])[0]:
            return
        self._has_warned = True
        if step is None:
            if self.on_nonfinite == "stop":
                run.request_stop("LossMonitor")  # like the rank whose loss is not finite
            return
        parameter = first_nonfinite(run.weights)
        dropped = run.losses.dropped_in_row
        what = (
            f"{MOST_DROPPED} steps in a row were dropped because of overflow, the last"
            if dropped
            else "the loss is not finite"
        )
        finding = (
            f"{what} in epoch {run.epoch}, step {step}; "
            + (f"the first parameter that is not finite is {parameter!r}" if parameter else "all parameters are finite")
            + "; lower the learning rate, clip gradients, or inspect that batch"
        )
        if self.on_nonfinite == "raise":
            raise ValueError(f"LossMonitor: {finding}")
        self.log(finding)
        if self.on_nonfinite == "stop":
            run.request_stop("LossMonitor")

    def check_plan(self, run: Run) -> None:
        """Raise if the rate that was passed is not the optimizer's, unless a schedule has yet to set its first rate."""
        if self._given is not None and not any(isinstance(callback, RateSetter) for callback in run.callbacks):
            self._check_rate(run.parts.rates)

    def _check_given(self, run: Run) -> None:
        run.step_hooks.on_step_begin(self, None)
        self._check_rate(run.parts.rates)

    def _check_rate(self, rates: Optional[Rates]) -> None:
        if rates is None:
            raise ValueError("LossMonitor: a learning_rate was passed, but the Model has no optimizer; leave it out")
        own, now = first_rates(rates), rates.planned()
        given = self._given or []
        if given != own and not (len(given) == 1 and given[0] in [*own, *now]):
            raise ValueError(
                f"LossMonitor: learning_rate {self.learning_rate!r} is not the optimizer's, which is "
                f"{own[0] if len(own) == 1 else own}; leave it out to print the optimizer's "
                f"(for the interval, write per_print_times=...)"
            )


def _numbers(learning_rate: Any) -> list[float]:
    try:
        if isinstance(learning_rate, (str, bytes)):
            raise TypeError
        values = np.asarray(getattr(learning_rate, "asnumpy", lambda: learning_rate)(), dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.array([math.nan])
    if not values.size or not np.isfinite(values).all():
        raise TypeError(f"LossMonitor: learning_rate must be a number or a list of numbers, but got {learning_rate!r}")
    return [shortest(value) for value in values]


def _loss_text(loss: Optional[float]) -> str:
    return "-" if loss is None else f"{loss:5.3f}"


def _rate_text(rate: float) -> str:
    return f"{rate:5.5f}" if rate >= 1e-4 or rate == 0 else f"{rate:.3e}"


def _results_text(observation: Observation) -> str:
    return ", ".join(f"{name}: {_metric_text(value)}" for name, value in sorted(observation.results.items()))


def _metric_text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, (float, np.floating)) else str(value)
