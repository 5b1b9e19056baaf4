"""Lower the learning rate in steps: the schedule of PyTorch's `StepLR`, as a list of rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from ..core.arguments import check_int, check_number
from ..core.learning_rates import Rates
from ..core.lr_arguments import check_per_group, checked_first_rate, checked_per_group, for_group
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan, check_by

__all__ = ["LRStepDecay"]


class LRStepDecay(Schedule):
    r"""Multiply the learning rate by `gamma` every `step_size` epochs.

    In epoch :math:`t` (from 1) the rate is :math:`\eta_0 \gamma^{\lfloor (t-1) / s \rfloor}`, as in PyTorch's `StepLR`.
    The optimizer is not rebuilt and keeps its moments; parameter groups and several optimizers are scaled alike, and a
    group with a rate of 0 stays frozen. Each call of `Model.train` starts the schedule at epoch 1, unless it is told
    where to continue: `train(10, ..., initial_epoch=5)`.

    The initial rate is the one that the optimizer was created with, even if a checkpoint of MindSpore's was loaded into
    the training network and brought the rate of the epoch in which it was saved. If neither the optimizer nor the
    schedule shows whether a rate came from a checkpoint or was set for the run, that is an error; `learning_rate` then
    specifies it. (MindSpore 2.0 counts an optimizer's steps only if its rate depends on them. There, at the start of a
    first run without `initial_epoch`, a rate from a checkpoint counts as set for the run.)

    Args:
        step_size: the number of epochs before each reduction.
        gamma: the factor for the rate, above 0. Default: 0.1.
        learning_rate: the initial rate in epoch 1, or a list with one for each parameter group. Default: None, the
            optimizer's own.
        min_lr: the lower bound of the rate; a list has one for each parameter group. The groups are in the order in
            which the optimizer was given them, and those without an `lr` of their own count as one. Default: 0.0.
        by: the unit of the schedule, `"epoch"` or `"step"` for optimizer steps. Default: "epoch".

    Attributes:
        lr_list_ (list[float]): the rate of every epoch or step, for the first parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the optimizer already holds a
            list or a schedule, another callback sets the rate too, one `learning_rate` is given for parameter groups
            with rates of their own, a list's length is not the number of groups, or the initial rate is 0 or cannot be
            determined.

    Example:
        >>> decay = LRStepDecay(step_size=1, gamma=0.5)
        >>> model.train(3, train_dataset, callbacks=[decay])
        >>> decay.lr_list_
        [0.01, 0.005, 0.0025]
    """

    def __init__(
        self,
        step_size: int,
        gamma: float = 0.1,
        *,
        learning_rate: Union[float, Sequence[float], None] = None,
        min_lr: Union[float, Sequence[float]] = 0.0,
        by: str = "epoch",
    ) -> None:
        super().__init__()
        owner = "LRStepDecay"
        self.step_size = check_int(owner, "step_size", step_size, 1)
        self.gamma = check_number(owner, "gamma", gamma, above=0)
        self.learning_rate = checked_first_rate(owner, learning_rate)
        self.min_lr = checked_per_group(owner, "min_lr", min_lr, minimum=0)
        self.by = check_by(owner, by)

    def check_groups(self, rates: Rates) -> None:
        """Raise if a list does not have one entry for each parameter group."""
        super().check_groups(rates)
        check_per_group("LRStepDecay", "min_lr", self.min_lr, rates)

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of an epoch or step, from 0."""
        rate = self.decayed(base, self.gamma, index // self.step_size, plan)
        return max(rate, min(for_group(self.min_lr, plan.group), base))

    @staticmethod
    def lr_list(learning_rate: float, step_size: int, gamma: float, epochs: int, steps_per_epoch: int) -> list[float]:
        """Return the same schedule as a list with one rate per step, to give to an optimizer directly.

        Args:
            learning_rate: the initial rate.
            step_size: the number of epochs before each reduction.
            gamma: the factor for the rate.
            epochs: the number of epochs in the list.
            steps_per_epoch: the number of entries per epoch, `dataset.get_dataset_size()`.

        Returns:
            `epochs * steps_per_epoch` rates.

        Example:
            >>> LRStepDecay.lr_list(0.1, step_size=1, gamma=0.5, epochs=2, steps_per_epoch=2)
            [0.1, 0.1, 0.05, 0.05]
        """
        check_int("LRStepDecay.lr_list", "epochs", epochs, 1)
        check_int("LRStepDecay.lr_list", "steps_per_epoch", steps_per_epoch, 1)
        schedule = LRStepDecay(step_size, gamma)
        base = check_number("LRStepDecay.lr_list", "learning_rate", learning_rate, minimum=0)
        return [
            rate for rate in schedule.rates_for(base, Plan(epochs, steps_per_epoch)) for _ in range(steps_per_epoch)
        ]
