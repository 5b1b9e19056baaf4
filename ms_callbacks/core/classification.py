"""Interpret a classifier's outputs and labels: its classes, the predictions, and whether they are correct.

The names of tasks are those of torchmetrics: `binary` (one output per sample), `multiclass` (the highest of several
outputs wins; labels are class numbers or one-hot) and `multilabel` (each of several outputs decides by itself).
Whatever cannot be determined from the loss function, the outputs and the labels of one batch is refused, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from mindspore import nn

from .arguments import check_choice, check_number
from .mindspore_compat import classes_of_nn
from .network_output import Place, check_output, find_place, pick
from .tensors import as_array

__all__ = [
    "BINARY",
    "MULTICLASS",
    "MULTILABEL",
    "Array",
    "ClassReader",
    "Task",
    "check_class_numbers",
    "loss_kind",
    "score_rows",
    "usual_threshold",
]

Array = np.ndarray[Any, Any]

BINARY, MULTICLASS, MULTILABEL = "binary", "multiclass", "multilabel"

# What the outputs are for each of MindSpore's loss functions; those that the installed version lacks are omitted.
_LOGITS, _PROBABILITIES, _SOFTMAX, _DISTANCE = "logits", "probabilities", "softmax", "distance"
_LOSSES = {
    _LOGITS: ("BCEWithLogitsLoss", "MultiLabelSoftMarginLoss"),
    _PROBABILITIES: ("BCELoss",),
    _SOFTMAX: ("SoftmaxCrossEntropyWithLogits", "CrossEntropyLoss", "NLLLoss", "FocalLoss", "MultiMarginLoss"),
    _DISTANCE: (
        "MSELoss",
        "L1Loss",
        "SmoothL1Loss",
        "HuberLoss",
        "RMSELoss",
        "MAELoss",
        "GaussianNLLLoss",
        "PoissonNLLLoss",
    ),
}
_KINDS = {one: kind for kind, names in _LOSSES.items() for one in classes_of_nn(names)}
# How far the sum of a row of float16 shares may differ from 1.
_TOLERANCE = 5e-3


def loss_kind(loss: Any) -> Optional[str]:
    """Return what the outputs are to a loss function, or to MindSpore's one loss in a cell; `None` if unknown."""
    if not isinstance(loss, nn.Cell):
        return None
    found = {kind for _, cell in loss.cells_and_names() for known, kind in _KINDS.items() if isinstance(cell, known)}
    return found.pop() if len(found) == 1 else None


def usual_threshold(kind: Optional[str]) -> Optional[float]:
    """Return what an output must exceed to mean yes under a kind of loss function; `None` if unknown."""
    return {_LOGITS: 0.0, _PROBABILITIES: 0.5}.get(kind or "")


