"""Checks of a list of callbacks as a whole, with the optimizer and the disk that it will use."""

from __future__ import annotations

import os
import shutil
from typing import Callable

from mindspore import nn

from .arguments import quoted
from .atomic_files import in_words
from .console import counted, log_line
from .learning_rates import Rates, without_wrapper
from .metric_values import by_name
from .mindspore_compat import COUNTS_STEPS, eval_indexes_of, metrics_of, size_of_dataset
from .names import EVAL_LOSS
from .phases import Phases
from .run import Run
from .trial import LabelRangeError

__all__ = ["CHECKS", "check_together", "report_facts"]

_STATISTICS = ("moving_mean", "moving_variance")


def _check_updates(run: Run) -> None:
    """Raise if the optimizers cannot accumulate gradients in this run."""
    run.updates.check()


def check_together(run: Run) -> None:
    """Raise if the callbacks could not work together; called once, before the first step."""
    for check in CHECKS:
        check(run)


def report_facts(run: Run) -> None:
    """Print a line for each fact about the run that a user should know, but that is not an error."""
    _report_late_start(run)
    _report_eval_loss(run)
    _report_sunk_losses(run)


def _note(run: Run, line: str) -> None:
    run.notes.append(line)
    log_line(line)


def _report_late_start(run: Run) -> None:
    """Report a run that begins at a later epoch with an optimizer that has done no step."""
    begins_late = run.progress.initial_epoch and not run.progress.is_resumed
    if COUNTS_STEPS and begins_late and run.parts.rates is not None and run.parts.rates.steps == 0:
        _note(
            run,
            f"Model: the run begins with epoch {run.epoch}, but its optimizer has done no step: first load the weights "
            f"and the optimizer of epoch {run.progress.initial_epoch}, as TrainingState.resume does, or leave "
            f"initial_epoch out",
        )


def _report_eval_loss(run: Run) -> None:
    """Report what the `eval_loss` of `Model.fit` alone is, if a callback uses it."""
    model = run.metrics.model
    if not run.metrics.fit_evaluates or model is None or run.metrics.source is not None:
        return
    is_used = any(each.monitors(EVAL_LOSS) for each in run.callbacks if isinstance(each, Phases))
    if is_used and EVAL_LOSS not in by_name(metrics_of(model)) and size_of_dataset(run.metrics.dataset) > 1:
        _note(
            run,
            "Model.fit: its eval_loss is the loss of the last validation batch only, as MindSpore computes it; for "
            "the mean over all samples add Validate(model, valid_dataset) to the callbacks, or 'loss' to the Model's "
            "metrics",
        )


def _report_sunk_losses(run: Run) -> None:
    """Report what the losses of a run in sink mode are, if a callback uses them."""
    are_used = any(each.needs_losses for each in run.callbacks if isinstance(each, Phases))
    if not run.progress.sees_each_loss and are_used:
        _note(
            run,
            f"Model: in sink mode the device returns only the loss of the last of each {run.steps_per_epoch} steps: "
            f"wherever 'loss' is printed, recorded or monitored, it is that one, not a mean",
        )


def _check_names(run: Run) -> None:
    names = run.metrics.train_names
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise ValueError(
            f"Model: two callbacks give each epoch a number named {twice!r}; keep one of the two, or "
            f"give it another name in StepOutputs"
        )
    for name in run.metrics.names or ():
        if name in run.metrics.train_names:
            raise ValueError(
                f"Model: the metric {name!r} has the name of a value that the training steps give; rename the metric"
            )


def _check_rates(run: Run) -> None:
    """Raise if a list of rates is too short: the run would fail at its end, or have a rate of 0 (MindSpore 2.0)."""
    optimizers = [one for one in run.parts.optimizers if isinstance(one, nn.Optimizer)]
    for table, done in Rates(optimizers).lists if optimizers else ():
        steps = done + run.epochs * run.steps_per_epoch - run.progress.steps_before
        if table.size < steps:
            raise ValueError(
                f"Model: the optimizer holds a list of {counted(table.size, 'learning rate')}, but the run takes it to "
                f"step {steps} ({counted(run.epochs, 'epoch')} of {counted(run.steps_per_epoch, 'step')}); make the "
                f"list that long"
            )


def _check_frozen(run: Run) -> None:
    """Raise if an optimizer holds a frozen parameter, which would not stay unchanged.

    In GRAPH mode it is trained whatever its `requires_grad`; in PYNATIVE mode, moments and weight decay change it.
    """
    held = [
        parameter
        for optimizer in map(without_wrapper, run.parts.optimizers)
        if isinstance(optimizer, nn.Optimizer)
        for parameter in optimizer.parameters
    ]
    # An optimizer that was given all parameters also holds a BatchNorm's statistics, which no gradient reaches.
    frozen = [one.name for one in held if not one.requires_grad and not one.name.endswith(_STATISTICS)]
    if frozen:
        raise ValueError(
            f"Model: the optimizer holds {quoted(frozen[:3])}{', ...' if len(frozen) > 3 else ''}, where requires_grad "
            f"is False, as freeze sets it, and would still change them; freeze first, then make the optimizer, "
            f"with network.trainable_params()"
        )


def _check_space(run: Run) -> None:
    """Raise if there is no room for all files kept, and for those written before an older one is deleted."""
    needed: dict[int, int] = {}
    places: dict[int, str] = {}
    for callback in run.callbacks:
        space = callback.disk_space(run) if isinstance(callback, Phases) else {}
        for folder, size in space.items():
            if not os.path.isdir(folder or "."):  # its owner reports that
                continue
            disk = os.stat(folder or ".").st_dev
            needed[disk] = needed.get(disk, 0) + size
            places[disk] = folder or "."
    for disk, size in needed.items():
        free = shutil.disk_usage(places[disk]).free
        if free < size:
            raise OSError(
                f"the checkpoints of this run need {in_words(size)} on the disk of {places[disk]!r}, where "
                f"{in_words(free)} are free; make room, keep fewer, or save elsewhere"
            )


def _check_evaluation(run: Run) -> None:
    """Raise if one batch of the validation data fails, as the first epoch's evaluation then would."""
    if run.metrics.fit_evaluates and run.metrics.model is not None and eval_indexes_of(run.metrics.model) is None:
        raise ValueError(
            "Model.fit: MindSpore's fit finds the loss by eval_indexes, but the Model was made with an eval_network "
            "and without eval_indexes; give it eval_indexes=[loss, prediction, label], or call Model.train with "
            "Validate(model, valid_dataset) among the callbacks"
        )
    try:
        run.metrics.trial()
    except LabelRangeError:
        raise
    except ValueError as error:
        owner = "Model.fit" if run.metrics.source is None else "Validate"
        raise ValueError(f"{owner}: {error}") from error.__cause__


CHECKS: tuple[Callable[[Run], None], ...] = (
    _check_names,
    _check_updates,
    _check_rates,
    _check_frozen,
    _check_space,
    _check_evaluation,
)
