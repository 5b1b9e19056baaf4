"""Find a learning rate before training: raise it from step to step, and see where the loss falls and where it breaks.

That is Leslie Smith's range test (Cyclical Learning Rates for Training Neural Networks, 2017, section 3.3), with the
exponential rise, the smoothing and the stop that fastai and Lightning have given it.
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
from ._lr_curve import FEWEST_POINTS, METHODS, SKIP_BEGIN, SKIP_END, LRCurve, make_curve

__all__ = ["lr_find"]

_OWNER = "lr_find"
_NEEDS = Needs.WEIGHTS | Needs.OPTIMIZER | Needs.LOSS
_BETA = 0.98  # of the smoothing, as in fastai and Lightning
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
    """Train a Model for a few steps with a rising learning rate; return the losses and the rate that they suggest.

    The rate rises exponentially, from `min_lr` in the first step to `max_lr` in the last. The losses are smoothed by an
    exponentially weighted mean with bias correction (beta 0.98). The test stops early at a loss that is NaN or
    infinite, and when the smoothed loss is above `early_stop_threshold` times the best so far. This is compared only
    after the first 10 steps, of which the median counts, so that a first batch with a low loss does not stop it. If the
    best loss is below 0, the rise from it is compared with its size in the same way. The suggestions leave out the
    first 10 points and the last one, as in Lightning:

    - `"valley"` (fastai): the middle of the longest falling part of the curve.
    - `"steepest"` (fastai, Lightning): where the smoothed loss falls fastest over the logarithm of the rate. Lightning
      2.6 takes the slope over the rate itself, which divides the noise of the lowest rates by tiny numbers.

    There is no suggestion, but a reason, if the loss diverged at once, if fewer than 5 points are left, or if the
    smoothed loss never fell by more than the losses vary from step to step (the median of their differences): the
    rest of such a curve is noise.

    With parameter groups, the highest rate among them is set to the rate of the test, and the others keep their
    proportion to it. The dataset is repeated if it has fewer batches than `steps`. Nothing is printed or written, and
    no other callback is called.

    Afterwards, everything is as it was before, bit for bit, also after an exception: weights, statistics, the
    optimizer's moments and steps, rates, loss scale, `training` flags, the random states of MindSpore, NumPy and
    Python, and the dataset, of which a copy is used: its next epoch, what `set_init_step` has set, and that it can be
    given to another Model. A run that follows has the losses that it would have had without the test. These cannot be
    restored to the last bit, and the result's `notes` name them if the Model has them: the random numbers of
    `nn.Dropout`; those that a network draws through functions in GRAPH mode, which are found if it is compiled in the
    test; and the rounding of `nn.RMSProp` on a CPU. What Python code of a dataset keeps itself, such as a generator of
    its own, is not known. The test takes memory for one copy of the network and the optimizer.

    With several processes, call it on all of them: the losses are the means over all, so that each has the same result.

    Args:
        model: the Model to train, with an optimizer whose rates are numbers; a list or a schedule is refused.
        dataset: the training dataset, as for `Model.train`.
        min_lr: the rate of the first step, above 0. Default: 1e-7.
        max_lr: the rate of the last step, above `min_lr`. Default: 1.0.
        steps: the number of steps, at least 16. Default: 100.
        early_stop_threshold: how many times the best smoothed loss stops the test, above 1; `None` for no stop.
            Default: 4.0.
        method: which suggestion `suggestion` is: `"valley"` or `"steepest"`. Default: "valley".

    Returns:
        A result with `rates`, `losses` and `smoothed`, one number for each step; `suggestion` (a rate, or `None`) and
        `suggestions` by method; `reason`, why there is none; `has_diverged`; `is_exact` and `notes`, whether and what
        could not be restored; and `plot(path)`, which draws the curve as a PNG.

    Raises:
        TypeError, ValueError: an argument is not as described, the dataset is empty, or the Model has no optimizer of
            `mindspore.nn`, rates that are not numbers, or parameters that this process holds only in part.

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
    # What this process holds in part gets its final shape only during the test, and could not be restored.
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
    """Return what each rate is to the highest of them."""
    values = rates.read()
    highest = max(values)
    if len(values) > 1 and not highest > 0:
        raise ValueError(
            f"{_OWNER}: the rates of the parameter groups must have a proportion to keep, but all are {values[0]:g}; "
            f"give at least one group a rate above 0"
        )
    return [value / highest for value in values] if len(values) > 1 else [1.0]


class _RangeTest(TrainCallback):
    """Sets the rate before each step and records the loss after it, until the last rate or a divergence."""

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
        """Register what is done in each step."""
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
            # The weight that a mean without bias correction would lack, so that the first value is the first loss.
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
        """Return whether the smoothed loss has risen too far above the best, which is known after the first points."""
        recent = self.smoothed[-1]
        if math.isnan(self._best):
            known = [loss for loss in self.losses if math.isfinite(loss)]
            if len(known) <= SKIP_BEGIN:
                return False
            # One batch that is easier or harder than the others says nothing.
            self._first = self._best = statistics.median(known[:SKIP_BEGIN])
        best = self._best
        self._best = min(best, recent)
        # Four times a loss below 0 is less than that loss.
        scale = best if best > 0 else max(abs(best), self._first - best)
        return self._threshold is not None and recent > best + (self._threshold - 1) * scale