@dataclass(frozen=True)
class Task:
    """The kind of classification that a network is trained for.

    `outputs` is the number of outputs per sample, `threshold` the value above which one means yes; `None` if the
    highest output wins.
    """

    kind: str
    outputs: int
    threshold: Optional[float] = None
    gives_probabilities: bool = False

    @property
    def classes(self) -> int:
        """The number of classes; a single output distinguishes two."""
        return 2 if self.kind == BINARY else self.outputs

    def predictions(self, scores: Array) -> Array:
        """Return the predicted class of each sample, (n,); for multi-label, a 0 or 1 for each label, (n, classes).

        On a tie, the first class wins; an output exactly at the threshold means no.
        """
        if self.kind == MULTICLASS:
            return np.asarray(scores.argmax(axis=1))
        yes = (scores > self.threshold).astype(np.int64)
        return yes.reshape(-1) if self.kind == BINARY else yes

    def log_probabilities(self, scores: Array) -> Array:
        """Return the logarithm of each class's probability, (n, classes) in float64, for single-label tasks."""
        scores = scores.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):  # infinite logits make NaN, as they should
            if self.kind == MULTICLASS:
                if self.gives_probabilities:
                    return np.asarray(np.log(scores))
                shifted = scores - scores.max(axis=1, keepdims=True)
                return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
            if self.gives_probabilities:
                return np.concatenate([np.log1p(-scores), np.log(scores)], axis=1)
            return np.concatenate([-np.logaddexp(0, scores), -np.logaddexp(0, -scores)], axis=1)

    def right(self, scores: Array, labels: Array) -> Array:
        """Return whether each sample is correct, (n,); for multi-label, each label, (n, classes). NaN is wrong."""
        nan = np.isnan(scores)  # a comparison would turn it into a plausible class
        return np.asarray((self.predictions(scores) == labels) & ~(nan if self.kind == MULTILABEL else nan.any(axis=1)))

    def labels(self, owner: str, labels: Array, samples: int) -> Array:
        """Return the labels as whole numbers, (n,); for multi-label (n, classes). Raise if they do not fit."""
        per_sample = labels.shape in ((samples,), (samples, 1))
        if self.kind != MULTICLASS:
            if not (per_sample if self.kind == BINARY else labels.shape == (samples, self.outputs)):
                raise _misfit(owner, labels, samples, self)
            _check_zero_one(owner, labels, self.outputs)
            return labels.reshape(-1).astype(np.int64) if self.kind == BINARY else labels.astype(np.int64)
        if not per_sample:
            if labels.shape != (samples, self.outputs):
                raise _misfit(owner, labels, samples, self)
            return _hottest(owner, labels)
        if labels.dtype.kind not in "iub":
            raise _regression(owner, labels, "a class is a whole number; cast labels to int32 if they are classes")
        numbers = labels.reshape(-1).astype(np.int64)
        check_class_numbers(owner, numbers, self.outputs)
        return numbers


