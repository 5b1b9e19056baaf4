"""The base class of callbacks that read a classifier's scores and labels."""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Optional, Union

from mindspore import nn

from ..core.arguments import check_choice
from ..core.artifacts import Artifact, FigureArtifact, TableArtifact, TextArtifact
from ..core.atomic_files import check_folder
from ..core.classification import BINARY, Array, ClassReader, Task, check_class_numbers
from ..core.eval_hooks import eval_labels
from ..core.eval_observer import EvalObserver, EvalOutputs
from ..core.forward_hooks import untouched
from ..core.network_output import Place
from ..core.placement import Needs
from ..core.plotting import check_picture, save
from ..core.run import Run

__all__ = ["Array", "ClassReport"]


class ClassReport(EvalObserver):
    """Base class of callbacks that report on a classifier's latest evaluation, by class, as text and as a picture.

    They report when training ends, or at the end of an evaluation outside training.
    """

    def __init__(
        self,
        class_names: Optional[Sequence[str]],
        output: Place,
        threshold: Optional[float],
        picture: Union[str, os.PathLike[str], None],
        verbose: int,
    ) -> None:
        super().__init__()
        self.class_names = class_names
        self._names = () if class_names is None else _checked_names(self._owner, class_names)
        self.output = output
        self.threshold = threshold
        self._reader = ClassReader(self._owner, output, threshold, multilabel=False)
        self._loss: Optional[str] = None
        self.picture = check_picture(self._owner, picture)
        self.verbose = check_choice(self._owner, "verbose", verbose, (0, 1))
        self._is_new = False
        self._forget()

    def before_train(self, run: Run) -> None:
        """Reset the results of an earlier run."""
        super().before_train(run)
        self._is_new = False
        self._reader.forget()
        self._forget()

    def needs(self, run: Run) -> Needs:
        """Require the network's output for each sample to be complete in this process."""
        return super().needs(run) | Needs.OUTPUTS

    def check(self, run: Run) -> None:
        """Raise if the run never evaluates or the picture's folder does not exist."""
        super().check(run)
        try:
            run.metrics.check_evaluates(self._owner, "it")
        except ValueError:
            raise ValueError(
                f"{self._owner}: needs an evaluation, but this run never evaluates; add Validate(model, "
                f"valid_dataset) to the callbacks, or use Model.fit with valid_dataset, or leave it out here and pass "
                f"it to Model.eval(valid_dataset, callbacks=[...])"
            ) from None
        if self.picture:
            check_folder(self._owner, self.picture)

    def check_batch(self, run: Run) -> None:
        """Raise if the batch cannot be read as a classifier's."""
        if run.batch is not None:
            self._reader.forget()
            self._look_ahead(run, run.batch)

    def on_eval_begin(self, run_context: Any) -> None:
        """Reset; an evaluation outside training may be of a different network."""
        super().on_eval_begin(run_context)
        self._loss = self.eval_outputs.loss
        if not self.in_run:
            self._reader.forget()

    def on_eval_step_begin(self, run_context: Any) -> None:
        """Check the labels before the loss does: its error is less clear, and some devices raise none."""
        labels = eval_labels(run_context)
        if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
            task = self._reader.task
            if task is None or task.kind != BINARY:
                check_class_numbers(self._owner, labels, None if task is None else task.classes)

    def on_eval_end(self, run_context: Any) -> None:
        """Store the results of this evaluation; outside training, report them at once."""
        self._end_evaluation()
        self._is_new = True
        if not self.in_run:
            self._report("")

    def after_train(self, run: Run) -> None:
        """Report the latest evaluation."""
        self._report("")

    def artifacts(self) -> list[Artifact]:
        """Return the report on the latest evaluation, as a table and, if images can be drawn, as a figure."""
        if not self._has_results():
            return []
        table = self._artifact()
        return [table, FigureArtifact(table.name, table.title, self._draw)] if self._can_draw() else [table]

    def see_batch(self, output: Any, labels: Any, inputs: Any) -> None:
        """Add a batch: the network's output for it, its labels, and the network's first input."""
        self._take(*self._read(output, labels), inputs)

    @property
    def _owner(self) -> str:
        return type(self).__name__

    def _look_ahead(self, run: Run, batch: tuple[Any, ...]) -> None:
        """Read a batch of the training data as if it were an evaluation batch."""
        model = run.metrics.model
        ahead = EvalOutputs(self._owner, model)
        self._loss = ahead.loss
        network = None if model is None else model.eval_network
        if run.parts.loss_fn is not None and (network is None or isinstance(network, nn.WithEvalCell)):
            with untouched(run.network, batch):
                output = run.network(*run.parts.inputs(self._owner, run.batch))
            self._read(output, batch[-1])
        elif network is not None:
            outputs = None
            # A custom evaluation network may take columns that the training data does not have.
            with untouched(network, batch), contextlib.suppress(Exception):
                outputs = network(*batch)
            if outputs is not None:
                self._read(*ahead.split(outputs))

    def _read(self, output: Any, labels: Any) -> tuple[Task, Array, Array]:
        task, scores, labels = self._reader.read(output, labels, self._loss, len(self._names))
        if self._names and len(self._names) != task.classes:
            raise ValueError(
                f"{self._owner}: class_names must have one name for each of the network's {task.classes} classes, but "
                f"got {len(self._names)}: {list(self._names)}"
            )
        return task, scores, labels

    def _name(self, class_: int) -> str:
        return self._names[class_] if self._names else str(class_)

    def _report(self, when: str) -> None:
        if not self._is_new:
            return
        self._is_new = False
        if self.verbose:
            self.log(when + self._text())
        if self.picture:
            check_folder(self._owner, self.picture)
            save(self._draw(), self.picture)

    @abstractmethod
    def _has_results(self) -> bool:
        """Return whether there are results to report."""

    def _can_draw(self) -> bool:
        """Return whether the results can be drawn, if matplotlib is installed."""
        return True

    @abstractmethod
    def _forget(self) -> None:
        """Reset the attributes."""

    @abstractmethod
    def _take(self, task: Task, scores: Array, labels: Array, inputs: Any) -> None:
        """Add a checked batch: scores of shape (n, outputs), labels of shape (n,)."""

    @abstractmethod
    def _end_evaluation(self) -> None:
        """Set the attributes from the batches of this evaluation."""

    @abstractmethod
    def _text(self) -> str:
        """Return the text of the report."""

    @abstractmethod
    def _artifact(self) -> Union[TableArtifact, TextArtifact]:
        """Return the report as a table, or as a text if it is too large for one."""

    @abstractmethod
    def _draw(self) -> Any:
        """Return the picture as a figure."""


def _checked_names(owner: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"{owner}: class_names must be a list of strings, but got {names!r} ({type(names).__name__})")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"{owner}: class_names must be strings, but got {name!r} ({type(name).__name__}) among them"
            )
    return tuple(names)
