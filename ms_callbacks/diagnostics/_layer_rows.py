"""Build the rows of a network's table: which cells have one, and which parameters and multiply-adds belong to it.

A row owns what its cell contains in the tree of cells, whenever it is called: a container that is iterated is never
called itself, and what runs in it must not be counted for the layer that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

from mindspore import nn

from ..core.forward_hooks import first_tensor, observe
from ..core.mindspore_compat import own_parameters
from ..core.multiply_adds import multiply_adds
from ._layer_facts import geometry

__all__ = ["LayerRow", "rows_of"]

Shape = Optional[tuple[int, ...]]


@dataclass(frozen=True)
class LayerRow:
    """A call of a layer: its name and type, its geometry, shapes as tuples, and its cost.

    A shape is `None` if a call takes or returns no Tensor, and both are if the layer is never called itself.
    `parameters` counts each parameter in one row only, so that the column adds up; `multiply_adds` is for one sample,
    and `None` if none of them can be counted. `uncounted` names what is not included.
    """

    name: str
    type: str
    kernel: str
    stride: str
    padding: str
    input_shape: Shape
    output_shape: Shape
    dtype: str
    parameters: int
    multiply_adds: Optional[int]
    output_bytes: int
    uncounted: tuple[str, ...] = ()


class _Call(NamedTuple):
    """An observed call of a cell; `cost` is its own, without that of inner cells."""

    cell: nn.Cell
    takes: Shape
    gives: Shape
    dtype: str
    output_bytes: int
    cost: Optional[int]


class _Shown(NamedTuple):
    """A cell that has rows, and the ids of the cells that they stand for: everything inside it, or only itself."""

    name: str
    cell: nn.Cell
    within: dict[int, nn.Cell]


class _Row(NamedTuple):
    """A row under construction: its call, if any, and the calls whose costs belong to it."""

    shown: _Shown
    call: Optional[_Call]
    parts: list[_Call]


def rows_of(
    network: nn.Cell, inputs: tuple[Any, ...], named: dict[str, Any], samples: int, depth: Optional[int]
) -> tuple[list[LayerRow], dict[str, nn.Cell]]:
    """Run a batch of `samples`; return a row for each call of a layer, and the layers shown, by name.

    The layers are the innermost cells, or those at `depth`; cells with parameters of their own have a row for these. If
    a cell at `depth` is not called itself, such as a list that is iterated or a cell used through another method,
    its inner cells take its place. A layer that is never called has a row if it holds parameters.
    """
    calls: list[_Call] = []

    def see(name: str, cell: nn.Cell, taken: tuple[Any, ...], output: Any) -> None:
        first, out = first_tensor(taken), first_tensor(output)
        takes, gives = (None if one is None else tuple(one.shape) for one in (first, out))
        cost = multiply_adds(cell, takes, gives)
        dtype, size = ("-", 0) if out is None else (str(out.dtype), out.size * out.itemsize)
        calls.append(_Call(cell, takes, gives, dtype, size, None if cost is None else cost // samples))

    observe(network, inputs, dict(network.cells_and_names()), see, named=named)
    shown = _shown(network, depth, {id(call.cell) for call in calls})
    return _filled(network, _rows(shown, calls)), {one.name: one.cell for one in shown}


def _shown(network: nn.Cell, depth: Optional[int], called: set[int]) -> list[_Shown]:
    """Return the cells that have rows, in the order of the tree."""
    names = {id(cell): name for name, cell in network.cells_and_names()}
    shown = []

    def add(cell: nn.Cell, levels: Optional[int]) -> None:
        name = names.pop(id(cell), None)
        if name is None:  # a cell in two places has its row in the first
            return
        within = {id(one): one for _, one in cell.cells_and_names()}
        is_whole = levels == 0 and (id(cell) in called or called.isdisjoint(within))
        if is_whole or _is_layer(cell):
            shown.append(_Shown(name or type(cell).__name__, cell, within if is_whole else {id(cell): cell}))
        for child in cell.name_cells().values():
            if is_whole:
                for _, one in child.cells_and_names():
                    names.pop(id(one), None)
            else:
                add(child, None if levels is None else max(levels - 1, 0))

    add(network, depth)
    return shown


def _rows(shown: list[_Shown], calls: list[_Call]) -> list[_Row]:
    """Return the rows: calls in the order in which they end, then the layers that are never called."""
    by_cell = {id(one.cell): one for one in shown}
    rows: list[_Row] = []
    waiting: list[_Call] = []
    for call in calls:
        if _is_layer(call.cell):
            waiting.append(call)
        one = by_cell.get(id(call.cell))
        if one is not None:  # it owns what ran within
            rows.append(_Row(one, call, [each for each in waiting if id(each.cell) in one.within]))
            waiting = [each for each in waiting if id(each.cell) not in one.within]
    for call in waiting:  # ran outside the cell that contains it, after that cell's last call
        next(row.parts for row in reversed(rows) if id(call.cell) in row.shown.within).append(call)
    called = {id(call.cell) for call in calls}
    return rows + [_Row(one, None, []) for one in shown if id(one.cell) not in called]


def _filled(network: nn.Cell, rows: list[_Row]) -> list[LayerRow]:
    names = {id(cell): name for name, cell in network.cells_and_names()}
    called = {id(part.cell) for row in rows for part in row.parts}
    counted: set[int] = set()  # parameters, and cells that are never called
    filled = []
    for shown, call, parts in rows:
        cells = {key: cell for key, cell in shown.within.items() if key not in counted}
        own = {id(one): one.size for cell in cells.values() for one in cell.get_parameters(expand=False)}
        parameters = sum(size for key, size in own.items() if key not in counted)
        if call is None and not parameters:
            continue
        idle = [key for key, cell in cells.items() if key not in called and multiply_adds(cell, None, None) is None]
        counted.update(cells, own)
        known = [part.cost for part in parts if part.cost is not None]
        uncounted = {type(part.cell).__name__ for part in parts if part.cost is None}
        uncounted.update(f"{names[key] or type(network).__name__} (never called)" for key in idle)
        filled.append(
            LayerRow(
                shown.name,
                type(shown.cell).__name__,
                *geometry(shown.cell),
                call.takes if call else None,
                call.gives if call else None,
                call.dtype if call else "-",
                parameters,
                sum(known) if any(known) or not uncounted else None,
                call.output_bytes if call else 0,
                tuple(sorted(uncounted)),
            )
        )
    return filled


def _is_layer(cell: nn.Cell) -> bool:
    """Return whether a cell seems to compute something itself: it has no inner cells, or parameters of its own."""
    return not cell.name_cells() or bool(own_parameters(cell))
