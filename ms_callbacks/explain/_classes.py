"""What those have in common that look at a classifier's scores and labels."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
from mindspore import Tensor

from ..core._callback import STEP_BEGIN
from ..core._checks import check_choice
from ..core._context import Run, eval_labels
from ..core._files import check_folder
from ..core._layers import untouched
from ..core._observer import EvalObserver
from ..core._pictures import check_picture, save

__all__ = ["Array", "ClassReport", "class_scores"]

Array = np.ndarray[Any, Any]


class ClassReport(EvalObserver):
    """What those have in common that tell of the latest evaluation of a classifier, by class, in words and a picture.

    They report when training ends, or when an evaluation does that is part of no training.
    """

    def __init__(
        self, class_names: Optional[Sequence[str]], picture: Union[str, os.PathLike[str], None], verbose: int
    ) -> None:
        super().__init__()
        self.class_names = class_names
        self._names = None if class_names is None else _checked_names(self._owner, class_names)
        self.picture = picture
        self._path = check_picture(self._owner, picture)
        self.verbose = check_choice(self._owner, "verbose", verbose, (0, 1))
        self._is_new = False
        self._classes: Optional[int] = None
        self._forget()

    def on_train_begin(self, run_context: Any) -> None:
        """Begins anew."""
        super().on_train_begin(run_context)
        self._is_new = False
        self._classes = None
        self._forget()
        self.at_step(STEP_BEGIN, self._look_at_first)

    def check(self, run: Run) -> None:
        """Raises where there will be no evaluation, or no place for the picture."""
        super().check(run)
        try:
            run.metrics_ahead(self._owner, "it")
        except ValueError:
            raise ValueError(
                f"{self._owner}: needs an evaluation, but this run never evaluates; add Validate(model, "
                f"valid_dataset) to the callbacks, or use Model.fit with valid_dataset, or leave it out here and pass "
                f"it to Model.eval(valid_dataset, callbacks=[...])"
            ) from None
        if self._path:
            check_folder(self._owner, self._path)

    def _look_at_first(self, run_context: Any) -> None:
        """Before the first step, looks for what is wrong already, where the batch can be seen."""
        self.at_step(STEP_BEGIN)
        run = self._run
        if run.batch is not None and run.loss_fn is not None:
            self._look_ahead(run, run.inputs(self._owner))

    def on_eval_begin(self, run_context: Any) -> None:
        """Begins anew; an evaluation that is part of no training may be of another network."""
        super().on_eval_begin(run_context)
        if self._depth <= 1:
            self._classes = None

    def on_eval_step_begin(self, run_context: Any) -> None:
        """Checks the labels before the loss does, which tells of a wrong one less clearly or, on some devices, not."""
        labels = eval_labels(run_context)
        if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
            _check_labels(self._owner, labels, self._classes)

    def on_eval_end(self, run_context: Any) -> None:
        """Takes over what this evaluation has shown; reports it at once where no training is under way."""
        self._end_evaluation()
        self._is_new = True
        if self._depth <= 1:  # within a training run, this is the inner of two contexts
            self._report("")

    def after_run(self, run: Run) -> None:
        """Reports."""
        self._report("")

    def see_batch(self, logits: Array, labels: Array, inputs: Any) -> None:
        """Takes in a batch: logits of shape (n, classes), labels of shape (n,), and the network's first input."""
        _check_batch(self._owner, logits, labels)
        self._check_class_count(logits.shape[1])
        self._classes = logits.shape[1]
        self._take(logits, labels.astype(np.int64), inputs)

    @property
    def _owner(self) -> str:
        return type(self).__name__

    def _look_ahead(self, run: Run, inputs: tuple[Tensor, ...]) -> None:
        with untouched(run.network, inputs):
            output = run.network(*inputs)
        if self._names is not None:
            self._check_class_count(class_scores(self._owner, output).shape[1])
        if isinstance(output, Tensor) and output.ndim == 2:
            self._classes = output.shape[1]

    def _check_class_count(self, classes: int) -> None:
        if self._names is not None and len(self._names) != classes:
            raise ValueError(
                f"{self._owner}: class_names must have one name for each of the network's {classes} classes, but got "
                f"{len(self._names)}: {list(self._names)}"
            )

    def _name(self, class_: int) -> str:
        return str(class_) if self._names is None else self._names[class_]

    def _report(self, when: str) -> None:
        if not self._is_new:
            return
        self._is_new = False
        if self.verbose:
            self.say(when + self._text())
        if self._path:
            check_folder(self._owner, self._path)
            save(self._draw(), self._path)

    @abstractmethod
    def _forget(self) -> None:
        """Begins the attributes anew."""

    @abstractmethod
    def _take(self, logits: Array, labels: Array, inputs: Any) -> None:
        """Takes in a batch that has been checked."""

    @abstractmethod
    def _end_evaluation(self) -> None:
        """Sets the attributes."""

    @abstractmethod
    def _text(self) -> str:
        """What there is to say."""

    @abstractmethod
    def _draw(self) -> Any:
        """The picture, as a figure."""


def class_scores(owner: str, output: Any) -> Tensor:
    """What a classifier puts out; raises unless it is one Tensor of shape (n, classes)."""
    if not isinstance(output, Tensor) or output.ndim != 2:
        what = f"a Tensor of shape {output.shape}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"{owner}: needs a network whose output is of shape (n, classes), but this one gives {what}")
    return output


def _check_batch(owner: str, logits: Array, labels: Array) -> None:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"{owner}: needs logits of shape (n, classes) with at least 2 classes, but this network's are of shape "
            f"{logits.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"{owner}: needs labels that are whole numbers, of shape {logits.shape[:1]}, but got {labels.dtype} of "
            f"shape {labels.shape}; where they are one-hot, give the dataset their argmax and the loss sparse=True"
        )
    _check_labels(owner, labels, logits.shape[1])


def _check_labels(owner: str, labels: Array, classes: Optional[int]) -> None:
    """Raises where a label is no class; `classes` is `None` where nothing is known of the network yet."""
    wrong = labels[(labels < 0) | (labels >= (np.inf if classes is None else classes))]
    if not wrong.size:
        return
    if classes is None:
        raise ValueError(f"{owner}: label {wrong[0]} is out of range: classes count from 0; mend the labels")
    raise ValueError(
        f"{owner}: label {wrong[0]} is out of range: the network has {classes} classes, 0 to {classes - 1}; "
        f"mend the labels, or give the network more outputs"
    )


def _checked_names(owner: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"{owner}: class_names must be a list of strings, but got {names!r} ({type(names).__name__})")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"{owner}: class_names must be strings, but got {name!r} ({type(name).__name__}) among them"
            )
    return tuple(names)
