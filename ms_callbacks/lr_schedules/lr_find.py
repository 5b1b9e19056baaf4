"""Find a learning rate before training: raise it from step to step, and observe where the loss falls and diverges.

This is Leslie Smith's range test (Cyclical Learning Rates for Training Neural Networks, 2017, section 3.3), with the
exponential rise, the smoothing and the early stop that fastai and Lightning have added.
"""

from __future__ import annotations

import math
import statistics
from typing import Any, Optional

from mindspore import nn
from mindspore.train import Model

from ..core import distributed
from ..core.arguments import check_choice, check_dataset, check_int, check_number
from ..core.callback import TrainCallback
from ..core.kept_model import check_can_be_kept, kept_model
from ..core.learning_rates import Rates, shortest
from ..core.losses import MOST_DROPPED
from ..core.mindspore_compat import copied_dataset, naming_numpy, parallel_mode_of, size_of_dataset
from ..core.model_parts import optimizers_of
from ..core.placement import Needs, check_whole
from ..core.run import Run
from ..core.step_outputs import OutputReader, loss_of
from ._range_test import FEWEST_POINTS, METHODS, SKIP_BEGIN, SKIP_END, LRCurve, make_curve

__all__ = ["lr_find"]

_OWNER = "lr_find"
_NEEDS = Needs.WEIGHTS | Needs.OPTIMIZER | Needs.LOSS
_BETA = 0.98  # the smoothing factor, as in fastai and Lightning
_FEWEST_STEPS = SKIP_BEGIN + FEWEST_POINTS + SKIP_END


def lr_find(
    model: Model,
    dataset: Any,
    *,
    min_lr: float = 1e-7,
    max_lr: float = 1.0,
    steps: int = 100,
    early_stop_threshold: Optional[float] = 4.0,
    method: str = "valley",
) -> LRCurve:
    """Train a Model for a few steps with a rising learning rate; return the losses and a suggested rate.

    The rate rises exponentially, from `min_lr` in the first step to `max_lr` in the last. The losses are smoothed by an
    exponentially weighted mean with bias correction (beta 0.98). The test stops early if a loss is NaN or infinite, or
    if the smoothed loss exceeds `early_stop_threshold` times the best one so far. This comparison starts after the
    first 10 steps, with the median of their losses as the first best, so that a low loss of the first batch does not
    stop the test. If the best loss is not above 0, the test compares the rise above it with its absolute value, or with
    the fall to it from the first best if that is larger. The suggestions ignore the first 10 points and the last one,
    as in Lightning:

    - `"valley"` (fastai): the middle of the longest falling part of the curve.
    - `"steepest"` (fastai, Lightning): where the smoothed loss falls fastest over the logarithm of the rate. Lightning
      2.6 uses the slope over the rate itself, which divides the noise at the lowest rates by tiny numbers.

    There is no suggestion, but a reason, if the loss diverged at once, if fewer than 5 points are left, or if the
    smoothed loss never fell by more than the losses vary from step to step (the median of their differences). Such a
    curve shows only noise.

    With parameter groups, the highest rate among them is set to the rate of the test, and the others keep their
    proportion to it. The dataset is repeated if it has fewer batches than `steps`. Nothing is printed or written, and
    no other callback is called.

    Afterwards, the previous state is restored, bit for bit, also after an exception: weights, statistics, the
    optimizer's moments and steps, rates, loss scale, `training` flags, and the random states of MindSpore, NumPy and
    Python. The test uses a copy of the dataset, so the dataset keeps its next epoch and its `set_init_step`, and can
    still be used with another Model. A run that follows has the same losses as without the test. The following cannot
    be restored bit for bit; the result's `notes` name them if the Model has them: the random numbers of `nn.Dropout`;
    those of random functions that a network calls in GRAPH mode, which are found only if the network is compiled in the
    test; and the rounding of `nn.RMSProp` on a CPU. State in the Python code of a dataset, such as a generator of its
    own, is not restored. The test needs memory for one copy of the network and the optimizer.

    With several processes, call the function in all of them. The losses are the means over all processes, so that each
    has the same result.

    Args:
        model: the Model to train, with an optimizer whose rates are numbers; a list or a schedule is refused.
        dataset: the training dataset, as for `Model.train`.
        min_lr: the rate of the first step, above 0. Default: 1e-7.
        max_lr: the rate of the last step, above `min_lr`. Default: 1.0.
        steps: the number of steps, at least 16. Default: 100.
        early_stop_threshold: the test stops if the smoothed loss exceeds the best one by this factor, above 1; `None`
            for no early stop. Default: 4.0.
        method: the method of `suggestion`, `"valley"` or `"steepest"`. Default: "valley".

    Returns:
        A result with `rates`, `losses` and `smoothed`, one number for each step; `suggestion` (a rate, or `None`) and
        `suggestions` by method; `reason`, why there is no suggestion; `has_diverged`; `is_exact`, whether all was
        restored bit for bit, and `notes`, what was not; and `plot(path)`, which draws the curve as a PNG.

    Raises:
        TypeError, ValueError: an argument is not as described, the dataset is empty, the Model has no optimizer of
            `mindspore.nn`, a rate is not a number, or this process holds only a part of some parameters.

    Example:
        >>> found = lr_find(model, train_dataset, min_lr=1e-5, max_lr=10.0)
        >>> 1e-5 < found.suggestion < 10.0
        True
        >>> found.plot(folder + "/lr_find.png")
    """
    if not isinstance(model, Model):
        raise TypeError(f"{_OWNER}: model must be a mindspore.train.Model, but got {type(model).__name__}")
    check_dataset(_OWNER, dataset)
    lowest = check_number(_OWNER, "min_lr", min_lr, above=0)
    highest = check_number(_OWNER, "max_lr", max_lr, above=0)
    if lowest >= highest:
        raise ValueError(f"{_OWNER}: min_lr must be below max_lr, but got min_lr={min_lr} and max_lr={max_lr}")
    check_int(_OWNER, "steps", steps, _FEWEST_STEPS)
    if early_stop_threshold is not None:
        check_number(_OWNER, "early_stop_threshold", early_stop_threshold, above=1)
    check_choice(_OWNER, "method", method, METHODS)
    rates = _rates_of(model)
    # Parameters that this process holds only in part get their final shape in the test, and could not be restored.
    check_whole(_OWNER, _NEEDS, model.train_network, parallel_mode_of(model))
    check_can_be_kept(_OWNER, model)
    test = _RangeTest(_rise(lowest, highest, steps), _proportions(rates), early_stop_threshold)
    with kept_model(model) as notes:
        copied = copied_dataset(dataset)
        with naming_numpy():  # the size of a generator is known only after it has run
            batches = size_of_dataset(copied)
        if not batches:
            raise ValueError(f"{_OWNER}: the dataset is empty; a batch_size above its length drops it all")
        model.train(math.ceil(steps / batches), copied, callbacks=[test], dataset_sink_mode=False)
    return make_curve(
        test.rates, test.losses, test.smoothed, method, has_diverged=test.has_diverged, notes=tuple(notes)
    )


