"""Store and restore the `training` flags of a network's cells, which MindSpore's evaluations overwrite."""

from __future__ import annotations

from mindspore import nn
from mindspore.train import Model

from .mindspore_compat import set_training

__all__ = ["TrainingFlags"]


class TrainingFlags:
    """The `training` flag of each cell at the time of construction.

    `Model.eval` and the evaluations of `Model.fit` set all cells to evaluation. Before the next step, the Model sets
    all cells to training, including any that the user keeps in evaluation, such as a frozen backbone with BatchNorm.

    Args:
        model: the Model that trains and evaluates.
        network: the training cell of the Model.
    """

    def __init__(self, model: Model, network: nn.Cell) -> None:
        self._model, self._network = model, network
        self._flags = [(cell, cell.training) for _, cell in network.cells_and_names()]

    def restore(self) -> None:
        """Restore each flag; first let the Model set all cells to training, which it would do at the next step."""
        set_training(self._model, self._network)
        for cell, training in self._flags:
            cell.add_flags(training=training)
