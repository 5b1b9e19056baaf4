"""Apply several schedules one after the other, as PyTorch's `SequentialLR` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

from ..core.arguments import check_int
from ..core.console import counted
from ..core.learning_rates import Rates
from ..core.lr_arguments import checked_first_rate
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan

__all__ = ["LRSequence"]


class _Part(NamedTuple):
    """One of the schedules, the number of epochs before it, and its plan."""

    schedule: Schedule
    before: int
    plan: Plan


class LRSequence(Schedule):
    """Apply several schedules one after the other, each for a number of epochs.

    Each schedule counts its epochs or steps from its own beginning. Its initial rate is the one that the optimizer was
    created with, as in PyTorch's `SequentialLR`. Unlike in PyTorch, no schedule has an effect before its part begins:
    the first step has the rate of the first schedule. Schedules by epoch and by step can be mixed. A part begins with
    its epoch, whatever the number of steps before was. Steps beyond those that the dataset declares keep the last rate
    of their part; in the last part, they follow its schedule. `LRWarmup` may be a part. `ReduceLROnPlateau` may not,
    because its rates are not known before the run.

    Args:
        schedules: pairs of a schedule and its number of epochs. The numbers must add up to the epochs of the run. The
            last number may be `None`, for all remaining epochs. Pass the schedules only here, not in the list of
            callbacks, and without a `learning_rate` of their own.
        learning_rate: the initial rate of all schedules, or a list with one for each parameter group. Default: None,
            the optimizer's own.

    Attributes:
        lr_list_ (list[float]): the rate of every epoch or, if a schedule is by step, of every step, for the first
            parameter group if there are several.

    Raises:
        ValueError, TypeError: an argument is not as described; before the first step: the epochs do not add up to those
            of the run, a schedule does not fit its part, the optimizer already holds a list or a schedule, another
            callback sets the rate too, an argument does not fit the parameter groups, a schedule by step in sink mode,
            or the initial rate is 0 or cannot be determined.

    Example:
        >>> sequence = LRSequence([(LRStepDecay(1, gamma=0.5), 2), (LRExponential(0.1), 2)])
        >>> model.train(4, train_dataset, callbacks=[sequence])
        >>> sequence.lr_list_
        [0.01, 0.005, 0.01, 0.001]
    """

    def __init__(
        self,
        schedules: Sequence[tuple[Schedule, Optional[int]]],
        *,
        learning_rate: Union[float, Sequence[float], None] = None,
    ) -> None:
        super().__init__()
        owner = "LRSequence"
        if not isinstance(schedules, (list, tuple)) or not schedules:
            raise TypeError(
                f"{owner}: schedules must be a list of pairs, a schedule and its epochs, but got {schedules!r}"
            )
        for place, pair in enumerate(schedules):
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise TypeError(
                    f"{owner}: schedules[{place}] must be a pair, a schedule and its epochs, but got {pair!r}"
                )
            self._check_part(f"{owner}: schedules[{place}]", pair[0])
            if pair[1] is not None or place < len(schedules) - 1:
                check_int(owner, f"the epochs of schedules[{place}]", pair[1], 1)
        if len({id(schedule) for schedule, _ in schedules}) < len(schedules):
            raise ValueError(f"{owner}: the same schedule occurs twice; make one for each part")
        self.schedules = schedules
        self.learning_rate = checked_first_rate(owner, learning_rate)
        self._known: dict[Plan, list[_Part]] = {}
        self.by = "step" if any(schedule.by_step for schedule, _ in schedules) else "epoch"

    @staticmethod
    def _check_part(name: str, schedule: Any) -> None:
        if not isinstance(schedule, Schedule) or schedule.inner:
            raise TypeError(
                f"{name} must be a schedule that is known before the run, such as LRStepDecay, but got {schedule!r}; "
                f"ReduceLROnPlateau can follow a warm-up, as LRWarmup(epochs, after=ReduceLROnPlateau(...))"
            )
        if schedule.first_rate is not None:
            raise ValueError(
                f"{name} has a learning_rate of its own, but all schedules of a sequence begin with the same; give "
                f"learning_rate to LRSequence instead"
            )

    @property
    def cycle_momentum(self) -> Optional[bool]:  # type: ignore[override]
        """Whether a schedule changes the momentum."""
        asked = [schedule.cycle_momentum for schedule, _ in self.schedules]
        return True if True in asked else None if None in asked else False

    @property
    def begins_at_own_rate(self) -> bool:  # type: ignore[override]
        """Whether a warm-up before the sequence rises to the first rate of its first schedule."""
        return self.schedules[0][0].begins_at_own_rate

    def is_relative(self, plan: Plan) -> bool:
        """Return whether the rates depend on those that the optimizer was created with."""
        return any(schedule.is_relative(plan) for schedule, _ in self.schedules)

    def check_groups(self, rates: Rates) -> None:
        """Raise if an argument here, or one of a schedule, does not fit the optimizer's parameter groups."""
        super().check_groups(rates)
        for schedule, _ in self.schedules:
            schedule.check_groups(rates)

    def check_length(self, plan: Plan) -> None:
        """Raise if the epochs do not add up to those of the run, or a schedule does not fit its part."""
        *first, (_, last) = self.schedules
        given = sum(epochs or 0 for _, epochs in first)
        total = given + (1 if last is None else last)
        if total > plan.epochs or (last is not None and total < plan.epochs):
            least = "at least " if last is None else ""
            raise ValueError(
                f"LRSequence: the schedules take {least}{counted(total, 'epoch')}, but there are {plan.epochs}"
                f"{' after the warm-up' if plan.epochs_before else ''}; make their epochs add up to {plan.epochs}, or "
                f"give None for the last schedule, for all remaining epochs"
            )
        for place, part in enumerate(self._parts(plan)):
            try:
                part.schedule.check_length(part.plan)
            except ValueError as error:
                length = counted(part.plan.epochs, "epoch")
                raise ValueError(f"LRSequence: schedules[{place}], {length} long: {error}") from None

    def last_epoch_of_part(self, epoch: int, plan: Plan) -> Optional[int]:
        """Return the last epoch of the part that contains `epoch`."""
        part = self._part_of(epoch - 1, plan)
        last = part.schedule.last_epoch_of_part(epoch - part.before, part.plan)
        if last is None and part.schedule is not self.schedules[-1][0]:
            last = part.plan.epochs
        return None if last is None else part.before + last

    def rate_at(self, base: float, index: int, plan: Plan) -> float:
        """Return the rate of an epoch or step, from 0."""
        part, own = self._place(index, plan)
        return part.schedule.rate_at(base, own, part.plan)

    def momentum_at(self, index: int, plan: Plan) -> Optional[float]:
        """Return the momentum of an epoch or step, from 0."""
        part, own = self._place(index, plan)
        return part.schedule.momentum_at(own, part.plan)

    def _place(self, index: int, plan: Plan) -> tuple[_Part, int]:
        """Return the part that contains an index, and the index within that part."""
        if not self.by_step:
            part = self._part_of(index, plan)
            return part, index - part.before
        part = self._part_of((index + plan.steps_taken) // plan.steps_per_epoch, plan)
        done = part.before * plan.steps_per_epoch - plan.steps_taken if part.before else 0
        return part, part.schedule.index_of(index - done, part.plan)

    def _part_of(self, epoch: int, plan: Plan) -> _Part:
        """Return the part that contains an epoch, counted from 0; the last part for epochs beyond the end."""
        parts = self._parts(plan)
        return next((each for each in reversed(parts) if each.before <= epoch), parts[0])

    def _parts(self, plan: Plan) -> list[_Part]:
        if plan in self._known:  # cached, because every step needs the parts
            return self._known[plan]
        parts, before = [], 0
        for schedule, epochs in self.schedules:
            own = plan._replace(
                epochs=plan.epochs - before if epochs is None else epochs,
                epochs_before=plan.epochs_before + before,
                steps_taken=0 if before else plan.steps_taken,
            )
            parts.append(_Part(schedule, before, own))
            before += own.epochs
        self._known = {plan: parts}
        return parts
