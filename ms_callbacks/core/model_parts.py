"""Find what a Model was made of: the network, its loss, and the optimizers, wherever they are.

`Model(network, loss_fn, optimizer)` shows all three. But a Model may also be given a network that computes its own
loss, or a whole training cell that holds network, loss and optimizer, as in most scripts of MindSpore's model zoo.
Calling such a cell trains it, so code that only wants to look at the network must first find it inside.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import mindspore as ms
from mindspore import Parameter, nn

from .mindspore_compat import backbone_of, classes_of_nn, within_loss_cell

__all__ = [
    "ModelParts",
    "dropouts_of",
    "named_parameters",
    "optimizers_of",
    "placed_parameters",
    "positional_count",
    "rounds_differently_at_first",
    "take_apart",
]

# MindSpore's own cells that only return what their `_backbone` computes.
_CASTS = ("_OutputTo16", "_OutputTo32", "_VirtualDatasetCell")
# What `Model` accepts as an optimizer besides `nn.Optimizer`.
_OPTIMIZERS = ("Optimizer", "FreezeOpt", "AdaSumByGradWrapCell", "AdaSumByDeltaWeightWrapCell")


class ModelParts(NamedTuple):
    """The network as a user would call it, its loss function, the optimizers, and the weights.

    `network` is `None` if there are several and nothing says which is meant, as in a GAN's training cell; `loss_fn` is
    `None` if the network computes its own loss. `weights` are the parameters of the network and of the loss by name,
    including BatchNorm's statistics and frozen ones, but nothing of an optimizer; the names of those that belong to the
    loss, or to other networks, are also in `beside`.
    """

    network: Optional[nn.Cell]
    loss_fn: Any
    optimizers: tuple[Any, ...]
    weights: dict[str, Parameter]
    beside: frozenset[str]


def take_apart(network: nn.Cell, loss_fn: Any = None, optimizer: Any = None) -> ModelParts:
    """Return the parts of what a Model was made with, or of a single cell."""
    inside = optimizers_of(network)
    optimizers = (*(() if optimizer is None else (optimizer,)), *(one for one in inside if one is not optimizer))
    core: Optional[nn.Cell] = network
    beside: dict[str, nn.Cell] = {}
    while core is not None and optimizers_of(core):
        core, others = _trained_by(core)
        beside.update(others)
    while core is not None and loss_fn is None and (within := _unwrapped(core)) is not None:
        core, loss_fn = within
    core = None if core is None else _uncast(core, network)
    if isinstance(loss_fn, nn.Cell):
        beside["loss_fn"] = loss_fn
    return ModelParts(core, loss_fn, optimizers, *_weights(network, core, beside))


def optimizers_of(cell: nn.Cell) -> tuple[Any, ...]:
    """Return a cell's optimizers, including those in lists and dictionaries; the outermost of nested ones."""
    found: dict[int, Any] = {}
    nested: set[int] = set()
    for _, each in cell.cells_and_names():
        held = [value for one in vars(each).values() if isinstance(one, (list, tuple, dict)) for value in _values(one)]
        for one in (each, *held):
            if _is_optimizer(one) and one is not cell:
                found[id(one)] = one
                nested.update(id(within) for name, within in one.cells_and_names() if name)
    return tuple(one for key, one in found.items() if key not in nested)


def named_parameters(cell: nn.Cell) -> dict[str, Parameter]:
    """Return a cell's parameters by the names that they have in a file: weights, and statistics such as BatchNorm's.

    That is MindSpore's name for a parameter, without the prefix added by a cell around this one, so that a file of the
    network is the same whatever it was trained in. If two parameters have the same name, which MindSpore resolves only
    when it compiles them, their place in the cell is used.
    """
    places = list(_places(cell))
    names = [one.name for _, one in places]
    keys = [place if names.count(one.name) > 1 or one.name.endswith(f".{place}") else one.name for place, one in places]
    if len(set(keys)) < len(keys):
        keys = [place for place, _ in places]
    return {key: one for key, (_, one) in zip(keys, places)}


def placed_parameters(cell: nn.Cell) -> dict[str, Parameter]:
    """Return a cell's parameters by their place in it, such as `conv.weight`, whatever their names."""
    return dict(_places(cell))


def _places(cell: nn.Cell) -> Iterator[tuple[str, Parameter]]:
    seen: set[int] = set()
    for place, one in cell.parameters_and_names():
        if id(one) not in seen:
            seen.add(id(one))
            yield place, one


def _values(held: Any) -> list[Any]:
    return list(held.values() if isinstance(held, dict) else held)


def _is_optimizer(value: Any) -> bool:
    """Return whether it is one of MindSpore's optimizers, including `mindspore.experimental` and `mindspore.mint`."""
    return isinstance(value, nn.Optimizer) or (
        isinstance(value, nn.Cell)
        and any(kind.__name__ in _OPTIMIZERS and _is_mindspores(kind) for kind in type(value).__mro__)
    )


