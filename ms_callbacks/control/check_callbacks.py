"""Find what is wrong with a list of callbacks before hours of training start."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Callable, Union

import mindspore as ms
from mindspore.train import Callback, Model, RunContext

from ..core.arguments import check_int
from ..core.callback import TrainCallback
from ..core.lifecycle import Lifecycle
from ..core.metrics import Caller
from ..core.mindspore_compat import RunArguments, made_with, naming_numpy, parallel_mode_of
from ..core.phases import Phases
from ..core.preflight import CHECKS
from ..core.run import Run
from ..core.trial import first_batch, python_random_state, try_training

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
    sink_size: int = -1,
) -> None:
    """Raise one error that lists every problem that can be detected before a run; change nothing.

    These are the checks that a run makes before its first step, which raises the first that fails: monitors and modes,
    schedules and lists of learning rates against the length of the run, folders that cannot be written, disk space for
    the checkpoints that will be kept, the same callback twice or two for one task, MindSpore's own callbacks that
    conflict with these (two that set the rate or handle signals), what the training cell or sink mode makes impossible,
    and jobs that a callback cannot read. One batch of the training data goes through the network and the loss, and one
    of the validation data through the evaluation network and copies of the metrics. This finds shapes that do not fit
    and labels that are out of range, one-hot or not batched. Parameters, flags and random state are unchanged
    afterwards; your own forward hooks, and the Python code of a dataset, do see the batches.

    It cannot know whether later batches are like the first; what a metric returns for a whole dataset; whether training
    converges, or memory suffices for the gradients; whether MindSpore can export the network (`ExportBest` tries that
    before the first step); what callbacks from outside this package need; and, with `Model.train` alone, that there is
    a validation dataset that was not passed to `Validate`.

    Args:
        model: the Model whose `train` or `fit` will be called.
        train_dataset: the dataset to train on.
        callbacks: the list that will be passed.
        epochs: the last epoch, as in `Model.train`.
        valid_dataset: the validation dataset, if `Model.fit` will be called. Default: None.
        initial_epoch: as in `Model.train`. Default: 0.
        dataset_sink_mode: as in `Model.train`. Default: False.
        sink_size: as in `Model.train`: the number of steps of a sink, which is an epoch; -1 for the whole dataset.
            Default: -1.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ValueError: something would go wrong; the message lists all that was found, one problem per line.

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
    if check_int(_OWNER, "sink_size", sink_size, -1) == 0:
        raise ValueError(f"{_OWNER}: sink_size must be -1 or positive, but got 0")
    listed = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
    for each in listed:
        if isinstance(each, type) and issubclass(each, Callback):
            name = each.__name__
            raise TypeError(f"{_OWNER}: callbacks must be objects, but {name} is a class; write {name}(...)")
        if not isinstance(each, Callback):
            raise TypeError(f"{_OWNER}: callbacks must be MindSpore callbacks, but got {type(each).__name__}")
    with naming_numpy():  # the size of a generator is known only after it has run
        batch_num = train_dataset.get_dataset_size()
    made = made_with(model)
    arguments = RunArguments(
        list_callback=listed,
        network=made.network,
        train_network=model.train_network,
        optimizer=made.optimizer,
        loss_fn=made.loss_fn,
        parallel_mode=parallel_mode_of(model),
        train_dataset=train_dataset,
        batch_num=sink_size if dataset_sink_mode and sink_size > 0 else batch_num,
        dataset_sink_mode=dataset_sink_mode and ms.get_context("device_target") != "CPU",  # a CPU never sinks
        epoch_num=epochs - initial_epoch,
        cur_epoch_num=initial_epoch + 1,
        cur_step_num=0,
    )
    run = Lifecycle(RunContext(arguments), Caller(model, valid_dataset)).run
    run.progress.initial_epoch = initial_epoch
    for each in listed:
        if isinstance(each, Phases):
            each.place(run)
    ours = [each for each in listed if isinstance(each, TrainCallback)]
    problems: list[str] = []

    def ask(check: Callable[[Run], None]) -> None:
        try:
            check(run)
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            if str(error) not in problems:
                problems.append(str(error))

    if not batch_num:
        problems.append("Model: the training dataset is empty; a batch_size above its length drops it all")
    batch: Any = None
    with python_random_state(), contextlib.ExitStack() as stack:

        def draw(run: Run) -> None:
            nonlocal batch
            batch = stack.enter_context(first_batch(train_dataset))

        ask(draw)
        if batch is not None and not run.progress.is_sinking:
            arguments["train_dataset_element"] = batch
        fit = []
        for callback in ours:
            known = len(problems)
            ask(callback.check)
            if len(problems) == known:  # so what the next checks rely on holds
                fit.append(callback)
                ask(callback.check_plan)
        for check in CHECKS:
            ask(check)
        if batch is not None and run.parts.found_network is not None and not run.parts.is_split:
            ask(lambda run: try_training(run.network, run.parts.loss_fn, batch))
        for callback in fit:
            ask(callback.check_batch)
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        raise ValueError(f"{_OWNER}: {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n{lines}")
