"""Callbacks that look at every batch of an evaluation, without an evaluation of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Optional

from mindspore import nn
from mindspore.train import Model

from .arguments import quoted
from .callback import TrainCallback
from .classification import loss_kind
from .eval_hooks import eval_outputs
from .mindspore_compat import eval_indexes_of, evaluating_model, made_with, metrics_of
from .model_parts import take_apart
from .tensors import as_array

__all__ = ["EvalObserver", "EvalOutputs"]


class EvalOutputs:
    """Where a Model's evaluation network has the prediction and the labels among its outputs.

    As for MindSpore's metrics: at the Model's `eval_indexes`, or at those that its metrics were given by
    `set_indexes`; without either, both outputs of an evaluation network that has two.
    """

    def __init__(self, owner: str, model: Optional[Model]) -> None:
        self._owner = owner
        self._network = None if model is None else model.eval_network
        self._indexes = None if model is None else _indexes(model)
        # What the outputs are to the loss function that they are evaluated by.
        loss = None if model is None else take_apart(made_with(model).network, made_with(model).loss_fn).loss_fn
        self.loss = loss_kind(self._network if loss is None else loss)

    def split(self, outputs: Any) -> tuple[Any, Any]:
        """The prediction and the labels among the outputs for a batch; raises where they cannot be told."""
        count = len(outputs) if isinstance(outputs, (tuple, list)) else 1
        indexes = self._indexes
        if indexes is None and (self._network is None or isinstance(self._network, nn.WithEvalCell)):
            indexes = (1, 2)
        elif indexes is None and count == 2:
            indexes = (0, 1)
        if indexes is None:
            raise ValueError(
                f"{self._owner}: cannot tell the prediction and the labels among the {count} outputs of "
                f"{type(self._network).__name__}, the Model's eval_network; give the Model eval_indexes=[loss, "
                f"prediction, label], the place of each among them, or, where none is a loss, a metric with "
                f"set_indexes([prediction, label])"
            )
        if not isinstance(outputs, (tuple, list)) or not all(-count <= index < count for index in indexes):
            raise ValueError(
                f"{self._owner}: needs the prediction and the labels at the places {quoted(indexes)} among the outputs "
                f"of the evaluation network, but it gives {count}"
            )
        return outputs[indexes[0]], outputs[indexes[1]]


class EvalObserver(TrainCallback, ABC):
    """Sees each batch of whatever evaluation takes place: that of `Validate`, of `Model.fit`, or of `Model.eval`."""

    transient = ("eval_outputs",)

    def on_eval_begin(self, run_context: Any) -> None:
        """Find out where the Model's evaluation network has the prediction and the labels."""
        super().on_eval_begin(run_context)
        self.eval_outputs = EvalOutputs(type(self).__name__, evaluating_model())
        self.begin_evaluation()

    def on_eval_step_end(self, run_context: Any) -> None:
        """Passes on what the network gave for a batch, and the labels."""
        outputs, element = eval_outputs(run_context)
        output, labels = self.eval_outputs.split(outputs)
        self.see_batch(output, labels, as_array(element[0]) if element else None)

    @abstractmethod
    def begin_evaluation(self) -> None:
        """Forgets the evaluation before."""

    @abstractmethod
    def see_batch(self, output: Any, labels: Any, inputs: Any) -> None:
        """Takes in a batch: what the network gave for it, its labels, and the network's first input as an array."""


def _indexes(model: Model) -> Optional[tuple[int, int]]:
    indexes = eval_indexes_of(model)
    if indexes is not None:
        return indexes[1], indexes[2]
    # MindSpore recommends `Metric.set_indexes` in place of `eval_indexes`; for most metrics, these are the two.
    given = {tuple(one.indexes) for one in metrics_of(model).values() if len(getattr(one, "indexes", None) or ()) == 2}
    return given.pop() if len(given) == 1 else None
