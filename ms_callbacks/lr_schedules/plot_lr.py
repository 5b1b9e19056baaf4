"""Draw a schedule before training: the learning rate by epoch, and the momentum if it changes."""

from __future__ import annotations

import os
from typing import Any, Optional, Union

from ..core.arguments import check_int, check_number
from ..core.atomic_files import check_folder
from ..core.lr_arguments import for_group
from ..core.lr_callback import Schedule
from ..core.lr_curve import Plan
from ..core.plotting import check_png, figure, save

__all__ = ["plot_lr"]

_OWNER = "plot_lr"
_COLOUR = "#0072B2"


def plot_lr(
    schedule: Schedule,
    path: Union[str, os.PathLike[str]],
    *,
    epochs: int,
    steps_per_epoch: int,
    learning_rate: Optional[float] = None,
) -> None:
    """Draw the learning rate of a schedule as a PNG, and below it the momentum if the schedule changes it too.

    Nothing is trained, and the schedule can still be used for training. A schedule by step is drawn with a value for
    every step; 1.5 on the horizontal axis is the middle of the second epoch. A schedule by epoch is drawn as a
    staircase.

    Args:
        schedule: a schedule, such as `LROneCycle(0.1)`; not `ReduceLROnPlateau`, which decides during the run.
        path: where to save, ending in `.png`; its folder must exist. The picture is written completely or not at all.
        epochs: the number of epochs of the run.
        steps_per_epoch: the number of optimizer steps per epoch, `dataset.get_dataset_size()`.
        learning_rate: the rate that the optimizer is created with; of no importance if the schedule has a
            `learning_rate` of its own. Default: None, rates are drawn as multiples of the initial rate.

    Raises:
        TypeError, ValueError: an argument is not as described, or the schedule does not fit a run of this length.
        ImportError: matplotlib is not installed.
        OSError: the picture cannot be written.

    Example:
        >>> plot_lr(LROneCycle(0.1), folder + "/one_cycle.png", epochs=10, steps_per_epoch=100)
    """
    if not isinstance(schedule, Schedule) or schedule.inner:
        raise TypeError(
            f"{_OWNER}: schedule must be one that is known before the run, such as LROneCycle, but got {schedule!r}"
        )
    picture = check_png(_OWNER, "path", path)
    plan = Plan(check_int(_OWNER, "epochs", epochs, 1), check_int(_OWNER, "steps_per_epoch", steps_per_epoch, 1))
    if learning_rate is not None:
        learning_rate = check_number(_OWNER, "learning_rate", learning_rate, above=0)
    check_folder(_OWNER, picture)
    schedule.check_length(plan)
    own = schedule.first_rate
    base = for_group(own, 0) if own is not None else learning_rate
    is_known = base is not None or not schedule.is_relative(plan)
    count = plan.steps if schedule.by_step else plan.epochs
    rates = schedule.rates_for(1.0 if base is None else base, plan)[:count]
    momenta = [schedule.momentum_at(index, plan) for index in range(count)]
    panels: list[tuple[str, list[Any]]] = [("learning rate" if is_known else "learning rate / initial one", rates)]
    if any(each is not None for each in momenta):
        panels.append(("momentum", [float("nan") if each is None else each for each in momenta]))
    per_epoch = plan.steps_per_epoch if schedule.by_step else 1
    canvas = figure(7, 2.4 * len(panels))
    for place, (title, values) in enumerate(panels, 1):
        axes = canvas.add_subplot(len(panels), 1, place)
        # The last value holds until the end of the run.
        axes.plot(
            [index / per_epoch for index in range(count + 1)],
            [*values, values[-1]],
            color=_COLOUR,
            drawstyle="steps-post",
        )
        axes.set_ylabel(title)
        axes.grid(color="0.85")
    axes.set_xlabel("epochs completed")
    save(canvas, picture)
