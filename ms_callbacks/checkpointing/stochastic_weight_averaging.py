"""Average the weights of the last epochs, and compute the BatchNorm statistics for the average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
from mindspore import Parameter

from ..core.arguments import check_choice, check_int, check_number
from ..core.callback import only_one
from ..core.learning_rates import Rates
from ..core.lr_arguments import check_per_group, checked_first_rate, for_group
from ..core.mindspore_compat import RATE_CALLBACKS
from ..core.observations import EpochSummary
from ..core.parameters import Arrays, Snapshot
from ..core.rate_setter import RateSetter
from ..core.run import Run
from ._averages import Averages, AveragingCallback, averaged
from ._batch_statistics import batch_statistics, has_statistics

__all__ = ["StochasticWeightAveraging"]

_OWNER = "StochasticWeightAveraging"


class StochasticWeightAveraging(AveragingCallback):
    r"""Average the weights at the end of the last epochs (SWA), and finish training with the average.

    The average is over the weights at the end of each epoch from `swa_epoch_start` to the last, with equal shares, in
    float32. The BatchNorm statistics of training do not fit the averaged weights. When training ends, one pass over
    the training dataset computes new ones, as PyTorch's `update_bn` does: the averages of the batches' means and
    unbiased variances. The pass counts as no epoch and does not change the optimizer. Evaluations during training and
    `BestCheckpoint` use the trained weights; evaluate the average after `Model.train`.

    SWA needs a learning rate that stays high. With `lr`, the rate changes from its value in epoch `swa_epoch_start` to
    `lr` within `annealing_epochs` epochs, along half a cosine or linearly, as in PyTorch's `SWALR`, and stays there.
    Without `lr`, the optimizer or another callback sets the rate.

    An interrupted run keeps the trained weights, and `TrainingState` saves the average so far. With several processes,
    each process passes over its own part of the data, and the statistics are the means over all processes.

    Args:
        swa_epoch_start: the first epoch whose weights are averaged, counted from 1; or a fraction of the epochs,
            between 0 and 1, after which averaging begins. Default: 0.8.
        lr: the final rate, or a list with one for each parameter group. Default: None, the rate is not changed.
        annealing_epochs: the number of epochs from the rate of epoch `swa_epoch_start` to `lr`; with 0, the rate is
            `lr` at once. Default: 10.
        anneal_strategy: `"cos"` or `"linear"`. Default: "cos".

    Attributes:
        averaged_epochs_ (list[int]): the epochs whose weights are in the average.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: the run ends before
            `swa_epoch_start`, another callback sets the rate although `lr` is given, another callback averages the
            weights too or restores the best ones at the end, which would replace the average, or this process holds
            only a part of the weights.

    Example:
        >>> averaging = StochasticWeightAveraging(2, lr=0.005, annealing_epochs=1)
        >>> model.train(3, train_dataset, callbacks=[averaging])
        >>> averaging.averaged_epochs_
        [2, 3]

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018,
    https://arxiv.org/abs/1803.05407
    """

    transient = ("_parameters", "_final")

    def __init__(
        self,
        swa_epoch_start: Union[int, float] = 0.8,
        *,
        lr: Union[float, Sequence[float], None] = None,
        annealing_epochs: int = 10,
        anneal_strategy: str = "cos",
    ) -> None:
        super().__init__()
        if isinstance(swa_epoch_start, float):
            check_number(_OWNER, "swa_epoch_start", swa_epoch_start, above=0, below=1)
        else:
            check_int(_OWNER, "swa_epoch_start", swa_epoch_start, 1)
        self.swa_epoch_start = swa_epoch_start
        self.lr = checked_first_rate(_OWNER, lr, "lr")
        self.annealing_epochs = check_int(_OWNER, "annealing_epochs", annealing_epochs, 0)
        self.anneal_strategy = check_choice(_OWNER, "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self._rate = None if self.lr is None else _Annealing(self)
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the average of earlier runs."""
        self.averaged_epochs_: list[int] = []
        self._average = Averages()
        self._final: Optional[Arrays] = None

    @property
    def inner(self) -> tuple[RateSetter, ...]:
        """The callback that sets the rate, if `lr` is given."""
        return () if self._rate is None else (self._rate,)

    def first_epoch(self, epochs: int) -> int:
        """Return the first epoch whose weights are averaged, in a run of `epochs` epochs."""
        start = self.swa_epoch_start
        return min(int(start * epochs) + 1, epochs) if isinstance(start, float) else start

    def check(self, run: Run) -> None:
        """Raise if another callback sets the rate, or replaces the average at the end."""
        super().check(run)
        if self.lr is not None:
            others = [each for each in run.callbacks if isinstance(each, (RateSetter, *RATE_CALLBACKS))]
            hint = "; leave lr out, and let the other end with a constant rate, as in LRSequence"
            only_one(_OWNER, [*others, self], "set the learning rate", hint)
        restoring = [each for each in run.callbacks if getattr(each, "restore_best_weights", False)]
        if restoring:
            raise ValueError(
                f"{_OWNER}: {type(restoring[0]).__name__}(restore_best_weights=True) would replace the average when "
                f"training ends; keep the best weights with BestCheckpoint, or leave one of the two out"
            )

    def check_plan(self, run: Run) -> None:
        """Raise if the run ends before anything is averaged."""
        if self.first_epoch(run.epochs) > run.epochs:
            raise ValueError(
                f"{_OWNER}: swa_epoch_start={self.swa_epoch_start} averages in none of the {run.epochs} epochs; lower "
                f"it, or train longer"
            )

    def before_train(self, run: Run) -> None:
        """Find the parameters to average."""
        self._parameters: dict[str, Parameter] = averaged(run.weights, trained_only=False)
        self._final = None

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Add the epoch's weights to the average."""
        if summary.epoch >= self.first_epoch(run.epochs):
            self.averaged_epochs_.append(summary.epoch)
            self._average.add(self._parameters, 1 / len(self.averaged_epochs_))

    def flush(self) -> None:
        """Compute the BatchNorm statistics for the average, unless the run was interrupted."""
        if not self.run.progress.is_finished or not self.averaged_epochs_:
            return
        own = Snapshot(self._parameters)
        own.take()
        try:
            self._average.write(self._parameters)
            statistics = batch_statistics(_OWNER, self.run) if has_statistics(self.run) else {}
        finally:
            own.restore(together=False)
        self._final = {**self._average.arrays, **statistics}

    def finalize_weights(self, run: Run) -> None:
        """Write the average into the network."""
        if self._final is not None:
            Averages(self._final).write(self._parameters)

    def final_weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the average and its statistics; empty before the run is finished."""
        return self._final or {}

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged epochs, and the rates at which annealing began."""
        return {"epochs": list(self.averaged_epochs_), "bases": None if self._rate is None else self._rate.bases}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, in the next run."""
        super().load_state_dict(state)
        self.averaged_epochs_ = list(state["epochs"])
        if self._rate is not None:
            self._rate.load_state_dict({"bases": state["bases"]})

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the average, in float32; for a finished run, with its statistics."""
        return self._final or self._average.arrays

    def load_state_arrays(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Continue with an average that `state_arrays` returned."""
        self._average = Averages({name: np.array(array) for name, array in arrays.items()})


class _Annealing(RateSetter):
    """Changes the rate of each parameter group to `lr`, epoch by epoch."""

    def __init__(self, owner: StochasticWeightAveraging) -> None:
        super().__init__()
        self.owner = owner
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the rates at which annealing began."""
        self.bases: Optional[list[float]] = None

    def check_groups(self, rates: Rates) -> None:
        """Raise if `lr` does not match the parameter groups."""
        check_per_group(_OWNER, "lr", self.owner.lr, rates)

    def before_epoch(self, run: Run) -> None:
        """Set the rate of the epoch."""
        done = run.epoch - self.owner.first_epoch(run.epochs)
        if done < 0:
            return
        assert self._rates is not None
        assert self.owner.lr is not None
        if self.bases is None:
            self.bases = self._rates.planned()
        length = self.owner.annealing_epochs
        part = min(done / length, 1.0) if length else 1.0
        share = (1 - math.cos(math.pi * part)) / 2 if self.owner.anneal_strategy == "cos" else part
        goals = [for_group(self.owner.lr, group) if base else 0.0 for group, base in enumerate(self.bases)]
        self._rates.set([share * goal + (1 - share) * base for base, goal in zip(self.bases, goals)])

    def state_dict(self) -> dict[str, Any]:
        """Return the rates at which annealing began."""
        return {"bases": self.bases}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.bases = state["bases"]