def _rates_of(model: Model) -> Rates:
    optimizers = optimizers_of(model.train_network)
    if not optimizers or not all(isinstance(one, nn.Optimizer) for one in optimizers):
        found = ", ".join(type(one).__name__ for one in optimizers) or "none"
        raise ValueError(
            f"{_OWNER}: the Model needs an optimizer of mindspore.nn, whose rate the test sets, but has {found}; make "
            f"it with Model(network, loss_fn, optimizer)"
        )
    rates = Rates(optimizers)
    if rates.is_dynamic:
        what = "a list of learning rates" if rates.lists else "a learning rate schedule"
        raise ValueError(
            f"{_OWNER}: the optimizer holds {what}, which sets the rate itself; make the optimizer with a number, such "
            f"as {max(rates.read()) or 0.01:g}, for the test"
        )
    return rates


def _rise(lowest: float, highest: float, steps: int) -> list[float]:
    """Return the rate of each step."""
    return [*(lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps - 1)), highest]


def _proportions(rates: Rates) -> list[float]:
    """Return the ratio of each rate to the highest one."""
    values = rates.read()
    highest = max(values)
    if len(values) > 1 and not highest > 0:
        raise ValueError(
            f"{_OWNER}: the rates of the parameter groups must have a proportion to keep, but all are {values[0]:g}; "
            f"give at least one group a rate above 0"
        )
    return [value / highest for value in values] if len(values) > 1 else [1.0]


class _RangeTest(TrainCallback):
    """Sets the rate before each step and records the loss after it, until the last rate or until the loss diverges."""

    def __init__(self, rise: list[float], proportions: list[float], early_stop_threshold: Optional[float]) -> None:
        super().__init__()
        self._rise = rise
        self._proportions = proportions
        self._threshold = early_stop_threshold
        self._reader = OutputReader()
        self._average = self._weight = 0.0
        self._first = self._best = math.nan
        self._dropped_in_row = 0
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.has_diverged = False

    def before_train(self, run: Run) -> None:
        """Register the functions of each step."""
        run.step_hooks.on_step_begin(self, self._set_rates)
        run.step_hooks.on_step_end(self, self._record)

    def _set_rates(self, run: Run) -> None:
        rate = self._rise[len(self.rates)]
        assert run.parts.rates is not None
        run.parts.rates.set([rate * proportion for proportion in self._proportions])
        self.rates.append(shortest(rate))

    def _record(self, run: Run) -> None:
        loss = self._mean_loss(run)
        self.losses.append(math.nan if loss is None else loss)
        self._dropped_in_row = self._dropped_in_row + 1 if loss is None else 0
        if loss is not None and math.isfinite(loss):
            # The bias correction divides by the sum of the weights, so that the first value is the first loss.
            self._average = _BETA * self._average + (1 - _BETA) * loss
            self._weight = _BETA * self._weight + (1 - _BETA)
            self.smoothed.append(self._average / self._weight)
            self.has_diverged = self._is_above_best()
        else:
            self.smoothed.append(math.nan)
            self.has_diverged = loss is not None or self._dropped_in_row >= MOST_DROPPED
        if self.has_diverged or len(self.rates) == len(self._rise):
            run.request_stop(_OWNER)

    def _mean_loss(self, run: Run) -> Optional[float]:
        """Return the loss of the step over all processes; `None` if loss scaling dropped the step."""
        loss = loss_of(self._reader.take(run.outputs))
        if distributed.count() == 1:
            return loss
        mean, dropped = distributed.mean([0.0 if loss is None else loss, float(loss is None)], 1)
        return None if dropped else mean

    def _is_above_best(self) -> bool:
        """Return whether the smoothed loss is too far above the best one; false during the first points."""
        recent = self.smoothed[-1]
        if math.isnan(self._best):
            known = [loss for loss in self.losses if math.isfinite(loss)]
            if len(known) <= SKIP_BEGIN:
                return False
            # The median, because a single batch may be easier or harder than the others.
            self._first = self._best = statistics.median(known[:SKIP_BEGIN])
        best = self._best
        self._best = min(best, recent)
        # A multiple of a negative loss would be below that loss.
        scale = best if best > 0 else max(abs(best), self._first - best)
        return self._threshold is not None and recent > best + (self._threshold - 1) * scale
