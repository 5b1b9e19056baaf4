"""Finds what is wrong with a list of callbacks before the hours of training that it is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Union

from mindspore.train import Callback, Model, RunContext

from ..core._callback import TrainCallback
from ..core._checks import check_int
from ..core._context import Run
from ..core._together import check_together

__all__ = ["check_callbacks"]

_OWNER = "check_callbacks"


def check_callbacks(
    model: Model,
    train_dataset: Any,
    callbacks: Union[Callback, Sequence[Callback]],
    *,
    epochs: int,
    valid_dataset: Any = None,
    initial_epoch: int = 0,
    dataset_sink_mode: bool = False,
) -> None:
    """Raises one error that tells everything that can be known to go wrong in a run; changes nothing.

    These are the checks that the callbacks make at the start of a run, where the first that fails is raised: monitors
    and modes, lists of learning rates against the steps of the run, folders that cannot be written, disk space for the
    checkpoints that will be kept, the same callback twice or two for one task, MindSpore's own callbacks that go wrong
    beside these (two that set the rate or handle signals, one that stands before `Validate` and finds no results), and
    what sink mode makes impossible. What needs a batch, as the export that `ExportBest` tries, is left to the run.

    Args:
        model: the Model whose `train` or `fit` is to be called.
        train_dataset: the dataset to train on.
        callbacks: the list that is to be passed.
        epochs: the last epoch, as in `Model.train`.
        valid_dataset: where `Model.fit` is to be called, its validation dataset. Default: None.
        initial_epoch: as in `Model.train`. Default: 0.
        dataset_sink_mode: as in `Model.train`. Default: False.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ValueError: something would go wrong; the text tells all that was found, one problem a line.

    Example:
        >>> check_callbacks(model, train_dataset, [EarlyStopping("acc"), LRStepDecay(5)], epochs=10)
        Traceback (most recent call last):
        ...
        ValueError: check_callbacks: 1 problem:
        - EarlyStopping: 'acc' needs an evaluation, but this run never evaluates; add Validate(model, valid_dataset) ...
    """
    if not isinstance(model, Model):
        raise TypeError(f"{_OWNER}: model must be a mindspore.train.Model, but got {type(model).__name__}")
    for name, dataset in (("train_dataset", train_dataset), ("valid_dataset", valid_dataset)):
        if not hasattr(dataset, "get_dataset_size") and (name == "train_dataset" or dataset is not None):
            raise TypeError(f"{_OWNER}: {name} must be a MindSpore dataset, but got {type(dataset).__name__}")
    check_int(_OWNER, "initial_epoch", initial_epoch, 0)
    check_int(_OWNER, "epochs", epochs, initial_epoch + 1)
    listed = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
    for each in listed:
        if not isinstance(each, Callback):
            raise TypeError(f"{_OWNER}: callbacks must be MindSpore callbacks, but got {type(each).__name__}")
    arguments = _Arguments(
        list_callback=listed,
        network=model._network,
        train_network=model.train_network,
        optimizer=model._optimizer,
        loss_fn=model._loss_fn,
        train_dataset=train_dataset,
        batch_num=train_dataset.get_dataset_size(),
        dataset_sink_mode=dataset_sink_mode,
        epoch_num=epochs - initial_epoch,
        cur_epoch_num=initial_epoch + 1,
        cur_step_num=0,
    )
    run = Run(RunContext(arguments), caller=(model, valid_dataset is not None))
    run.initial_epoch = initial_epoch
    ours = [each for each in listed if isinstance(each, TrainCallback)]
    problems: list[str] = []

    def ask(check: Callable[[Run], None]) -> None:
        try:
            check(run)
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            if str(error) not in problems:
                problems.append(str(error))

    for callback in ours:
        ask(callback.check)
    if not problems:  # what these take for granted holds
        for callback in ours:
            ask(callback.check_plan)
        ask(check_together)
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(f"{_OWNER}: {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n{lines}")


class _Arguments(dict[str, Any]):
    """A run's parameters, as MindSpore hands them to a callback."""

    __getattr__ = dict.__getitem__