def _is_mindspores(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "mindspore"


def _trained_by(cell: nn.Cell) -> tuple[Optional[nn.Cell], dict[str, nn.Cell]]:
    """Return which of the cells in a training cell is the trained network, and those trained along with it."""
    learnt, state = _learnt_and_state(optimizers_of(cell))
    trained: dict[str, nn.Cell] = {}
    parameters: dict[str, frozenset[int]] = {}
    for name, child in cell.name_cells().items():
        own = frozenset(id(one) for one in child.get_parameters()) - state
        if not _is_optimizer(child) and own & learnt:  # excludes the state of a loss scale, or a teacher
            trained[name], parameters[name] = child, own
    chosen = trained.get("network")  # the name in MindSpore's own training cells
    if chosen is None:
        largest = [name for name in trained if not any(parameters[name] < other for other in parameters.values())]
        chosen = _innermost([trained[name] for name in largest])
    return chosen, {name: child for name, child in trained.items() if child is not chosen}


def _innermost(cells: list[nn.Cell]) -> Optional[nn.Cell]:
    """Return the cell that contains all others; `None` if there is none, so that each is a network of its own."""
    for cell in cells:
        if all(any(within is cell for _, within in other.cells_and_names()) for other in cells):
            return cell
    return None


def _unwrapped(cell: nn.Cell) -> Optional[tuple[nn.Cell, Any]]:
    """Return the network and the loss in one of MindSpore's cells that combine both; `None` if it is not one."""
    # A subclass with its own `construct` may call its backbone with anything.
    return within_loss_cell(cell) if _is_plain(cell, "WithLossCell") else None


def _uncast(core: nn.Cell, given: nn.Cell) -> nn.Cell:
    """Return the network without what MindSpore wrapped around it when it built the training cell."""
    while core is not given and _is_plain(core, *_CASTS):
        core = backbone_of(core)
    return core


def _is_plain(cell: nn.Cell, *kinds: str) -> bool:
    """Return whether a cell's `construct` is inherited unchanged from one of these MindSpore classes."""
    kind = next((each for each in type(cell).__mro__ if "construct" in vars(each)), type(cell))
    return _is_mindspores(kind) and kind.__name__ in kinds


def _learnt_and_state(optimizers: tuple[Any, ...]) -> tuple[frozenset[int], frozenset[int]]:
    """Return which parameters the optimizers train, and which are their own: moments, steps and rates."""
    own = {id(one) for optimizer in optimizers for one in optimizer.get_parameters()}
    learnt = {
        id(one)
        for optimizer in optimizers
        for _, cell in optimizer.cells_and_names()
        for one in getattr(cell, "parameters", None) or ()
        if isinstance(one, Parameter)
    }
    return frozenset(learnt), frozenset(own - learnt)


def _weights(
    root: nn.Cell, network: Optional[nn.Cell], beside: dict[str, nn.Cell]
) -> tuple[dict[str, Parameter], frozenset[str]]:
    """Return the parameters of everything that is trained, by name, and which of the names are not the network's."""
    weights = {} if network is None else named_parameters(network)
    own = frozenset(weights)
    learnt, state = _learnt_and_state(optimizers_of(root))
    known = {id(one) for one in weights.values()} | state
    of_others = [(place, name, one) for place, cell in beside.items() for name, one in named_parameters(cell).items()]
    of_root = [("", place, one) for place, one in _places(root) if id(one) in learnt]
    for place, name, one in [*of_others, *of_root]:
        if id(one) not in known:
            known.add(id(one))
            # A network and its loss may each have a `weight`.
            weights[name if name not in weights else f"{place}.{name}"] = one
    return weights, frozenset(weights) - own


def positional_count(network: nn.Cell) -> Optional[int]:
    """Return the maximum number of positional inputs of a network's `construct`; `None` if it takes any number."""
    kinds = [each.kind for each in inspect.signature(network.construct).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return sum(kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds)


def dropouts_of(network: nn.Cell) -> list[str]:
    """Return the class names of the dropout layers, which draw random numbers in training."""
    kinds = tuple(classes_of_nn(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")))
    dropping = [cell for _, cell in network.cells_and_names() if isinstance(cell, kinds) and not _keeps_all(cell)]
    return sorted({type(cell).__name__ for cell in dropping})


def _keeps_all(dropout: nn.Cell) -> bool:
    dropped = getattr(dropout, "p", getattr(dropout, "prob", None))  # named differently in each class
    return bool(dropped == 0 if dropped is not None else getattr(dropout, "keep_prob", None) == 1)


def rounds_differently_at_first(optimizer: Any) -> bool:
    """Return whether an optimizer's kernel rounds differently in the first steps of a process, as RMSProp on a CPU."""
    is_plain = isinstance(optimizer, nn.RMSProp) and not optimizer.centered
    return bool(is_plain and ms.get_context("device_target") == "CPU")