class ClassReader:
    """Read the outputs and labels of a classifier batch by batch; the first batch determines what they mean.

    Args:
        owner: the name for error messages.
        output: which of the network's outputs holds the class scores; `None` for the obvious one.
        threshold: the value above which an output means yes; `None` if the loss function determines it.
        task: what the network is trained for; `None` if the batch determines it.
        multilabel: whether the owner supports samples with several labels.
    """

    def __init__(
        self, owner: str, output: Any, threshold: Any, task: Optional[str] = None, multilabel: bool = True
    ) -> None:
        self._owner = owner
        self._given: Place = check_output(owner, output)
        self._threshold = None if threshold is None else check_number(owner, "threshold", threshold)
        self._asked = check_choice(owner, "task", task, (None, BINARY, MULTICLASS, MULTILABEL))
        self._multilabel = multilabel
        self.forget()

    def forget(self) -> None:
        """Forget what the first batch determined, before a network that may be a different one."""
        self.task: Optional[Task] = None
        self.place: Place = self._given

    def read(self, output: Any, labels: Any, loss: Optional[str], names: int = 0) -> tuple[Task, Array, Array]:
        """Return the task, the scores of shape (n, outputs), and the labels as whole numbers.

        `loss` is the result of `loss_kind`, `names` the number of named classes, 0 if none are named.
        """
        labels = as_array(labels)
        if self._given is None and self.task is None:
            self.place = find_place(self._owner, output, lambda part: _fits(part, labels, names))
        scores = score_rows(self._owner, as_array(pick(self._owner, output, self.place)))
        if self.task is None:
            self.task = self._told(scores, labels, loss)
        if scores.shape[1] != self.task.outputs:
            raise ValueError(
                f"{self._owner}: the network gives {scores.shape[1]} outputs per sample, but gave {self.task.outputs} "
                f"before"
            )
        return self.task, scores, self.task.labels(self._owner, labels, len(scores))

    def _told(self, scores: Array, labels: Array, loss: Optional[str]) -> Task:
        samples, outputs = scores.shape
        task = Task(self._kind(labels, samples, outputs, loss), outputs)
        task.labels(self._owner, labels, samples)
        if loss == _DISTANCE and task.kind == MULTICLASS and labels.shape == scores.shape and not _is_zero_one(labels):
            raise _regression(self._owner, labels, "a class is a whole number, or one-hot")
        in_range = bool(((scores >= 0) & (scores <= 1)).all())
        if task.kind == MULTICLASS:
            if self._threshold is not None:
                raise ValueError(
                    f"{self._owner}: threshold is for a single output, or for several labels per sample, but this "
                    f"network distinguishes {outputs} classes by the highest output; leave threshold out"
                )
            sums_to_one = np.allclose(scores.astype(np.float64).sum(axis=1), 1, atol=_TOLERANCE)
            return Task(task.kind, outputs, None, loss == _PROBABILITIES or (in_range and bool(sums_to_one)))
        if task.kind == MULTILABEL and not self._multilabel:
            raise ValueError(
                f"{self._owner}: needs one class per sample, but these have several labels at once (multi-label); "
                f"leave {self._owner} out, and give the Model metrics such as Precision('multilabel')"
            )
        threshold = self._decided(loss)
        is_probability = loss == _PROBABILITIES or (loss != _LOGITS and in_range and 0 < threshold < 1)
        return Task(task.kind, outputs, threshold, is_probability)

    def _kind(self, labels: Array, samples: int, outputs: int, loss: Optional[str]) -> str:
        if outputs == 1:
            if self._asked not in (None, BINARY):
                raise ValueError(f"{self._owner}: task={self._asked!r} needs several outputs, but the network has one")
            if loss == _SOFTMAX:
                raise ValueError(
                    f"{self._owner}: needs at least 2 outputs for a loss function by softmax, but the network has one, "
                    f"whose softmax is always 1; give it an output for each class, or train with nn.BCEWithLogitsLoss"
                )
            return BINARY
        if self._asked == BINARY and outputs > 2:
            raise ValueError(f"{self._owner}: task='binary' needs one or two outputs, but the network has {outputs}")
        if self._asked is not None:
            return MULTICLASS if self._asked == BINARY else self._asked
        if labels.shape != (samples, outputs) or not _is_zero_one(labels) or loss == _SOFTMAX:
            return MULTICLASS
        if not (labels.sum(axis=1) == 1).all() or (self._multilabel and self._threshold is not None):
            return MULTILABEL
        if self._multilabel and loss in (_LOGITS, _PROBABILITIES):
            raise ValueError(
                f"{self._owner}: every sample of the first batch has exactly one label, and the loss function allows "
                f"several; pass task='multiclass' if the highest output wins, or task='multilabel' if each "
                f"output decides by itself"
            )
        return MULTICLASS

    def _decided(self, loss: Optional[str]) -> float:
        if self._threshold is not None:
            return self._threshold
        usual = usual_threshold(loss)
        if usual is not None:
            return usual
        if loss == _DISTANCE:
            raise ValueError(
                f"{self._owner}: the loss function is one for regression; if the labels 0 and 1 are classes after "
                f"all, pass threshold=0.5, above which an output means 1"
            )
        raise ValueError(
            f"{self._owner}: cannot tell from the loss function what an output means; pass threshold=0.0 if outputs "
            f"are logits, or threshold=0.5 if they are probabilities"
        )


def check_class_numbers(owner: str, labels: Array, classes: Optional[int]) -> None:
    """Raise if a label is not a class; `classes` is `None` if nothing is known about the network yet."""
    wrong = labels[(labels < 0) | (labels >= (np.inf if classes is None else classes))]
    if not wrong.size:
        return
    if classes is None:
        raise ValueError(f"{owner}: label {wrong[0]} is out of range: classes count from 0; correct the labels")
    raise ValueError(
        f"{owner}: label {wrong[0]} is out of range: the network has {classes} classes, 0 to {classes - 1}; "
        f"correct the labels, or give the network more outputs"
    )


