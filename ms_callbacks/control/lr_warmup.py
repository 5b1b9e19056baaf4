"""Raises the learning rate step by step at the start of a run, before it stays or another schedule takes over."""

from __future__ import annotations

from typing import Any, Optional

from ..core._callback import STEP_END
from ..core._checks import check_int, check_number
from ..core._context import Run
from ..core._schedule import Plan, RateSetter, Schedule

__all__ = ["LRWarmup"]


class LRWarmup(Schedule):
    r"""Raises the learning rate linearly to the optimizer's own over the first `epochs` epochs, a little every step.

    In step :math:`k` (from 1) of the :math:`n` steps of the warm-up the rate is
    :math:`\eta_0 (f + (1 - f) k / n)` with `start_factor` :math:`f`, so that the first step already learns and the
    last one has the full rate. The method: Goyal et al., "Accurate, Large Minibatch SGD", 2017. After it, `after`
    takes over and counts its epochs from there, or the rate stays.

    Args:
        epochs: how many epochs the warm-up lasts.
        after: what sets the rate from then on: `DynamicLR`, `LRStepDecay`, `LRCosineAnnealing` or
            `ReduceLROnPlateau`. It stands here only, not in the list of callbacks. Default: None.
        start_factor: the share of the rate to start from, from 0 to below 1. Default: 0.0.

    Attributes:
        lr_list_ (list[float]): the rate of every step, of the first parameter group where there are several (without
            what `ReduceLROnPlateau` decides).

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, or sink mode, where steps cannot be told apart.

    Example:
        >>> warmup = LRWarmup(1, after=LRStepDecay(step_size=1, gamma=0.5))
        >>> model.train(3, train_dataset, callbacks=[warmup])
        >>> warmup.lr_list_[-1]
        0.005
    """

    def __init__(self, epochs: int, *, after: Optional[RateSetter] = None, start_factor: float = 0.0) -> None:
        super().__init__()
        self.epochs = check_int("LRWarmup", "epochs", epochs, 1)
        if after is not None and (not isinstance(after, RateSetter) or isinstance(after, LRWarmup)):
            raise TypeError(
                f"LRWarmup: after must be DynamicLR, LRStepDecay, LRCosineAnnealing or ReduceLROnPlateau, "
                f"but got {type(after).__name__}"
            )
        self.after = after
        self.start_factor = check_number("LRWarmup", "start_factor", start_factor, minimum=0, below=1)

    @property
    def by_step(self) -> bool:
        """Whether the list has one rate a step, rather than one an epoch."""
        return True

    def rates_for(self, base: float, plan: Plan) -> list[float]:
        """One rate a step: the ramp, then what `after` has for the epochs that are left."""
        steps = self.epochs * plan.steps_per_epoch
        ramp = [base * (self.start_factor + (1 - self.start_factor) * step / steps) for step in range(1, steps + 1)]
        rest = plan._replace(epochs=max(plan.epochs - self.epochs, 0))
        if not isinstance(self.after, Schedule):
            return ramp + [base] * (rest.epochs * plan.steps_per_epoch)
        rates = self.after.rates_for(base, rest)
        return ramp + (rates if self.after.by_step else [rate for rate in rates for _ in range(plan.steps_per_epoch)])

    def on_train_begin(self, run_context: Any) -> None:
        """Begins anew; a plateau that comes after, too."""
        super().on_train_begin(run_context)
        if self._plateau is not None:
            self._plateau.on_train_begin(run_context)
            self.at_step(STEP_END, *self._plateau._handing_over)  # where it watches the training loss

    def check(self, run: Run) -> None:
        """Raises where it, or a plateau that comes after, could not do its work."""
        super().check(run)
        if self._plateau is not None:
            self._plateau.check(run)

    def after_epoch(self, run: Run) -> None:
        """Lets a plateau observe once the warm-up is over."""
        if self._plateau is not None and run.epoch > self.epochs:
            self._plateau.after_epoch(run)

    def on_exit(self) -> None:
        """Lets the optimizer go."""
        super().on_exit()
        if self._plateau is not None:
            self._plateau.on_exit()

    def state_dict(self) -> dict[str, Any]:
        """The rate that each parameter group began at, and the state of a plateau that comes after."""
        return {**super().state_dict(), "after": self._plateau.state_dict() if self._plateau is not None else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next run go on from a state that `state_dict` returned."""
        super().load_state_dict(state)
        if self._plateau is not None:
            self._plateau.load_state_dict(state["after"])

    @property
    def _plateau(self) -> Optional[RateSetter]:
        """What comes after where it decides by itself, having no list."""
        return None if isinstance(self.after, Schedule) else self.after
