"""Apply a list of learning rates to an optimizer that was created with a plain number."""

from __future__ import annotations

from typing import Any

from ..core.arguments import check_choice
from ..core.console import counted
from ..core.lr_arguments import checked_rates
from ..core.lr_callback import Schedule
from ..core.lr_curve import NoRateError, Plan

__all__ = ["DynamicLR"]


class DynamicLR(Schedule):
    """Set the learning rate from a list, one entry per step or epoch, without rebuilding the optimizer.

    Such lists come from `nn.cosine_decay_lr`, `nn.warmup_lr`, `nn.piecewise_constant_lr` or NumPy. The optimizer keeps
    its moments. With several optimizers, or with parameter groups that have rates of their own, the list is applied
    proportionally: a group's own rate corresponds to the largest entry of the list, and a group with a rate of 0 stays
    frozen. A run with `initial_epoch` starts at that place in the list.

    By step, each step takes the next entry, as in an optimizer created with the list, even if epochs differ in their
    number of steps.

    Args:
        lr_list: the rates, each finite and at least 0, as long as the run or longer; after a warm-up (`LRWarmup`), as
            long as the rest of the run, or longer than the whole run.
        by: `"step"` for one entry per step, `"epoch"` for one per epoch. Default: "step".

    Attributes:
        lr_list_ (list[float]): the list as applied, for the first parameter group if there are several.

    Raises:
        ValueError: a rate is not finite or below 0, or there are none; before the first step: the list is too short for
            the run (the message says how long it must be), the optimizer already holds a list or a schedule, another
            callback sets the rate too, `by="step"` in sink mode, where steps cannot be distinguished, or the parameter
            groups' own rates cannot be distinguished from those that a checkpoint brought; in the run: there are more
            steps than `get_dataset_size()` of the training dataset reported, and the list has no rate for them.
        TypeError: before the first step: there is no optimizer of `mindspore.nn`.

    Example:
        >>> dynamic = DynamicLR(nn.piecewise_constant_lr([1, 3], [0.01, 0.001]), by="epoch")
        >>> model.train(3, train_dataset, callbacks=[dynamic])
        >>> dynamic.lr_list_
        [0.01, 0.001, 0.001]
    """

    takes_first_rate = False

    def __init__(self, lr_list: Any, *, by: str = "step") -> None:
        super().__init__()
        self.lr_list = lr_list
        self.by = check_choice("DynamicLR", "by", by, ("step", "epoch"))
        self._checked = checked_rates("DynamicLR", "lr_list", lr_list)

    def is_relative(self, plan: Plan) -> bool:
        """Return whether there are parameter groups."""
        return plan.is_grouped

    def check_length(self, plan: Plan) -> None:
        """Raise if the list does not reach the end of the run."""
        per_epoch, given = plan.steps_per_epoch if self.by_step else 1, len(self._checked)
        needed = plan.steps if self.by_step else plan.epochs
        before = plan.epochs_before * per_epoch + (plan.steps_taken if self.by_step else 0)
        # A list that ends within the run, as counted from its first step, was made to include the warm-up.
        is_of_whole_run = needed < given <= needed + before
        if given < needed or is_of_whole_run:
            raise ValueError(
                f"DynamicLR: lr_list holds {counted(given, 'rate')}, but {counted(plan.epochs, 'epoch')} of "
                f"{counted(plan.steps_per_epoch, 'step')} {'after the warm-up ' if before else ''}"
                f"need {needed}, one {'per step' if self.by_step else 'per epoch'}; "
                + (
                    f"the list starts after the warm-up, so its last {given - needed} "
                    f"would never be used: leave out the part for the warm-up"
                    if is_of_whole_run
                    else f"make the list {needed} long"
                    + (", or pass by='epoch'" if self.by_step and given == plan.epochs else "")
                )
            )

    def count(self, plan: Plan) -> int:
        """Return the length of the list."""
        return len(self._checked)

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the entry, scaled to `base` if there are parameter groups."""
        if index >= len(self._checked):
            raise NoRateError
        peak = max(self._checked) if plan.is_grouped else 0
        return self._checked[index] * base / peak if peak else self._checked[index]
