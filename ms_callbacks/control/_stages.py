"""Stages of an unfreezing: the layers of a network, the groups of its optimizer, and the moments of those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import numpy as np
from mindspore import Parameter, nn

from ..core.arguments import nearest, quoted
from ..core.forward_hooks import statistics_of
from ..core.learning_rates import Rates
from ..core.parameters import Snapshot

__all__ = ["OPTIMIZERS", "Stage", "find_stages", "kind_of", "names_of", "places_of", "renew"]

# The optimizers that leave a parameter bit for bit as it is while its rate is 0, whatever its moments and the weight
# decay; and their states of each parameter, with the values that these begin with. The Adams that correct the bias of
# their moments count steps for all parameters together: moments that began at 0 later would make steps of up to six
# times the rate, so theirs are kept.
OPTIMIZERS: dict[str, dict[str, float]] = {
    "AdaMax": {},
    "Adam": {},
    "AdamWeightDecay": {"moments1": 0.0, "moments2": 0.0},
    "LazyAdam": {},
    "Momentum": {"moments": 0.0},
    "RMSProp": {"ms": 1.0, "mg": 0.0, "moment": 0.0},
    "SGD": {"accum": 0.0, "stat": 1.0},
}


class Stage(NamedTuple):
    """The layers that are trained from an epoch on, their parameters, and their cells that have running statistics."""

    epoch: int
    layers: tuple[str, ...]
    parameters: list[Parameter]
    normalising: list[nn.Cell]


def find_stages(owner: str, epochs: Mapping[int, Any], network: nn.Cell) -> list[Stage]:
    """Return the stages in order; raise if layers do not exist or overlap, or parameters are in none."""
    cells = {name: cell for name, cell in network.cells_and_names() if name}
    stages = []
    taken: dict[int, str] = {}
    for epoch in sorted(epochs):
        layers = names_of(owner, epochs[epoch])
        parameters: list[Parameter] = []
        normalising: list[nn.Cell] = []
        for name in layers:
            if name not in cells:
                raise ValueError(f"{owner}: the network has no layer {name!r} ({quoted(cells)}){nearest(name, cells)}")
            own = cells[name].trainable_params()
            if not own:
                raise ValueError(f"{owner}: layer {name!r} has no parameter that is trained")
            for one in own:
                if id(one) in taken:
                    raise ValueError(
                        f"{owner}: {one.name!r} is in {taken[id(one)]!r} and in {name!r}; name each layer once"
                    )
                taken[id(one)] = name
            parameters += own
            normalising += [cell for _, cell in cells[name].cells_and_names() if statistics_of(cell)]
        stages.append(Stage(epoch, layers, parameters, normalising))
    missing = [one.name for one in network.trainable_params() if id(one) not in taken]
    if missing:
        raise ValueError(
            f"{owner}: {quoted(missing[:3])}{', ...' if len(missing) > 3 else ''} belong to no epoch; add their "
            f"layers to one, or exclude them from training with freeze"
        )
    return stages


def names_of(owner: str, layers: Any) -> tuple[str, ...]:
    """Return the names of layers, of which there may be one alone."""
    names = (layers,) if isinstance(layers, str) else tuple(layers) if isinstance(layers, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{owner}: layers must be a name or a list of names, but got {layers!r}")
    return names


def kind_of(optimizer: Any) -> Optional[str]:
    """Return which of the supported optimizers it is, or is derived from; `None` if none."""
    kinds = [kind for kind in type(optimizer).__mro__ if kind.__module__.startswith("mindspore.nn.")]
    return kinds[0].__name__ if kinds and kinds[0].__name__ in OPTIMIZERS else None


def places_of(rates: Rates, stages: list[Stage]) -> Optional[list[int]]:
    """Return the place of each stage's rate; `None` if the optimizer's groups are not the stages."""
    groups = [{id(one) for one in trained} for trained in rates.trained]
    wanted = [{id(one) for one in stage.parameters} for stage in stages]
    if len(groups) != len(wanted) or any(each not in groups for each in wanted):
        return None
    return [groups.index(each) for each in wanted]


def renew(optimizer: Any, parameters: list[Parameter]) -> None:
    """Give parameters the moments of a new optimizer, where it counts no steps for all of them together."""
    chosen = {id(one) for one in parameters}
    places = [place for place, one in enumerate(optimizer.parameters) if id(one) in chosen]
    fresh = OPTIMIZERS[kind_of(optimizer) or ""]
    for attribute, value in fresh.items():
        held = getattr(optimizer, attribute, None)
        if held is not None and len(held) == len(optimizer.parameters):
            states = {held[place].name: held[place] for place in places}
            arrays = {name: np.full_like(one.asnumpy(), value) for name, one in states.items()}
            Snapshot(states, arrays).restore(together=False)
