"""Keeps all that a run needs to go on exactly where it was, whatever interrupts it and whenever."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from typing import Any, Optional, Union

import mindspore as ms
import numpy as np
from mindspore import dataset as ds
from mindspore import nn
from mindspore.train import Model

from ..core import _files, _ranks, _weights
from ..core._callback import STEP_BEGIN, TrainCallback, only_one
from ..core._checks import check_bool, check_int, check_path
from ..core._context import Run
from ..core._mindspore_compat import give_unique_names
from ..core._model_parts import named_parameters
from ..core._names import numbered
from ..core._roles import StateKeeper
from ._dataset_order import Order, is_seeded
from ._learnt import Learners, missing_method

__all__ = ["TrainingState"]

_OWNER = "TrainingState"
_FORMAT = 1
_WEIGHTS, _CONTENT, _FINISHED = "weights.ckpt", "state.json", "finished.json"
_MOST_CONTENT_BYTES = 1 << 28  # room for the history of a million epochs
_PREFIX = "state-"
_NAME = re.compile(_PREFIX + r"\d{8,}")
# Before the names of parameters, so that no callback's can be taken for one; each rank's own statistics are stacked.
_NETWORK, _RANKS = "network/", "ranks/"
_CAN_BEGIN_WITHIN = hasattr(ds.Dataset, "set_init_step")


class TrainingState(TrainCallback, StateKeeper):
    """Saves the whole state of a run, so that after any interruption it goes on as if nothing had happened.

    A state holds the weights, the optimizer's moments and steps, the learning rate, what every callback has learnt
    (patience, best so far and best weights, kept files, rows of a CSV file: whatever has `state_dict` and
    `load_state_dict`), epoch and step, and the seeds. It is a folder of its own that is there whole or not at all, with
    checksums; the older ones are removed only after. Call `resume` before `Model.train` or `Model.fit`; in a first run
    it finds nothing and returns 0, so that the same script starts a run and goes on with it:

    .. code-block:: python

        initial_epoch = state.resume(model, train_dataset)
        model.train(10, train_dataset, callbacks=[state, ...], initial_epoch=initial_epoch)

    On a CPU the parameters, moments, rates and decisions are then those of a run that was never interrupted, to the
    last bit, where the batches are. Call `mindspore.set_seed` before the dataset is made; the seed of the state is set
    again, and so are Python's and NumPy's random numbers. What then holds of the batches, on MindSpore 2.8 and newer:

    - Shuffles, the `shuffle` operation and MindSpore's samplers: the same, and begun at once.
    - Random transforms of MindSpore, and the rows of `TFRecordDataset`, `CSVDataset` and other files of lines with
      `shuffle=True`: the same, because a resume draws all batches before the state again and drops them. It takes as
      long as the dataset took for them, without the training, and is said. `replay=False` skips them instead: the
      random numbers are then others, and of shuffled files rows are repeated or left out.
    - Functions of `map`, `batch` and `filter`, sources and samplers in Python: drawn again too, from where NumPy's and
      Python's random numbers were when the first run began, so that what they draw is the same. Whether they draw any
      cannot be known; `mindspore.dataset.transforms.not_random` marks one that does not. Where several threads run
      such functions (`num_parallel_workers` is above 1, without `python_multiprocessing`), no two runs draw alike.
    - In sink mode, what Python functions draw may be other numbers.

    Not to the last bit are, on any dataset: random numbers that are drawn inside a network, as by `nn.Dropout`, which
    MindSpore cannot continue; `nn.RMSProp` on a CPU, unless it is centered, whose kernel rounds differently in the
    first five steps of a process (by about 1e-10 a step); an optimizer that `boost_level` has made, which keeps the
    moments of others in a Python list; a dataset whose validation draws from NumPy or Python meanwhile; and
    the numbers that callbacks draw from them where the dataset does too. MindSpore 2.0 cannot begin a dataset in its
    middle: a shuffled dataset repeats the orders of its first epochs, and `every_n_steps` is refused. At its start, the
    run says in one line what of this concerns it, by the names of the operations. A callback that learns something and
    has no `state_dict` is named at a resume.

    Of several processes the first saves for all, each one's own BatchNorm statistics with it; the states of Python's
    and NumPy's random numbers are the first's alone.

    Args:
        directory: where the states are kept, one run's alone, taken from the working directory at construction; it is
            made where it does not exist.
        every_n_epochs: saves after every n-th epoch. Default: 1.
        every_n_steps: saves after every n steps of an epoch too; not on MindSpore 2.0, and not in sink mode.
            Default: None.
        keep: how many states to keep, the newest. Default: 2.
        replay: whether a resume draws all batches before the state again and drops them, where only that gives the same
            batches afterwards; not on MindSpore 2.0. Default: True.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: the directory holds the state of
            a run that is not finished and `resume` was not called, or `initial_epoch` is not what it returned, or the
            list of callbacks holds two of these.
        OSError: the directory cannot be written, or a save failed, as on a full disk; the last good state is there.

    Example:
        >>> state = TrainingState(folder + "/state")
        >>> initial_epoch = state.resume(model, train_dataset)
        >>> model.train(2, train_dataset, callbacks=[state], initial_epoch=initial_epoch)
        >>> TrainingState(folder + "/state").resume(model, train_dataset)
        Traceback (most recent call last):
        ...
        ValueError: TrainingState: the run in ... is finished (epoch 2 of 2); ...
    """

    def __init__(
        self,
        directory: Union[str, os.PathLike[str]],
        *,
        every_n_epochs: int = 1,
        every_n_steps: Optional[int] = None,
        keep: int = 2,
        replay: bool = True,
    ) -> None:
        super().__init__()
        self.directory = check_path(_OWNER, "directory", directory)
        self.every_n_epochs = check_int(_OWNER, "every_n_epochs", every_n_epochs, 1)
        self.every_n_steps = None if every_n_steps is None else check_int(_OWNER, "every_n_steps", every_n_steps, 1)
        self.keep = check_int(_OWNER, "keep", keep, 1)
        self.replay = check_bool(_OWNER, "replay", replay)
        if every_n_steps is not None and not _CAN_BEGIN_WITHIN:
            raise ValueError(
                f"{_OWNER}: MindSpore {ms.__version__} cannot begin a dataset in its middle; leave every_n_steps out, "
                f"or use MindSpore 2.8 or newer"
            )
        self._dataset: Any = None
        self._run_id = ""
        self._taken_up: Optional[_State] = None
        self._good: list[str] = []
        self._fast_recovery: Optional[bool] = None
        self._order: Optional[Order] = None
        self._learners: Optional[Learners] = None
        self._began: Any = None
        self._learnt: list[str] = []
        self._is_begun = False

    def resume(self, model: Model, train_dataset: Any) -> int:
        """Gives a Model and its dataset back the newest state that is whole; the callbacks get theirs in the run.

        A state that is damaged is refused by name, and the next older one is taken.

        Args:
            model: the Model whose `train` or `fit` is called next, made as in the interrupted run.
            train_dataset: the dataset that it is called with. MindSpore 2.8 and newer begin it at the right step.

        Returns:
            What to pass as `initial_epoch`; 0 where there is no state, and the run is the first.

        Raises:
            TypeError: an argument is not as described.
            ValueError: the run is finished; no state is whole; or it was saved with another network, another optimizer
                or another number of batches. Nothing was loaded.
        """
        if not isinstance(model, Model):
            raise TypeError(f"{_OWNER}: model must be a mindspore.train.Model, but got {type(model).__name__}")
        if not hasattr(train_dataset, "get_dataset_size"):
            raise TypeError(
                f"{_OWNER}: train_dataset must be a MindSpore dataset, but got {type(train_dataset).__name__}"
            )
        self._dataset = self._taken_up = None
        state = self._newest()
        if finished := self._finished(state):
            raise ValueError(
                f"{_OWNER}: the run in {self.directory!r} is finished (epoch {finished.get('epoch')} of "
                f"{finished.get('epochs')}); for a new run remove the directory, or pass another"
            )
        if state is None:
            return 0
        content, batches = state.content, train_dataset.get_dataset_size()
        if batches != content["steps_per_epoch"]:
            raise ValueError(
                f"{_OWNER}: {state.path!r} was saved with {content['steps_per_epoch']} batches an epoch, but "
                f"train_dataset has {batches}; pass the same dataset with the same batch_size"
            )
        epoch, steps = content["epoch"], content["step_in_epoch"]
        if steps and not _CAN_BEGIN_WITHIN:
            raise ValueError(
                f"{_OWNER}: {state.path!r} was saved in the middle of an epoch, where MindSpore {ms.__version__} "
                f"cannot begin; resume with the version that saved it ({content['versions']['mindspore']})"
            )
        give_unique_names(model.train_network)
        _weights.write(_OWNER, named_parameters(model.train_network), state.parameters, state.path)
        if _ranks.is_first():
            _restore_seeds(content["seeds"])
        self._dataset, self._taken_up = train_dataset, state
        self.say(f"going on after epoch {epoch}" + (f" and {steps} steps of the next" if steps else ""))
        if _CAN_BEGIN_WITHIN:
            self._begin_dataset_at(train_dataset, epoch * batches + steps)
        return int(epoch)

    def _begin_dataset_at(self, dataset: Any, steps: int) -> None:
        """Has MindSpore begin a dataset after `steps` steps; with all its draws, where it depends on them."""
        self._fast_recovery = ds.config.get_fast_recovery()
        dataset.set_init_step(steps)
        order = Order(dataset)
        if self.replay and (order.drawn or order.python):
            # MindSpore 2.8 to 2.10 read this when the iterator is made, and turn it off themselves for `shuffle`.
            ds.config.set_fast_recovery(False)
            self.say(
                f"draws the batches of the {steps} steps before again and drops them, so that the next are the same, "
                f"for {', '.join(order.drawn + order.python)}; replay=False skips them instead"
            )

    # What the run goes through

    def check(self, run: Run) -> None:
        """Raises where it is not alone, or steps cannot be told apart and have to be."""
        super().check(run)
        only_one(_OWNER, run.callbacks, (StateKeeper,), "keep the run's state")
        if self._taken_up is None:
            self._check_new()
        _weights.check_parameters(_OWNER, named_parameters(run.train_network))
        if self.every_n_steps is not None and run.is_sinking:
            raise ValueError(
                f"{_OWNER}: in sink mode steps run on the device unseen; leave every_n_steps out, or train with "
                f"dataset_sink_mode=False"
            )

    def disk_space(self, run: Run) -> dict[str, int]:
        """Those that are kept, and the one that is written before an older goes."""
        folder = self.directory if os.path.isdir(self.directory) else os.path.dirname(os.path.abspath(self.directory))
        return {folder: (self.keep + 1) * _weights.size_of(named_parameters(run.train_network))}

    def on_train_begin(self, run_context: Any) -> None:
        """Looks before each step whether a state is due."""
        super().on_train_begin(run_context)
        self._is_begun = False
        self.at_step(STEP_BEGIN, self._begin_draws_of_run, self._save_if_due)
        self._say_what_differs(self._run)

    def before_epoch(self, run: Run) -> None:
        """Checks, before the first step, that the run goes on where the state was saved."""
        self._steps_since = 0
        state, self._taken_up = self._taken_up, None
        if state is not None and run.initial_epoch != state.content["epoch"]:
            raise ValueError(
                f"{_OWNER}: the state is that after epoch {state.content['epoch']}, but the run has initial_epoch="
                f"{run.initial_epoch}; pass initial_epoch=state.resume(model, train_dataset)"
            )
        if not self._is_begun:
            self._is_begun = True
            self._learners = Learners(numbered(self._run.callbacks))
            self._begin_draws_of_dataset(state)

    def _begin_draws_of_dataset(self, state: Optional[_State]) -> None:
        """Notes what Python and NumPy draw from when MindSpore begins to draw batches, or restores it.

        A dataset that draws its batches again has to draw the same numbers as in the first run.
        """
        self._seeds_of_run = None
        if state is None:
            self._began = _drawn_from()
        elif self._began and self._replays and self._order_of(self._run).python and _ranks.is_first():
            self._seeds_of_run = _drawn_from()
            _draw_from(self._began)

    def _begin_draws_of_run(self, run_context: Any) -> None:
        """Restores, at the first step of a run, what its own code draws from, unless the dataset draws from it."""
        self.at_step(STEP_BEGIN, self._save_if_due)
        if self._seeds_of_run is not None:
            now = _drawn_from()
            _draw_from({kind: seeds for kind, seeds in self._seeds_of_run.items() if now[kind] == self._began[kind]})
            self._seeds_of_run = None

    @property
    def _replays(self) -> bool:
        return _CAN_BEGIN_WITHIN and (self.replay or not ds.config.get_fast_recovery())

    def _order_of(self, run: Run) -> Order:
        if self._order is None:
            self._order = Order(run.train_dataset)
        return self._order

    def _say_what_differs(self, run: Run) -> None:
        """Says in one line what a resume does not give back to the last bit."""
        differing = [f"{', '.join(names)} ({why})" for why, names in self._differing(run) if names]
        if differing:
            self.say(f"not the same to the last bit after a resume: {'; '.join(differing)}")

    def _differing(self, run: Run) -> Iterator[tuple[str, list[str]]]:
        order = self._order_of(run)
        unordered = order.python if order.threads > 1 else []
        if not _CAN_BEGIN_WITHIN:
            yield f"MindSpore {ms.__version__} begins a dataset at its first epoch again", order.seeded + order.drawn
            yield "cannot be known: if random numbers are drawn there", order.python
        else:
            if not is_seeded():
                yield "no seed: call mindspore.set_seed first", order.seeded + order.drawn + order.in_processes
            elif not self._replays:
                yield "replay=False", order.drawn
            if not self._replays:
                yield "replay=False, if random numbers are drawn there", order.python
            elif run.is_sinking:
                yield "if random numbers are drawn there, in sink mode", order.python
            elif unordered:
                yield "if random numbers are drawn there, in threads that share them: num_parallel_workers=1", unordered
        yield "random numbers of the network cannot continue", _dropouts(run.train_network)
        if (
            isinstance(run.optimizer, nn.RMSProp)
            and not run.optimizer.centered
            and ms.get_context("device_target") == "CPU"
        ):
            yield "MindSpore's kernel rounds differently in its first steps of a process", ["RMSProp"]
        yield (
            "optimizers in a Python list, whose moments MindSpore does not list",
            _hidden_optimizers(run.train_network),
        )

    def _save_if_due(self, run_context: Any) -> None:
        """Saves at the interval, or where it was asked to, now that the step before is over for every callback."""
        if self._steps_since == self.every_n_steps or (self._run.is_state_asked and _CAN_BEGIN_WITHIN):
            self._keep(self._run, self._run.epoch - 1, self._run.step_in_epoch - 1)
            self._steps_since = 0
        self._steps_since += 1

    def on_exit(self) -> None:
        """Lets the dataset begin at its beginning again."""
        self._taken_up = self._order = self._learners = None
        if self._dataset is not None and _CAN_BEGIN_WITHIN:
            self._dataset.set_init_step(0)
            ds.config.set_fast_recovery(self._fast_recovery)
        self._dataset = None

    # What the run asks for

    def hand_out(self, run: Run) -> None:
        """Gives the run and its callbacks the state that `resume` has found, before any of them begins."""
        os.makedirs(self.directory, exist_ok=True)
        _files.check_folder(_OWNER, os.path.join(self.directory, _CONTENT))
        _files.remove_orphans(self.directory)
        state = self._taken_up
        if state is None:
            _ranks.do_once(_OWNER, self._begin_anew)
            return
        if run.train_dataset is not self._dataset:
            raise ValueError(f"{_OWNER}: the run trains on another dataset than resume was given; pass the same one")
        self._run_id, self._good = state.content["run"], [state.path]
        self.place(run)
        saved = {each["name"]: each for each in state.content["callbacks"]}
        for name, callback in _stateful(run):
            own = saved.pop(name, None)
            if own is None:
                self.say(f"{name} was not there when the state was saved; it begins anew")
                continue
            try:
                callback.load_state_dict(own["state"])
                if own["arrays"]:
                    callback.load_state_arrays({key: state.arrays[f"{name}/{key}"] for key in own["arrays"]})
            except Exception as error:
                raise ValueError(
                    f"{_OWNER}: {name} cannot go on from what {state.path!r} holds of it ({type(error).__name__}: "
                    f"{error}); make it with the same arguments as in the interrupted run"
                ) from error
        self._began, self._learnt = state.content.get("began"), state.content.get("learnt", [])
        for name, callback in numbered(run.callbacks):
            if name in self._learnt and (method := missing_method(callback)):
                self.say(f"{name} has no {method}; what it has learnt is not resumed")
        for name in saved:
            self.say(f"{name} was there when the state was saved, and is not in the list of callbacks now")

    def place(self, run: Run) -> None:
        """Tells the run after which steps it continues."""
        if self._taken_up is not None:
            content = self._taken_up.content
            run.go_on(content["step_in_epoch"], content["epoch_so_far"])

    def keep_state(self, run: Run, epochs: int, steps: int) -> None:
        """Saves at the end of an epoch that is to be saved, and where the run is interrupted."""
        if steps and not _CAN_BEGIN_WITHIN:
            self.say(
                f"MindSpore {ms.__version__} cannot begin in the middle of an epoch; a later run goes on after epoch "
                f"{epochs}"
            )
        elif run.is_interrupted or run.is_state_asked or epochs % self.every_n_epochs == 0:
            self._keep(run, epochs, steps)

    def finish(self, run: Run) -> None:
        """Takes note that the run is finished, so that nobody goes on with it by mistake."""
        finished = {"run": self._run_id, "epoch": run.epoch, "epochs": run.epochs}
        try:
            _ranks.do_once(_OWNER, lambda: _files.write_json(self._finished_path, finished))
        except OSError as error:
            raise OSError(f"{_OWNER}: could not note that the run is finished: {error}") from error

    def _begin_anew(self) -> None:
        """Makes room for a new run."""
        self._check_new()
        for path in self._paths():
            shutil.rmtree(path)
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._finished_path)
        self._run_id, self._good, self._learnt = uuid.uuid4().hex, [], []

    def _check_new(self) -> None:
        """Raises where a run is there that could go on."""
        state = self._newest()
        if state is not None and not self._finished(state):
            raise ValueError(
                f"{_OWNER}: {self.directory!r} holds the state of a run that is not finished, after epoch "
                f"{state.content['epoch']}; call initial_epoch = state.resume(model, train_dataset) before Model.train "
                f"to go on with it, or remove the directory for a new run"
            )

    def _keep(self, run: Run, epoch: int, steps: int) -> None:
        run.is_state_asked = False
        run.examine()
        # What no gradient changes, such as BatchNorm's statistics, each process has its own of.
        own = {name: one for name, one in run.weights.items() if not one.requires_grad} if _ranks.count() > 1 else {}
        ranks = {f"{_RANKS}{name}": _ranks.gathered(array) for name, array in _weights.views(own).items()}
        _ranks.do_once(_OWNER, lambda: self._save(run, epoch, steps, ranks))

    def _save(self, run: Run, epoch: int, steps: int, ranks: dict[str, np.ndarray[Any, Any]]) -> None:
        latest = max((_number(os.path.basename(path)) for path in self._paths()), default=0)
        path = os.path.join(self.directory, f"{_PREFIX}{latest + 1:08d}")
        own = _weights.views(named_parameters(run.train_network))
        network = {f"{_NETWORK}{name}": array for name, array in own.items()}
        arrays = {**network, **ranks}
        callbacks = []
        for name, callback in _stateful(run):
            own = callback.state_arrays() if hasattr(callback, "state_arrays") else {}
            arrays.update({f"{name}/{key}": array for key, array in own.items()})
            callbacks.append({"name": name, "state": _plain(name, callback.state_dict()), "arrays": sorted(own)})
        content = {
            "format": _FORMAT,
            "run": self._run_id,
            "epoch": epoch,
            "step_in_epoch": steps,
            "epochs": run.epochs,
            "steps_per_epoch": run.steps_per_epoch,
            "epoch_so_far": run.state_dict() if steps else {},
            "seeds": _seeds(),
            "began": self._began,
            "learnt": sorted({*self._learnt, *(self._learners.names() if self._learners else ())}),
            "callbacks": callbacks,
            "saved_at": time.time(),
            "versions": {"mindspore": ms.__version__, "numpy": np.__version__},
        }
        try:
            with _files.staged_folder(path) as folder:
                weights = os.path.join(folder, _WEIGHTS)
                digest = _files.written(weights, lambda file: _weights.save(file, arrays))
                content["weights"] = {"sha256": digest, "bytes": os.path.getsize(weights)}
                with open(os.path.join(folder, _CONTENT), "w", encoding="utf-8") as file:
                    json.dump({"sha256": _files.digest_of(content), "content": content}, file)
        except (OSError, RuntimeError, ValueError) as error:
            raise OSError(
                f"{_OWNER}: could not save {path!r} after epoch {epoch}: {error}; earlier states are untouched"
            ) from error
        self._good = [*self._good, path][-self.keep :]
        for old in set(self._paths()) - set(self._good):
            shutil.rmtree(old, ignore_errors=True)

    def _newest(self) -> Optional[_State]:
        """The newest state that is whole; `None` where there is none at all."""
        refused = []
        for path in reversed(self._paths()):
            try:
                return _State(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                refused.append(f"{path!r} ({error})")
                self.say(f"refused {refused[-1]}")
        if refused:
            raise ValueError(f"{_OWNER}: no whole state is left; refused: {', '.join(refused)}")
        return None

    def _paths(self) -> list[str]:
        """The states on disk, the oldest first."""
        names = os.listdir(self.directory) if os.path.isdir(self.directory) else []
        states = sorted(filter(_NAME.fullmatch, names), key=_number)
        return [os.path.join(self.directory, name) for name in states]

    def _finished(self, state: Optional[_State]) -> Optional[dict[str, Any]]:
        """How the run of a state, or one that has left none, was finished; `None` where it was not."""
        with contextlib.suppress(OSError, ValueError):
            finished = _files.read_json(self._finished_path)
            if state is None or finished.get("run") == state.content["run"]:
                return finished
        return None

    @property
    def _finished_path(self) -> str:
        return os.path.join(self.directory, _FINISHED)


class _State:
    """A state on disk that is just what was saved; raises where it is not."""

    def __init__(self, path: str) -> None:
        self.path = path
        file = _files.read_json(os.path.join(path, _CONTENT), _MOST_CONTENT_BYTES)
        self.content: dict[str, Any] = file["content"]
        if _files.digest_of(self.content) != file["sha256"]:
            raise ValueError(f"damaged, the SHA-256 of {_CONTENT} is not the one in it")
        weights = os.path.join(path, _WEIGHTS)
        expected = self.content["weights"]
        if os.path.getsize(weights) != expected["bytes"] or _files.sha256(weights) != expected["sha256"]:
            raise ValueError(f"damaged or incomplete, the SHA-256 of {_WEIGHTS} is not the one in its record")
        if self.content["format"] != _FORMAT:
            raise ValueError(f"of format {self.content['format']}, which this version does not know")
        arrays = _weights.load(weights)
        self.parameters = {name[len(_NETWORK) :]: arrays[name] for name in arrays if name.startswith(_NETWORK)}
        for name in [name for name in arrays if name.startswith(_RANKS)]:
            if len(arrays[name]) == _ranks.count():
                self.parameters[name[len(_RANKS) :]] = arrays[name][_ranks.place()]
        self.arrays = {name: array for name, array in arrays.items() if not name.startswith((_NETWORK, _RANKS))}


def _stateful(run: Run) -> list[tuple[str, Any]]:
    """The callbacks that have a state, the user's own included, by name: `EarlyStopping`, `EarlyStopping 2`."""
    return [
        (name, callback)
        for name, callback in numbered(run.callbacks)
        if not isinstance(callback, StateKeeper) and not missing_method(callback)
    ]


