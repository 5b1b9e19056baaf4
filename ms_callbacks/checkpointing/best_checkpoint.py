"""Keep the best weights on disk, always whole, and load them only if they are exactly what was saved."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterable
from typing import Any, Optional, Union

import numpy as np
from mindspore import Parameter, nn

from ..core import atomic_files, checkpoint_io, distributed
from ..core.arguments import check_bool, check_choice, check_int, check_number, check_path
from ..core.callback import TrainCallback
from ..core.mindspore_compat import VERSION
from ..core.monitor import place
from ..core.monitor_callback import MonitorCallback
from ..core.names import key_among
from ..core.observations import EpochSummary, Evaluation, Observation
from ..core.parameters import (
    Arrays,
    aligned,
    check_parameters,
    flaw_in,
    size_of,
    views,
    with_optimizer,
)
from ..core.path_template import PathTemplate
from ..core.placement import Needs, check_whole
from ..core.run import Run
from ._background_writer import BackgroundWriter
from ._checkpoint_index import CheckpointRecord, at, is_without_record, latest_run, remove, runs_before, save, verified
from ._loading import load_checkpoint, read

__all__ = ["BestCheckpoint"]

_OWNER = "BestCheckpoint"
_RECORD_VERSION = 1


class BestCheckpoint(MonitorCallback):
    """Save the weights whenever a monitored value is the best so far.

    A file on disk is always whole, whatever is killed and whenever: it is written next to its destination, flushed to
    disk and renamed, and an older one is deleted only afterwards. Each has a small record next to it, `<file>.json`,
    with monitor, value, epoch, step, learning rate, SHA-256 and versions; `load_into` verifies against it. Weights are
    never read through pickle. A value that is not finite is never the best; a tie is not better, the first stays. An
    epoch without an evaluation saves only the last checkpoint. Weights that hold NaN, and trainable weights that hold
    infinity, are never the best, however good the value: a line says so. What is saved are the parameters of the
    network, of its loss, and of what a training cell holds besides them, such as averaged weights.

    Training continues as soon as the weights are copied; the file is written in a background thread. If writing fails,
    the next step or epoch raises, and so does the end of the run, which waits for pending writes. With two best epochs
    in quick succession, an older one that is still waiting when it is superseded is not written at all.

    A file that an earlier run has saved to `filepath` with a value of the same `monitor` and `mode` stays until it is
    beaten, and counts as the best so far; the run says so at its start. With `overwrite=True` the run replaces it with
    its own best, as Keras does, and with `initial_value_threshold` with the first value better than that. A file that
    cannot be compared, such as one without a record, is replaced, which is reported too; weights of another network are
    an error. If `filepath` is a template, most runs use different names, and an earlier file with a better value stays
    only if a new best would take its name. A run with `initial_epoch` continues what an earlier one with the same
    `filepath` and `monitor` has left, template or not. Two runs at the same time need a different `filepath` each: with
    the same one, files are still never torn, but the file there may be from either run, or be refused when it is loaded
    because its record is from the other.

    A run in which each process holds only a part of the weights, as in `semi_auto_parallel` mode or a pipeline, is
    refused before the first step: `docs/en/large_runs.md` of the project says which settings these are, and what to use
    instead.

    Args:
        filepath: where to save, as `.ckpt` or `.safetensors` by its extension (the latter needs
            `pip install 'ms-callbacks[safetensors]'`), relative to the working directory at construction. The folder
            must exist. The name may be a template of `epoch`, `step`, `loss` and the run's validation values,
            `"{epoch:02d}-{acc:.4f}.ckpt"`; a name that another callback of the run has already used gets `-v1` (or
            `-v2`, ...) before its extension, as in Lightning. A link to a file stays, and the file that it points to is
            replaced. Default: "best.ckpt".
        monitor: the value to watch: `"loss"` (the mean training loss of the epoch, in sink mode that of its last step),
            `"eval_loss"`, or a metric of the Model; `"val_loss"` and `"val_acc"` mean `"eval_loss"` and `"acc"`. Under
            `Model.fit` alone, `eval_loss` is MindSpore's, which covers the last batch only; add `Validate`, or a metric
            `loss`, to correct it. Default: "eval_loss".
        mode: `"min"`, `"max"`, or `"auto"` to go by the metric's class, or else its name. Default: "auto".
        min_delta: by how much a value must be better to count, at least 0. Default: 0.0.
        save_top_k: how many of the best to keep; -1 keeps all that were ever evaluated. Any value other than 1 needs a
            template with `{epoch}` or `{step}`, so that each has its own name. Default: 1.
        save_last: also saves the weights at the end of every epoch, as `last.ckpt` (or `last.safetensors`) in the same
            folder. Default: False.
        save_optimizer: also saves the optimizer's state (moments and steps, but not the learning rate, which the
            schedule sets). `load_into(model.train_network)` loads everything, `load_into(network)` only the weights.
            Default: False.
        overwrite: whether the run's own best replaces what an earlier run has saved to `filepath`, even if that is
            better or of another network. Default: False.
        initial_value_threshold: only values better than this are saved. Default: None.
        background: whether to write in the background, from a copy of the weights (two copies while two files are
            pending), rather than before the next step. Default: True.
        reset_on_train_begin: whether each `Model.train` is a new run. `False` is for a loop that calls
            `model.train(1, ...)` repeatedly: the best value then spans all of its calls, `best_epoch_` and `{epoch}`
            count the epochs of all calls unless `initial_epoch` does, and `load_into` finds the best of all. Default:
            True.
        verbose: 1 prints a line for each best, 0 none. Default: 1.

    Attributes:
        best_path_ (str | None): the best checkpoint, once it is on disk; with several processes, those that do not
            write get this and the two below when the run is over.
        best_ (float | None): its value.
        best_epoch_ (int): its epoch; 0 before the first.

    Raises:
        TypeError, ValueError: an argument is not as described; at the start of the run if that can be known then, or
            else at the first evaluation: the run will not have such a value, or `mode="auto"` cannot determine which
            direction is better; before the first step: `filepath` holds the weights of another network.
        OSError: before the first step: the folder does not exist or cannot be written. Later: a save failed, as on a
            full disk; the last good file is still there.

    Example:
        >>> best = BestCheckpoint(folder + "/best.ckpt", monitor="acc", verbose=0)
        >>> model.train(2, train_dataset, callbacks=[Validate(model, valid_dataset), best])
        >>> best.load_into(network)["monitor"]
        'acc'
    """

    transient = ("_behind", "_parameters")

    def __init__(
        self,
        filepath: Union[str, os.PathLike[str]] = "best.ckpt",
        *,
        monitor: str = "eval_loss",
        mode: str = "auto",
        min_delta: float = 0.0,
        save_top_k: int = 1,
        save_last: bool = False,
        save_optimizer: bool = False,
        overwrite: bool = False,
        initial_value_threshold: Optional[float] = None,
        background: bool = True,
        reset_on_train_begin: bool = True,
        verbose: int = 1,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.filepath = check_path(_OWNER, "filepath", filepath)
        self._template = PathTemplate(_OWNER, os.fspath(filepath))
        checkpoint_io.check_format(_OWNER, os.fspath(filepath))
        self.save_top_k = check_int(_OWNER, "save_top_k", save_top_k, -1)
        if self.save_top_k not in (0, 1) and not self._template.fields & {"epoch", "step"}:
            raise ValueError(
                f"{_OWNER}: save_top_k={save_top_k} needs a filepath with {{epoch}} or {{step}} in its name, "
                f"such as 'best-{{epoch:02d}}.ckpt', but got {self.filepath!r}"
            )
        self.save_last = check_bool(_OWNER, "save_last", save_last)
        if self.save_top_k == 0 and not self.save_last:
            raise ValueError(
                f"{_OWNER}: save_top_k=0 saves nothing; pass save_last=True for the last checkpoint alone, or leave "
                f"{_OWNER} out"
            )
        self.save_optimizer = check_bool(_OWNER, "save_optimizer", save_optimizer)
        self.overwrite = check_bool(_OWNER, "overwrite", overwrite)
        self.initial_value_threshold = (
            None
            if initial_value_threshold is None
            else check_number(_OWNER, "initial_value_threshold", initial_value_threshold)
        )
        self.background = check_bool(_OWNER, "background", background)
        self.reset_on_train_begin = check_bool(_OWNER, "reset_on_train_begin", reset_on_train_begin)
        self.verbose = check_choice(_OWNER, "verbose", verbose, (0, 1))
        if self.save_last and len(self.target_paths) == 1:
            raise ValueError(
                f"{_OWNER}: with save_last=True, {self.filepath!r} is for the last; name the best differently"
            )
        self._kept: list[CheckpointRecord] = []  # on disk
        self._saved_paths: set[str] = set()  # all that it has saved in its run; no other callback may use them
        self._decided: list[
            CheckpointRecord
        ] = []  # including those still to be written, without those that they will supersede
        self._behind: Optional[BackgroundWriter[CheckpointRecord]] = None
        self._run_id, self._runs_before = "", 0
        self._is_new_run = True

    def before_train(self, run: Run) -> None:
        """Resolve the mode, and start the run's files or continue with those of an earlier one."""
        super().before_train(run)
        for folder in {os.path.dirname(path) for path in (self.filepath, os.path.realpath(self.filepath))}:
            atomic_files.remove_orphans(folder)
        self._is_new_run = not self.continues
        if self._is_new_run:
            self._run_id, self._runs_before = uuid.uuid4().hex, runs_before(self.filepath)
            self._kept = []
        else:
            # What was saved after the state from which the run continues is as valid as what the state lists.
            known = {kept.path: kept for kept in [*self._kept, *self._of_run()] if os.path.exists(kept.path)}
            self._kept, superseded = self._trimmed(self._ranked(known.values()))
            if distributed.is_first():
                for each in superseded:
                    remove(each.path)
        self._decided = self._kept
        self._saved_paths = {os.path.realpath(kept.path) for kept in self._kept}
        self._parameters = self._saved(run)
        if self.background and distributed.is_first():
            self._behind = BackgroundWriter(run.copies, run.background, self._parameters, self._write)

    def check(self, run: Run) -> None:
        """Raise if the run will not have the value, or files could not be written under their names."""
        super().check(run)
        metrics = run.metrics
        if metrics.names is not None:
            self._template.check([*metrics.train_names, *metrics.names], more_may_come=metrics.may_have_others)
        has_no_step = self.save_top_k not in (0, 1) and "step" not in self._template.fields
        if has_no_step and metrics.source is not None and metrics.source.every_n_steps is not None:
            raise ValueError(
                f"{_OWNER}: save_top_k={self.save_top_k} needs {{step}} in the filepath where the run evaluates "
                f"between steps, such as '{{epoch:02d}}-{{step}}.ckpt', but got {self.filepath!r}"
            )
        for other in run.callbacks:
            if isinstance(other, BestCheckpoint) and other is not self and other.target_paths & self.target_paths:
                place = min(other.target_paths & self.target_paths)
                raise ValueError(f"{_OWNER}: two callbacks save to {place!r}; give each a filepath of its own")
        check_parameters(_OWNER, self._saved(run))
        longest = self._template.longest_name(run.epochs, run.epochs * run.steps_per_epoch)
        atomic_files.check_folder(_OWNER, self.filepath, longest + ".json")

    def check_plan(self, run: Run) -> None:
        """Raise if the weights of another network would be replaced."""
        super().check_plan(run)
        if self._is_new_run and not run.progress.initial_epoch and not self.overwrite:
            earlier = self._earlier()[:1] if self.save_top_k else []  # all files of a run are of one network
            for kept in [*earlier, *(_standing(self._last_path) if self.save_last else [])]:
                self._check_network(run, kept)

    def disk_space(self, run: Run) -> dict[str, int]:
        """Return the size of those that are kept, and of the one that is written before an older is deleted."""
        most = run.epochs - run.progress.initial_epoch if self.save_top_k == -1 else self.save_top_k
        folder = os.path.dirname(os.path.realpath(self.filepath))
        return {folder: (most + self.save_last + 1) * size_of(self._saved(run))}

    def before_epoch(self, run: Run) -> None:
        """Continue with what an earlier run has left on disk, if this run continues that one."""
        if self._is_new_run and run.progress.initial_epoch:
            # Only values of the same monitor and mode can be compared.
            self._kept = [
                kept
                for kept in self._on_disk()
                if kept.record.get("monitor") == self.monitor
                and isinstance(kept.record.get("value"), float)
                and os.path.exists(kept.path)
            ]
            if self._kept:  # from now on they belong to one run, for a later search for its best
                self._run_id = self._kept[0].record.get("run", self._run_id)
                self._runs_before = self._kept[0].record.get("runs_before", self._runs_before)
            self._decided = self._kept
            self._saved_paths = {os.path.realpath(kept.path) for kept in self._kept}
        elif self._is_new_run and self.save_top_k and not self.overwrite:
            self._report_earlier()
        self._is_new_run = False

    def needs(self, run: Run) -> Needs:
        """Require the weights, the optimizer if it is saved, and the loss if it is monitored or part of a name."""
        optimizer = Needs.OPTIMIZER if self.save_optimizer else Needs.NOTHING
        loss = Needs.LOSS if any(map(run.metrics.follows, self._template.fields)) else Needs.NOTHING
        return super().needs(run) | Needs.WEIGHTS | optimizer | loss

    @property
    def needs_losses(self) -> bool:  # type: ignore[override]
        """Whether the training loss is monitored or part of the name."""
        return any(map(self.run.metrics.follows, (self.monitor, *self._template.fields)))

    def monitors(self, name: str) -> bool:
        """Return whether the value is monitored or part of a file name."""
        return super().monitors(name) or any(key_among(field, (name,)) for field in self._template.fields)

    def observe(self, run: Run, value: float, observation: Union[Evaluation, EpochSummary]) -> None:
        """Save the weights if the value is among the best."""
        best = self._decide(run, value, observation)
        if best is not None:
            run.before_checkpoint()
            distributed.do_once(_OWNER, lambda: self._save(best))

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Observe a value of the training steps, and save the last checkpoint."""
        super().after_epoch(run, summary)
        last = None
        if self.save_last:
            run.before_checkpoint()
            value = summary.value(self.monitor, _OWNER)
            last = CheckpointRecord(self._last_path, self._record(run, value, summary))
        distributed.do_once(_OWNER, lambda: self._save(last))

    def flush(self) -> None:
        """Wait until everything is written."""
        if self.background:
            distributed.do_once(_OWNER, lambda: self._register(wait=True))
        self._learn_from_first()

    def teardown(self) -> None:
        """Wait until everything is written, also if an exception ended the run."""
        try:
            self._register(wait=True)
        finally:
            self._behind = None
            self._decided = self._kept
            self._is_new_run = True

    @property
    def best_path_(self) -> Optional[str]:
        """The best checkpoint, once it is on disk."""
        return self._kept[0].path if self._kept else None

    @property
    def best_(self) -> Optional[float]:
        """The value of the best checkpoint."""
        return self._kept[0].value if self._kept else None

    @property
    def best_epoch_(self) -> int:
        """The epoch of the best checkpoint; 0 before the first."""
        return int(self._kept[0].record["epoch"]) if self._kept else 0

    def load_into(self, network: nn.Cell) -> dict[str, Any]:
        """Load the best checkpoint into a network, after verifying it against its record.

        This object tries the checkpoints of its own run, the best first; in a new process it tries the file `filepath`
        itself, as in `BestCheckpoint("last.ckpt")`, or for a template those that the latest run with it left on disk. A
        file that is damaged or incomplete is refused by name and the next best is loaded instead. The weights are
        written so that training can continue from them, in both modes.

        A prefix that a cell around the network has added to parameter names, in the file or here, makes no difference.
        A file without a record, as written by MindSpore's `save_checkpoint` and `ModelCheckpoint`, is loaded too, with
        a line that says that it cannot be verified; optimizer state in it is skipped.

        Args:
            network: a network with the same parameters. A training cell such as `model.train_network` gets the weights
                of its network and its loss, and with `save_optimizer=True` the optimizer's state too.

        Returns:
            The record of the checkpoint that was loaded: `"path"`, `"monitor"`, `"value"`, `"epoch"`, `"step"`, ...;
            of a file without one, `"path"` alone.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: none is whole, or they are of another network, or this process has only a part of the network;
                nothing was loaded.
        """
        if not isinstance(network, nn.Cell):
            raise TypeError(f"{_OWNER}: load_into takes a network (nn.Cell), but got {type(network).__name__}")
        check_whole(_OWNER, Needs.WEIGHTS, network)
        self._register(wait=True)
        if not self._kept and is_without_record(self.filepath):
            self.log(f"{self.filepath!r} has no record: it was not saved by {_OWNER} and cannot be verified")
            self._load(network, {}, checkpoint_io.load(self.filepath), self.filepath)
            return {"path": self.filepath}
        candidates = self._kept or self._on_disk()
        refused: list[str] = []
        for kept in candidates:
            try:
                record, arrays = read(kept)
            except (OSError, ValueError) as error:
                refused.append(str(error))
                self.log(f"refused {error}")
                continue
            self._load(network, record, arrays, kept.path)
            return {**record, "path": kept.path}
        if refused:
            raise ValueError(f"{_OWNER}: no whole checkpoint is left; refused: {'; '.join(refused)}")
        raise FileNotFoundError(f"{_OWNER}: there is no checkpoint {self.filepath!r}; train with this callback first")

    def state_dict(self) -> dict[str, Any]:
        """Return the checkpoints that are kept, the best first, including those still to be written."""
        return {
            "run": self._run_id,
            "runs_before": self._runs_before,
            "kept": [{"path": kept.path, "record": kept.record} for kept in self._decided],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, in the next run.

        Of the files that the state lists, only those are used that `filepath` may have produced, and only in the folder
        of `filepath`, which may have been moved: they will be loaded from there, and removed once they are superseded,
        and a state may come from an untrusted source.
        """
        TrainCallback.load_state_dict(self, state)  # skips MonitorCallback's: the best is what is on disk
        self._is_new_run = False
        self._run_id, self._runs_before = state["run"], state["runs_before"]
        kept = [(os.path.basename(each["path"]), each["record"]) for each in state["kept"]]
        self._kept = self._decided = [
            CheckpointRecord(os.path.join(self._template.folder, name), record)
            for name, record in kept
            if self._template.may_have_made(name)
        ]

    def _load(self, network: nn.Cell, record: dict[str, Any], arrays: Arrays, path: str) -> None:
        left_out = load_checkpoint(_OWNER, network, record, arrays, path)
        if left_out is not None:
            self.log(left_out)

    # Saving

    def _saved(self, run: Run) -> dict[str, Parameter]:
        """Return the parameters that a checkpoint holds."""
        return with_optimizer(run.parts.train_network, run.weights) if self.save_optimizer else run.weights

    def _is_kept(self, value: float) -> bool:
        if self.save_top_k == 0 or not self.best.monitor.is_better(value, self.initial_value_threshold):
            return False
        if self.save_top_k == -1 or len(self._decided) < self.save_top_k:
            return True
        return self.best.monitor.is_better(value, self._decided[-1].value)

    def _decide(self, run: Run, value: float, observation: Observation) -> Optional[CheckpointRecord]:
        """Return the new checkpoint, once ranked among the others; `None` if it is not to be saved."""
        new = self._candidate(run, value, observation) if self._is_kept(value) else None
        reason = self._reason_against(new) if new is not None else None
        if any(distributed.total([reason is not None])):  # one rank's finding counts for all
            self.log(
                f"{self.monitor} {value:.6g} in {place(self.epoch_of(run), observation.step_between)} is not saved: "
                f"{reason or 'on another rank'}"
            )
            return None
        if new is not None:
            self._decided = self._best_of(self._decided, new)[0]
            self._saved_paths.add(os.path.realpath(new.path))
        return new

    def _candidate(self, run: Run, value: float, observation: Observation) -> CheckpointRecord:
        values = {**observation.results, **observation.train_means}
        fields = {**values, "epoch": self.epoch_of(run), "step": observation.step}
        others = [each for each in run.callbacks if isinstance(each, BestCheckpoint) and each is not self]
        taken = {path for other in others for path in other.target_paths | other.saved_paths}
        return CheckpointRecord(self._template.path(fields, taken), self._record(run, value, observation))

    def _reason_against(self, new: CheckpointRecord) -> Optional[str]:
        """Return why a checkpoint is not saved although its value is among the best, or `None`."""
        flaw = flaw_in(self._parameters)
        if flaw is not None:
            return flaw
        if self._template.fields and not self.overwrite and self.initial_value_threshold is None:
            with contextlib.suppress(ValueError):
                there = self._comparable(at(new.path)) if os.path.exists(new.path) else new
                if there.record.get("run") != self._run_id and not self.best.monitor.is_better(new.value, there.value):
                    return f"{new.path!r} of an earlier run has {there.value:.6g}"
        return None

    # What an earlier run has left

    def _earlier(self) -> list[CheckpointRecord]:
        """Return the file at `filepath`, with an empty record if it has none; for a template, the latest run's."""
        if self._template.fields:
            return latest_run(self.filepath, self._template, besides=self._last_path)
        return _standing(self.filepath)

    def _check_network(self, run: Run, kept: CheckpointRecord) -> None:
        try:
            arrays = read(kept)[1] if kept.record else checkpoint_io.load(kept.path)
            arrays, _ = aligned(_OWNER, run.weights, arrays, kept.path)
        except (OSError, RuntimeError, ValueError):
            return  # which network it was of is no longer known
        is_alone = kept.record.get("with_optimizer") is False and not self.save_optimizer
        own = run.weights
        try:
            arrays, _ = aligned(_OWNER, own, arrays, kept.path)
        except ValueError:
            return  # it contains such a network more than once
        problems = [f"it lacks {name}" for name in own if name not in arrays]
        problems += [f"this one has no {name}" for name in arrays if name not in own and is_alone]
        for name in own.keys() & arrays.keys():
            array, parameter = arrays[name], own[name]
            # MindSpore 2.0 reads a 0-dimensional bool back with one dimension.
            is_of_shape = array.shape == tuple(parameter.shape) or array.size == parameter.size == 1
            if not is_of_shape or str(array.dtype) != str(parameter.dtype).lower():
                problems.append(
                    f"{name} is {array.shape} {array.dtype} there and {tuple(parameter.shape)} "
                    f"{str(parameter.dtype).lower()} here"
                )
        if problems:
            raise ValueError(
                f"{_OWNER}: {kept.path!r} holds the weights of another network ({'; '.join(sorted(problems))}); pass "
                f"overwrite=True to replace it, or another filepath"
            )

    def _comparable(self, kept: CheckpointRecord) -> CheckpointRecord:
        """Return a file with its verified record; raise if its value cannot be compared with those of this run."""
        if not kept.record:
            raise ValueError("it has no record that can be read")
        try:
            record = verified(kept)
        except (OSError, ValueError):
            raise ValueError("it is damaged or incomplete") from None
        if (record.get("monitor"), record.get("mode")) != (self.monitor, self.best.monitor.mode):
            raise ValueError(f"it is the best by {record.get('monitor')!r} ({record.get('mode')!r})")
        if not isinstance(record.get("value"), float):
            raise ValueError("its record has no value")
        if self.save_optimizer and not record.get("with_optimizer"):
            raise ValueError("it holds no optimizer's state")
        return CheckpointRecord(kept.path, record)

    def _report_earlier(self) -> None:
        """Report what happens to a file that an earlier run has saved; if it stays, it is the best so far."""
        for kept in self._earlier()[:1]:
            if self.initial_value_threshold is not None:
                fate = f"replaced by the first value better than initial_value_threshold={self.initial_value_threshold}"
            else:
                try:
                    best = self._comparable(kept)
                except ValueError as error:
                    fate = f"replaced by this run's first best, because {error}"
                else:
                    fate = (
                        f"kept until {best.value:.6g} (epoch {best.record['epoch']}) is beaten, or pass overwrite=True"
                    )
                    if not self._template.fields:
                        self._kept = self._decided = [best]
            if self._template.fields:
                fate += ", if a new one would take its name"
            self.log(f"{kept.path!r} of an earlier run is {fate}")

    def _best_of(
        self, others: list[CheckpointRecord], new: CheckpointRecord
    ) -> tuple[list[CheckpointRecord], list[CheckpointRecord]]:
        """Return those to keep once there is a new one, the best first, and those that it supersedes."""
        return self._trimmed(self._ranked([*(other for other in others if other.path != new.path), new]))

    def _trimmed(self, ranked: list[CheckpointRecord]) -> tuple[list[CheckpointRecord], list[CheckpointRecord]]:
        most = len(ranked) if self.save_top_k == -1 else self.save_top_k
        return ranked[:most], ranked[most:]

    def _save(self, new: Optional[CheckpointRecord]) -> None:
        self._register()
        if new is None:
            return
        if self._behind is None:
            self._write(views(self._parameters), new)
            self._keep(new)
            return
        if not self._behind.try_reserve(lambda waiting: self._is_superseded(waiting, new)):
            self._register(wait=True)
        self._behind.put(new)
        if distributed.count() == 1:  # several processes fail together, at the end of an epoch
            self.run.step_hooks.on_step_end(self, lambda run: self._register())

    def _is_superseded(self, waiting: CheckpointRecord, new: CheckpointRecord) -> bool:
        """Return whether a checkpoint that waits to be written is no longer needed, now that there is a new one."""
        if self._is_last(waiting):
            return self._is_last(new)
        return not any(waiting is kept for kept in self._decided)

    def _is_last(self, saved: CheckpointRecord) -> bool:
        return saved.path == self._last_path

    def _register(self, wait: bool = False) -> None:
        """Register what has been written in the background; raise if that failed."""
        if self._behind is not None:
            for saved in self._behind.written(to_the_end=wait):
                self._keep(saved)
            if self._behind.is_idle:
                self.run.step_hooks.on_step_end(self, None)

    def _keep(self, new: CheckpointRecord) -> None:
        """Remove what a new best supersedes, now that it is on disk."""
        if self._is_last(new):
            return
        self._kept, superseded = self._best_of(self._kept, new)
        for each in superseded:
            remove(each.path)
        if self.verbose and self._kept[0] is new:
            old = f" instead of {', '.join(atomic_files.shown(each.path) for each in superseded)}" if superseded else ""
            where = place(new.record["epoch"], new.record["step"] if new.record["between_steps"] else 0)
            self.log(
                f"{self.monitor} {new.value:.6g} in {where} is the best so far: "
                f"saved {atomic_files.shown(new.path)}{old}"
            )

    def _learn_from_first(self) -> None:
        """Tell the processes that do not write what is on disk, which may be another machine's disk."""
        if distributed.count() == 1:
            return
        own = [[os.path.basename(kept.path), kept.record] for kept in self._kept] if distributed.is_first() else []
        of_first: list[Any] = max(map(json.loads, distributed.gathered_texts(json.dumps(own))), key=len)
        if not distributed.is_first():
            folder = os.path.dirname(self.filepath)
            self._kept = self._decided = [
                CheckpointRecord(os.path.join(folder, name), record) for name, record in of_first
            ]

    def _ranked(self, kept: Iterable[CheckpointRecord]) -> list[CheckpointRecord]:
        # Sorting is stable: with equal values, the earlier stays before the later.
        return sorted(kept, key=lambda each: each.value, reverse=self.best.monitor.mode == "max")

    def _record(self, run: Run, value: Optional[float], observation: Observation) -> dict[str, Any]:
        return {
            "format": _RECORD_VERSION,
            "run": self._run_id,
            "runs_before": self._runs_before,
            "filepath": os.path.basename(self.filepath),
            "monitor": self.monitor,
            "mode": self.best.monitor.mode,
            "value": value if value is not None and np.isfinite(value) else None,
            "epoch": self.epoch_of(run),
            "step": observation.step,
            "between_steps": observation.step_between > 0,
            "learning_rate": list(observation.learning_rates),
            "with_optimizer": self.save_optimizer,
            "beside": run.parts.weights_beside,
            "saved_at": time.time(),
            "sha256": None,  # until the file is written
            "versions": {"mindspore": VERSION, "numpy": np.__version__},
        }

    def _write(self, arrays: dict[str, np.ndarray[Any, Any]], new: CheckpointRecord) -> None:
        ending = os.path.splitext(self.filepath)[1]
        try:
            save(new.path, lambda file: checkpoint_io.save(file, arrays, ending), new.record)
        except (OSError, RuntimeError, ValueError) as error:
            raise OSError(
                f"{_OWNER}: could not save {new.path!r} in epoch {new.record['epoch']}: {error}; an earlier file there "
                f"is untouched"
            ) from error

    @property
    def saved_paths(self) -> set[str]:
        """The paths to which it has saved in its run."""
        return self._saved_paths

    @property
    def target_paths(self) -> set[str]:
        """The paths to which it saves that are not templates."""
        return {os.path.realpath(path) for path in [self.filepath, *([self._last_path] if self.save_last else [])]}

    @property
    def _last_path(self) -> str:
        return os.path.join(os.path.dirname(self.filepath), "last" + os.path.splitext(self.filepath)[1])

    def _of_run(self) -> list[CheckpointRecord]:
        """Return what this run has left on disk."""
        return [
            kept
            for kept in self._on_disk()
            if kept.record.get("run") == self._run_id and isinstance(kept.record.get("value"), float)
        ]

    def _on_disk(self) -> list[CheckpointRecord]:
        """Return the file at `filepath`, or for a template what the latest run with it left, the best first."""
        if self._template.fields:
            return latest_run(self.filepath, self._template, besides=self._last_path)
        try:
            return [at(self.filepath)] if os.path.exists(self.filepath) else []
        except ValueError as error:
            raise ValueError(f"{_OWNER}: no whole checkpoint is left; refused: {error}") from error


def _standing(path: str) -> list[CheckpointRecord]:
    """Return the file at `path`, with an empty record if it has none that can be read."""
    if not os.path.exists(path):
        return []
    try:
        return [at(path)]
    except ValueError:
        return [CheckpointRecord(path, {})]
