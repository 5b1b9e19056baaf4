"""The parts that a run trains: network, loss, optimizers and weights, and how much of them this process holds."""

from __future__ import annotations

from typing import Any, Optional

from mindspore import Parameter, nn

from . import mindspore_compat
from .learning_rates import Rates
from .model_parts import positional_count, take_apart
from .placement import ALL_SEE_THE_SAME, Needs, check_whole

__all__ = ["TrainedParts"]


class TrainedParts:
    """The parts that the Model of a run trains.

    Attributes:
        train_network (nn.Cell): the network with its loss and optimizer.
        train_dataset (Dataset): the dataset that the Model trains on.
        loss_fn (Any): the loss function; `None` if the network computes its own loss.
        optimizers (tuple): the Model's optimizers, or those that its training cell holds; empty if it trains by other
            means.
        weights (dict[str, Parameter]): the parameters of the network and of its loss by name, without those of an
            optimizer.
        weights_beside (list[str]): those of `weights` that do not belong to the network, but to its loss or another
            network.
        rates (Rates | None): the learning rates of all optimizers; `None` if there are none, or not all are of
            `mindspore.nn`.
        parallel_mode (str): how the Model divides its work among processes, by MindSpore's name.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        self.train_network: nn.Cell = args["train_network"]
        self.train_dataset = args["train_dataset"]
        self.parallel_mode = str(args.get("parallel_mode") or "stand_alone")
        self._given: nn.Cell = args["network"]
        mindspore_compat.give_unique_names(self.train_network)
        parts = take_apart(self._given, args.get("loss_fn"), args.get("optimizer"))
        self.found_network = parts.network
        self.loss_fn = parts.loss_fn
        self.optimizers = parts.optimizers
        are_known = self.optimizers and all(isinstance(one, nn.Optimizer) for one in self.optimizers)
        self.rates = Rates(self.optimizers) if are_known else None
        self.weights: dict[str, Parameter] = parts.weights
        self.weights_beside = sorted(parts.beside)

    @property
    def is_split(self) -> bool:
        """Whether processes divide among them one network, rather than the samples."""
        return self.parallel_mode in ALL_SEE_THE_SAME

    def network(self, owner: str, given: Optional[nn.Cell] = None) -> nn.Cell:
        """Return the given network, or the one that is trained; raise in the name of `owner` if it cannot be found."""
        network = self.found_network if given is None else given
        if network is None:
            cell = type(self._given).__name__
            raise ValueError(
                f"{owner}: cannot tell which of the cells inside {cell} is the network to use; pass network=..., "
                f"or let {cell} hold it as self.network"
            )
        return network

    def inputs(self, owner: str, batch: Optional[tuple[Any, ...]], network: Optional[nn.Cell] = None) -> Any:
        """Return a network's inputs in a batch: the columns before the label, or as many as its `construct` takes."""
        if batch is None:
            raise ValueError(
                f"{owner}: in sink mode batches go to the device unseen; train with dataset_sink_mode=False"
            )
        if self.loss_fn is not None and network in (None, self.found_network):
            return batch[:-1]
        return batch[: positional_count(self.network(owner, network))]

    def check_whole(self, owner: str, needs: Needs, callbacks: list[Any]) -> None:
        """Raise if something that `owner` needs is not whole in this process."""
        repair = mindspore_compat.repair_among(callbacks)
        if Needs.RUN in needs and repair is not None:
            raise ValueError(
                f"{owner}: with {repair}, MindSpore repairs a fault and restarts training in the middle of the run, "
                f"and what {owner} has learnt or written until then would be lost; leave one of the two out"
            )
        check_whole(owner, needs, self.train_network, self.parallel_mode)
