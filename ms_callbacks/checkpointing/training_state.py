"""Save everything that a run needs to continue exactly where it was, whatever interrupts it and whenever."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import Future, wait
from typing import Any, Optional, Union

import numpy as np
from mindspore.train import Callback, Model

from ..core import atomic_files, distributed
from ..core.arguments import check_bool, check_int, check_path
from ..core.callback import TrainCallback, only_one
from ..core.console import counted
from ..core.lr_callback import Schedule
from ..core.mindspore_compat import (
    CAN_BEGIN_WITHIN,
    VERSION,
    give_unique_names,
    is_queued,
    made_with,
    parallel_mode_of,
    recording_cells,
    set_recording_cells,
    size_of_dataset,
)
from ..core.model_parts import named_parameters, optimizers_of, take_apart
from ..core.names import numbered
from ..core.parameters import Arrays, check_parameters, load_into, size_of, views
from ..core.phases import Phases
from ..core.placement import Needs, check_whole
from ..core.run import Run
from ._dataset_position import DatasetPosition
from ._exactness import differing
from ._identity import Identity, check_left, matched, twins, with_later_arguments
from ._learnt import Learners, missing_method, unsaved
from ._random import restore_seeds, seeds
from ._rate_lists import dynamic_rates, with_lists
from ._state_content import checked_arrays, plain_state
from ._states import NETWORK, RANKS, State, States

__all__ = ["TrainingState"]

_OWNER = "TrainingState"
_NEEDS = Needs.WEIGHTS | Needs.OPTIMIZER | Needs.RUN
_LAST_EPOCH = "its last epoch"
_HOW_TO_GET_RESULTS = "create them before calling resume, or pass them as callbacks=[...]"


class TrainingState(TrainCallback):
    """Save the whole state of a run, so that after any interruption it continues as if nothing had happened.

    A state holds the weights, the optimizer's moments and steps, the learning rate, what every callback has learnt
    (patience, best so far and best weights, kept files, rows of a CSV file: whatever has `state_dict` and
    `load_state_dict`), epoch and step, and the seeds. It is a separate folder that exists completely or not at all,
    with checksums; older ones are removed only afterwards. Call `resume` before `Model.train` or `Model.fit`, so that
    the same script starts a run, continues it, and does nothing once it is finished:

    .. code-block:: python

        initial_epoch = state.resume(model, train_dataset, epochs=10)
        if not state.finished_:
            model.train(10, train_dataset, callbacks=[state, ...], initial_epoch=initial_epoch)

    A run is finished when its last epoch is over, or when a callback of this library, such as `EarlyStopping`, has
    decided to stop it. `resume` then gives the Model the weights that the run ended with and the callbacks their
    results, and prints a line. If more epochs are requested than the run had, it continues to those, as if they had
    been requested from the start; a run that was stopped stays finished. Anything else that ends a run is an
    interruption: an exception, a signal, or a stop that another callback has requested, even in the middle of an epoch,
    which is then not evaluated.

    Training continues as soon as everything is copied; the state is written in a background thread, which takes memory
    for one copy of the network and the optimizer. If the next state is due before that is done, the run waits. A failed
    write raises at the next step or epoch, and the end of the run waits for the last write.

    States are matched to callbacks by what these are, in whatever order they stand: class, monitor, path and the other
    arguments. If that is not enough to tell two of them apart, for example two of a class of your own whose arguments
    are not kept as attributes of the same names, give each a `state_key`: `callback.state_key = "first"`. Paths are
    relative to `directory`, so that everything can be moved together.

    On a CPU, the parameters, moments, rates and decisions are then those of a run that was never interrupted, to the
    last bit, if the batches are the same. Call `mindspore.set_seed` before the dataset is created; a resume restores
    the seed, and the random states of Python and NumPy. On MindSpore 2.8 and newer, this holds for the batches:

    - Shuffles, the `shuffle` operation and MindSpore's samplers: the same, without delay.
    - Random transforms of MindSpore, and the rows of `TFRecordDataset`, `CSVDataset` and other files of lines with
      `shuffle=True`: the same, because a resume draws all batches before the state again and drops them. That takes as
      long as the dataset took for them, without the training, and is reported. `replay=False` skips them instead: the
      random numbers then differ, and with shuffled files rows are repeated or left out.
    - Functions of `map`, `batch` and `filter`, sources and samplers in Python: replayed too, starting from the random
      states of NumPy and Python when the first run began, so that they draw the same numbers. Whether they draw any
      cannot be known; `mindspore.dataset.transforms.not_random` marks one that does not. If several threads run such
      functions (`num_parallel_workers` is above 1, without `python_multiprocessing`), no two runs draw the same
      numbers.
    - In sink mode, Python functions may draw different numbers.

    With any dataset, the following are not the same to the last bit: random numbers drawn inside a network, as by
    `nn.Dropout`, which MindSpore cannot continue; `nn.RMSProp` on a CPU, unless it is centered, because its kernel
    rounds differently in the first five steps of a process (by about 1e-10 a step); an optimizer made by `boost_level`,
    which keeps the moments of others in a Python list; a dataset whose validation draws from NumPy or Python meanwhile;
    and random numbers that callbacks draw from NumPy or Python if the dataset does too. MindSpore 2.0 cannot begin a
    dataset in its middle: a shuffled dataset repeats the orders of its first epochs, `every_n_steps` is refused, and a
    run that is interrupted within an epoch continues from the beginning of that epoch. When it starts, the run reports
    in one line what of this applies to it, by the names of the operations. A callback that learns something but has no
    `state_dict` is named at a resume.

    In sink mode an epoch is `sink_size` steps: a run must continue with the same `sink_size`, and `resume` must be
    called before `Model.build`.

    With several processes, all must find the same state, in a shared folder or in copies. The first process saves for
    all, including each one's own BatchNorm statistics; of the random states of Python and NumPy, only the first
    process's are saved.

    A run in which each process holds only a part of the weights, as in `semi_auto_parallel` mode or a pipeline, is
    refused before the first step: `docs/en/large_runs.md` of the project says which settings these are, and what to use
    instead.

    Args:
        directory: the folder for the states of this run alone, relative to the working directory at construction; it is
            created if it does not exist.
        every_n_epochs: saves after every n-th epoch, and when the run ends. Default: 1.
        every_n_steps: also saves after every n steps of an epoch; not on MindSpore 2.0, and not in sink mode.
            Default: None.
        keep: how many states to keep: the newest ones. Default: 2.
        replay: whether a resume draws all batches before the state again and drops them, if the batches afterwards are
            the same only then; not on MindSpore 2.0. Default: True.
        overwrite: whether `train` without `resume` removes the states of an earlier run, finished or not. Default:
            False, which raises an error if there are any.
        background: whether to write in the background, from a copy, rather than before the next step. Default: True.

    Attributes:
        finished_ (bool): whether the run is finished, after `resume` and after `Model.train`.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: the directory holds the state of
            a run, and neither was `resume` called nor `overwrite` given; `initial_epoch` or the number of epochs is not
            that of the call of `resume`; the callbacks are not those of the interrupted run; two callbacks cannot be
            told apart; a schedule would have set other rates if all epochs had been requested from the start; or the
            list of callbacks holds two of these.
        OSError: the directory cannot be written, or a save failed, as on a full disk; the last good state is there.

    Example:
        >>> state = TrainingState(folder + "/state")
        >>> initial_epoch = state.resume(model, train_dataset, epochs=2)
        TrainingState: there is no state in '...'; the run starts from scratch
        >>> if not state.finished_:
        ...     model.train(2, train_dataset, callbacks=[state], initial_epoch=initial_epoch)
        >>> state.finished_
        True
    """

    saves_run_states = True
    transient = ("_taken_up", "_learners", "_writing")

    def __init__(
        self,
        directory: Union[str, os.PathLike[str]],
        *,
        every_n_epochs: int = 1,
        every_n_steps: Optional[int] = None,
        keep: int = 2,
        replay: bool = True,
        overwrite: bool = False,
        background: bool = True,
    ) -> None:
        super().__init__()
        self.directory = check_path(_OWNER, "directory", directory)
        self.every_n_epochs = check_int(_OWNER, "every_n_epochs", every_n_epochs, 1)
        self.every_n_steps = None if every_n_steps is None else check_int(_OWNER, "every_n_steps", every_n_steps, 1)
        self.keep = check_int(_OWNER, "keep", keep, 1)
        self.replay = check_bool(_OWNER, "replay", replay)
        self.overwrite = check_bool(_OWNER, "overwrite", overwrite)
        self.background = check_bool(_OWNER, "background", background)
        if every_n_steps is not None and not CAN_BEGIN_WITHIN:
            raise ValueError(
                f"{_OWNER}: MindSpore {VERSION} cannot begin a dataset in its middle; leave every_n_steps out, "
                f"or use MindSpore 2.8 or newer"
            )
        self.finished_ = False
        self._states = States(self.directory, self.keep)
        self._position = DatasetPosition(self.replay)
        self._epochs_asked: Optional[int] = None
        self._run_id = ""
        self._taken_up: Optional[State] = None
        self._rates_taken: list[tuple[str, Schedule, str]] = []
        self._learners: Optional[Learners] = None
        self._learnt: list[str] = []
        self._identities: dict[int, Identity] = {}
        self._is_begun = self._is_requested = False
        self._writing: Optional[Future[None]] = None

    def resume(
        self,
        model: Model,
        train_dataset: Any,
        epochs: Optional[int] = None,
        *,
        callbacks: Union[Callback, Iterable[Callback], None] = None,
    ) -> int:
        """Restore the newest whole state of a Model and its dataset; the callbacks get theirs when the run begins.

        A state that is damaged is refused by name, and the next older one is used. If the run is finished, `finished_`
        is true, the Model has the weights that the run ended with, and the callbacks have their results: create them
        before this call.

        Args:
            model: the Model whose `train` or `fit` is called next, created as in the interrupted run.
            train_dataset: the dataset for that call. MindSpore 2.8 and newer begin it at the right step.
            epochs: the number of epochs for that call. Default: None, as many as when the state was saved.
            callbacks: the callbacks that get their results back if the run is finished. Default: None, the callbacks of
                this library that the process has created by now, after the previous `TrainingState` and before the
                next, and that have not been used in a run yet.

        Returns:
            What to pass as `initial_epoch`; 0 if there is no state and the run is the first.

        Raises:
            TypeError: an argument is not as described.
            ValueError: no state is whole; it was saved with another network, another optimizer or another number of
                batches; or the optimizer's own schedule of rates differs. The Model must not be trained then.
        """
        if not isinstance(model, Model):
            raise TypeError(f"{_OWNER}: model must be a mindspore.train.Model, but got {type(model).__name__}")
        if not hasattr(train_dataset, "get_dataset_size"):
            raise TypeError(
                f"{_OWNER}: train_dataset must be a MindSpore dataset, but got {type(train_dataset).__name__}"
            )
        given = None if callbacks is None else _listed(callbacks)
        self._epochs_asked = None if epochs is None else check_int(_OWNER, "epochs", epochs, 1)
        check_whole(_OWNER, _NEEDS, model.train_network, parallel_mode_of(model))
        self._position.reset()
        self._taken_up = None
        self.finished_ = False
        state = self._newest()
        if state is None:
            self.log(f"there is no state in {atomic_files.shown(self.directory)!r}; the run starts from scratch")
            return 0
        give_unique_names(model.train_network)
        return distributed.do_together(_OWNER, lambda: self._take_up(model, train_dataset, state, given))

    def _take_up(self, model: Model, train_dataset: Any, state: State, callbacks: Optional[list[Any]]) -> int:
        """Load a state into a Model, its dataset and the callbacks; return its epoch."""
        if self._is_complete(state.content):
            self._take_results(model, state, callbacks)
            return int(state.content["epoch"])
        return self._continue(model, train_dataset, state)

    def _is_complete(self, content: dict[str, Any]) -> bool:
        """Return whether nothing is left to train: the run was stopped for good, or has the requested epochs."""
        decided = content["finished_by"] not in ("", _LAST_EPOCH)
        asked = content["epochs"] if self._epochs_asked is None else self._epochs_asked
        return decided or content["epoch"] >= asked

    def _take_results(self, model: Model, state: State, callbacks: Optional[list[Any]]) -> None:
        """Give a Model and callbacks the results of a finished run."""
        self.finished_ = True
        content = state.content
        parameters = named_parameters(model.train_network)
        rates = dynamic_rates(optimizers_of(model.train_network))
        arrays = (
            state.parameters if rates is None else with_lists(_OWNER, rates, parameters, state, 0)
        )  # no rate is used again
        load_into(_OWNER, parameters, arrays, state.path)
        if content["restored"] is not None:
            parts = take_apart(*made_with(model))
            final = state.arrays_of(content["restored"])
            weights = {name: one for name, one in parts.weights.items() if name in final}
            kinds = {name: array.dtype for name, array in views(weights).items()}
            load_into(
                _OWNER, weights, {name: final[name].astype(kinds[name], copy=False) for name in kinds}, state.path
            )
        made = TrainCallback.made() if callbacks is None else []
        used = [Identity.of(each, self.directory) for each in made if each.is_used]  # and have their results already
        given = self._made_near(state) if callbacks is None else callbacks
        left = self._load_callback_states(state, _stateful(given), is_over=True)
        missing = [str(each) for each in left if each not in used and callbacks is None]
        decided = content["finished_by"] != _LAST_EPOCH and content["finished_by"]
        self.log(
            f"the run in {atomic_files.shown(self.directory)!r} is complete, "
            + (f"stopped by {decided} after" if decided else "with")
            + f" {content['epoch']} of {content['epochs']} epochs; the model has its weights; "
            + (
                f"to train it further anyway, pass another directory and initial_epoch={content['epoch']}"
                if decided
                else f"for more epochs, ask for them, as in resume(..., epochs={content['epoch'] + 1})"
            )
            + (f"; for the results of {', '.join(missing)}, {_HOW_TO_GET_RESULTS}" if missing else "")
        )

    def _made_near(self, state: State) -> list[TrainCallback]:
        """Return the callbacks that the process has probably created for this run, the likeliest first.

        Those are the ones created since the previous `TrainingState`, or until the next.
        """
        made = TrainCallback.made()
        own = next(place for place, each in enumerate(made) if each is self)
        sides = []
        for side in (made[:own][::-1], made[own + 1 :]):
            near = itertools.takewhile(lambda each: not isinstance(each, TrainingState), side)
            sides.append([each for each in near if not each.is_used])
        known = state.identities
        fitting = [sum(Identity.of(each, self.directory) in known for each in side) for side in sides]
        return [*sides[0], *sides[1]] if fitting[0] >= fitting[1] else [*sides[1], *sides[0]]

    def _continue(self, model: Model, train_dataset: Any, state: State) -> int:
        """Load the state from which a run continues into a Model and its dataset."""
        content, batches = state.content, train_dataset.get_dataset_size()
        if batches != content["batches"]:
            raise ValueError(
                f"{_OWNER}: {state.path!r} was saved with {content['batches']} batches in the dataset, but "
                f"train_dataset has {batches}; pass the same dataset with the same batch_size"
            )
        if is_queued(train_dataset):
            raise ValueError(
                f"{_OWNER}: sink mode has already made a queue of train_dataset, in Model.build or an earlier "
                f"Model.train, and it cannot be moved to where the run continues; call resume before Model.build, or "
                f"create the dataset again"
            )
        epoch, steps = content["epoch"], content["step_in_epoch"]
        steps_done = epoch * content["steps_per_epoch"] + steps
        if steps and not CAN_BEGIN_WITHIN:
            raise ValueError(
                f"{_OWNER}: {state.path!r} was saved in the middle of an epoch, where MindSpore {VERSION} "
                f"cannot begin; resume with the version that saved it ({content['versions']['mindspore']})"
            )
        parameters = named_parameters(model.train_network)
        rates = dynamic_rates(optimizers_of(model.train_network))
        arrays = state.parameters if rates is None else with_lists(_OWNER, rates, parameters, state, steps_done)
        load_into(_OWNER, parameters, arrays, state.path)
        is_longer = self._epochs_asked not in (None, content["epochs"])
        if rates is not None and is_longer and not np.allclose(now := rates.so_far(), content["rates"], rtol=1e-6):
            raise ValueError(
                f"{_OWNER}: the optimizer's schedule gives {now} where the interrupted run of "
                f"{content['epochs']} epochs had {content['rates']}, so that a run of {self._epochs_asked} epochs from "
                f"the start would have been different; create the optimizer with the schedule of the interrupted run"
            )
        set_recording_cells(model.train_network, content["recording_cells"])
        if distributed.is_first():
            restore_seeds(content["seeds"])
        self._taken_up = state
        self.log(f"continues after epoch {epoch}" + (f" and {counted(steps, 'step')} of the next" if steps else ""))
        for line in self._position.begin_at(train_dataset, steps_done):
            self.log(line)
        return int(epoch)

    # Phases of the run

    def check(self, run: Run) -> None:
        """Raise if there are two of these, callbacks or steps cannot be told apart, or an earlier run would be lost."""
        super().check(run)
        only_one(_OWNER, [one for one in run.callbacks if isinstance(one, TrainingState)], "keep the run's state")
        if self._taken_up is None:
            self._check_new()
        check_parameters(_OWNER, named_parameters(run.parts.train_network))
        if self.every_n_steps is not None:
            run.progress.check_sees_steps(_OWNER, "steps run on the device unseen", "leave every_n_steps out")
        alike = twins(_stateful(run.callbacks), self.directory)
        if alike is not None:
            raise ValueError(
                f"{_OWNER}: {alike} cannot be told apart by their class and their arguments, and either might be given "
                f"the other's state; give each a name of its own, as in callback.state_key = 'first'"
            )

    def check_plan(self, run: Run) -> None:
        """Raise if the run is not the one `resume` was called for, or would have been different so far."""
        super().check_plan(run)
        state, initial_epoch = self._taken_up, run.progress.initial_epoch
        if state is not None and initial_epoch != state.content["epoch"]:
            raise ValueError(
                f"{_OWNER}: the state is that after epoch {state.content['epoch']}, but the run has initial_epoch="
                f"{initial_epoch}; pass initial_epoch=state.resume(model, train_dataset, epochs={run.epochs})"
            )
        if state is not None and state.content["step_in_epoch"] and run.progress.is_sinking:
            raise ValueError(
                f"{_OWNER}: {state.path!r} was saved in the middle of an epoch, where sink mode cannot begin; train "
                f"with dataset_sink_mode=False until an epoch is over"
            )
        if state is not None and run.steps_per_epoch != state.content["steps_per_epoch"]:
            raise ValueError(
                f"{_OWNER}: {state.path!r} was saved with {state.content['steps_per_epoch']} steps an epoch, but this "
                f"run has {run.steps_per_epoch}; pass the same sink_size"
            )
        if self._epochs_asked not in (None, run.epochs):
            raise ValueError(
                f"{_OWNER}: resume was called with epochs={self._epochs_asked}, but the run has {run.epochs}; give "
                f"both the same number"
            )
        if state is not None and run.epochs != state.content["epochs"]:
            for name, schedule, taken in self._rates_taken:
                if schedule.digest_of_rates(run, state.content["epoch"], state.content["step_in_epoch"]) != taken:
                    raise ValueError(
                        f"{_OWNER}: {name} would have set other rates in the first {initial_epoch} epochs if "
                        f"{run.epochs} had been requested from the start instead of {state.content['epochs']}; "
                        f"configure it so that its rates begin like those of the interrupted run, or keep to "
                        f"{state.content['epochs']} epochs"
                    )

    def needs(self, run: Run) -> Needs:
        """Require the weights, the state of each optimizer, and the whole run."""
        return _NEEDS

    def disk_space(self, run: Run) -> dict[str, int]:
        """Return the size of those that are kept, and of the one that is written before an older is deleted."""
        folder = self.directory if os.path.isdir(self.directory) else os.path.dirname(self.directory)
        return {folder: (self.keep + 1) * size_of(named_parameters(run.parts.train_network))}

    def before_train(self, run: Run) -> None:
        """Have each step check beforehand whether a state is due."""
        self._is_begun = self._is_requested = self.finished_ = False
        run.step_hooks.on_step_begin(self, self._begin_step)
        self._say_what_differs(run)

    def before_epoch(self, run: Run) -> None:
        """Count steps from the beginning of the epoch; before the first, save or restore random states."""
        self._steps_since = 0
        if not self._is_begun:
            self._is_begun = True
            self._learners = Learners(numbered(self.run.callbacks))
            self._position.begin_draws(self.run, self._taken_up is not None)
            self._taken_up, self._rates_taken = None, []

    def _begin_step(self, run: Run) -> None:
        """Begin the first step."""
        run.step_hooks.on_step_begin(self, self._save_if_due)
        self._position.end_draws()
        self._save_if_due(run)

    def _say_what_differs(self, run: Run) -> None:
        """Print in one line what a resume does not reproduce to the last bit."""
        reasons = differing(run, self._position.order_of(run), replays=self._position.replays)
        lines = [f"{', '.join(names)} ({why})" for why, names in reasons if names]
        if lines:
            self.log(f"not the same to the last bit after a resume: {'; '.join(lines)}")

    def request_state(self) -> None:
        """Save before the next step, or at the end of the epoch if MindSpore cannot begin within one."""
        self._is_requested = True

    def _save_if_due(self, run: Run) -> None:
        """Save at the interval, or when requested, now that every callback is done with the previous step."""
        if self._steps_since == self.every_n_steps or (self._is_requested and CAN_BEGIN_WITHIN):
            run.losses.read()  # so that the device's work on the steps so far is not timed as saving
            with run.progress.pausing():
                self._keep(run, run.epoch - 1, run.step_in_epoch - 1, finished_by="")
            self._steps_since = 0
        self._steps_since += 1
        if self._writing is not None and self._writing.done() and distributed.count() == 1:
            self._finish_write()  # several processes fail together, when the next is due

    def teardown(self) -> None:
        """Wait until everything is written, and make the dataset begin at its start again."""
        try:
            self._finish_write()
        finally:
            self._taken_up = self._learners = None
            self._rates_taken = []
            self._position.reset()
            self._epochs_asked = None

    # What the lifecycle calls

    def load_run_state(self, run: Run) -> None:
        """Load the state that `resume` has found into the run and its callbacks, before any of them begins."""
        try:
            os.makedirs(self.directory, exist_ok=True)
        except OSError as error:
            raise type(error)(f"{_OWNER}: cannot make the folder {self.directory!r}: {error}; pass another") from error
        atomic_files.check_folder(_OWNER, os.path.join(self.directory, "state"))
        atomic_files.remove_orphans(self.directory)
        # Taken before the run: a callback may keep what it learns under the name of an argument.
        self._identities = {id(each): Identity.of(each, self.directory) for _, each in _stateful(run.callbacks)}
        state = self._taken_up
        if state is None:
            distributed.do_once(_OWNER, self._begin_new)
            return
        if run.parts.train_dataset is not self._position.dataset:
            raise ValueError(f"{_OWNER}: the run trains on another dataset than resume was given; pass the same one")
        self._run_id, self._states.good = state.content["run"], [state.path]
        self.place(run)
        self._load_callback_states(state, _stateful(run.callbacks), is_over=False)
        self._position.began, self._learnt = state.content["began"], state.content["learnt"]
        for name, callback in numbered(run.callbacks):
            if name in self._learnt and (method := unsaved(callback)):
                self.log(f"{name} has no {method}; what it has learnt is not resumed")

    def _load_callback_states(self, state: State, callbacks: list[tuple[str, Any]], *, is_over: bool) -> list[Identity]:
        """Load the states of callbacks; for a run that is over, only into those that exist, without printing.

        Returns:
            The callbacks that have learnt something but do not exist.
        """
        saved = state.content["callbacks"]
        known = with_later_arguments(state.identities, (callback for _, callback in callbacks))
        present = [Identity.of(callback, self.directory) for _, callback in callbacks]
        pairs, gone, new = matched(known, present)
        if not is_over:
            try:
                check_left([known[index] for index in gone], [present[place] for place in new])
            except ValueError as error:
                raise ValueError(f"{_OWNER}: cannot assign the state {state.path!r}: {error}") from None
        self._rates_taken = []
        for place, index in pairs.items():
            (name, callback), entry = callbacks[place], saved[index]
            try:
                callback.load_state_dict(entry["state"])
                if isinstance(callback, TrainCallback):
                    TrainCallback.load_state_dict(callback, {})  # a subclass may have forgotten to call `super()`
                if entry["arrays"]:
                    callback.load_state_arrays(state.arrays_of(index))
            except Exception as error:
                raise ValueError(
                    f"{_OWNER}: {name} cannot continue from what {state.path!r} holds of it ({type(error).__name__}: "
                    f"{error}); make it with the same arguments as in the interrupted run"
                ) from error
            if is_over and isinstance(callback, TrainCallback):
                callback.take_results(state.content["epoch"])
            if isinstance(callback, Schedule):
                self._rates_taken.append((name, callback, entry["rates"]))
            if not is_over and (changes := present[place].differences(known[index])):
                self.log(f"{name} continues with {changes}")
        if not is_over:
            for place in new:
                self.log(f"{callbacks[place][0]} was not there when the state was saved; it starts from scratch")
            for index in gone:
                self.log(
                    f"{saved[index]['name']} was there when the state was saved, but is not in the list of callbacks "
                    f"now"
                )
        return [known[index] for index in gone if saved[index]["state"]]

    def place(self, run: Run) -> None:
        """Set the step after which the run continues."""
        if self._taken_up is not None:
            content = self._taken_up.content
            run.progress.resume(content["step_in_epoch"], content["epoch_so_far"])
            run.losses.load_state_dict(content["epoch_so_far"].get("losses", {}))

    def save_run_state(self, run: Run, epochs: int, steps: int, finished_by: Optional[str]) -> None:
        """Save at the end of an epoch if due, and when the run ends."""
        is_over = finished_by is not None
        if steps and not CAN_BEGIN_WITHIN:
            self.log(
                f"MindSpore {VERSION} cannot begin in the middle of an epoch; a later run continues after epoch "
                f"{epochs}"
            )
        elif is_over or self._is_requested or epochs % self.every_n_epochs == 0:
            self._keep(run, epochs, steps, finished_by or "")
        if is_over:
            distributed.do_once(_OWNER, self._finish_write)
            self.finished_ = bool(finished_by)

    def _begin_new(self) -> None:
        """Start the states of a new run."""
        if self.overwrite:
            self._states.clear()
        self._check_new()
        self._run_id, self._states.good, self._learnt = uuid.uuid4().hex, [], []

    def _check_new(self) -> None:
        """Raise if an earlier run has left states."""
        if not self.overwrite and self._states.paths:
            raise ValueError(
                f"{_OWNER}: {self.directory!r} holds the state of a run; to continue it, call initial_epoch = "
                f"state.resume(model, train_dataset, epochs=...) before Model.train, and train only where "
                f"state.finished_ is false; for a new run pass another directory, or overwrite=True"
            )

    # Saving

    def _keep(self, run: Run, epoch: int, steps: int, finished_by: str) -> None:
        self._is_requested = False
        run.before_checkpoint()
        # Each process has its own copy of what no gradient changes, such as BatchNorm's statistics.
        own = (
            {name: one for name, one in run.weights.items() if not one.requires_grad} if distributed.count() > 1 else {}
        )
        ranks = {f"{RANKS}{name}": distributed.gathered(array) for name, array in views(own).items()}
        distributed.do_once(_OWNER, lambda: self._save(run, epoch, steps, finished_by, ranks))

    def _save(self, run: Run, epoch: int, steps: int, finished_by: str, ranks: Arrays) -> None:
        self._finish_write()
        parameters = named_parameters(run.parts.train_network)
        own = run.copies.take(parameters).arrays if self.background else views(parameters)
        arrays = {**{f"{NETWORK}{name}": array for name, array in own.items()}, **ranks}
        rates = dynamic_rates(run.parts.optimizers)
        content = {
            "run": self._run_id,
            "epoch": epoch,
            "step_in_epoch": steps,
            "epochs": run.epochs,
            "finished_by": finished_by,
            "batches": size_of_dataset(run.parts.train_dataset),
            "steps_per_epoch": run.steps_per_epoch,
            "epoch_so_far": {**run.progress.state_dict(), "losses": run.losses.state_dict()} if steps else {},
            "rates": None if rates is None else rates.so_far(),
            # In sink mode, MindSpore wraps the training cell in another, which changes the names.
            "recording_cells": None if run.progress.is_sinking else recording_cells(run.parts.train_network),
            "seeds": seeds(),
            "began": self._position.began,
            "learnt": sorted({*self._learnt, *(self._learners.names() if self._learners else ())}),
            "callbacks": [],
            "restored": None,
            "saved_at": time.time(),
            "versions": {"mindspore": VERSION, "numpy": np.__version__},
        }
        for index, (name, callback) in enumerate(_stateful(run.callbacks)):
            identity = self._identities[id(callback)]
            learnt = checked_arrays(_OWNER, name, callback)
            kept = run.copies.kept(learnt) if self.background else learnt
            arrays.update({f"{index}/{key}": array for key, array in kept.items() if array.size})
            if isinstance(callback, Phases) and callback.final_weights():
                is_restored = type(callback).finalize_weights is Phases.finalize_weights  # and so written last
                content["restored"] = index if is_restored or content["restored"] is None else content["restored"]
            content["callbacks"].append(
                {
                    "name": name,
                    "state_key": identity.state_key,
                    "arguments": identity.arguments,
                    "state": plain_state(_OWNER, name, callback.state_dict()),
                    "arrays": {key: [array.shape, array.dtype.name] for key, array in learnt.items()},
                    "rates": callback.digest_of_rates(run, epoch, steps) if isinstance(callback, Schedule) else None,
                }
            )
        if self.background:
            self._writing = run.background.submit(self._write, content, arrays)
        else:
            self._write(content, arrays)

    def _write(self, content: dict[str, Any], arrays: Arrays) -> None:
        try:
            self._states.write(content, arrays)
        except (OSError, RuntimeError, ValueError) as error:
            raise OSError(
                f"{_OWNER}: could not save the state after epoch {content['epoch']} in {self.directory!r}: {error}; "
                f"earlier states are untouched"
            ) from error

    def _finish_write(self) -> None:
        """Wait for the state that is being written; raise if that failed."""
        if self._writing is not None:
            wait([self._writing])  # if this is interrupted, it has to be waited for again
            writing, self._writing = self._writing, None
            writing.result()

    def _newest(self) -> Optional[State]:
        """Return the newest state that is whole, the same for all processes."""
        state = distributed.do_together(_OWNER, self._newest_here)
        known = "" if state is None else f"{os.path.basename(state.path)} of run {state.content['run']}"
        found = distributed.gathered_texts(known)
        if len(set(found)) > 1:
            told = ", ".join(f"process {rank} {text or 'none'}" for rank, text in enumerate(found))
            raise ValueError(
                f"{_OWNER}: the processes have found different states in {self.directory!r}: {told}; let directory be "
                f"a folder that all of them share, or copy the states of the first to the others"
            )
        return state

    def _newest_here(self) -> Optional[State]:
        try:
            return self._states.newest(self.log)
        except ValueError as error:
            raise ValueError(f"{_OWNER}: {error}") from None


def _stateful(callbacks: Iterable[Any]) -> list[tuple[str, Any]]:
    """Return the callbacks that have a state, including the user's own, by name: `EarlyStopping`, `EarlyStopping 2`."""
    return [
        (name, callback)
        for name, callback in numbered(callbacks)
        if not isinstance(callback, TrainingState) and not missing_method(callback)
    ]


def _listed(callbacks: Union[Callback, Iterable[Callback]]) -> list[Any]:
    """Return the given callbacks; raise if they are something else."""
    given = [callbacks] if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable) else list(callbacks)
    for each in given:
        if not isinstance(each, Callback):
            raise TypeError(f"{_OWNER}: callbacks must be a Callback or a list of them, but got {each!r}")
    return given
