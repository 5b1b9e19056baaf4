"""Find the validation samples that are hardest for a network: its errors, and wrong labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional, Union

import numpy as np

from ..core.arguments import check_int
from ..core.artifacts import TableArtifact
from ..core.classification import Task
from ..core.console import counted
from ..core.network_output import Place
from ..core.plotting import as_picture, check_image_shape, contact_sheet, is_image_shape
from ..core.run import Run
from ._classes import Array, ClassReport

__all__ = ["HardExample", "HardExamples"]


@dataclass(frozen=True)
class HardExample:
    """A sample: its position in the evaluation (from 0), its label, and the network's prediction.

    `probability` is that of the predicted class; `loss` is the cross-entropy, in nats.
    """

    index: int
    label: int
    prediction: int
    probability: float
    loss: float


class HardExamples(ClassReport):
    """Keep the samples with the highest cross-entropy loss, hardest first; wrong labels are often among them.

    It performs no evaluation of its own but reports on the latest one made by `Validate`, by `Model.fit`, or by
    `Model.eval` with this callback in its list. `index` counts samples in the order of the evaluation, so it is only
    meaningful for a dataset that is **not shuffled**. Only `top_k` samples are in memory, however large the dataset.
    Before the first step, its batch runs through the network an additional time to examine the output; everything that
    this changes in the network is restored, but your own hooks run.

    For classifiers with one class per sample, as described at `ConfusionMatrix`: outputs (n, classes) with labels (n,)
    or one-hot, or one output with labels 0 and 1. Others are refused: before the first step, using that batch of the
    training data; in sink mode on GPU and Ascend, and outside training, at the first batch of the evaluation.

    The loss is the cross-entropy of each single sample, computed in float64, whatever loss the Model trains with: of
    the softmax of several outputs, or of the sigmoid of one. Outputs that are already probabilities are used as they
    are: those for `nn.BCELoss`, and rows that sum to 1. A sample whose loss is NaN counts as the hardest; on a tie, the
    earlier sample comes first. With several processes, the first reports on its own shard only.

    Args:
        top_k: the number of samples to keep. Default: 16.
        picture: the path of a PNG that is written at each report: a contact sheet with the label, prediction and
            probability of each image. For images of shape (h, w), (1, h, w) or (3, h, w), each scaled from its darkest
            to its brightest value. The path is resolved against the working directory at construction; its folder must
            exist. Needs matplotlib. Default: None.
        class_names: a name for each class, in order. Default: None, the class numbers.
        output: which of several outputs holds the class scores: an index, a key, or a function of the network's whole
            output. Default: None, the only output, the one called `"logits"`, or the only one that fits.
        threshold: for a single output, the value above which it means class 1. Default: None, 0 for
            `nn.BCEWithLogitsLoss` and 0.5 for `nn.BCELoss`; other loss functions require it.
        verbose: 0 prints nothing. Default: 1, a table at the end of training.

    Attributes:
        examples_ (list[HardExample]): the samples, hardest first.
        images_ (list[numpy.ndarray]): the network's first input for each of them; empty in sink mode on GPU and Ascend.

    Raises:
        TypeError, ValueError: an argument is not as described.
        ImportError: a picture is requested, but matplotlib is not installed.
        ValueError: before the first step: the run never evaluates, the network is not a classifier with one class per
            sample, its output cannot be determined, the number of class_names is wrong, or the images cannot be drawn
            (all but the first are raised at the first evaluation in sink mode on GPU and Ascend, and outside training);
            at an evaluation: labels out of range, or `eval_indexes` missing.

    Example:
        >>> hard = HardExamples(2, picture=folder + "/hard.png")
        >>> metrics = model.eval(valid_dataset, callbacks=[hard])
        HardExamples: the 2 samples with the highest loss
        Index  Label  Prediction  Probability  Loss
        ...
        >>> hard.examples_[0].loss >= hard.examples_[1].loss
        True
    """

    examples_: list[HardExample]
    images_: list[Array]

    def __init__(
        self,
        top_k: int = 16,
        *,
        picture: Union[str, os.PathLike[str], None] = None,
        class_names: Optional[Sequence[str]] = None,
        output: Place = None,
        threshold: Optional[float] = None,
        verbose: int = 1,
    ) -> None:
        super().__init__(class_names, output, threshold, picture, verbose)
        self.top_k = check_int("HardExamples", "top_k", top_k, 1)

    def begin_evaluation(self) -> None:
        """Start again at the first sample."""
        self._seen = 0
        self._hardest: list[tuple[HardExample, Optional[Array]]] = []

    def _look_ahead(self, run: Run, batch: tuple[Any, ...]) -> None:
        if self.picture:
            check_image_shape(self._owner, tuple(batch[0].shape[1:]))
        super()._look_ahead(run, batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the examples of the latest evaluation."""
        return {"examples": [asdict(each) for each in self.examples_]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.examples_ = [HardExample(**each) for each in state["examples"]]

    def state_arrays(self) -> dict[str, Array]:
        """Return the images of the examples."""
        return {str(place): image for place, image in enumerate(self.images_)}

    def load_state_arrays(self, arrays: dict[str, Array]) -> None:
        """Restore the images."""
        self.images_ = [arrays[str(place)] for place in range(len(arrays))]

    def _forget(self) -> None:
        self.examples_ = []
        self.images_ = []

    def _take(self, task: Task, scores: Array, labels: Array, inputs: Any) -> None:
        if self.picture:
            if inputs is None:
                raise ValueError(
                    f"{self._owner}: picture needs the images, but in sink mode they go to the device unseen; evaluate "
                    f"with dataset_sink_mode=False, or leave picture out"
                )
            check_image_shape(self._owner, inputs.shape[1:])
        logs = task.log_probabilities(scores)
        rows = np.arange(len(labels))
        losses = -logs[rows, labels]
        predictions = task.predictions(scores)
        for row in np.lexsort((rows, *_falling(losses)))[: self.top_k]:
            prediction = int(predictions[row])
            example = HardExample(
                self._seen + int(row),
                int(labels[row]),
                prediction,
                float(np.exp(logs[row, prediction])),
                float(losses[row]),
            )
            self._hardest.append((example, None if inputs is None else inputs[row].copy()))
        kept = np.array([example.loss for example, _ in self._hardest])
        order = np.lexsort((np.arange(len(kept)), *_falling(kept)))[: self.top_k]
        self._hardest = [self._hardest[place] for place in order]
        self._seen += len(labels)

    def _end_evaluation(self) -> None:
        self.examples_ = [example for example, _ in self._hardest]
        self.images_ = [image for _, image in self._hardest if image is not None]

    def _has_results(self) -> bool:
        return bool(self.examples_)

    def _can_draw(self) -> bool:
        return bool(self.images_) and is_image_shape(self.images_[0].shape)

    def _text(self) -> str:
        table = self._artifact()
        return f"the {counted(len(table.rows), 'sample')} with the highest loss\n{table}"

    def _artifact(self) -> TableArtifact:
        rows = [
            [
                str(each.index),
                self._name(each.label),
                self._name(each.prediction),
                f"{100 * each.probability:.1f} %",
                f"{each.loss:.4g}",
            ]
            for each in self.examples_
        ]
        header, right = "Index Label Prediction Probability Loss".split(), ("Index", "Probability", "Loss")
        images = [as_picture(self._owner, image) for image in self.images_] if self._can_draw() else []
        return TableArtifact("hard_examples", "Hardest examples", header, rows, right, images=images)

    def _draw(self) -> Any:
        captions = [
            f"label {self._name(each.label)}\npredicted {self._name(each.prediction)}, {100 * each.probability:.1f} %\n"
            f"#{each.index}"
            for each in self.examples_
        ]
        return contact_sheet([as_picture(self._owner, image) for image in self.images_], captions)


def _falling(losses: Array) -> tuple[Array, Array]:
    """Return keys for `numpy.lexsort`, which sorts by the last key first: NaN first, then the highest loss."""
    nan = np.isnan(losses)
    return np.where(nan, 0.0, -losses), ~nan
