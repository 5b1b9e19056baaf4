"""The base class of callbacks that set the learning rate: finds the optimizers, and allows one such callback a run."""

from __future__ import annotations

from typing import Optional

from .callback import TrainCallback, only_one
from .learning_rates import Rates
from .mindspore_compat import RATE_CALLBACKS
from .run import Run

__all__ = ["RateSetter"]


class RateSetter(TrainCallback):
    """A callback that sets the learning rate of all optimizers; at most one in a list of callbacks."""

    transient: tuple[str, ...] = ("_rates",)
    _rates: Optional[Rates] = None
    first_epoch = 1  # the first epoch in which it sets the rate

    def before_train(self, run: Run) -> None:
        """Find the optimizers."""
        super().before_train(run)
        self._rates = Rates(run.parts.optimizers)

    def check(self, run: Run) -> None:
        """Raise if the rate cannot be set, or another callback sets it too."""
        super().check(run)
        owner = type(self).__name__
        only_one(
            owner,
            [one for one in run.callbacks if isinstance(one, (RateSetter, *RATE_CALLBACKS))],
            "set the learning rate",
            "; for a warm-up, pass what follows as LRWarmup(epochs, after=...)",
        )
        try:
            rates = Rates(run.parts.optimizers)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}") from None
        if rates.is_dynamic:
            raise ValueError(
                f"{owner}: the optimizer holds a list or a schedule of learning rates and sets its rate itself; "
                f"make the optimizer with a number, learning_rate=0.01, also for the lr of each parameter group, "
                f"or leave {owner} out"
            )
        self.check_groups(rates)

    def check_groups(self, rates: Rates) -> None:
        """Raise if an argument with a value for each parameter group does not match the optimizer's groups."""

    def teardown(self) -> None:
        """Release the optimizers."""
        self._rates = None
