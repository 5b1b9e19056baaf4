"""Everything of MindSpore that is private or differs between versions, as functions that say which version and why.

Nothing else in this package reads a private attribute of MindSpore or checks its version; a test enforces this. Names
that a MindSpore version lacks are looked up here too. "Remove with MindSpore X" means: when support for X ends.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
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
    from mindspore.graph.api import _pynative_executor  # 2.9 and newer, which warn about the other import
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
    "callbacks_of_training",
    "copied_dataset",
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
    "iterators_stopped",
    "keep_out_of_training",
    "kind_of_storage",
    "launches_block",
    "made_with",
    "metrics_of",
    "model_kept",
    "naming_numpy",
    "numpy_mismatch",
    "own_parameters",
    "own_tensors",
    "parallel_context_kept",
    "parallel_mode_of",
    "pipeline_stages",
    "random_draws",
    "random_state",
    "recording_cells",
    "repair_among",
    "return_to_training",
    "set_recording_cells",
    "set_training",
    "size_of_dataset",
    "stop_recording",
    "tensor_classes",
    "training_call",
    "update_metrics",
    "within_loss_cell",
    "write_into",
]

VERSION: str = ms.__version__
# MindSpore 2.0 counts an optimizer's steps only if its rate depends on them.
COUNTS_STEPS = not VERSION.startswith("2.0.")
# MindSpore 2.8 and newer can start a dataset in the middle.
CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")
# MindSpore's own callbacks that set a rate, and those that handle signals, if the version has them.
RATE_CALLBACKS: tuple[type, ...] = tuple(
    getattr(train, name) for name in ("LearningRateScheduler", "ReduceLROnPlateau") if hasattr(train, name)
)
SIGNAL_CALLBACKS: tuple[type, ...] = (train.OnRequestExit,) if hasattr(train, "OnRequestExit") else ()

# How often MindSpore has drawn, by operator and seed; imported because the package's `seed` attribute is a function.
_KERNEL_SEEDS: dict[Any, Any] = importlib.import_module("mindspore.common.seed")._KERNEL_SEED
# What MindSpore's errors say if NumPy 2 is the reason.
_NUMPY_1_ONLY = ("Unable to avoid copy", "numpy.core.multiarray")


# Models


class MadeWith(NamedTuple):
    """What a Model was made with."""

    network: nn.Cell
    loss_fn: Any
    optimizer: Any


def made_with(model: Model) -> MadeWith:
    """Return the network, the loss function and the optimizer that a Model was made with.

    MindSpore 2.0 to 2.10 keep them private. Remove when a Model exposes them.
    """
    return MadeWith(model._network, model._loss_fn, model._optimizer)


def parallel_mode_of(model: Model) -> str:
    """Return a Model's parallel mode; MindSpore's context no longer shows it once the Model exists.

    MindSpore 2.0 to 2.10 keep it private. Remove when a Model exposes it.
    """
    return str(model._parallel_mode)


def eval_indexes_of(model: Model) -> Optional[list[int]]:
    """Return the positions of loss, prediction and label in a Model's evaluation output; `None` if not specified.

    MindSpore 2.0 to 2.10 keep them private. Remove when a Model exposes them.
    """
    indexes: Optional[list[int]] = getattr(model, "_eval_indexes", None)
    return indexes


def metrics_of(model: Model) -> dict[str, Any]:
    """Return the metrics that a Model was made with, by name.

    MindSpore 2.0 to 2.10 keep them private. Remove when a Model exposes them.
    """
    return dict(getattr(model, "_metric_fns", None) or {})


@contextlib.contextmanager
def copied_metrics(model: Model) -> Iterator[dict[str, Any]]:
    """Replace a Model's metrics by copies.

    MindSpore 2.0 to 2.10 can only evaluate into the Model's own metrics. Remove when `Model.eval` accepts others.
    """
    metrics = model._metric_fns
    model._metric_fns = copy.deepcopy(metrics)
    try:
        yield model._metric_fns
    finally:
        model._metric_fns = metrics


def update_metrics(model: Model, outputs: Any) -> None:
    """Update the metrics with the outputs of a first batch, as an evaluation does.

    MindSpore 2.0 to 2.10 do this only within `Model.eval`. Remove when a Model's metrics can be updated directly.
    """
    model._clear_metrics()
    model._update_metrics(outputs)


def set_training(model: Model, network: nn.Cell) -> None:
    """Set the cells to training if the Model would do so at its next step.

    MindSpore 2.0 to 2.10 remember in the Model whether they have done so. Remove when a step does not set flags.
    """
    model._check_network_mode(network, True)


@contextlib.contextmanager
def flags_kept(cell: nn.Cell) -> Iterator[None]:
    """Restore the `training` flag of each cell, and the phase that the next call would be compiled for.

    MindSpore 2.0 to 2.10 compile for the phase in which a cell was last called. Remove when reading a cell does not
    change it.
    """
    phase, flags = cell._phase, [(each, each.training) for _, each in cell.cells_and_names()]
    try:
        yield
    finally:
        for each, training in flags:
            each.add_flags(training=training)
        cell._phase = phase


def keep_out_of_training(train_network: nn.Cell, cells: Collection[nn.Cell], name: str) -> None:
    """Set the cells to evaluation in the training steps to come, until a Model sets all cells to training.

    MindSpore 2.0 to 2.10 compile `training` flags into the graph of a step, and know that graph by the phase of the
    training cell and not by the flags, so that a step with other flags needs another phase: `name`, which must be one
    for each set of cells. A phase must begin with "train". In PYNATIVE mode the flags are read in every step. Remove
    when changed flags are compiled by themselves.
    """
    for each in cells:
        each.add_flags(training=False)
    train_network.phase = name


def return_to_training(train_network: nn.Cell, cells: Collection[nn.Cell]) -> None:
    """Undo `keep_out_of_training`.

    Remove with it.
    """
    for each in cells:
        each.add_flags(training=train_network.training)
    train_network.phase = "train" if train_network.training else "predict"


@contextlib.contextmanager
def model_kept(model: Model) -> Iterator[None]:
    """Restore a Model's own counters after training: epoch, step, mode, and those of its loss scale manager.

    MindSpore 2.0 to 2.10 keep these in private attributes. Remove when a Model can be copied.
    """
    manager = getattr(model, "_loss_scale_manager", None)
    noted = [(held, dict(held)) for held in (vars(each) for each in (model, manager) if hasattr(each, "__dict__"))]
    try:
        yield
    finally:
        for held, content in noted:
            for name in held.keys() - content.keys():
                del held[name]
            held.update(content)


# Datasets


def copied_dataset(dataset: Any) -> Any:
    """Return a copy of a dataset that begins at its first batch and belongs to no Model.

    A Model marks the datasets that it trains on, and refuses those of another Model (MindSpore 2.0 to 2.10); sink mode
    attaches a queue to them. Remove when an iteration leaves a dataset unchanged.
    """
    copied = copy.deepcopy(dataset)
    for mark in ("__model_hash__", "__transfer_dataset__", "__loop_size__"):
        vars(copied).pop(mark, None)
    if init_step_of(copied) is not None:
        copied.set_init_step(0)
    return copied


@contextlib.contextmanager
def iterators_stopped() -> Iterator[None]:
    """Stop the dataset iterators that are created in the block, so that their threads draw no random numbers later.

    An exception keeps MindSpore's frames alive, and with them the iterator of its loop (2.0 to 2.10). Remove when
    `Model.train` stops its iterator itself.
    """
    module = importlib.import_module("mindspore.dataset.engine.iterators")
    before = [reference() for reference in module.ITERATORS_LIST]
    try:
        yield
    finally:
        now = [reference() for reference in module.ITERATORS_LIST]
        for iterator in now:
            if iterator is not None and not any(iterator is earlier for earlier in before):
                iterator.stop()


# Calls


class TrainingCall(NamedTuple):
    """The current call of `Model.train` or `Model.fit`: its arguments, and the object that dispatches its hooks."""

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


def size_of_dataset(dataset: Any) -> int:
    """Return the number of batches of a dataset while iterators of others may be alive.

    MindSpore 2.8 to 2.10 release the iterators that a call of `get_dataset_size` has made, and tell them from the
    others by a copy of their list. If garbage is collected during the copy, and an old iterator with it, they release
    the iterator of the training too. Remove when they do not.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return int(dataset.get_dataset_size())
    finally:
        if was_enabled:
            gc.enable()


