"""What of MindSpore is private or differs between its versions, each a function that says which version and why.

Nothing else in this package reads a private attribute of MindSpore's, or asks for its version: a test holds that. A
name of MindSpore's that a version lacks is looked up here too.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, Callable, NamedTuple, Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops, train
from mindspore import dataset as ds
from mindspore.parallel import _auto_parallel_context
from mindspore.train import Model

try:
    from mindspore.graph.api import _pynative_executor  # 2.9 and newer, which warn of the other
except ImportError:
    from mindspore.common.api import _pynative_executor

__all__ = [
    "CAN_BEGIN_WITHIN",
    "COUNTS_STEPS",
    "RATE_CALLBACKS",
    "SIGNAL_CALLBACKS",
    "VERSION",
    "MadeWith",
    "RunArguments",
    "TrainingCall",
    "backbone_of",
    "copied_metrics",
    "detached",
    "devices_of_auto_parallel",
    "eval_indexes_of",
    "evaluating_model",
    "export_onnx",
    "finish_pending",
    "flags_kept",
    "give_unique_names",
    "holds_its_graph",
    "init_step_of",
    "is_lars",
    "is_queued",
    "is_uninitialised",
    "kind_of_storage",
    "launches_block",
    "made_with",
    "metrics_of",
    "naming_numpy",
    "numpy_mismatch",
    "own_parameters",
    "own_tensors",
    "parallel_context_kept",
    "parallel_mode_of",
    "pipeline_stages",
    "random_state",
    "recording_cells",
    "repair_among",
    "set_recording_cells",
    "set_training",
    "stop_recording",
    "tensor_classes",
    "training_call",
    "update_metrics",
    "within_loss_cell",
    "write_into",
]

VERSION: str = ms.__version__
# MindSpore 2.0 counts an optimizer's steps only where its rate goes by them.
COUNTS_STEPS = not VERSION.startswith("2.0.")
# MindSpore 2.8 and newer can begin a dataset in its middle.
CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")
# MindSpore's own callbacks that set a rate, and those that handle signals, as far as a version has them.
RATE_CALLBACKS: tuple[type, ...] = tuple(
    getattr(train, name) for name in ("LearningRateScheduler", "ReduceLROnPlateau") if hasattr(train, name)
)
SIGNAL_CALLBACKS: tuple[type, ...] = (train.OnRequestExit,) if hasattr(train, "OnRequestExit") else ()

# By operator and seed, how often MindSpore has drawn; the package's `seed` attribute is a function, hence the import.
_KERNEL_SEEDS: dict[Any, Any] = importlib.import_module("mindspore.common.seed")._KERNEL_SEED
# What MindSpore's errors say where NumPy 2 is the reason.
_NUMPY_1_ONLY = ("Unable to avoid copy", "numpy.core.multiarray")


# Models


class MadeWith(NamedTuple):
    """What a Model was made with."""

    network: nn.Cell
    loss_fn: Any
    optimizer: Any


def made_with(model: Model) -> MadeWith:
    """The network, the loss function and the optimizer that a Model was made with, of which it tells none.

    MindSpore 2.0 to 2.10 keep them private. Goes when a Model has them as attributes.
    """
    return MadeWith(model._network, model._loss_fn, model._optimizer)


def parallel_mode_of(model: Model) -> str:
    """How a Model shares its work out; MindSpore's context no longer tells it once the Model is made.

    MindSpore 2.0 to 2.10 keep it private. Goes when a Model tells it.
    """
    return str(model._parallel_mode)


def eval_indexes_of(model: Model) -> Optional[list[int]]:
    """Where loss, prediction and label are among what a Model's evaluation gives; `None` where nobody has said.

    MindSpore 2.0 to 2.10 keep them private. Goes when a Model tells them.
    """
    indexes: Optional[list[int]] = getattr(model, "_eval_indexes", None)
    return indexes


def metrics_of(model: Model) -> dict[str, Any]:
    """The metrics that a Model was made with, by name.

    MindSpore 2.0 to 2.10 keep them private. Goes when a Model tells them.
    """
    return dict(getattr(model, "_metric_fns", None) or {})


@contextlib.contextmanager
def copied_metrics(model: Model) -> Iterator[dict[str, Any]]:
    """Copies of a Model's metrics in their place.

    MindSpore 2.0 to 2.10 evaluate into the Model's own metrics alone. Goes when `Model.eval` takes others.
    """
    metrics = model._metric_fns
    model._metric_fns = copy.deepcopy(metrics)
    try:
        yield model._metric_fns
    finally:
        model._metric_fns = metrics


def update_metrics(model: Model, outputs: Any) -> None:
    """Gives the metrics the outputs of a first batch, as an evaluation does.

    MindSpore 2.0 to 2.10 do it within `Model.eval` alone. Goes when a batch can be given to a Model's metrics.
    """
    model._clear_metrics()
    model._update_metrics(outputs)


def set_training(model: Model, network: nn.Cell) -> None:
    """Sets the cells to training, where the Model would do so at its next step.

    MindSpore 2.0 to 2.10 remember in the Model whether they have done so. Goes when a step sets nothing.
    """
    model._check_network_mode(network, True)


@contextlib.contextmanager
def flags_kept(cell: nn.Cell) -> Iterator[None]:
    """Gives back the `training` flag of each cell, and the phase that the next call would be compiled for.

    MindSpore 2.0 to 2.10 compile by the phase that a cell was called in last. Goes when a cell is asked without being
    changed.
    """
    phase, flags = cell._phase, [(each, each.training) for _, each in cell.cells_and_names()]
    try:
        yield
    finally:
        for each, training in flags:
            each.add_flags(training=training)
        cell._phase = phase


# Calls


class TrainingCall(NamedTuple):
    """The call of `Model.train` or `Model.fit` that is under way: what it was given, and who hands on its hooks."""

    model: Model
    epoch: int
    initial_epoch: int
    valid_infos: Any
    list_callback: Any


class RunArguments(dict[str, Any]):
    """The parameters of a run, as MindSpore passes them to callbacks: `args["epoch_num"]` and `args.epoch_num`.

    MindSpore's own class for them is private. Goes when it has a public one.
    """

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__  # type: ignore[assignment]


def training_call() -> Optional[TrainingCall]:
    """The call that is under way; `None` where that is not MindSpore's own loop.

    MindSpore 2.0 to 2.10 tell a callback none of it, so the calling frames are asked. Goes when a callback is given its
    Model and what `fit` evaluates.
    """
    frame = _calling_frame(lambda values: "valid_infos" in values)
    if frame is None:
        return None
    values = frame.f_locals
    return TrainingCall(
        values["self"], values["epoch"], values["initial_epoch"], values["valid_infos"], values.get("list_callback")
    )


def evaluating_model() -> Optional[Model]:
    """The Model whose evaluation is under way, which MindSpore 2.0 to 2.10 keep from a callback; `None` for none.

    Goes when a callback is given its Model.
    """
    frame = _calling_frame(lambda values: True)
    return None if frame is None else frame.f_locals["self"]  # type: ignore[no-any-return]


def _calling_frame(is_it: Callable[[Mapping[str, Any]], bool]) -> Optional[FrameType]:
    frame: Optional[FrameType] = sys._getframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), Model) and is_it(frame.f_locals):
            return frame
        frame = frame.f_back
    return None


# Cells, parameters and tensors


def own_parameters(cell: nn.Cell) -> dict[str, Parameter]:
    """The parameters that a cell holds itself, and not by a cell of its own, by attribute.

    MindSpore 2.0 to 2.10 list those of all cells within too. Goes when `Cell` lists its own.
    """
    held: dict[str, Parameter] = cell._params
    return held


def own_tensors(cell: nn.Cell) -> dict[str, Tensor]:
    """The same, and its buffers, which 2.7 and newer have.

    Goes with `own_parameters`.
    """
    return {**own_parameters(cell), **vars(cell).get("_buffers", {})}


def within_loss_cell(cell: nn.Cell) -> tuple[nn.Cell, Any]:
    """The network and the loss in a `WithLossCell`.

    MindSpore 2.0 to 2.10 keep both private. Goes when the cell has them as attributes.
    """
    return cell._backbone, cell._loss_fn


def backbone_of(cell: nn.Cell) -> nn.Cell:
    """The network in a cell that MindSpore has put around it.

    MindSpore 2.0 to 2.10 keep it private. Goes with `within_loss_cell`.
    """
    return cell._backbone  # type: ignore[no-any-return]


def classes_of_nn(names: Iterable[str]) -> list[type]:
    """The classes of `mindspore.nn` by these names, those that this version has.

    2.0 has fewer than 2.10. Goes with MindSpore 2.0.
    """
    return [getattr(nn, name) for name in names if hasattr(nn, name)]


def convolutions_2d() -> tuple[type, ...]:
    """The classes of 2-D convolutions; those of `mindspore.mint` too, which 2.3 and newer have.

    Goes with MindSpore 2.0.
    """
    try:
        mint = importlib.import_module("mindspore.mint.nn")
    except ImportError:
        return nn.Conv2d, nn.Conv2dTranspose
    theirs = [getattr(mint, name, None) for name in ("Conv2d", "ConvTranspose2d")]
    return (nn.Conv2d, nn.Conv2dTranspose, *(kind for kind in theirs if isinstance(kind, type)))


def is_lars(optimizer: Any) -> bool:
    """Whether an optimizer is `nn.LARS`, which wraps another; MindSpore 2.10 has none.

    Goes with the last MindSpore that has it, 2.9.
    """
    lars = getattr(nn, "LARS", None)
    return lars is not None and isinstance(optimizer, lars)


def write_into(parameter: Parameter, tensor: Tensor) -> None:
    """Writes into the memory that a parameter has; `copy_`, absent in 2.0, does not copy twice.

    Goes with MindSpore 2.0.
    """
    (getattr(parameter, "copy_", None) or functools.partial(ops.assign, parameter))(tensor)


def detached(value: Any) -> Any:
    """The tensor without what it was computed from; anything else as it is.

    In PYNATIVE mode of MindSpore 2.8 and newer, an output holds on to the graph that gradients would go back through;
    older ones have no such graph, and a `Tensor` of 2.0 no `data`. Goes with MindSpore 2.0, and is `value.data` then.
    """
    return getattr(value, "data", value) if isinstance(value, Tensor) else value


def holds_its_graph() -> bool:
    """Whether an output holds on to the graph behind it, and `detached` lets it go: in PYNATIVE mode, not on 2.0.

    Goes with `detached`.
    """
    return ms.get_context("mode") == ms.PYNATIVE_MODE and hasattr(Tensor, "data")


def tensor_classes() -> list[type]:
    """The classes of tensors: 2.0 to 2.7 have another for results that are still being computed.

    Goes with MindSpore 2.7.
    """
    with contextlib.suppress(ImportError):
        return [Tensor, importlib.import_module("mindspore.common._stub_tensor").StubTensor]
    return [Tensor]


def random_state() -> Callable[[], None]:
    """What gives back the state of MindSpore's random numbers, as it is now; 2.0 has no generator.

    MindSpore 2.0 to 2.10 count their draws in a private table. Goes when `set_rng_state` gives that back too.
    """
    kernels = dict(_KERNEL_SEEDS)
    generator = ms.get_rng_state() if hasattr(ms, "get_rng_state") else None

    def give_back() -> None:
        # What a network draws by functions moves these on, and with them all that it draws later.
        _KERNEL_SEEDS.clear()
        _KERNEL_SEEDS.update(kernels)
        if generator is not None:
            ms.set_rng_state(generator)

    return give_back


def export_onnx(network: nn.Cell, inputs: tuple[Any, ...], path: str) -> None:
    """Writes ONNX, by a module of its own since 2.8.

    Goes with MindSpore 2.7.
    """
    if hasattr(ms, "onnx"):
        ms.onnx.export(network, *inputs, file_name=path)
    else:
        ms.export(network, *inputs, file_name=path, file_format="ONNX")


def launches_block() -> bool:
    """Whether each operator of PYNATIVE mode is waited for.

    MindSpore tells of its old setting for this to anyone, of the new one (2.6 and newer) to itself alone. Goes when
    `mindspore.runtime` tells it.
    """
    settings = getattr(getattr(ms, "_c_expression", None), "RuntimeConf", None)
    return bool(ms.get_context("pynative_synchronize") or (settings and settings.get_instance().is_launch_blocking()))


# Recording


def stop_recording() -> None:
    """Ends the recording that an exception inside `construct` has left open in PYNATIVE mode.

    MindSpore 2.8 to 2.10 (2.0 for what is no `Exception`, such as `KeyboardInterrupt`) go on recording for a gradient
    then: writing into a parameter fails, and the steps of a later run train on a wrong gradient without a word. Nothing
    is recorded between two steps, so there is nothing to lose there. Goes when MindSpore closes what it has opened.
    """
    if ms.get_context("mode") == ms.PYNATIVE_MODE and _pynative_executor.grad_flag():
        _pynative_executor.clear_res()


def recording_cells(cell: nn.Cell) -> list[str]:
    """The names of the cells that were told by `set_grad` to record their forward pass for a gradient.

    MindSpore 2.0 alone changes which ones do. Goes with it.
    """
    return [name for name, each in cell.cells_and_names() if each.requires_grad]


def set_recording_cells(cell: nn.Cell, names: Optional[Collection[str]]) -> None:
    """Has those cells record, and no others, on MindSpore 2.0, where training changes which ones do; `None` for as is.

    In PYNATIVE mode its gradients call `set_grad(False)` on a cell that they had to run themselves. A training cell
    that takes two gradients of one network therefore runs it twice in its first step and three times in each later
    one, and BatchNorm's statistics move as often. Goes with MindSpore 2.0.
    """
    if names is not None and VERSION.startswith("2.0."):
        for name, each in cell.cells_and_names():
            each.set_grad(name in names)


def finish_pending() -> None:
    """Waits for the operators that PYNATIVE mode runs behind Python, so that what fails in them fails here.

    MindSpore 2.0 to 2.10 have it for all of a device only, as `runtime.synchronize`. Goes when operators can be waited
    for.
    """
    _pynative_executor.sync()


def init_step_of(dataset: Any) -> Optional[int]:
    """The step that a dataset itself was told to begin at; `None` where it was not, and on MindSpore 2.0.

    `get_init_step`, of 2.8 and newer, asks the datasets below too, from where it cannot be put back. Goes when a
    dataset tells its own.
    """
    step: Optional[int] = getattr(dataset, "_global_step", None)
    return step


def is_queued(dataset: Any) -> bool:
    """Whether sink mode has made a queue of a dataset already, in `Model.build` or an earlier `Model.train`.

    It is used again, and `set_init_step` has no effect on it any more (MindSpore 2.8 to 2.10). Goes when a dataset that
    is used again begins where it is told.
    """
    return hasattr(dataset, "__transfer_dataset__")


def devices_of_auto_parallel(cell: nn.Cell) -> int:
    """How many devices an `AutoParallel` (2.6 and newer) around a network, or in it, splits it over; else 1.

    Goes when an `AutoParallel` tells them.
    """
    return max([1, *(one._device_num for one in _auto_parallels(cell))])


def pipeline_stages(cell: Optional[nn.Cell] = None) -> int:
    """Into how many stages the network is cut, each on processes of its own; 1 for a network that is not.

    An `AutoParallel` tells it at any time; else MindSpore's context does, which holds it while a Model trains. Goes
    when a Model tells them.
    """
    given = [one._pipeline_stages for one in _auto_parallels(cell)] if cell is not None else []
    return max(int(ms.get_auto_parallel_context("pipeline_stages")), *given, 1)


def _auto_parallels(cell: nn.Cell) -> list[Any]:
    # By its name: MindSpore 2.0 has no such class.
    return [one for _, one in cell.cells_and_names() if type(one).__name__ == "AutoParallel"]


def kind_of_storage(parameter: Parameter) -> Optional[str]:
    """By which setting a parameter is not whole in this process; `None` where it is.

    `sliced` is known once MindSpore has compiled the network; `init_in_server` went with the parameter server, in 2.8.
    Goes when a parameter tells whether it is whole.
    """
    for name in ("layerwise_parallel", "cache_enable", "init_in_server"):
        if getattr(parameter, name, False):
            return f"with {name}=True"
    return "which MindSpore has sliced" if getattr(parameter, "sliced", False) else None


def is_uninitialised(parameter: Parameter) -> bool:
    """Whether a parameter has no values yet: MindSpore gives it some when the network first runs, or it is read.

    So it is in `nn.utils.no_init_parameters`, and where a pipeline has the parameter on another process. Goes when all
    parameters have values.
    """
    return bool(getattr(parameter, "has_init", False))  # which is to be removed after 2.9


def repair_among(callbacks: Iterable[Any]) -> Optional[str]:
    """How MindSpore (2.6 and newer) is set to repair a fault and go on training; `None` where it is not.

    It catches the exception outside of `Model.train`'s callbacks, which are left and entered again, with a run that
    begins at the step that was repaired. With `TTP` or `TSP` alone it saves or pauses, and does not begin again. Goes
    when a callback is told that a run is repaired.
    """
    setting = os.environ.get("MS_ENABLE_TFT", "")
    is_there = any(kind.__name__ == "TrainFaultTolerance" for each in callbacks for kind in type(each).__mro__)
    begins_again = any(f"{name}:{number}" in setting for name in ("UCE", "ARF", "HCCE", "TRE") for number in (1, 2))
    return f"TrainFaultTolerance and MS_ENABLE_TFT={setting!r}" if is_there and begins_again else None


@contextlib.contextmanager
def parallel_context_kept(network: nn.Cell) -> Iterator[None]:
    """Gives back what an evaluation resets of MindSpore's auto-parallel context.

    `Model.eval` of a network in an `AutoParallel` ends with a context as at the start of the process (2.8 to 2.10), and
    training that continues then no longer averages its gradients. Goes when `eval` puts back what it found.
    """
    if not _auto_parallels(network):
        yield
        return
    getters, setters = (
        _auto_parallel_context._get_auto_parallel_context_func_map,
        _auto_parallel_context._set_auto_parallel_context_func_map,
    )
    # Of the other names for one setting, MindSpore warns.
    names = [name for name in setters if name in getters and name != "auto_parallel_search_mode"]
    before = {name: getters[name]() for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if getters[name]() != value:
                setters[name](value)


def give_unique_names(cell: nn.Cell) -> None:
    """Tells parameters of one name apart by their place, as MindSpore 2.8 and newer do when a cell first runs.

    Done before, so that a parameter is known by one name from the beginning. MindSpore 2.0 refuses such a network. Goes
    with MindSpore 2.7.
    """
    with contextlib.suppress(ValueError):  # MindSpore says it better, as soon as the cell runs
        rename: Any = getattr(cell, "check_names_and_refresh_name", None)
        if rename is not None:
            rename()


def numpy_mismatch(error: Optional[BaseException] = None) -> Optional[str]:
    """What to do where MindSpore and NumPy do not go together; `None` where they do, or `error` has another reason.

    MindSpore up to 2.10 calls `np.array(number, copy=False)` on what a dataset yields, which NumPy 2 refuses, and 2.10
    is compiled against NumPy 1, so that in PYNATIVE mode the first operator of a process that takes a number fails.
    Goes when the oldest MindSpore that is supported can do with NumPy 2.
    """
    if int(np.__version__.split(".")[0]) < 2 or [int(part) for part in VERSION.split(".")[:2]] > [2, 10]:
        return None
    links = [error] if error else []
    while links and (earlier := links[-1].__cause__ or links[-1].__context__):
        links.append(earlier)
    if error and not any(reason in str(link) for link in links for reason in _NUMPY_1_ONLY):
        return None
    return (
        f"MindSpore {VERSION} needs NumPy 1, but NumPy {np.__version__} is installed, with which datasets of "
        'Python numbers or NumPy scalars fail, and some operators; run pip install "numpy<2"'
    )


@contextlib.contextmanager
def naming_numpy() -> Iterator[None]:
    """Raises what `numpy_mismatch` says where a dataset fails for that reason.

    Goes with `numpy_mismatch`.
    """
    try:
        yield
    except RuntimeError as error:
        if mismatch := numpy_mismatch(error):
            raise ValueError(mismatch) from error
        raise
