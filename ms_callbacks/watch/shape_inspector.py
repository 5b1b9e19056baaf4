"""Shows the layers of a network as a table, and their values at chosen steps, without touching its code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional

from mindspore import Tensor, nn

from ..core._callback import STEP_BEGIN, TrainCallback
from ..core._checks import check_bool, check_int, check_text
from ..core._context import Run
from ..core._files import check_folder
from ..core._layers import first_tensor, layers_of, observe
from ..core._output import emit
from ..core._pictures import check_matplotlib
from ..core._table import render
from ..core._template import PathTemplate
from ._layer_contents import Contents
from ._layer_facts import geometry, multiply_adds
from ._layer_values import LayerValues, values_of, values_table

__all__ = ["LayerRow", "ShapeInspector"]


@dataclass(frozen=True)
class LayerRow:
    """A call of a layer: its name and type, its geometry, shapes as tuples, and what it costs.

    A shape is `None` where a call takes or gives no Tensor. `parameters` counts each parameter at its first call only,
    so that the column adds up; `multiply_adds` is for one sample, and `None` where it is not known how to count them.
    """

    name: str
    type: str
    kernel: str
    stride: str
    padding: str
    input_shape: Optional[tuple[int, ...]]
    output_shape: Optional[tuple[int, ...]]
    dtype: str
    parameters: int
    multiply_adds: Optional[int]
    output_bytes: int


class ShapeInspector(TrainCallback):
    """Prints the table of layers before the first step, and the layers' values at the steps that are asked for.

    For each call of a layer: name, type, kernel, stride, padding, shapes, dtype, parameters and multiply-adds; below,
    the totals and the memory. A batch runs through the network once, in evaluation mode and without gradients: weights,
    statistics, random state and later losses stay what they would be without it, in both modes. Operators that a
    network calls as functions (`ops.relu(x)`) have no cell and do not appear; a cell that is called twice has two rows.
    On MindSpore 2.8 and 2.9 in GRAPH mode, the step after a look at values compiles the network anew, and random
    numbers that it draws, as in Dropout, begin anew with it.

    Multiply-adds are those of convolutions and dense layers, for one sample, biases left out, as torchinfo counts
    them but for a single sample. Where a layer with a matrix of weights is of a kind that is not known, they show as
    `?` and are not in the total.

    Args:
        inputs: what to run through the network: a Tensor or a tuple of Tensors, batch first. Default: None, the inputs
            of the first training batch (needed in sink mode on GPU and Ascend, where batches are not seen).
        depth: shows cells down to this level only, each with all that it holds. Default: None, the innermost.
        show_values_at: steps (from 1, over all epochs) whose batch is run once more, to print minimum, maximum, mean
            and share of zeros of each layer's output, and to name layers that are dead (all outputs 0) or saturated
            (95 % of a sigmoid's or tanh's outputs within 1 % of its range of a bound). Default: ().
        contents: prints, at those steps, the first kernel of each convolution, the first channel of its output for the
            batch's first sample, and that sample's output of the last layer. Default: False.
        picture: draws the same as a grid into a PNG (needs `pip install 'ms-callbacks[plots]'`); a path whose name may
            hold `{step}` and `{epoch}`. Default: None.
        file: where to print, as in `print`. Default: None, the standard output.

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

    def __init__(
        self,
        *,
        inputs: Any = None,
        depth: Optional[int] = None,
        show_values_at: Iterable[int] = (),
        contents: bool = False,
        picture: Optional[str] = None,
        file: Any = None,
    ) -> None:
        super().__init__()
        owner = "ShapeInspector"
        self.inputs = inputs
        self._given = None if inputs is None else _as_tensors(inputs)
        self.depth = None if depth is None else check_int(owner, "depth", depth, 1)
        if isinstance(show_values_at, (str, bytes)) or not isinstance(show_values_at, Iterable):
            raise TypeError(f"{owner}: show_values_at must be steps, such as (1, 401), but got {show_values_at!r}")
        self.show_values_at = tuple(check_int(owner, "show_values_at", step, 1) for step in show_values_at)
        self.contents = check_bool(owner, "contents", contents)
        self.picture = picture
        self._picture = None if picture is None else PathTemplate(owner, check_text(owner, "picture", picture))
        if self._picture is not None and self._picture.fields - {"epoch", "step"}:
            raise ValueError(f"{owner}: the name of picture may hold {{step}} and {{epoch}} only, but got {picture!r}")
        if (contents or picture) and not self.show_values_at:
            raise ValueError(f"{owner}: contents and picture show values; say at which steps: show_values_at=(1, 401)")
        if file is not None and not hasattr(file, "write"):
            raise TypeError(f"{owner}: file must be something to print to, such as an open file, but got {file!r}")
        self.file = file
        self.rows_: list[LayerRow] = []
        self.values_: dict[int, list[LayerValues]] = {}
        self._totals = ""

    def on_train_begin(self, run_context: Any) -> None:
        """Shows the table where the inputs are known already."""
        super().on_train_begin(run_context)
        self.rows_, self.values_ = [], {}
        if self._given is not None:
            self._show_table(self._run.network, self._given)
        if self._given is None or self.show_values_at:
            self.at_step(STEP_BEGIN, self._look)

    def check(self, run: Run) -> None:
        """Raises where a picture could not be made, or batches are not seen."""
        super().check(run)
        if self.picture is not None:
            check_folder("ShapeInspector", self.picture)
            check_matplotlib("ShapeInspector")
        if run.is_sinking and (self._given is None or self.show_values_at):
            raise ValueError(
                "ShapeInspector: in sink mode batches go to the device unseen; pass inputs=Tensor(...) and no "
                "show_values_at, or train with dataset_sink_mode=False"
            )

    def check_plan(self, run: Run) -> None:
        """Raises where the run does not have the steps asked for."""
        late = [step for step in self.show_values_at if step > run.epochs * run.steps_per_epoch]
        if late:
            raise ValueError(
                f"ShapeInspector: show_values_at asks for {late}, but {run.epochs} epochs of {run.steps_per_epoch} "
                f"steps end with step {run.epochs * run.steps_per_epoch}"
            )

    def inspect(self, network: nn.Cell, *inputs: Any) -> ShapeInspector:
        """Fills the table without training.

        Args:
            network: the network to look at.
            inputs: Tensors to run through it, batch first; none for those that the inspector was made with.

        Returns:
            The inspector itself; `str(inspector)` is the table.
        """
        given = _as_tensors(inputs) if inputs else self._given
        if given is None:
            raise ValueError("ShapeInspector: inspect needs inputs: pass inspect(network, Tensor(...))")
        self._fill(network, given)
        return self

    def __str__(self) -> str:
        """The table, or a line that says there is none yet."""
        if not self.rows_:
            return "ShapeInspector: no network has been looked at yet"
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
                "?" if row.multiply_adds is None else f"{row.multiply_adds:,}",
            ]
            for row in self.rows_
        ]
        return f"{render(header, cells, right=('Parameters', 'Multiply-adds'))}\n{self._totals}"

    def _look(self, run_context: Any) -> None:
        """Shows the table before the first step, and the values before the steps asked for."""
        run = self._run
        if not self.rows_:
            self._show_table(run.network, run.inputs("ShapeInspector"))
        if run.step in self.show_values_at:
            self._show_values(run)
        if run.step >= max(self.show_values_at, default=0):
            self.at_step(STEP_BEGIN)

    def _show_table(self, network: nn.Cell, inputs: tuple[Tensor, ...]) -> None:
        self._fill(network, inputs)
        emit(str(self), self.file)

    def _fill(self, network: nn.Cell, inputs: tuple[Tensor, ...]) -> None:
        self.rows_ = []
        samples = inputs[0].shape[0] if inputs[0].shape else 1
        shown = layers_of(network, self.depth)
        counted: set[int] = set()
        costs: list[Optional[int]] = []  # of the calls since the last row: a row is for all that ran within it

        def see(name: str, layer: nn.Cell, layer_inputs: tuple[Any, ...], output: Any) -> None:
            first, out = first_tensor(layer_inputs), first_tensor(output)
            takes, gives = (None if one is None else tuple(one.shape) for one in (first, out))
            if not layer.name_cells() or layer._params:
                costs.append(multiply_adds(layer, takes, gives))
            if name not in shown:
                return
            new = [one for one in layer.get_parameters() if id(one) not in counted]
            counted.update(id(one) for one in new)
            known = [cost for cost in costs if cost is not None]
            self.rows_.append(
                LayerRow(
                    name,
                    type(layer).__name__,
                    *geometry(layer),
                    takes,
                    gives,
                    "-" if out is None else str(out.dtype),
                    sum(one.size for one in new),
                    sum(known) // samples if len(known) == len(costs) else None,
                    0 if out is None else out.size * out.itemsize,
                )
            )
            costs.clear()

        observe(network, inputs, {**layers_of(network), **shown}, see)
        self._totals = _totals(network, inputs, self.rows_)

    def _show_values(self, run: Run) -> None:
        self.values_[run.step], contents = [], Contents()

        def see(name: str, layer: nn.Cell, inputs: tuple[Any, ...], output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is None:
                return
            array = tensor.asnumpy()
            self.values_[run.step].append(values_of(name, type(layer).__name__, array))
            contents.add(name, layer, array)

        observe(run.network, run.inputs("ShapeInspector"), layers_of(run.network, self.depth), see)
        emit(f"Outputs in epoch {run.epoch}, step {run.step}:", self.file)
        emit(values_table(self.values_[run.step]), self.file)
        if self.contents:
            emit(str(contents), self.file)
        if self._picture is not None:
            contents.draw(self._picture.path({"epoch": run.epoch, "step": run.step}))


def _as_tensors(inputs: Any) -> tuple[Tensor, ...]:
    tensors = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    for each in tensors:
        if not isinstance(each, Tensor):
            raise TypeError(
                f"ShapeInspector: inputs must be a Tensor or a tuple of Tensors, but got {type(each).__name__}; "
                f"for zeros of a shape, Tensor(np.zeros((1, 1, 32, 32), np.float32))"
            )
    if not tensors:
        raise ValueError("ShapeInspector: inputs must hold at least one Tensor, but it is empty")
    return tensors


def _totals(network: nn.Cell, inputs: tuple[Tensor, ...], rows: list[LayerRow]) -> str:
    parameters = list(network.get_parameters())
    total = sum(one.size for one in parameters)
    trainable = sum(one.size for one in parameters if one.requires_grad)
    known = sum(row.multiply_adds for row in rows if row.multiply_adds is not None)
    unknown = sorted({row.type for row in rows if row.multiply_adds is None})
    without = f", without {', '.join(unknown)}" if unknown else ""
    megabytes = [
        sum(one.size * one.itemsize for one in inputs) / 1e6,
        sum(row.output_bytes for row in rows) / 1e6,
        sum(one.size * one.itemsize for one in parameters) / 1e6,
    ]
    return (
        f"Parameters: {total:,} ({trainable:,} trainable)\n"
        f"Multiply-adds: {known:,} (one sample{without})\n"
        f"Memory: {megabytes[0]:.2f} MB inputs, {megabytes[1]:.2f} MB outputs, {megabytes[2]:.2f} MB parameters"
    )
