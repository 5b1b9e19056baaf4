"""The `training` flags of a network's cells, which an evaluation by MindSpore does not give back as they were."""

from __future__ import annotations

from mindspore import nn
from mindspore.train import Model

from .mindspore_compat import set_training

__all__ = ["TrainingFlags"]


class TrainingFlags:
    """The flags of each cell as they are now.

    `Model.eval`, and the evaluations of `Model.fit`, set all cells to evaluation. Before the next step, the Model sets
    all of them to training, and with them a part that the user keeps in evaluation, such as a frozen backbone with
    BatchNorm.

    Args:
        model: the Model that trains and evaluates.
        network: what it trains.
    """

    def __init__(self, model: Model, network: nn.Cell) -> None:
        self._model, self._network = model, network
        self._flags = [(cell, cell.training) for _, cell in network.cells_and_names()]

    def restore(self) -> None:
        """Give each cell its flag, after the Model has set all to training, which it would do at the next step."""
        set_training(self._model, self._network)
        for cell, training in self._flags:
            cell.add_flags(training=training)
