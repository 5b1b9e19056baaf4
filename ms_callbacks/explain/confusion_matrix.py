"""Shows which classes a network takes for which, from the evaluations that take place anyway."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
from mindspore import Tensor
from mindspore.train import ConfusionMatrix as Metric

from ..core._checks import check_choice, check_int
from ..core._context import Run
from ..core._files import check_folder
from ..core._layers import _untouched
from ..core._observer import EvalObserver
from ..core._pictures import check_picture, figure, save
from ..core._table import render

__all__ = ["ConfusionMatrix"]

Array = np.ndarray[Any, Any]

# A table or a picture of a thousand classes shows nothing; the numbers are in the attributes.
_MOST_ROWS = 20
_MOST_NUMBERED = 40


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
        self._forget()

    def on_train_begin(self, run_context: Any) -> None:
        """Begins anew, and checks that there will be an evaluation, and a place for the picture."""
        super().on_train_begin(run_context)
        try:
            Run.of(run_context).metrics_ahead(self._owner, "it")
        except ValueError:
            raise ValueError(
                f"{self._owner}: needs an evaluation, but this run never evaluates; add Validate(model, "
                f"valid_dataset) to the callbacks, or use Model.fit with valid_dataset, or leave it out here and pass "
                f"it to Model.eval(valid_dataset, callbacks=[...])"
            ) from None
        if self._path:
            check_folder(self._owner, self._path)
        self._is_new = self._has_looked = False
        self._forget()

    def on_train_step_begin(self, run_context: Any) -> None:
        """Before the first step, looks for what is wrong already, where the batch can be seen."""
        if self._has_looked:
            return
        self._has_looked = True
        run = Run.of(run_context)
        if run.batch is not None and run.loss_fn is not None:
            self._look_ahead(run, run.inputs(self._owner))

    def on_eval_end(self, run_context: Any) -> None:
        """Takes over what this evaluation has shown; reports it at once where no training is under way."""
        self._end_evaluation()
        self._is_new = True
        if self._depth <= 1:  # within a training run, this is the inner of two contexts
            self._report("")

    def on_train_end(self, run_context: Any) -> None:
        """Reports."""
        self._report("")

    def see_batch(self, logits: Array, labels: Array, inputs: Any) -> None:
        """Takes in a batch: logits of shape (n, classes), labels of shape (n,), and the network's first input."""
        _check_batch(self._owner, logits, labels)
        self._check_class_count(logits.shape[1])
        self._take(logits, labels.astype(np.int64), inputs)

    @property
    def _owner(self) -> str:
        return type(self).__name__

    def _look_ahead(self, run: Run, inputs: tuple[Tensor, ...]) -> None:
        if self._names is not None:
            with _untouched(run.network):
                self._check_class_count(class_scores(self._owner, run.network(*inputs)).shape[1])

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