def training_call() -> Optional[TrainingCall]:
    """Return the current training call; `None` outside MindSpore's own loop.

    MindSpore 2.0 to 2.10 do not pass it to callbacks, so the calling frames are inspected. Remove when a callback is
    given its Model and the evaluation data of `fit`.
    """
    frame = _calling_frame(lambda values: "valid_infos" in values and "initial_epoch" in values)
    if frame is None:
        return None
    values = frame.f_locals
    return TrainingCall(
        values["self"], values["epoch"], values["initial_epoch"], values["valid_infos"], values.get("list_callback")
    )


def callbacks_of_training() -> Optional[list[Any]]:
    """Return the callbacks of the current training call; `None` outside MindSpore's own loop.

    MindSpore 2.0 to 2.10 keep the list in the object that dispatches hooks. Remove with `training_call`.
    """
    call = training_call()
    return None if call is None else getattr(call.list_callback, "_callbacks", None)


def evaluating_model() -> Optional[Model]:
    """Return the Model that is currently evaluated, which MindSpore 2.0 to 2.10 do not pass to callbacks; else `None`.

    Remove when a callback is given its Model.
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
    """Return the parameters that a cell holds directly, not through an inner cell, by attribute.

    MindSpore 2.0 to 2.10 can only list them together with those of inner cells. Remove when `Cell` lists its own.
    """
    held: dict[str, Parameter] = cell._params
    return held


def own_tensors(cell: nn.Cell) -> dict[str, Tensor]:
    """Return the same, plus its buffers, which exist in 2.7 and newer.

    Remove with `own_parameters`.
    """
    return {**own_parameters(cell), **vars(cell).get("_buffers", {})}


def within_loss_cell(cell: nn.Cell) -> tuple[nn.Cell, Any]:
    """Return the network and the loss in a `WithLossCell`.

    MindSpore 2.0 to 2.10 keep both private. Remove when the cell exposes them.
    """
    return cell._backbone, cell._loss_fn


def backbone_of(cell: nn.Cell) -> nn.Cell:
    """Return the network in a cell that MindSpore has put around it.

    MindSpore 2.0 to 2.10 keep it private. Remove with `within_loss_cell`.
    """
    return cell._backbone  # type: ignore[no-any-return]


def classes_of_nn(names: Iterable[str]) -> list[type]:
    """Return the classes of `mindspore.nn` with these names that this version has.

    2.0 has fewer than 2.10. Remove with MindSpore 2.0.
    """
    return [getattr(nn, name) for name in names if hasattr(nn, name)]


def convolutions_2d() -> tuple[type, ...]:
    """Return the classes of 2-D convolutions, including those of `mindspore.mint`, which 2.3 and newer have.

    Remove with MindSpore 2.0.
    """
    try:
        mint = importlib.import_module("mindspore.mint.nn")
    except ImportError:
        return nn.Conv2d, nn.Conv2dTranspose
    theirs = [getattr(mint, name, None) for name in ("Conv2d", "ConvTranspose2d")]
    return (nn.Conv2d, nn.Conv2dTranspose, *(kind for kind in theirs if isinstance(kind, type)))


def is_lars(optimizer: Any) -> bool:
    """Return whether an optimizer is `nn.LARS`, which wraps another; MindSpore 2.10 no longer has it.

    Remove with the last MindSpore that has it, 2.9.
    """
    lars = getattr(nn, "LARS", None)
    return lars is not None and isinstance(optimizer, lars)


def write_into(parameter: Parameter, tensor: Tensor) -> None:
    """Write into a parameter's existing memory; `copy_`, which 2.0 lacks, does not copy twice.

    Remove with MindSpore 2.0.
    """
    (getattr(parameter, "copy_", None) or functools.partial(ops.assign, parameter))(tensor)


def detached(value: Any) -> Any:
    """Return a tensor without the graph that computed it; anything else unchanged.

    In PYNATIVE mode of MindSpore 2.8 and newer, an output keeps the graph for its gradients alive; older versions have
    no such graph, and a `Tensor` of 2.0 has no `data`. Remove with MindSpore 2.0; then use `value.data`.
    """
    return getattr(value, "data", value) if isinstance(value, Tensor) else value


def holds_its_graph() -> bool:
    """Return whether outputs keep their graph alive, so that `detached` is needed: in PYNATIVE mode, except on 2.0.

    Remove with `detached`.
    """
    return ms.get_context("mode") == ms.PYNATIVE_MODE and hasattr(Tensor, "data")


def tensor_classes() -> list[type]:
    """Return the classes of tensors: 2.0 to 2.7 have another one for results that are still being computed.

    Remove with MindSpore 2.7.
    """
    with contextlib.suppress(ImportError):
        return [Tensor, importlib.import_module("mindspore.common._stub_tensor").StubTensor]
    return [Tensor]


def random_state() -> Callable[[], None]:
    """Return a function that restores the current state of MindSpore's random numbers; 2.0 has no generator.

    MindSpore 2.0 to 2.10 count their draws in a private table. Remove when `set_rng_state` restores that too.
    """
    kernels = dict(_KERNEL_SEEDS)
    generator = ms.get_rng_state() if hasattr(ms, "get_rng_state") else None

    def give_back() -> None:
        # Drawing by functions in a network advances these, and thereby changes everything drawn later.
        _KERNEL_SEEDS.clear()
        _KERNEL_SEEDS.update(kernels)
        if generator is not None:
            ms.set_rng_state(generator)

    return give_back


def random_draws() -> dict[Any, Any]:
    """Return MindSpore's table of random draws, by operator and seed; in GRAPH mode, a compilation advances it.

    MindSpore 2.0 to 2.10 keep it private. Remove with `random_state`.
    """
    return dict(_KERNEL_SEEDS)


def export_onnx(network: nn.Cell, inputs: tuple[Any, ...], path: str) -> None:
    """Write ONNX; since 2.8 in a separate module.

    Remove with MindSpore 2.7.
    """
    if hasattr(ms, "onnx"):
        ms.onnx.export(network, *inputs, file_name=path)
    else:
        ms.export(network, *inputs, file_name=path, file_format="ONNX")


def launches_block() -> bool:
    """Return whether each operator of PYNATIVE mode is waited for.

    MindSpore exposes its old setting for this, but keeps the new one (2.6 and newer) private. Remove when
    `mindspore.runtime` exposes it.
    """
    settings = getattr(getattr(ms, "_c_expression", None), "RuntimeConf", None)
    return bool(ms.get_context("pynative_synchronize") or (settings and settings.get_instance().is_launch_blocking()))


# Recording


def stop_recording() -> None:
    """Close the recording that an exception inside `construct` has left open in PYNATIVE mode.

    After such an exception, MindSpore 2.8 to 2.10 (2.0 if it is not an `Exception`, such as `KeyboardInterrupt`) keep
    recording for a gradient: writing to a parameter fails, and the steps of a later run silently train on a wrong
    gradient. Nothing is recorded between two steps, so nothing can be lost there. Remove when MindSpore closes the
    recording itself.
    """
    if ms.get_context("mode") == ms.PYNATIVE_MODE and _pynative_executor.grad_flag():
        _pynative_executor.clear_res()


def recording_cells(cell: nn.Cell) -> list[str]:
    """Return the names of the cells that `set_grad` has told to record their forward pass for a gradient.

    Only MindSpore 2.0 changes which ones do. Remove with MindSpore 2.0.
    """
    return [name for name, each in cell.cells_and_names() if each.requires_grad]


def set_recording_cells(cell: nn.Cell, names: Optional[Collection[str]]) -> None:
    """Have exactly those cells record on MindSpore 2.0, where training changes which ones do; `None` changes nothing.

    In PYNATIVE mode its gradients call `set_grad(False)` on a cell that they had to run themselves. A training cell
    that takes two gradients of one network therefore runs it twice in its first step and three times in each later one,
    and BatchNorm's statistics are updated as often. Remove with MindSpore 2.0.
    """
    if names is not None and VERSION.startswith("2.0."):
        for name, each in cell.cells_and_names():
            each.set_grad(name in names)


def finish_pending() -> None:
    """Wait for operators that PYNATIVE mode runs asynchronously, so that their errors are raised here.

    MindSpore 2.0 to 2.10 can only wait for a whole device, with `runtime.synchronize`. Remove when single operators can
    be waited for.
    """
    _pynative_executor.sync()


def init_step_of(dataset: Any) -> Optional[int]:
    """Return the step at which a dataset itself was told to start; `None` if it was not, and on MindSpore 2.0.

    `get_init_step`, of 2.8 and newer, also asks the underlying datasets, on which it cannot be undone. Remove when a
    dataset reports its own.
    """
    step: Optional[int] = getattr(dataset, "_global_step", None)
    return step


def is_queued(dataset: Any) -> bool:
    """Return whether sink mode has already created a queue for a dataset, in `Model.build` or an earlier `Model.train`.

    The queue is reused, and `set_init_step` no longer has an effect (MindSpore 2.8 to 2.10). Remove when a reused
    dataset starts where it is told to.
    """
    return hasattr(dataset, "__transfer_dataset__")


def devices_of_auto_parallel(cell: nn.Cell) -> int:
    """Return over how many devices an `AutoParallel` (2.6 and newer) around or in a network splits it; otherwise 1.

    Remove when an `AutoParallel` exposes them.
    """
    return max([1, *(one._device_num for one in _auto_parallels(cell))])


def pipeline_stages(cell: Optional[nn.Cell] = None) -> int:
    """Return into how many stages the network is split, each on processes of its own; 1 if it is not.

    An `AutoParallel` shows it at any time; otherwise MindSpore's context does, while a Model trains. Remove when a
    Model exposes them.
    """
    given = [one._pipeline_stages for one in _auto_parallels(cell)] if cell is not None else []
    return max(int(ms.get_auto_parallel_context("pipeline_stages")), *given, 1)


def _auto_parallels(cell: nn.Cell) -> list[Any]:
    # By name, because MindSpore 2.0 has no such class.
    return [one for _, one in cell.cells_and_names() if type(one).__name__ == "AutoParallel"]


def kind_of_storage(parameter: Parameter) -> Optional[str]:
    """Return the setting that makes a parameter incomplete in this process; `None` if it is complete.

    `sliced` is known once MindSpore has compiled the network; `init_in_server` was removed with the parameter server,
    in 2.8. Remove when a parameter shows whether it is complete.
    """
    for name in ("layerwise_parallel", "cache_enable", "init_in_server"):
        if getattr(parameter, name, False):
            return f"with {name}=True"
    return "which MindSpore has sliced" if getattr(parameter, "sliced", False) else None


def is_uninitialised(parameter: Parameter) -> bool:
    """Return whether a parameter has no values yet: MindSpore provides them when the network first runs or it is read.

    This is the case in `nn.utils.no_init_parameters`, and if a pipeline has the parameter on another process. Remove
    when all parameters have values.
    """
    return bool(getattr(parameter, "has_init", False))  # which is to be removed after 2.9


def repair_among(callbacks: Iterable[Any]) -> Optional[str]:
    """Return how MindSpore (2.6 and newer) is set to recover from a fault and continue training; `None` if it is not.

    It catches the exception outside the callbacks of `Model.train`, which are left and entered again in a run that
    starts at the repaired step. With `TTP` or `TSP` alone it saves or pauses and does not restart. Remove when a
    callback is told that a run is being recovered.
    """
    setting = os.environ.get("MS_ENABLE_TFT", "")
    is_there = any(kind.__name__ == "TrainFaultTolerance" for each in callbacks for kind in type(each).__mro__)
    begins_again = any(f"{name}:{number}" in setting for name in ("UCE", "ARF", "HCCE", "TRE") for number in (1, 2))
    return f"TrainFaultTolerance and MS_ENABLE_TFT={setting!r}" if is_there and begins_again else None


@contextlib.contextmanager
def parallel_context_kept(network: nn.Cell) -> Iterator[None]:
    """Restore what an evaluation resets in MindSpore's auto-parallel context.

    `Model.eval` of a network in an `AutoParallel` ends with a context as at the start of the process (2.8 to 2.10), so
    training that continues no longer averages its gradients. Remove when `eval` restores the context itself.
    """
    if not _auto_parallels(network):
        yield
        return
    getters, setters = (
        _auto_parallel_context._get_auto_parallel_context_func_map,
        _auto_parallel_context._set_auto_parallel_context_func_map,
    )
    # MindSpore warns about alternative names of a setting.
    names = [name for name in setters if name in getters and name != "auto_parallel_search_mode"]
    before = {name: getters[name]() for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if getters[name]() != value:
                setters[name](value)


def give_unique_names(cell: nn.Cell) -> None:
    """Distinguish parameters of the same name by their place, as MindSpore 2.8 and newer do when a cell first runs.

    This is done in advance so that a parameter has one name from the start. MindSpore 2.0 refuses such a network.
    Remove with MindSpore 2.7.
    """
    with contextlib.suppress(ValueError):  # MindSpore's own error, when the cell runs, is better
        rename: Any = getattr(cell, "check_names_and_refresh_name", None)
        if rename is not None:
            rename()


def numpy_mismatch(error: Optional[BaseException] = None) -> Optional[str]:
    """Return what to do if MindSpore and NumPy are incompatible; `None` if they are not, or `error` has another reason.

    MindSpore up to 2.10 calls `np.array(number, copy=False)` on what a dataset yields, which NumPy 2 refuses, and 2.10
    is compiled against NumPy 1, so that in PYNATIVE mode the first operator of a process that takes a number fails.
    Remove when the oldest supported MindSpore works with NumPy 2.
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
    """Raise what `numpy_mismatch` says if a dataset fails for that reason.

    Remove with `numpy_mismatch`.
    """
    try:
        yield
    except RuntimeError as error:
        if mismatch := numpy_mismatch(error):
            raise ValueError(mismatch) from error
        raise
