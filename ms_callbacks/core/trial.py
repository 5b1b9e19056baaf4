"""Try the network and the metrics on one batch, so that errors appear before the first step and not hours later."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import numpy as np
from mindspore import Tensor, nn
from mindspore.train import Model

from .forward_hooks import kept
from .mindspore_compat import (
    copied_metrics,
    eval_indexes_of,
    flags_kept,
    init_step_of,
    made_with,
    naming_numpy,
    numpy_mismatch,
    random_state,
    stop_recording,
    update_metrics,
)
from .model_parts import positional_count, take_apart
from .parameters import Snapshot

__all__ = [
    "LabelRangeError",
    "Trial",
    "check_labels",
    "first_batch",
    "python_random_state",
    "try_evaluation",
    "try_training",
]


class Trial(NamedTuple):
    """What one batch of the validation data has shown.

    `classes` is the number of classes, if the labels are class indices for a softmax loss, or else `None`; `results`
    are the values of the metrics for the batch, by name, or `None` if a metric needs more than one batch.
    """

    classes: Optional[int]
    results: Optional[dict[str, Any]]


class LabelRangeError(ValueError):
    """A label is not one of the network's classes."""


@contextlib.contextmanager
def first_batch(dataset: Any) -> Iterator[Optional[tuple[Any, ...]]]:
    """Provide the first batch of a dataset, or `None` if it has none.

    This also works for one that is set to begin later, as after a resume: MindSpore 2.8 and newer store that in the
    outermost dataset.
    """
    step = init_step_of(dataset)
    if step is not None:
        dataset.set_init_step(0)
    try:
        batches = dataset.create_tuple_iterator(num_epochs=1)
        try:
            with naming_numpy():
                batch = next(batches, None)
            yield None if batch is None else tuple(batch)
        finally:
            batches.stop()
    finally:
        if step is not None:
            dataset.set_init_step(step)


@contextlib.contextmanager
def python_random_state() -> Iterator[None]:
    """Preserve the random states of Python and NumPy, from which the Python code of a dataset may draw.

    Not for use during a run: its own dataset draws meanwhile, in a thread.
    """
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def try_evaluation(model: Model, dataset: Any) -> Trial:
    """Run the first batch of a validation dataset through the evaluation network and into copies of the metrics.

    It runs as in `Model.eval`, in the current mode; whatever it writes is restored.

    Raises:
        ValueError: the batch fails.
    """
    network, indexes = model.eval_network, eval_indexes_of(model)
    statistics = Snapshot({str(id(one)): one for one in network.get_parameters() if not one.requires_grad})
    give_back_random_state = random_state()
    with first_batch(dataset) as batch:
        if batch is None:
            return Trial(None, None)
        statistics.take()
        try:
            with flags_kept(network):
                network.set_train(False)
                outputs = network(*batch)
            results = _try_metrics(model, outputs)
        except Exception as error:
            stop_recording()
            _check_labels_of(model, batch)
            raise ValueError(
                f"the first batch of the validation dataset, {_described(batch)}, does not go through the evaluation "
                f"network and the metrics: {_first_line(error)}{_hint(batch)}"
            ) from error
        finally:
            Snapshot(statistics.changed(), statistics.arrays).restore(together=False)
            give_back_random_state()
    classes = None
    is_sparse = _is_sparse(take_apart(made_with(model).network, made_with(model).loss_fn).loss_fn)
    if is_sparse and indexes is not None and len(outputs) > max(indexes[1:]):  # otherwise no metric uses them
        logits, labels = outputs[indexes[1]], outputs[indexes[2]]
        if isinstance(logits, Tensor) and logits.ndim == 2:
            classes = int(logits.shape[1])
            check_labels("the validation dataset", labels, classes)
    return Trial(classes, results)


def try_training(network: nn.Cell, loss_fn: Any, batch: tuple[Any, ...]) -> None:
    """Run a training batch through the network and its loss, without a step; raise if it fails."""
    inputs = batch[:-1] if loss_fn is not None else batch[: positional_count(network)]
    with kept(network, loss_fn, batch):
        try:
            network.set_train(False)
            outputs = network(*inputs)
            if _is_sparse(loss_fn) and isinstance(outputs, Tensor) and outputs.ndim == 2:
                check_labels("the training dataset", batch[-1], outputs.shape[1])
            if loss_fn is not None:
                loss_fn(outputs, batch[-1])
        except LabelRangeError:
            raise
        except Exception as error:
            stop_recording()
            raise ValueError(
                f"Model: the first batch of the training dataset, {_described(batch)}, does not go through the network "
                f"and its loss: {_first_line(error)}{_hint(batch)}"
            ) from error


def check_labels(what: str, labels: Tensor, classes: int) -> None:
    """Raise if a label is not one of the network's classes; on a CPU, MindSpore's loss accepts some such labels."""
    numbers = labels.asnumpy()
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        return
    wrong = numbers[(numbers < 0) | (numbers >= classes)]
    if wrong.size:
        raise LabelRangeError(
            f"Model: label {wrong[0]} in {what} is out of range: the network has {classes} classes, 0 to "
            f"{classes - 1}; correct the labels, or give the network more outputs"
        )


def _check_labels_of(model: Model, batch: tuple[Any, ...]) -> None:
    """Raise if a label is out of range, which some of MindSpore's losses report less clearly."""
    if not isinstance(model.eval_network, nn.WithEvalCell) or not _is_sparse(made_with(model).loss_fn):
        return
    try:
        logits = made_with(model).network(*batch[:-1])
    except Exception:  # then the labels are not the cause
        return
    if isinstance(logits, Tensor) and logits.ndim == 2:
        check_labels("the validation dataset", batch[-1], logits.shape[1])


def _try_metrics(model: Model, outputs: Any) -> Optional[dict[str, Any]]:
    """Pass outputs to copies of the metrics, as the Model does; return the results, if one batch is enough."""
    with contextlib.ExitStack() as stack:
        try:
            metrics = stack.enter_context(copied_metrics(model))
        except Exception:  # a metric that cannot be copied is not tried
            return None
        update_metrics(model, outputs)
        try:
            return {name: metric.eval() for name, metric in metrics.items()}
        except Exception:  # such as an area under a curve, which is undefined for a batch of one class
            return None


def _is_sparse(loss_fn: Any) -> bool:
    return isinstance(loss_fn, nn.SoftmaxCrossEntropyWithLogits) and bool(loss_fn.sparse)


def _described(batch: tuple[Any, ...]) -> str:
    return ", ".join(f"{one.dtype} of shape {tuple(one.shape)}" if isinstance(one, Tensor) else "?" for one in batch)


def _hint(batch: tuple[Any, ...]) -> str:
    """Return what is most often wrong with such a batch."""
    labels = batch[-1]
    if len(batch) == 2 and isinstance(labels, Tensor):
        if labels.ndim == 0:
            return "; it is not batched: call batch(...) on the dataset"
        if labels.ndim == 2 and labels.shape[1] > 1:
            return "; one-hot labels need a loss with sparse=False, class numbers one with sparse=True"
    return ""


def _first_line(error: Exception) -> str:
    if mismatch := numpy_mismatch(error):
        return mismatch
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
