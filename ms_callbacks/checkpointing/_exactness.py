"""Find what a resume does not reproduce to the last bit, by the names of operations and layers."""

from __future__ import annotations

from collections.abc import Iterator

from mindspore import nn

from ..core.mindspore_compat import CAN_BEGIN_WITHIN, VERSION
from ..core.model_parts import dropouts_of, rounds_differently_at_first
from ..core.run import Run
from ._dataset_order import Order, is_seeded

__all__ = ["differing"]


def differing(run: Run, order: Order, *, replays: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield reasons, each with the names of what differs because of it; an empty list means that nothing does."""
    unordered = order.python if order.threads > 1 else []
    if not CAN_BEGIN_WITHIN:
        yield f"MindSpore {VERSION} starts a dataset from its first epoch again", order.seeded + order.drawn
        yield "cannot be known: if random numbers are drawn there", order.python
    else:
        if not is_seeded():
            yield "no seed: call mindspore.set_seed first", order.seeded + order.drawn + order.in_processes
        elif not replays:
            yield "replay=False", order.drawn
        if not replays:
            yield "replay=False, if random numbers are drawn there", order.python
        elif run.progress.is_sinking:
            yield "if random numbers are drawn there, in sink mode", order.python
        elif unordered:
            yield "if random numbers are drawn there, in threads that share them: num_parallel_workers=1", unordered
    yield "random numbers of the network cannot continue", dropouts_of(run.parts.train_network)
    if any(map(rounds_differently_at_first, run.parts.optimizers[:1])):
        yield "MindSpore's kernel rounds differently in its first steps of a process", ["RMSProp"]
    yield (
        "optimizers in a Python list, whose moments MindSpore does not list",
        _hidden_optimizers(run.parts.train_network),
    )


def _hidden_optimizers(cell: nn.Cell) -> list[str]:
    """Return where a training cell holds optimizers whose parameters it does not list, as with `boost_level`."""
    listed = {id(parameter) for parameter in cell.get_parameters()}
    return [
        f"{type(each).__name__}.{name}"
        for _, each in cell.cells_and_names()
        for name, value in vars(each).items()
        if isinstance(value, (list, tuple))
        and any(
            isinstance(one, nn.Optimizer) and any(id(parameter) not in listed for parameter in one.get_parameters())
            for one in value
        )
    ]