def score_rows(owner: str, scores: Array) -> Array:
    """Return a network's output with one row per sample, (n, outputs); raise if it does not hold class scores."""
    if scores.dtype.kind != "f":
        raise ValueError(
            f"{owner}: needs the class scores, which are floats, but the network gives {scores.dtype} of "
            f"shape {scores.shape}"
        )
    if scores.ndim == 1:
        return scores.reshape(-1, 1)
    if scores.ndim == 2:
        return scores
    what = "a single number" if scores.ndim == 0 else f"an output of shape {scores.shape}"
    why = "which looks like a loss" if scores.ndim == 0 else "as for segmentation or sequences, which it cannot read"
    raise ValueError(
        f"{owner}: needs a network whose output is of shape (n, classes), but this one gives {what}, {why}"
    )


def _fits(part: Any, labels: Array, names: int) -> bool:
    """Return whether a part of a network's outputs can be the scores for these labels."""
    scores = as_array(part)
    if scores.dtype.kind != "f" or scores.ndim not in (1, 2) or labels.ndim not in (1, 2):
        return False
    if len(scores) != len(labels):
        return False
    outputs = 1 if scores.ndim == 1 else scores.shape[1]
    if names and names != max(outputs, 2):
        return False
    if labels.ndim == 2 and labels.shape[1] > 1:
        return labels.shape == scores.shape
    if outputs == 1:
        return _is_zero_one(labels)
    return labels.dtype.kind in "iub" and bool((labels.astype(np.int64) < outputs).all())


def _is_zero_one(labels: Array) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _check_zero_one(owner: str, labels: Array, outputs: int) -> None:
    wrong = labels[(labels != 0) & (labels != 1)]
    if not wrong.size:
        return
    if labels.dtype.kind == "f" and (wrong != np.round(wrong)).any():
        raise _regression(owner, labels, f"the labels of {_many(outputs)} must be 0 or 1")
    raise ValueError(
        f"{owner}: the labels of {_many(outputs)} must be 0 or 1, but hold {wrong[0]:g}; if they are -1 and 1, replace "
        f"-1 by 0; if they count classes, give the network one output per class; regression is not classification, and "
        f"cannot be read"
    )


def _hottest(owner: str, labels: Array) -> Array:
    """Return the class of each row that is one-hot, smoothed or mixed: the highest share, on a tie the first."""
    shares = labels.astype(np.float64)
    sums = shares.sum(axis=1)
    wrong = ~np.isclose(sums, 1, atol=_TOLERANCE)
    if (shares < 0).any() or wrong.any():
        if _is_zero_one(labels):
            raise ValueError(
                f"{owner}: labels of shape {labels.shape} must be one-hot, but a row holds {sums[wrong][0]:g} ones; "
                f"if a sample may have several labels (multi-label), train with nn.BCEWithLogitsLoss, or pass "
                f"task='multilabel' if that argument exists"
            )
        raise _regression(owner, labels, "labels of that shape must be one-hot, or shares that sum to 1")
    return np.asarray(shares.argmax(axis=1))


def _regression(owner: str, labels: Array, expected: str) -> ValueError:
    return ValueError(
        f"{owner}: needs a classifier, but this looks like regression: the labels are {labels.dtype} of shape "
        f"{labels.shape}, such as {labels.reshape(-1)[0]:g}; {expected}"
    )


def _misfit(owner: str, labels: Array, samples: int, task: Task) -> ValueError:
    expected = {
        BINARY: f"({samples},)",
        MULTICLASS: f"({samples},), or one-hot of shape ({samples}, {task.outputs}),",
        MULTILABEL: f"({samples}, {task.outputs})",
    }[task.kind]
    return ValueError(
        f"{owner}: needs labels of shape {expected} for {samples} samples with {_many(task.outputs)} each, but got "
        f"{labels.dtype} of shape {labels.shape}"
    )


def _many(outputs: int) -> str:
    return "one output" if outputs == 1 else f"{outputs} outputs"
