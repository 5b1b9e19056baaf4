"""Export the best weights when training ends, to a file that is read back and compared."""

from __future__ import annotations

import math
import os
import tempfile
from typing import Any, Optional, Union

import numpy as np
from mindspore import Tensor, nn

from ..core import atomic_files, distributed
from ..core.arguments import check_cell, check_choice, check_path
from ..core.monitor_callback import MonitorCallback
from ..core.observations import EpochSummary, Evaluation
from ..core.parameters import Snapshot, check_parameters, flaw_in
from ..core.placement import Needs
from ..core.run import Run
from ._export import check_format, export

__all__ = ["ExportBest"]

_OWNER = "ExportBest"


class ExportBest(MonitorCallback):
    """Export the network with its best weights when training ends, also if it was stopped early.

    The best weights are kept in memory, one copy of the parameters. At the end they are written into the network,
    exported as for prediction (without Dropout, with BatchNorm's running statistics), read back from the file and
    compared on example inputs; a difference is an error. The network then gets back its final weights, to the last bit,
    and its training flags. The file appears complete or not at all, and an earlier one stays if the export fails.

    A network that cannot be exported is detected before the first step: it is exported, read back and compared once,
    leaving no file behind. A value that is not finite is never the best; a tie is not better, the first stays. A run
    that is aborted by an exception exports nothing, and neither does one without a finite value, which is reported.
    With several processes, the first exports after all have synchronised for the last time, so that none waits for it.

    MindIR is read back by MindSpore itself. ONNX can be written on a CPU by all of MindSpore 2.0 to 2.10, but supports
    fewer operators (not Erf, and so not GELU); it is compared if `onnxruntime` is installed, or else checked if `onnx`
    is; without either, a line says that it was not compared. Both formats fix the shapes of the example inputs,
    including the batch size.

    A run in which each process holds only a part of the weights, as in `semi_auto_parallel` mode or a pipeline, is
    refused before the first step: `docs/en/large_runs.md` of the project says which settings these are, and what to use
    instead.

    Args:
        filepath: where to export, as `.mindir` or `.onnx` by its extension, relative to the working directory at
            construction. The folder must exist. Default: "best.mindir".
        monitor: the value to watch: `"loss"` (the mean training loss of the epoch, in sink mode that of its last step),
            `"eval_loss"`, or a metric of the Model; `"val_loss"` and `"val_acc"` mean `"eval_loss"` and `"acc"`. Under
            `Model.fit` alone, `eval_loss` is MindSpore's, which covers the last batch only; add `Validate`, or a metric
            `loss`, to correct it. Default: "eval_loss".
        mode: `"min"`, `"max"`, or `"auto"` to go by the metric's class, or else its name. Default: "auto".
        inputs: example inputs, a Tensor or a tuple of them, batch first; `None` for those of the first training
            batch, without the label if the Model has a loss function. Required in sink mode. Default: None.
        network: the network to export, if it cannot be found: a training cell holds several and none of them as its
            `network`, or a cell of your own computes the loss around it. It gets as many columns of the batch as its
            `construct` takes. Default: None, the one that is trained.
        verbose: 1 prints a line that says what was exported, 0 nothing. Default: 1.

    Attributes:
        path_ (str | None): the file, once it is on disk.
        best_ (float | None): the best value.
        best_epoch_ (int): its epoch; 0 before the first.
        difference_ (float | None): the largest difference of an output when the file was read back; `None` if it was
            not compared.

    Raises:
        TypeError, ValueError: an argument is not as described; at the start of the run if that can be known then, or
            else at the first evaluation: the run will not have such a value, or `mode="auto"` cannot determine which
            direction is better. Before the first step or at the end: the file gives other outputs than the network.
        OSError: before the first step: the folder does not exist or cannot be written. At the end: the file could not
            be written, as on a full disk.
        RuntimeError: before the first step or at the end: MindSpore cannot export an operator of the network.

    Example:
        >>> exporting = ExportBest(folder + "/best.mindir", monitor="acc", verbose=0)
        >>> model.train(2, train_dataset, callbacks=[Validate(model, valid_dataset), exporting])
        >>> loaded = nn.GraphCell(ms.load(exporting.path_))
        >>> loaded(Tensor(np.zeros((12, 1, 4, 4), np.float32))).shape
        (12, 3)
    """

    transient = ("_snapshot", "_examples")
    path_: Optional[str]
    difference_: Optional[float]
    _snapshot: Optional[Snapshot]
    _best_weights: dict[str, np.ndarray[Any, Any]]
    _examples: Optional[tuple[Tensor, ...]]

    def __init__(
        self,
        filepath: Union[str, os.PathLike[str]] = "best.mindir",
        *,
        monitor: str = "eval_loss",
        mode: str = "auto",
        inputs: Any = None,
        network: Optional[nn.Cell] = None,
        verbose: int = 1,
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = check_path(_OWNER, "filepath", filepath)
        check_format(_OWNER, os.fspath(filepath))
        self.inputs = inputs
        self._given = None if inputs is None else _as_tensors(inputs)
        self.network = check_cell(_OWNER, "network", network)
        self.verbose = check_choice(_OWNER, "verbose", verbose, (0, 1))
        self.reset_state()

    def before_train(self, run: Run) -> None:
        """Resolve the mode, and try the export if the inputs are already known."""
        super().before_train(run)
        self._examples = None
        atomic_files.remove_orphans(os.path.dirname(os.path.realpath(self.filepath)))
        self._snapshot, self._best_weights = Snapshot(run.weights, self._best_weights), {}
        if self._given is not None:
            self._try(run, self._given)
        else:
            run.step_hooks.on_step_begin(self, self._try_batch)

    def check(self, run: Run) -> None:
        """Raise if the run will not have the value, or the file could not be written."""
        super().check(run)
        twins = [one for one in run.callbacks if isinstance(one, ExportBest) and one.target_path == self.target_path]
        if len(twins) > 1:
            raise ValueError(f"{_OWNER}: two callbacks export to {self.filepath!r}; give each a filepath of its own")
        run.parts.network(_OWNER, self.network)
        check_parameters(_OWNER, run.weights)
        atomic_files.check_folder(_OWNER, self.filepath)
        if self._given is None:
            run.progress.check_sees_steps(_OWNER, instead="pass inputs=Tensor(...)")

    def _try_batch(self, run: Run) -> None:
        """Try the export before the first step, with its batch."""
        run.step_hooks.on_step_begin(self, None)
        # Copies: MindSpore may read the next batch into the same memory.
        batch = run.parts.inputs(_OWNER, run.batch, self.network)
        self._try(run, tuple(Tensor(np.array(one.asnumpy())) for one in batch))

    def needs(self, run: Run) -> Needs:
        """Require the weights, the network, and the loss if it is monitored."""
        return super().needs(run) | Needs.WEIGHTS | Needs.OUTPUTS

    def observe(self, run: Run, value: float, observation: Union[Evaluation, EpochSummary]) -> None:
        """Keep the weights if the value is the best."""
        if self._snapshot is None:
            return
        is_flawed = self.best.monitor.is_better(value, self.best_) and flaw_in(run.weights) is not None
        if any(distributed.total([is_flawed])):  # one rank's finding counts for all
            value = math.nan
        if self.best.observe(value, run.epoch, observation.step_between):
            run.before_checkpoint()
            self._snapshot = Snapshot(run.weights)  # reuse the memory of the previous copy
            self._snapshot = run.copies.take(run.weights)

    def flush(self) -> None:
        """Export the best weights, before the run counts as finished, and restore the network's final ones."""
        run, best = self.run, self._snapshot
        if best is None or not best.arrays:
            known = "finite" if self.best_ is None else f"better than the {self.best_:.6g} of the previous run"
            self.log(f"nothing was exported: {self.monitor} has not been {known}")
            return
        if distributed.count() == 1:
            self._export_best(run, best)
        self.path_ = self.filepath

    def teardown(self) -> None:
        """With several processes, export now that all have ended normally and none is waiting; release the weights."""
        best, self._snapshot = self._snapshot, None
        is_over = self.path_ is not None and best is not None and self.run.progress.is_over
        if is_over and best is not None and distributed.count() > 1 and distributed.is_first():
            self._export_best(self.run, best)

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far, and what was exported."""
        return {**super().state_dict(), "path": self.path_, "difference": self.difference_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        super().load_state_dict(state)
        self.path_ = None if state["path"] is None else self.filepath  # the folder may have been moved
        self.difference_ = state["difference"]

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the best weights."""
        return {} if self._snapshot is None else self._snapshot.arrays

    def load_state_arrays(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Restore the best weights."""
        self._best_weights = dict(arrays)

    @property
    def target_path(self) -> str:
        """The path that it exports to, with links resolved."""
        return os.path.realpath(self.filepath)

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        super().reset_state()
        self._snapshot = None
        self._best_weights = {}
        self._examples = None
        self.path_ = None
        self.difference_ = None

    def _try(self, run: Run, inputs: tuple[Tensor, ...]) -> None:
        """Export the network as it is, without keeping the file."""
        with tempfile.TemporaryDirectory() as folder:
            trial = os.path.join(folder, "trial" + os.path.splitext(self.filepath)[1])
            export(_OWNER, run.parts.network(_OWNER, self.network), inputs, trial, self.filepath)
        self._examples = inputs

    def _export_best(self, run: Run, best: Snapshot) -> None:
        final = Snapshot(run.weights)
        final.take()
        try:
            best.restore(together=False)
            verdict = self._export(run)
        finally:
            final.restore(together=False)
        if self.verbose:
            self.log(
                f"exported the weights of {self.best.place} ({self.monitor}: {self.best_:.6g}) "
                f"to {atomic_files.shown(self.filepath)}: {verdict}"
            )

    def _export(self, run: Run) -> str:
        network = run.parts.network(_OWNER, self.network)
        examples = self._examples
        assert examples is not None  # a value was observed, so a step has run

        try:
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "best" + os.path.splitext(self.filepath)[1])
                self.difference_, verdict = export(_OWNER, network, examples, path, self.filepath)
                with open(path, "rb") as file:
                    content = file.read()
            with atomic_files.staged(self.filepath, lambda file: file.write(content)):
                pass
        except OSError as error:
            raise OSError(
                f"{_OWNER}: could not export to {self.filepath!r}: {error}; an earlier file there is untouched"
            ) from error
        return verdict


def _as_tensors(inputs: Any) -> tuple[Tensor, ...]:
    tensors = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    for each in tensors:
        if not isinstance(each, Tensor):
            raise TypeError(
                f"{_OWNER}: inputs must be a Tensor or a tuple of Tensors, but got {type(each).__name__}; "
                f"for zeros of a shape, Tensor(np.zeros((1, 1, 32, 32), np.float32))"
            )
    if not tensors:
        raise ValueError(f"{_OWNER}: inputs must hold at least one Tensor, but it is empty")
    return tensors