class ConfusionMatrix(ClassReport):
    """Counts how often each class is taken for which; prints the error by class and the most confused pairs.

    It watches the evaluations that others make: `Validate`, `Model.fit`, or `Model.eval` with it among the callbacks,
    and speaks of the latest of them. Where `EarlyStopping` restores the best weights at the end, that evaluation is
    older than the weights; for a matrix of those, call `model.eval(valid_dataset, callbacks=[confusion])` after.

    For any Model with logits of shape (n, classes) and labels of shape (n,), whole numbers from 0. The counts are those
    of MindSpore's own metric, `mindspore.train.ConfusionMatrix`: the prediction is the class with the highest logit,
    on a tie the first. Samples with NaN among their logits are counted, but what they are taken for means nothing; how
    many there are is printed. In the picture, a cell holds a count, and the darker it is, the larger the share of the
    true class that went wrong there; the diagonal, what went right, is grey.

    Args:
        class_names: a name for each class, in order. Default: None, their numbers.
        every_n_epochs: reports after every n-th epoch too, if it was evaluated. Default: None, at the end alone.
        picture: the path of a PNG, written at each report; its folder must exist. Needs matplotlib. Default: None.
        verbose: 0 prints nothing. Default: 1.

    Attributes:
        matrix_ (numpy.ndarray): the counts, int64 of shape (classes, classes): a row for each true class, a column
            for each prediction. Of shape (0, 0) before the first evaluation.
        errors_ (numpy.ndarray): the share of each class that is taken for another, in [0, 1]; NaN without samples.
        nan_samples_ (int): how many samples had NaN among their logits.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ImportError: a picture is asked for, and matplotlib is not installed.
        ValueError: before the first step: the run never evaluates, or the number of class_names is wrong (in sink mode
            on GPU and Ascend, at the first evaluation); at an evaluation: labels that are not whole numbers, or out of
            range.

    Example:
        >>> confusion = ConfusionMatrix(class_names=["cat", "dog", "horse"], picture=folder + "/confusion.png")
        >>> metrics = model.eval(valid_dataset, callbacks=[confusion])
        ConfusionMatrix: ... of 48 samples wrong (... %)
        Class  Samples  Wrong   Error
        ...
        >>> int(confusion.matrix_.sum())
        48
    """

    def __init__(
        self,
        class_names: Optional[Sequence[str]] = None,
        *,
        every_n_epochs: Optional[int] = None,
        picture: Union[str, os.PathLike[str], None] = None,
        verbose: int = 1,
    ) -> None:
        super().__init__(class_names, picture, verbose)
        self.every_n_epochs = (
            None if every_n_epochs is None else check_int("ConfusionMatrix", "every_n_epochs", every_n_epochs, 1)
        )

    def begin_evaluation(self) -> None:
        """Begins counting anew."""
        self._metric: Optional[Metric] = None
        self._nan_samples = 0

    def on_train_epoch_end(self, run_context: Any) -> None:
        """Reports in every n-th epoch."""
        run = Run.of(run_context)
        if self.every_n_epochs and run.epoch % self.every_n_epochs == 0 and run.results:
            self._report(f"epoch {run.epoch}: ")

    @property
    def errors_(self) -> Array:
        """The share of each class that is taken for another; NaN for a class without samples."""
        samples = self.matrix_.sum(axis=1)
        wrong = samples - self.matrix_.diagonal()
        return np.where(samples > 0, wrong / np.maximum(samples, 1), np.nan)

    def most_confused(self, n: int = 5) -> list[tuple[int, int, int]]:
        """The pairs of classes that are confused most often.

        Args:
            n: how many pairs, at most. Default: 5.

        Returns:
            (true class, predicted class, count) by falling count; on a tie, the lower classes first.
        """
        check_int("ConfusionMatrix", "n", n, 1)
        pairs = [(int(row), int(column)) for row, column in zip(*np.nonzero(self.matrix_)) if row != column]
        counted = [(row, column, int(self.matrix_[row, column])) for row, column in pairs]
        return sorted(counted, key=lambda pair: (-pair[2], pair))[:n]

    def _forget(self) -> None:
        self.matrix_ = np.zeros((0, 0), np.int64)
        self.nan_samples_ = 0

    def _take(self, logits: Array, labels: Array, inputs: Any) -> None:
        if self._metric is None:
            self._metric = Metric(logits.shape[1])
        self._metric.update(logits, labels)
        self._nan_samples += int(np.isnan(logits).any(axis=1).sum())

    def _end_evaluation(self) -> None:
        if self._metric is not None:
            with np.errstate(invalid="ignore"):  # it divides by classes that have no samples, for shares not asked for
                self.matrix_ = self._metric.eval().astype(np.int64)  # MindSpore counts in floats
            self.nan_samples_ = self._nan_samples

    def _text(self) -> str:
        samples = self.matrix_.sum(axis=1)
        wrong = samples - self.matrix_.diagonal()
        total, share = samples.sum(), wrong.sum() / max(samples.sum(), 1)
        lines = [
            f"{wrong.sum()} of {total} samples wrong ({share:.2%})".replace("%", " %"),
            self._table(samples, wrong),
        ]
        lines += [
            f"{self._name(true)} taken for {self._name(predicted)}: {count} time{'s' if count > 1 else ''}"
            for true, predicted, count in self.most_confused()
        ]
        if self.nan_samples_:
            lines.append(f"{self.nan_samples_} samples have NaN among their logits; what they are taken for is chance")
        return "\n".join(lines)

    def _table(self, samples: Array, wrong: Array) -> str:
        classes = list(range(len(samples)))
        hidden = len(classes) - _MOST_ROWS
        if hidden > 0:
            worst = np.argsort(-np.nan_to_num(self.errors_, nan=-1.0), kind="stable")
            classes = [int(each) for each in worst[:_MOST_ROWS]]
        rows = [
            [
                self._name(each),
                str(samples[each]),
                str(wrong[each]),
                f"{100 * self.errors_[each]:.2f} %" if samples[each] else "-",
            ]
            for each in classes
        ]
        table = render(["Class", "Samples", "Wrong", "Error"], rows, right=("Samples", "Wrong", "Error"))
        return table if hidden <= 0 else f"{table}\n(the {_MOST_ROWS} worst of {len(samples)} classes)"

    def _draw(self) -> Any:
        matrix, classes = self.matrix_, len(self.matrix_)
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        np.fill_diagonal(shares, 0)
        highest = shares.max() or 1.0
        side = max(4.0, 0.45 * classes) if classes <= _MOST_NUMBERED else 9.0
        drawn = figure(side + 1.8, side + 0.8)
        drawn.set_layout_engine("constrained")
        axes = drawn.subplots()
        # One hue from light to dark reads alike for every eye, and in grey.
        errors = axes.imshow(
            100 * np.ma.masked_where(np.eye(classes, dtype=bool), shares), cmap="Blues", vmin=0, vmax=100 * highest
        )
        axes.imshow(
            np.ma.masked_where(~np.eye(classes, dtype=bool), np.ones(matrix.shape)), cmap="Greys", vmax=4, vmin=0
        )
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        axes.set_title(f"{matrix.sum() - matrix.trace()} of {matrix.sum()} samples wrong")
        drawn.colorbar(errors, ax=axes, shrink=0.7, label="Share of the true class (%)")
        if classes <= _MOST_NUMBERED:
            names = [self._name(each) for each in range(classes)]
            slanted = max(len(name) for name in names) > 2
            axes.set_xticks(range(classes), names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
            axes.set_yticks(range(classes), names)
            for true, predicted in zip(*np.nonzero(matrix)):
                colour = "white" if shares[true, predicted] > 0.55 * highest else "black"
                axes.text(predicted, true, matrix[true, predicted], ha="center", va="center", color=colour, fontsize=8)
        return drawn


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
    wrong = (labels < 0) | (labels >= logits.shape[1])
    if wrong.any():
        raise ValueError(
            f"{owner}: label {labels[wrong][0]} is out of range: the network has {logits.shape[1]} classes, "
            f"0 to {logits.shape[1] - 1}; mend the labels, or give the network more outputs"
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
