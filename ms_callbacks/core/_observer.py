"""Callbacks that look at every batch of an evaluation, without an evaluation of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ._callback import TrainCallback
from ._context import eval_outputs

__all__ = ["EvalObserver"]


class EvalObserver(TrainCallback, ABC):
    """Sees each batch of whatever evaluation takes place: that of `Validate`, of `Model.fit`, or of `Model.eval`."""

    def on_eval_begin(self, run_context: Any) -> None:
        """An evaluation begins."""
        self.begin_evaluation()

    def on_eval_step_end(self, run_context: Any) -> None:
        """Hands on what the network said of a batch, and what it should have said."""
        outputs, element = eval_outputs(run_context)
        if not isinstance(outputs, (tuple, list)) or len(outputs) < 3:
            raise ValueError(
                f"{type(self).__name__}: needs an evaluation network with the outputs (loss, logits, labels), as a "
                f"Model with a loss function makes it, but this one gives {type(outputs).__name__}"
            )
        self.see_batch(outputs[1].asnumpy(), outputs[2].asnumpy(), element[0].asnumpy() if element else None)

    @abstractmethod
    def begin_evaluation(self) -> None:
        """Forgets the evaluation before."""

    @abstractmethod
    def see_batch(self, logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], inputs: Any) -> None:
        """Takes in a batch: logits of shape (n, classes), labels of shape (n,), and the network's first input."""
