"""Find the step in which a run stops being finite, save everything that led to it, and replay it."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional, Union

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn
from mindspore import dataset as ds
from mindspore.train import Model

from ..core import atomic_files
from ..core.arguments import check_choice, check_int, check_path
from ..core.callback import TrainCallback
from ..core.mindspore_compat import VERSION, made_with
from ..core.model_parts import named_parameters, take_apart
from ..core.parameters import Snapshot, check_parameters, first_nonfinite, load_into, nonfinite, views
from ..core.run import Run
from ..core.step_outputs import OutputReader, loss_of
from ..core.tensors import is_finite
from ._step_dump import FirstOutput, StepDump, as_tensors, inside, prune

__all__ = ["NonFiniteGuard", "Replay", "replay"]

_OWNER = "NonFiniteGuard"
_SAME_LOSS = 1e-3  # a GPU sums in no fixed order; a different Dropout mask makes a larger difference


class NonFiniteGuard(TrainCallback):
    """End a run whose loss or weights are no longer finite, name the step, and save it for `replay`.

    Every few steps, and at the end of an epoch, it checks all parameters, including the optimizer's moments, and the
    losses since the last check. If all are finite, it continues from there: it keeps a copy of them, and of each step's
    batch and learning rate. If not, it restores that copy and repeats the steps one by one until the first after which
    the loss or a parameter is not finite. That step's batch, the weights before it, the rate, the norm of each gradient
    and the first cell whose output is not finite are saved in a separate folder, such as `epoch-003-step-00127` (the
    step counts within its epoch):

    .. code-block:: text

        weights.ckpt   the network and the optimizer, before the step
        batch.npz      the columns of the batch, in order
        report.json    what was found, seeds, versions, and the SHA-256 of all

    The cells are the network, everything inside it and the loss, in the order of their outputs. If the inputs of the
    first cell with such an output are finite, that cell or an operator in its `construct` produced it; if they are not,
    either an operator in the `construct` of an enclosing cell, which is named, produced them, or the batch is at fault.

    The network is left with the weights before that step, its last finite ones, whatever ends the run: if another
    callback, such as `LossMonitor`, sees the loss first and raises, the guard still finds the step before the run is
    over. A run that stays finite is the same with and without the guard, to the last bit. A network that draws random
    numbers, as `nn.Dropout` does, cannot be repeated exactly; the guard compares the losses, and says so if they
    differ. A `TrainingState` in the same list saves no state that the guard has not checked.

    Between two checks, a step costs a copy of its batch and a read of the rate. The guard keeps in memory the batches
    of `every_n_steps` steps and one copy of the training network: with Adam, three times the weights.

    Args:
        dump_dir: the folder for the dumps, relative to the working directory at construction; it is created if it does
            not exist.
        every_n_steps: the number of steps between checks, and of batches kept; 1 checks every step. Default: 50.
        keep: how many dumps to keep in `dump_dir`: the newest ones. Default: 3.
        on_nonfinite: `"raise"` an error that says what was found, or `"stop"` the run with a line that says the same.
            Default: "raise".
        verbose: 0 prints nothing. Default: 1.

    Attributes:
        dumps_ (list[str]): the folders that the run has written.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: sink mode, where batches are not
            visible, or several processes, whose steps one cannot repeat; while training: something is not finite.
        OSError: before the first step: `dump_dir` cannot be written.

    Example:
        >>> guard = NonFiniteGuard(folder + "/not_finite")
        >>> model.train(1, train_dataset, callbacks=[guard])
        >>> spoilt = train_dataset.map(lambda images: images * np.float32("nan"), "images")
        >>> model.train(1, spoilt, callbacks=[guard])
        Traceback (most recent call last):
        ...
        ValueError: NonFiniteGuard: the loss is nan in epoch 1, step 1; the first parameter that is not finite is
        '1.weight'; ...; column 0 of the batch itself is not finite: fix the data; replay('...', model) repeats the step
    """

    transient = ("_rates", "_before", "_steps")

    def __init__(
        self,
        dump_dir: Union[str, os.PathLike[str]],
        *,
        every_n_steps: int = 50,
        keep: int = 3,
        on_nonfinite: str = "raise",
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.dump_dir = check_path(_OWNER, "dump_dir", dump_dir)
        self.every_n_steps = check_int(_OWNER, "every_n_steps", every_n_steps, 1)
        self.keep = check_int(_OWNER, "keep", keep, 1)
        self.on_nonfinite = check_choice(_OWNER, "on_nonfinite", on_nonfinite, ("raise", "stop"))
        self.verbose = check_choice(_OWNER, "verbose", verbose, (0, 1))
        self.dumps_: list[str] = []
        self._steps: list[_Step] = []

    needs_losses = True

    def check(self, run: Run) -> None:
        """Raise if steps cannot be seen and repeated."""
        super().check(run)
        run.progress.check_sees_steps(_OWNER)
        if run.parts.parallel_mode != "stand_alone":
            raise ValueError(
                f"{_OWNER}: one process cannot repeat the steps of several; leave it out if several train together"
            )
        check_parameters(_OWNER, named_parameters(run.parts.train_network))

    def before_train(self, run: Run) -> None:
        """Create the folder, and start to keep steps."""
        try:
            os.makedirs(self.dump_dir, exist_ok=True)
        except OSError as error:
            raise OSError(f"{_OWNER}: cannot make the folder dump_dir={self.dump_dir!r}: {error}") from error
        atomic_files.check_folder(_OWNER, os.path.join(self.dump_dir, "epoch"))
        atomic_files.remove_orphans(self.dump_dir)
        self._steps, self.dumps_ = [], []
        self._rates = run.parts.rates
        self._unfit: list[str] = []
        self._before = Snapshot(named_parameters(run.parts.train_network))
        run.step_hooks.on_step_begin(self, self._begin_step)
        run.step_hooks.on_step_end(self, self._end_step)

    def _begin_step(self, run: Run) -> None:
        """Keep the step's batch, and the weights if it is the first after a check."""
        assert run.batch is not None
        if not self._before.arrays:
            self._unfit = list(nonfinite(views(named_parameters(run.parts.train_network))))
        if not self._steps:
            self._before.take()
        # MindSpore may reuse the memory of the batch.
        self._steps.append(_Step(run.step_in_epoch, [np.array(column.asnumpy()) for column in run.batch]))

    def _end_step(self, run: Run) -> None:
        """Keep the step's rates and its output; check at the interval."""
        self._steps[-1].output = run.losses.reader.take(run.outputs)
        self._steps[-1].rates = self._read_rates()
        if len(self._steps) == self.every_n_steps or run.step_in_epoch == run.steps_per_epoch:
            self._look(run)

    def before_checkpoint(self, run: Run) -> None:
        """Check the steps that are still unchecked."""
        waiting = [step for step in self._steps if step.output is None]  # the next one to run
        self._steps = [step for step in self._steps if step.output is not None]
        if self._steps:
            self._look(run)
        if waiting:
            self._before.take()
            self._steps = waiting

    def teardown(self) -> None:
        """Check the last steps if an exception ended the run, and release everything."""
        if "_before" not in vars(self):  # the run was refused
            return
        if self._steps:
            try:
                finding = self._find(self.run)
            except Exception as error:  # the exception that ended the run is reported, not this one
                finding = f"could not check the last steps: {error}"
            if finding is not None:
                self._tell(finding)
        del self._rates, self._before

    def _look(self, run: Run) -> None:
        finding = self._find(run)
        if finding is None:
            return
        if self.on_nonfinite == "raise":
            raise ValueError(f"{_OWNER}: {finding}")
        self._tell(finding)
        run.request_stop(_OWNER)

    def _find(self, run: Run) -> Optional[str]:
        """Return what to report on the steps since the last check; `None` if everything is finite."""
        steps, self._steps = self._steps, []
        first = run.losses.nonfinite_step
        parameter = self._first_nonfinite(run)
        if parameter is None and (first is None or first < steps[0].number):
            return None
        try:
            found, before = self._repeat(run, steps)
            if found is None:
                step = next((step for step in steps if step.number == first), steps[-1])
                loss = None if step.output is None else loss_of(step.output)
                found = _Found(step, loss, parameter, step.rates, before.number)
            self._before.restore()
            batch = as_tensors(found.step.batch)
            try:
                first_output, norms = inside(run.network, run.parts.loss_fn, batch)
                trouble = ""
            except Exception as error:  # a network that runs only compiled; everything else is worth saving
                first_output, norms, trouble = None, {}, str(error)
        finally:
            self._before.restore()
        dump = self._dump(run, found, first_output, norms)
        return _told(found, first_output, norms, trouble, run.epoch, dump, self._unfit)

    def _repeat(self, run: Run, steps: list[_Step]) -> tuple[Optional[_Found], _Step]:
        """Repeat the steps until one is not finite, or differs from before, and keep the parameters before that one."""
        network = run.parts.train_network
        self._before.restore()
        if not network.training:  # as MindSpore does before a step
            network.set_train()
        for step in steps:
            if self._rates is not None and not self._rates.is_dynamic:
                self._rates.set(step.rates or self._rates.planned())
            self._before.take()
            loss = loss_of(run.losses.reader.take(network(*as_tensors(step.batch))))
            parameter = self._first_nonfinite(run)
            if step.output is not None and not _is_same(loss, loss_of(step.output)):
                return None, step
            if parameter is not None or not _is_finite(loss):
                return _Found(step, loss, parameter, self._read_rates()), step
        return None, steps[-1]

    def _dump(self, run: Run, found: _Found, first_output: Optional[FirstOutput], norms: dict[str, float]) -> str:
        """Write the dump; return a sentence that says where it is, or why it could not be written."""
        report = {
            "epoch": run.epoch,
            "step": found.step.number,
            "loss": _plain(found.loss),
            "learning_rates": [_plain(rate) for rate in found.rates],
            "first_parameter": found.parameter,
            "first_layer": None if first_output is None else first_output.layer,
            "made_in": None if first_output is None else first_output.made_in,
            "gradient_norms": {name: _plain(norm) for name, norm in norms.items()},
            "weights_before_step": found.step.number if found.weights_of is None else found.weights_of,
            "is_repeated": found.weights_of is None,
            "not_finite_at_the_beginning": self._unfit,
            "mode": "graph" if ms.get_context("mode") == ms.GRAPH_MODE else "pynative",
            "seeds": {"mindspore": ms.get_seed(), "dataset": ds.config.get_seed()},
            "versions": {
                "mindspore": VERSION,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }
        try:
            path = StepDump(self._before.arrays, found.step.batch, report).write(self.dump_dir)
            prune(self.dump_dir, self.keep)
        except (OSError, RuntimeError, ValueError) as error:
            return f"the dump in {self.dump_dir!r} could not be written: {error}"
        self.dumps_.append(path)
        return f"replay({path!r}, model) repeats the step"

    def _first_nonfinite(self, run: Run) -> Optional[str]:
        return _first_nonfinite(run.weights, run.parts.train_network, self._unfit)

    def _read_rates(self) -> list[float]:
        return [] if self._rates is None else self._rates.planned()

    def _tell(self, line: str) -> None:
        if self.verbose:
            self.log(line)


@dataclass(frozen=True)
class Replay:
    """What `replay` saw.

    `gradient_norms` are by parameter; `first_layer` is the first cell whose output is not finite, or the loss by its
    class; `first_parameter` is the first parameter that is not finite after the step; both are `None` if there is none.
    `made_in` is the cell whose `construct` produced that output from finite inputs: the first layer itself, or an
    enclosing cell; `None` if there is none, or if the batch is at fault. `epoch` and `step` are those of the dump; the
    step counts within its epoch.
    """

    loss: Optional[float]
    gradient_norms: dict[str, float]
    first_layer: Optional[str]
    first_parameter: Optional[str]
    epoch: int
    step: int
    made_in: Optional[str] = None


def replay(path: Union[str, os.PathLike[str]], model: Model) -> Replay:
    """Repeat a step that a `NonFiniteGuard` has saved, in the current mode.

    Afterwards the model has the weights, moments and rates from before the step, for inspection in a debugger. Nothing
    is unpickled.

    Args:
        path: the folder of the dump.
        model: a Model created as in the run of the dump, with the same kind of optimizer.

    Returns:
        What was found: loss, gradients, the first output and the first parameter that are not finite.

    Raises:
        TypeError: an argument is not as described.
        FileNotFoundError: there is no such folder.
        ValueError: the dump is damaged, or of another network. Nothing was loaded.

    Example:
        >>> guard = NonFiniteGuard(folder, on_nonfinite="stop", verbose=0)
        >>> spoilt = train_dataset.map(lambda images: images * np.float32("nan"), "images")
        >>> model.train(1, spoilt, callbacks=[guard])
        >>> seen = replay(guard.dumps_[0], model)
        >>> seen.epoch, seen.step, seen.first_parameter
        (1, 1, '1.weight')
    """
    owner = "replay"
    path = check_path(owner, "path", path)
    if not isinstance(model, Model):
        raise TypeError(f"{owner}: model must be a mindspore.train.Model, but got {type(model).__name__}")
    dump = StepDump.read(owner, path)
    network = model.train_network
    load_into(owner, named_parameters(network), dump.parameters, path)
    before = Snapshot(named_parameters(network))
    before.take()
    batch, is_training = as_tensors(dump.batch), network.training
    parts = take_apart(*made_with(model))
    if not is_training:
        network.set_train()
    try:
        loss = loss_of(OutputReader().take(network(*batch)))
        parameter = _first_nonfinite(parts.weights, network, dump.report["not_finite_at_the_beginning"])
        before.restore()
        first_output, norms = inside(parts.network, parts.loss_fn, batch)
    finally:
        before.restore()
        if not is_training:
            network.set_train(False)
    return Replay(
        loss=loss,
        gradient_norms=norms,
        first_layer=None if first_output is None else first_output.layer,
        first_parameter=parameter,
        epoch=dump.report["epoch"],
        step=dump.report["step"],
        made_in=None if first_output is None else first_output.made_in,
    )


@dataclass
class _Step:
    """A step of the epoch, as it was run; `output` is `None` if another callback raised before the guard's turn."""

    number: int
    batch: Sequence[np.ndarray[Any, Any]]
    rates: list[float] = field(default_factory=list)
    output: Any = None


class _Found(NamedTuple):
    """The step that is not finite; `weights_of` is the one whose weights are saved if it could not be repeated."""

    step: _Step
    loss: Optional[float]
    parameter: Optional[str]
    rates: list[float]
    weights_of: Optional[int] = None


def _told(
    found: _Found,
    first_output: Optional[FirstOutput],
    norms: dict[str, float],
    trouble: str,
    epoch: int,
    dump: str,
    unfit: list[str],
) -> str:
    """Return one sentence: what, where, how to fix it, and where the dump is."""
    what = "a parameter is not finite after" if _is_finite(found.loss) else f"the loss is {found.loss} in"
    parts = [f"{what} epoch {epoch}, step {found.step.number}"]
    if found.parameter is not None:
        parts.append(f"the first parameter that is not finite is {found.parameter!r}")
    if not trouble:
        parts.append("the outputs of all cells and the loss are finite" if first_output is None else str(first_output))
        gradient = next((name for name, norm in norms.items() if not math.isfinite(norm)), None)
        if gradient is not None:
            parts.append(f"the first gradient that is not finite is that of {gradient!r}")
    else:
        parts.append(f"layers and gradients could not be examined: {trouble}")
    if unfit:
        parts.append(f"{unfit[0]!r} was already not finite at the beginning of the run")
    if found.weights_of is not None:
        parts.append(
            f"the steps could not be repeated exactly, as with Dropout or if something else writes the weights, so the "
            f"saved weights are those before step {found.weights_of}"
        )
    column = next((index for index, one in enumerate(found.step.batch) if not is_finite(one)), None)
    if column is not None:
        parts.append(f"column {column} of the batch itself is not finite: fix the data")
    elif first_output is not None and first_output.is_of_user:
        parts.append(
            "add a small number before the logarithm, root, power or division there, lower the learning rate, or "
            "inspect that batch"
        )
    else:
        parts.append("lower the learning rate, clip gradients, or inspect that batch")
    return "; ".join([*parts, dump])


def _first_nonfinite(weights: dict[str, Parameter], train_network: nn.Cell, besides: list[str]) -> Optional[str]:
    return first_nonfinite(weights, besides) or first_nonfinite(named_parameters(train_network), besides)


def _is_finite(loss: Optional[float]) -> bool:
    return loss is None or math.isfinite(loss)  # `None` if loss scaling dropped the step


def _is_same(one: Optional[float], other: Optional[float]) -> bool:
    if one is None or other is None:
        return one is other
    both = math.isfinite(one), math.isfinite(other)
    return math.isclose(one, other, rel_tol=_SAME_LOSS, abs_tol=1e-6) if all(both) else not any(both)


def _plain(number: Optional[float]) -> Any:
    return number if number is None or math.isfinite(number) else str(number)
