"""Show which classes a network mistakes for which, using the evaluations of the run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np

from ..core import distributed
from ..core.arguments import check_int
from ..core.artifacts import TableArtifact, TextArtifact
from ..core.classification import Task
from ..core.console import counted
from ..core.network_output import Place
from ..core.observations import EpochSummary
from ..core.plotting import figure
from ..core.run import Run
from ..core.tables import render
from ._classes import Array, ClassReport

__all__ = ["ConfusionMatrix"]

# A table or picture of a thousand classes is unreadable; the attributes have all the numbers.
_MOST_ROWS = 20
_MOST_NUMBERED = 40


class ConfusionMatrix(ClassReport):
    """Count how often each class is predicted as each other; print the error per class and the most confused pairs.

    It performs no evaluation of its own but reports on the latest one made by `Validate`, by `Model.fit`, or by
    `Model.eval` with this callback in its list. If `EarlyStopping` restores the best weights at the end, that
    evaluation is older than the weights; for their matrix, call `model.eval(valid_dataset, callbacks=[confusion])`
    afterwards. Before the first step, its batch runs through the network an additional time to examine the output;
    everything that this changes in the network is restored, but your own hooks run.

    For classifiers with one class per sample. With outputs of shape (n, classes), and labels either of shape (n,),
    integers from 0, or of shape (n, classes), one-hot or shares that sum to 1, the prediction is the class with the
    highest output, the first one on a tie, as in MindSpore's own metric, `mindspore.train.ConfusionMatrix`. With one
    output, of shape (n, 1) or (n,), and labels 0 and 1 of either shape, the prediction is 1 if the output exceeds
    `threshold`. Predictions and labels are taken from the Model's `eval_indexes`, as MindSpore's metrics take them.
    Multi-label classification, segmentation and regression are refused: before the first step, using that batch of the
    training data; in sink mode on GPU and Ascend, and outside training, at the first batch of the evaluation.

    Samples with NaN among their outputs are counted, but their predictions are meaningless; their number is printed.
    In the picture, each cell shows a count. A darker cell means a larger share of the true class predicted wrongly; the
    diagonal, the correct predictions, is grey.

    Args:
        class_names: a name for each class, in order. Default: None, the class numbers.
        output: which of several outputs holds the class scores: an index, a key, or a function of the network's whole
            output. Default: None, the only output, the one called `"logits"`, or the only one that fits.
        threshold: for a single output, the value above which it means class 1. Default: None, 0 for
            `nn.BCEWithLogitsLoss` and 0.5 for `nn.BCELoss`; other loss functions require it.
        every_n_epochs: also report after every n-th epoch, if it was evaluated. Default: None, only at the end.
        picture: the path of a PNG that is written at each report. The path is resolved against the working directory
            at construction; its folder must exist. Needs matplotlib. Default: None.
        verbose: 0 prints nothing. Default: 1.

    Attributes:
        matrix_ (numpy.ndarray): the counts, int64 of shape (classes, classes): a row for each true class, a column
            for each prediction. Of shape (0, 0) before the first evaluation.
        errors_ (numpy.ndarray): the share of each class that is predicted wrongly, in [0, 1]; NaN without samples.
        nan_samples_ (int): the number of samples with NaN among their logits.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ImportError: a picture is requested, but matplotlib is not installed.
        ValueError: before the first step: the run never evaluates, the network is not a classifier with one class per
            sample, its output cannot be determined, or the number of class_names is wrong (the last three are raised
            at the first evaluation in sink mode on GPU and Ascend, and outside training); at an evaluation: labels out
            of range, or `eval_indexes` missing.

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
        output: Place = None,
        threshold: Optional[float] = None,
        every_n_epochs: Optional[int] = None,
        picture: Union[str, os.PathLike[str], None] = None,
        verbose: int = 1,
    ) -> None:
        super().__init__(class_names, output, threshold, picture, verbose)
        self.every_n_epochs = (
            None if every_n_epochs is None else check_int("ConfusionMatrix", "every_n_epochs", every_n_epochs, 1)
        )

    def begin_evaluation(self) -> None:
        """Set the counts to 0."""
        self._counts: Optional[Array] = None
        self._nan_samples = 0

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Report in every n-th epoch."""
        if self.every_n_epochs and run.epoch % self.every_n_epochs == 0 and summary.results:
            self._report(f"epoch {run.epoch}: ")

    @property
    def errors_(self) -> Array:
        """The share of each class that is predicted wrongly; NaN for a class without samples."""
        samples = self.matrix_.sum(axis=1)
        wrong = samples - self.matrix_.diagonal()
        return np.where(samples > 0, wrong / np.maximum(samples, 1), np.nan)

    def most_confused(self, n: int = 5) -> list[tuple[int, int, int]]:
        """Return the pairs of classes that are confused most often.

        Args:
            n: the maximum number of pairs. Default: 5.

        Returns:
            (true class, predicted class, count), highest count first; on a tie, the lower classes first.
        """
        check_int("ConfusionMatrix", "n", n, 1)
        pairs = [(int(row), int(column)) for row, column in zip(*np.nonzero(self.matrix_)) if row != column]
        counted = [(row, column, int(self.matrix_[row, column])) for row, column in pairs]
        return sorted(counted, key=lambda pair: (-pair[2], pair))[:n]

    def state_dict(self) -> dict[str, Any]:
        """Return how many samples had NaN in the latest evaluation."""
        return {"nan_samples": self.nan_samples_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.nan_samples_ = state["nan_samples"]

    def state_arrays(self) -> dict[str, Array]:
        """Return the matrix of the latest evaluation."""
        return {"matrix": self.matrix_}

    def load_state_arrays(self, arrays: dict[str, Array]) -> None:
        """Restore the matrix."""
        self.matrix_ = arrays["matrix"]

    def _forget(self) -> None:
        self.matrix_ = np.zeros((0, 0), np.int64)
        self.nan_samples_ = 0

    def _take(self, task: Task, scores: Array, labels: Array, inputs: Any) -> None:
        classes = task.classes
        pairs = np.bincount(classes * labels + task.predictions(scores), minlength=classes**2)
        counts = pairs.reshape(classes, classes)
        self._counts = counts if self._counts is None else self._counts + counts
        self._nan_samples += int(np.isnan(scores).any(axis=1).sum())

    def _end_evaluation(self) -> None:
        if self._counts is not None:
            *counts, nan_samples = distributed.total([*self._counts.reshape(-1), self._nan_samples])
            self.matrix_ = np.array(counts, np.int64).reshape(self._counts.shape)
            self.nan_samples_ = int(nan_samples)

    def _has_results(self) -> bool:
        return bool(self.matrix_.size)

    def _text(self) -> str:
        samples = self.matrix_.sum(axis=1)
        wrong = samples - self.matrix_.diagonal()
        total, share = samples.sum(), wrong.sum() / max(samples.sum(), 1)
        lines = [
            f"{wrong.sum()} of {counted(total, 'sample')} wrong ({share:.2%})".replace("%", " %"),
            self._table(samples, wrong),
        ]
        lines += [
            f"{self._name(true)} mistaken for {self._name(predicted)}: {counted(count, 'time')}"
            for true, predicted, count in self.most_confused()
        ]
        if self.nan_samples_:
            lines.append(
                f"NaN among the logits of {counted(self.nan_samples_, 'sample')}: their predictions are meaningless"
            )
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

    def _artifact(self) -> Union[TableArtifact, TextArtifact]:
        classes = range(len(self.matrix_))
        title = "Confusion matrix"
        if len(classes) > _MOST_NUMBERED:
            return TextArtifact("confusion_matrix", title, self._text())
        errors = [f"{100 * each:.2f} %" if np.isfinite(each) else "-" for each in self.errors_]
        rows = [[self._name(one), *map(str, self.matrix_[one].tolist()), errors[one]] for one in classes]
        header = ["True class", *map(self._name, classes), "Error"]
        shades = np.full((len(rows), len(header)), np.nan)
        shares = self._shares()
        shades[:, 1:-1] = shares / (shares.max() or 1.0)
        np.fill_diagonal(shades[:, 1:-1], np.nan)
        note = "Columns: predicted classes. Shading: the share of the true class that is predicted wrongly."
        return TableArtifact("confusion_matrix", title, header, rows, header[1:], note, shades)

    def _shares(self) -> Array:
        """Return the share of each true class that is mistaken for each other class."""
        shares = self.matrix_ / np.maximum(self.matrix_.sum(axis=1, keepdims=True), 1)
        np.fill_diagonal(shares, 0)
        return shares

    def _draw(self) -> Any:
        matrix, classes = self.matrix_, len(self.matrix_)
        shares = self._shares()
        highest = shares.max() or 1.0
        side = max(4.0, 0.45 * classes) if classes <= _MOST_NUMBERED else 9.0
        drawn = figure(side + 1.8, side + 0.8)
        axes = drawn.subplots()
        # A single hue from light to dark is readable for colour-blind readers and in greyscale.
        errors = axes.imshow(
            100 * np.ma.masked_where(np.eye(classes, dtype=bool), shares), cmap="Blues", vmin=0, vmax=100 * highest
        )
        axes.imshow(
            np.ma.masked_where(~np.eye(classes, dtype=bool), np.ones(matrix.shape)), cmap="Greys", vmax=4, vmin=0
        )
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        axes.set_title(f"{matrix.sum() - matrix.trace()} of {counted(matrix.sum(), 'sample')} wrong")
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
