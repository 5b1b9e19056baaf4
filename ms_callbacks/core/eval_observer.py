"""A base class for callbacks that observe every batch of an evaluation, without one of their own."""

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
    """Finds the prediction and the labels among the outputs of a Model's evaluation network.

    As for MindSpore's metrics, these are at the Model's `eval_indexes`, or at those that its metrics were given with
    `set_indexes`; without either, they are the two outputs of an evaluation network that has two.
    """

    def __init__(self, owner: str, model: Optional[Model]) -> None:
        self._owner = owner
        self._network = None if model is None else model.eval_network
        self._indexes = None if model is None else _indexes(model)
        # What the outputs mean to the loss function with which they are evaluated.
        loss = None if model is None else take_apart(made_with(model).network, made_with(model).loss_fn).loss_fn
        self.loss = loss_kind(self._network if loss is None else loss)

    def split(self, outputs: Any) -> tuple[Any, Any]:
        """Return the prediction and the labels among the outputs for a batch; raise if they cannot be identified."""
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
    """Observes each batch of any evaluation: that of `Validate`, of `Model.fit`, or of `Model.eval`."""

    transient = ("eval_outputs",)

    def on_eval_begin(self, run_context: Any) -> None:
        """Find out where the Model's evaluation network has the prediction and the labels."""
        super().on_eval_begin(run_context)
        self.eval_outputs = EvalOutputs(type(self).__name__, evaluating_model())
        self.begin_evaluation()

    def on_eval_step_end(self, run_context: Any) -> None:
        """Pass on the network's output for a batch, and the labels."""
        outputs, element = eval_outputs(run_context)
        output, labels = self.eval_outputs.split(outputs)
        self.see_batch(output, labels, as_array(element[0]) if element else None)

    @abstractmethod
    def begin_evaluation(self) -> None:
        """Called when an evaluation begins: forget the previous one."""

    @abstractmethod
    def see_batch(self, output: Any, labels: Any, inputs: Any) -> None:
        """Called with each batch: the network's output, the labels, and the network's first input as an array."""


def _indexes(model: Model) -> Optional[tuple[int, int]]:
    indexes = eval_indexes_of(model)
    if indexes is not None:
        return indexes[1], indexes[2]
    # MindSpore recommends `Metric.set_indexes` in place of `eval_indexes`; for most metrics, these are the two.
    given = {tuple(one.indexes) for one in metrics_of(model).values() if len(getattr(one, "indexes", None) or ()) == 2}
    return given.pop() if len(given) == 1 else None