def _plain(name: str, state: Any) -> Any:
    try:
        plain = json.loads(json.dumps(state))
        _check_keys(state)
        return plain
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{_OWNER}: state_dict of {name} must hold plain numbers, strings, lists, dictionaries and None: {error}"
        ) from error


def _check_keys(state: Any) -> None:
    """Raises where a dictionary has keys that JSON would make strings of."""
    if isinstance(state, dict):
        for key in state:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no string")
    if isinstance(state, (dict, list, tuple)):
        for each in state.values() if isinstance(state, dict) else state:
            _check_keys(each)


def _number(name: str) -> int:
    return int(name[len(_PREFIX) :])


def _dropouts(network: nn.Cell) -> list[str]:
    """The kinds of layers that draw random numbers in training, by name."""
    kinds = tuple(getattr(nn, name) for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d"))
    dropping = [cell for _, cell in network.cells_and_names() if isinstance(cell, kinds) and not _keeps_all(cell)]
    return sorted({type(cell).__name__ for cell in dropping})


def _keeps_all(dropout: nn.Cell) -> bool:
    dropped = getattr(dropout, "p", getattr(dropout, "prob", None))  # each class has a name of its own for it
    return bool(dropped == 0 if dropped is not None else getattr(dropout, "keep_prob", None) == 1)


def _hidden_optimizers(cell: nn.Cell) -> list[str]:
    """Where a training cell holds optimizers whose parameters are not among its own, as `boost_level` has them."""
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


def _seeds() -> dict[str, Any]:
    """What Python, NumPy and MindSpore draw random numbers from, as far as they tell."""
    return {"mindspore": ms.get_seed(), "dataset": ds.config.get_seed(), **_drawn_from()}


def _drawn_from() -> dict[str, Any]:
    """What Python and NumPy draw random numbers from, as plain lists."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {"numpy": [kind, np.asarray(keys).tolist(), *rest], "python": [version, list(internal), gauss]}


def _restore_seeds(seeds: dict[str, Any]) -> None:
    if seeds["mindspore"] is not None:
        ms.set_seed(seeds["mindspore"])
    ds.config.set_seed(seeds["dataset"])
    _draw_from(seeds)


def _draw_from(seeds: dict[str, Any]) -> None:
    if "numpy" in seeds:
        kind, keys, *rest = seeds["numpy"]
        np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    if "python" in seeds:
        version, internal, gauss = seeds["python"]
        random.setstate((version, tuple(internal), gauss))
