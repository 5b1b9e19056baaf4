"""Show the layers of a network as a table, and their values at chosen steps, without changing its code."""

from __future__ import annotations

import inspect
import numbers
import os
from collections.abc import Iterable, Mapping
from typing import Any, Optional, Union

from mindspore import Tensor, nn

from ..core.arguments import check_bool, check_cell, check_file, check_int, check_path
from ..core.artifacts import Artifact, TableArtifact
from ..core.atomic_files import check_folder
from ..core.callback import TrainCallback
from ..core.console import counted, log_line
from ..core.forward_hooks import first_tensor, tensors_in
from ..core.model_parts import positional_count, take_apart
from ..core.path_template import PathTemplate
from ..core.placement import Needs
from ..core.plotting import check_matplotlib
from ..core.run import Run
from ._layer_contents import Contents
from ._layer_rows import LayerRow, rows_of
from ._layer_values import LayerValues, observed_values, values_table

__all__ = ["LayerRow", "ShapeInspector"]


class ShapeInspector(TrainCallback):
    """Print a table of layers before the first step, and the layers' values at chosen steps.

    The table has, for each call of a layer, name, type, kernel, stride, padding, shapes, dtype, parameters and
    multiply-adds; below, the totals and the memory. A batch runs through the network once, in evaluation mode and
    without gradients. Parameters, statistics, attributes of cells, flags and random state are unchanged afterwards,
    whatever the network writes in its forward pass, and so are later losses, in both modes; your own hooks run one more
    time. Operators that a network calls as functions (`ops.relu(x)`) have no cell and do not appear; a cell that is
    called twice has two rows. A layer that is never called has a row without shapes if it holds parameters.

    Multiply-adds are those of convolutions and dense layers, for one sample and without biases: as in torchinfo, except
    that they are for a single sample. If a layer with a matrix of weights is of an unknown kind, or is never called, so
    that its weights may be used by a function, they show as `?`, are not in the total, and the layer is named there.

    Args:
        inputs: what to run through the network: a Tensor, batch first, or a tuple of them; also numbers and strings,
            and lists or dicts within a tuple; a dict is passed as keyword arguments. Default: None, the inputs of the
            first training batch (required in sink mode on GPU and Ascend, where batches are not visible).
        depth: shows cells only down to this level, each with everything inside it, so that the columns add up to the
            network's at every depth. If such a cell is not called itself (a `CellList` that is iterated, a cell of
            which another method is called), its inner cells take its place. Default: None, the innermost.
        show_values_at: steps (from 1, over all epochs) whose batch is run once more, to print minimum, maximum, mean
            and share of zeros of each layer's output (of its first tensor), and to name layers whose output is not
            finite or empty, that are dead (all outputs 0) or saturated (95 % of a sigmoid's or tanh's outputs within 1
            % of its range of a bound). BatchNorm normalises by the batch there, as in a training step: until its
            running statistics match the batches, evaluation would show values that do not occur in any step. With
            BatchNorm, a layer is dead or saturated only if it is so with the running statistics as well. Default: ().
        contents: prints, at those steps, the first kernel of each convolution, the first channel of its output for the
            batch's first sample, and that sample's output of the last layer. Default: False.
        picture: draws the same as a grid into a PNG (needs `pip install 'ms-callbacks[plots]'`); a path whose name may
            contain `{step}` and `{epoch}`, relative to the working directory at construction. Default: None.
        file: where to print, as in `print`. Default: None, standard output.
        network: the network to inspect, if the Model was given a training cell that holds several and none of them is
            its `network`; it receives as many columns of the batch as its `construct` takes. Default: None, the trained
            one.

    Attributes:
        rows_ (list[LayerRow]): the table's data.
        values_ (dict[int, list[LayerValues]]): the values by step.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: no batch can be seen.

    Example:
        >>> inspector = ShapeInspector(inputs=Tensor(np.zeros((1, 4), np.float32)))
        >>> print(inspector.inspect(network))
        Layer  Type   Kernel  Stride  Padding  Input   Output  Dtype    Parameters  Multiply-adds
        ...
        Parameters: 43 (43 trainable)
        ...
    """

    transient = ("_layers",)

    def __init__(
        self,
        *,
        inputs: Any = None,
        depth: Optional[int] = None,
        show_values_at: Iterable[int] = (),
        contents: bool = False,
        picture: Union[str, os.PathLike[str], None] = None,
        file: Any = None,
        network: Optional[nn.Cell] = None,
    ) -> None:
        super().__init__()
        owner = "ShapeInspector"
        self.inputs = inputs
        self._given = None if inputs is None else _arguments(inputs)
        self.depth = None if depth is None else check_int(owner, "depth", depth, 1)
        if isinstance(show_values_at, (str, bytes)) or not isinstance(show_values_at, Iterable):
            raise TypeError(f"{owner}: show_values_at must be steps, such as (1, 401), but got {show_values_at!r}")
        self.show_values_at = tuple(check_int(owner, "show_values_at", step, 1) for step in show_values_at)
        self.contents = check_bool(owner, "contents", contents)
        self.picture = None if picture is None else check_path(owner, "picture", picture)
        self._picture = None if picture is None else PathTemplate(owner, os.fspath(picture))
        if self._picture is not None and self._picture.fields - {"epoch", "step"}:
            raise ValueError(f"{owner}: the name of picture may hold {{step}} and {{epoch}} only, but got {picture!r}")
        if (contents or picture) and not self.show_values_at:
            raise ValueError(f"{owner}: contents and picture show values; say at which steps: show_values_at=(1, 401)")
        self.file = check_file(owner, file)
        self.network = check_cell(owner, "network", network)
        self.rows_: list[LayerRow] = []
        self.values_: dict[int, list[LayerValues]] = {}
        self._layers: dict[str, nn.Cell] = {}  # the layers in the rows
        self._totals = ""

    def before_train(self, run: Run) -> None:
        """Show the table if the inputs are already known."""
        self.rows_, self.values_ = [], {}
        if self._given is not None:
            self._show_table(run.parts.network("ShapeInspector", self.network), *self._given)
        if self._given is None or self.show_values_at:
            run.step_hooks.on_step_begin(self, self._look)

    def needs(self, run: Run) -> Needs:
        """Require the network's output for a batch to be complete in this process."""
        return super().needs(run) | Needs.OUTPUTS

    def check(self, run: Run) -> None:
        """Raise if a picture could not be drawn, or batches cannot be seen."""
        super().check(run)
        network = run.parts.network("ShapeInspector", self.network)
        if self._given is not None:
            _check_call(network, *self._given)
        if self.picture is not None and self._picture is not None:
            name = self._picture.longest_name(run.epochs, run.epochs * run.steps_per_epoch)
            check_folder("ShapeInspector", self.picture, name)
            check_matplotlib("ShapeInspector")
        if self._given is None or self.show_values_at:
            instead = "pass inputs=Tensor(...) and no show_values_at"
            run.progress.check_sees_steps("ShapeInspector", instead=instead)

    def check_plan(self, run: Run) -> None:
        """Raise if the run does not have the requested steps."""
        late = [step for step in self.show_values_at if step > run.epochs * run.steps_per_epoch]
        if late:
            raise ValueError(
                f"ShapeInspector: show_values_at asks for {late}, but {counted(run.epochs, 'epoch')} of "
                f"{counted(run.steps_per_epoch, 'step')} end with step {run.epochs * run.steps_per_epoch}"
            )

    def inspect(self, network: nn.Cell, *inputs: Any, **named: Any) -> ShapeInspector:
        """Fill the table without training.

        Args:
            network: the network to inspect. For a training cell, it is the network inside, which gets the inputs; the
                optimizer is not run. If a MindSpore cell holds that network with its loss, a label after the inputs is
                ignored.
            inputs: what it takes, as it is called: Tensors, batch first, numbers, strings, and tuples, lists or dicts
                of them; none for the `inputs` of the inspector.
            named: what it takes by keyword.

        Returns:
            The inspector itself; `str(inspector)` is the table.
        """
        inside = take_apart(network).network
        if inside is None:
            raise ValueError(
                f"ShapeInspector: cannot tell which of the cells inside {type(network).__name__} is the network to "
                f"inspect; pass that one"
            )
        if inputs or named:
            _check_inputs((inputs, named))
            given = (inputs if inside is network else inputs[: positional_count(inside)], named)
        elif self._given is not None:
            given = self._given
        else:
            raise ValueError("ShapeInspector: inspect needs inputs: pass inspect(network, Tensor(...))")
        _check_call(inside, *given)
        self._fill(inside, *given)
        return self

    def __str__(self) -> str:
        """Return the table, or a line that says that there is none yet."""
        return str(self._table()) if self.rows_ else "ShapeInspector: no network has been inspected yet"

    def artifacts(self) -> list[Artifact]:
        """Return the layer table."""
        return [self._table()] if self.rows_ else []

    def _table(self) -> TableArtifact:
        header = "Layer Type Kernel Stride Padding Input Output Dtype Parameters Multiply-adds".split()
        cells = [
            [
                row.name,
                row.type,
                row.kernel,
                row.stride,
                row.padding,
                "-" if row.input_shape is None else str(row.input_shape),
                "-" if row.output_shape is None else str(row.output_shape),
                row.dtype,
                f"{row.parameters:,}",
                _cost(row),
            ]
            for row in self.rows_
        ]
        right = ("Parameters", "Multiply-adds")
        return TableArtifact("layer_table", "Layers", header, cells, right, self._totals)

    def _look(self, run: Run) -> None:
        """Show the table before the first step, and the values before the requested steps."""
        if not self.rows_:
            self._show_table(run.parts.network("ShapeInspector", self.network), self._inputs(run), {})
        if run.step in self.show_values_at:
            self._show_values(run)
        if run.step >= max(self.show_values_at, default=0):
            run.step_hooks.on_step_begin(self, None)

    def _inputs(self, run: Run) -> tuple[Any, ...]:
        return run.parts.inputs("ShapeInspector", run.batch, self.network)

    def _show_table(self, network: nn.Cell, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._fill(network, inputs, named)
        log_line(str(self), self.file)

    def _fill(self, network: nn.Cell, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        first = first_tensor((inputs, named))
        samples = max(first.shape[0], 1) if first is not None and first.shape else 1
        self.rows_, self._layers = rows_of(network, inputs, named, samples, self.depth)
        self._totals = _totals(network, (inputs, named), self.rows_)

    def _show_values(self, run: Run) -> None:
        contents = Contents()
        network = run.parts.network("ShapeInspector", self.network)
        self.values_[run.step] = observed_values(network, self._inputs(run), self._layers, contents.add)
        log_line(f"Outputs in epoch {run.epoch}, step {run.step}:", self.file)
        log_line(values_table(self.values_[run.step]), self.file)
        if self.contents:
            log_line(str(contents), self.file)
        if self._picture is not None:
            contents.draw(self._picture.path({"epoch": run.epoch, "step": run.step}))


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a network's positional and keyword arguments; raise unless it can run on them."""
    by_name = isinstance(inputs, Mapping)
    values = dict(inputs) if by_name else tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    if not values:
        raise ValueError("ShapeInspector: inputs must hold at least one Tensor, but it is empty")
    if by_name and not all(isinstance(name, str) for name in values):
        raise TypeError(f"ShapeInspector: inputs by keyword must have strings as names, but got {list(values)}")
    _check_inputs(values)
    return ((), values) if isinstance(values, dict) else (values, {})


def _check_call(network: nn.Cell, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raise if a network does not take the arguments."""
    signature = inspect.signature(network.construct)
    try:
        signature.bind(*inputs, **named)
    except TypeError as error:
        raise ValueError(
            f"ShapeInspector: {type(network).__name__} takes ({', '.join(signature.parameters)}), but inputs has "
            f"{len(inputs) + len(named)}: {error}; pass all that it takes, or the network inside as network=..."
        ) from None


def _check_inputs(value: Any) -> None:
    if isinstance(value, (tuple, list, Mapping)):
        for part in value.values() if isinstance(value, Mapping) else value:
            _check_inputs(part)
    elif isinstance(value, Tensor):
        if -1 in value.shape:
            shape = ", ".join("None" if size == -1 else str(size) for size in value.shape)
            zeros = ", ".join("1" if size == -1 else str(size) for size in value.shape)
            raise ValueError(
                f"ShapeInspector: inputs must be data of a fixed shape, but got a Tensor of shape ({shape}), which "
                f"holds none; pass zeros instead, such as Tensor(np.zeros(({zeros}), np.float32))"
            )
    elif value is not None and not isinstance(value, (numbers.Number, str)):
        raise TypeError(
            f"ShapeInspector: inputs must be a Tensor, a number, a string, or a tuple, list or dict of such, but got "
            f"{type(value).__name__}; for zeros of a shape, Tensor(np.zeros((1, 1, 32, 32), np.float32))"
        )


def _cost(row: LayerRow) -> str:
    if row.multiply_adds is None:
        return "?"
    return f"{row.multiply_adds:,} + ?" if row.uncounted else f"{row.multiply_adds:,}"


def _totals(network: nn.Cell, inputs: Any, rows: list[LayerRow]) -> str:
    parameters = list(network.get_parameters())
    total = sum(one.size for one in parameters)
    trainable = sum(one.size for one in parameters if one.requires_grad)
    known = sum(row.multiply_adds for row in rows if row.multiply_adds is not None)
    unknown = sorted({name for row in rows for name in row.uncounted})
    without = f", without {', '.join(unknown)}" if unknown else ""
    megabytes = [
        sum(one.size * one.itemsize for one in tensors_in(inputs)) / 1e6,
        sum(row.output_bytes for row in rows) / 1e6,
        sum(one.size * one.itemsize for one in parameters) / 1e6,
    ]
    return (
        f"Parameters: {total:,} ({trainable:,} trainable)\n"
        f"Multiply-adds: {known:,} (one sample{without})\n"
        f"Memory: {megabytes[0]:.2f} MB inputs, {megabytes[1]:.2f} MB outputs, {megabytes[2]:.2f} MB parameters"
    )
