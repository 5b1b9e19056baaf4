"""The life of a run: the order of the phases, for all callbacks of this package, whatever their order in the list.

The first callback whose MindSpore hook is called runs the phase for all:

    train begins    load_run_state -> check on all -> join (reset_state, or the state that was loaded) -> before_train
    first epoch     what is known only now -> check_plan on all
    each epoch      before_epoch
    first step      check_batch on all
    each step       what was asked for with run.step_hooks; an evaluation where one is due
    evaluation      before_evaluation -> run_evaluation -> after_evaluation -> end_evaluation
    epoch ends      losses are read -> evaluation where due -> after_epoch -> end_epoch
    weights kept    before_checkpoint
    train ends      flush -> save_run_state -> finalize_weights -> restore_weights -> after_train -> end_train
    always          restore_weights, if an exception has ended training; then teardown
    after that      the exception passed with a request to stop is raised, unless another one was raised
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Callable, Optional

import numpy as np
from mindspore.train import Callback

from . import distributed, signals
from .agreement import check_agreement
from .metrics import Caller, Metrics, find_caller
from .mindspore_compat import stop_recording, training_call
from .observations import EpochSummary, Evaluation
from .outcome import Outcome
from .phases import Phases
from .preflight import check_together, report_facts
from .run import Run, RunActions
from .samples import Samples
from .training_flags import TrainingFlags

__all__ = ["Lifecycle"]

_KEY = "_ms_callbacks_lifecycle"
_LAST_EPOCH = "its last epoch"
_EPOCH_BEGIN = ("on_train_epoch_begin", "epoch_begin")  # and its name before MindSpore 2.0


class Lifecycle:
    """Calls the phases of a run on its callbacks.

    Args:
        run_context: MindSpore's run context.
        caller: what `Model.train` or `Model.fit` was called with. Default: None, found among the calling frames.
    """

    def __init__(self, run_context: Any, caller: Optional[Caller] = None) -> None:
        self._context, self._args = run_context, run_context.original_args()
        listed = [each for each in self._args["list_callback"] if isinstance(each, Phases)]
        self.callbacks: list[Phases] = [one for each in listed for one in (each, *each.inner)]
        readers = [reader for each in self.callbacks if (reader := each.output_reader()) is not None]
        sources = [each for each in self.callbacks if each.evaluation_source is not None]
        self._evaluator = sources[0] if sources else None
        actions = RunActions(self.evaluate_between_steps, self.before_checkpoint, self.request_stop)
        self.run = run = Run(run_context, self.callbacks, readers[0] if readers else None, actions)
        run.metrics = Metrics(
            self._args,
            ("loss", *run.losses.reader.names, *(name for each in self.callbacks for name in each.summary_names(run))),
            None if self._evaluator is None else self._evaluator.evaluation_source,
            caller or find_caller(),
            run.parts.is_split,
        )
        # `fit` evaluates before any callback is notified of the epoch's end.
        run.progress.times_steps = run.metrics.fit_evaluates
        self._unguard: Optional[Callable[[], None]] = None
        self._has_begun = self._has_joined = self._has_planned = self._has_ended = self._has_restored = False
        self._is_place_known = True  # whether no callback is left that may move the run to another epoch
        self._needs_losses = False
        self._is_evaluating = self._is_evaluation_open = False
        self._fit_flags: Optional[TrainingFlags] = None  # while `Model.fit` evaluates
        self._evaluated_step = -1  # the last step after which there was an evaluation
        self._summary: Optional[EpochSummary] = None  # of an epoch that is closed, but not ended for callbacks
        self._decided_by = self._interrupted_by = ""  # the callback that has stopped the run for good, or for now
        self._is_interrupted = self._stopped_mid_epoch = False
        self._is_leaving = False  # whether a callback has been torn down
        self._error: Optional[BaseException] = None  # to be raised once the run is over

    @classmethod
    def of(cls, run_context: Any) -> Lifecycle:
        """Return the lifecycle of the run that `run_context` belongs to."""
        args = run_context.original_args()
        lifecycle = args.get(_KEY)
        if lifecycle is None:
            lifecycle = args[_KEY] = cls(run_context)
        return lifecycle

    # Training begins

    def begin_train(self) -> None:
        """Begin training, when the first callback is notified of it."""
        if not self.callbacks:
            raise ValueError(
                "Model: a callback of ms_callbacks was called that is not in the list of callbacks; add it to the "
                "list, or return it as `inner` from the TrainCallback that holds it"
            )
        if self._has_begun:
            return
        self._has_begun = True
        run, progress = self.run, self.run.progress
        check_agreement(list(self.callbacks), progress.steps_per_epoch, progress.epochs)
        self._call("load_run_state", run)
        self._call("check", run)
        self._call("join", self)
        self._has_joined = True
        self._start_step_hooks()
        self._is_place_known = not _may_be_moved(self.callbacks[0], run.callbacks)
        self._unguard = signals.guard()
        self._hear_of_epoch_ends_first()
        self._call("before_train", run)

    def _start_step_hooks(self) -> None:
        run, progress = self.run, self.run.progress
        needing = [each for each in self.callbacks if each.needs_losses]
        self._needs_losses = bool(needing)
        if any(each.needs_samples for each in self.callbacks):
            progress.samples = Samples()
        run.step_hooks.start(needing[0] if needing else None, progress.samples, times_steps=progress.times_steps)
        run.step_hooks.before_all(self._begin_first_step)
        if run.updates.steps_per_update > 1:  # the last steps of an epoch make an update too
            run.step_hooks.on_optimizer_step(self, lambda run: None)
        source = run.metrics.source
        if source is not None and source.every_n_steps is not None:
            # Not registered for a callback, so that it runs after the functions of all callbacks.
            run.step_hooks.every(source.every_n_steps, self, self._evaluate_if_begun)

    # Epochs

    def begin_epoch(self) -> None:
        """Begin an epoch, when the first callback is notified of it."""
        run, progress = self.run, self.run.progress
        if not progress.open_epoch():
            return
        if run.epoch > progress.initial_epoch + 1:
            with progress.pausing():
                self._call("save_run_state", run, run.epoch - 1, 0, None)
        run.losses.begin_epoch(done=progress.steps_skipped)
        self._count_steps_from(self._args["cur_step_num"])
        if self._is_place_known:
            self._enter_epoch()

    def _count_steps_from(self, done: int) -> None:
        progress = self.run.progress
        self.run.step_hooks.begin_epoch(done, progress.last_step, progress.step - self._args["cur_step_num"])

    def _enter_epoch(self) -> None:
        if not self._has_planned:
            self._has_planned = True
            check_together(self.run)
            report_facts(self.run)
            self._call("check_plan", self.run)
        self._call("before_epoch", self.run)

    def _begin_first_step(self, run: Run) -> None:
        """Check the first batch; before that, enter the first epoch if other callbacks could still have changed it."""
        run.step_hooks.before_all(None)
        self._find_place()
        self._call("check_batch", run)

    def _find_place(self) -> None:
        if not self._is_place_known:
            self._is_place_known = True
            self.run.progress.find_place()
            self._count_steps_from(self._args["cur_step_num"] - 1)  # the first of which has begun
            self._enter_epoch()

    def close_epoch(self) -> None:
        """Close an epoch before any callback is notified of its end: read its losses, and evaluate if due."""
        run, progress = self.run, self.run.progress
        if not progress.is_epoch_open:
            return
        began = time.perf_counter()
        run.losses.read()  # which waits for the device
        waited = time.perf_counter() - began
        self._end_steps()
        progress.close_epoch(began, waited, run.is_stopping)
        self.before_checkpoint()
        if self._stopped_mid_epoch:
            self._end_evaluation()  # `Model.fit` evaluates an interrupted epoch too
            self._end(run.epoch - 1, progress.step_in_epoch)
            return
        so_far = self._so_far()
        samples = self._all_samples()
        if self._evaluated_step != self._args["cur_step_num"] or run.metrics.is_published:
            self._evaluate(so_far, at_epoch_end=True)
        results = run.metrics.results
        self._summary = EpochSummary(
            **{**so_far, "results": results, "names_so_far": run.metrics.names_so_far},
            samples=samples,
        )

    def _is_interruption(self) -> bool:
        """Return whether the requested stop is an interruption, after which a later run may continue."""
        # A stop that no callback has requested is an interruption too, if a later run can continue from a state.
        saves_state = any(each.saves_run_states for each in self.callbacks)
        return not self._decided_by and (self._is_interrupted or (self.run.is_stopping and saves_state))

    def _end_steps(self) -> None:
        """Determine whether the epoch was interrupted; if not, finish the update that its last steps have begun."""
        run, progress = self.run, self.run.progress
        # An epoch whose number of steps is not known in advance might have had more.
        self._stopped_mid_epoch = self._is_interruption() and progress.step_in_epoch != progress.known_steps
        if not self._stopped_mid_epoch and run.updates.finish_group():
            run.step_hooks.call_optimizer_step()

    def end_epoch(self) -> None:
        """End an epoch, when the first callback is notified of it."""
        self._find_place()  # for an epoch without a step
        self.close_epoch()
        summary, self._summary = self._summary, None
        if summary is not None:
            self._call("after_epoch", self.run, summary)
            self._call("end_epoch", self.run, summary)

    # Evaluations

    def _evaluate_if_begun(self, run: Run) -> None:
        if run.metrics.source is not None and run.epoch >= run.metrics.source.start_epoch:
            self.evaluate_between_steps()

    def evaluate_between_steps(self) -> None:
        """Evaluate after the last step, unless it was already evaluated or the end of its epoch is about to do so."""
        run, progress = self.run, self.run.progress
        if self._is_evaluating or not progress.is_epoch_open:
            what = "an evaluation is under way" if self._is_evaluating else "no epoch is"
            raise RuntimeError(f"Run: evaluate is for use between two steps, but {what}")
        if self._evaluator is None:
            raise ValueError(
                "Run: evaluate needs a callback that evaluates; add Validate(model, valid_dataset) to the callbacks"
            )
        step = self._args["cur_step_num"]
        if self._evaluated_step == step:
            return
        is_last = step == progress.last_step or (run.is_stopping and not self._is_interruption())
        if is_last and (run.metrics.fit_evaluates_in(run.epoch) or self._evaluator.evaluates_at_epoch_end(run)):
            return
        run.losses.read()  # so that the device's work on the steps so far is not timed as evaluation
        with progress.pausing():
            self.before_checkpoint()
            self._evaluate(self._so_far(), at_epoch_end=False)

    def enter_evaluation(self) -> None:
        """Store the `training` flags if MindSpore enters a callback because `Model.fit` is about to evaluate."""
        call = training_call()
        if not self._is_evaluating and self._fit_flags is None and call is not None:
            self._fit_flags = TrainingFlags(call.model, self.run.parts.train_network)

    def exit_evaluation(self) -> None:
        """Restore the `training` flags when MindSpore exits the first callback, also after an exception."""
        flags, self._fit_flags = self._fit_flags, None
        if flags is not None:
            flags.restore()

    def begin_fit_evaluation(self) -> None:
        """Begin an evaluation of `Model.fit`, when the first callback is notified of it, before the epoch ends."""
        if not self._is_evaluating:
            self._end_steps()
            self.before_checkpoint()
            self._begin_evaluation()

    def _begin_evaluation(self) -> None:
        self._is_evaluating = self._is_evaluation_open = True
        self._call("before_evaluation", self.run)

    def _end_evaluation(self) -> None:
        self._is_evaluating = False
        if self._is_evaluation_open:
            self._is_evaluation_open = False
            self._call("end_evaluation", self.run)

    def _evaluate(self, so_far: dict[str, Any], *, at_epoch_end: bool) -> None:
        """Evaluate if due, and let every callback observe the results."""
        run, evaluator = self.run, self._evaluator
        run.metrics.remove_earlier()
        if evaluator is not None:
            fit_has_evaluated = run.metrics.published is not None
            if fit_has_evaluated or not at_epoch_end or evaluator.evaluates_at_epoch_end(run):
                if not fit_has_evaluated:
                    self._begin_evaluation()
                with self._noted(evaluator, "run_evaluation"):
                    evaluator.run_evaluation(run)
        self._is_evaluating = True
        results = run.metrics.read(at_epoch_end=at_epoch_end)
        if results:
            self._evaluated_step = self._args["cur_step_num"]
            known = {**so_far, "results": results, "names_so_far": run.metrics.names_so_far}
            self._call("after_evaluation", run, Evaluation(**known, at_epoch_end=at_epoch_end))
        self._end_evaluation()

    def _so_far(self) -> dict[str, Any]:
        """Return what is known of the epoch's training so far: the fields of an observation without an evaluation."""
        run, losses = self.run, self.run.losses
        sums: list[float] = [*losses.total, *losses.other_sums.values()]
        loss, steps, *others = distributed.total(sums) if self._needs_losses and distributed.count() > 1 else sums
        means = [one / steps if steps else None for one in (loss, *others)]
        train_means = dict(zip(run.metrics.train_names, means))
        for each in self.callbacks:
            train_means.update(each.summary_values(run))
        return {
            "epoch": run.epoch,
            "step": run.step,
            "step_in_epoch": run.step_in_epoch,
            "train_means": train_means,
            "results": {},
            "learning_rates": tuple(run.parts.rates.read()) if run.parts.rates is not None else (),
            "seconds": run.progress.seconds,
            "names_so_far": frozenset(),
        }

    def _all_samples(self) -> Optional[int]:
        """Return the samples that the epoch's steps have seen in all processes; `None` if they were not counted."""
        samples = self.run.progress.samples
        count = None if samples is None else samples.count
        if count is None or self.run.parts.is_split:
            return None
        # In two halves that fit single precision: AllReduce does not support integers on a CPU (MindSpore 2.10).
        halves = distributed.gathered(np.array(divmod(count, 2**20), np.float32)).reshape(-1, 2)
        high, low = halves.astype(np.int64).sum(0)
        return int(high * 2**20 + low)

    # Requests of callbacks

    def before_checkpoint(self) -> None:
        """Have every callback check that weights may be kept now."""
        self._call("before_checkpoint", self.run)

    def request_stop(self, by: str, interrupt: bool, error: Optional[BaseException]) -> bool:
        """Have MindSpore stop after this step or epoch; return whether this request is what stops it."""
        if error is not None and not isinstance(error, BaseException):
            raise TypeError(f"Run: error of request_stop must be an exception, but got {error!r}")
        self._error = error if self._error is None else self._error
        was_stopping = self.run.is_stopping
        if interrupt and was_stopping:
            return False
        if interrupt:
            self._is_interrupted, self._interrupted_by = True, self._interrupted_by or by
        else:
            self._decided_by = self._decided_by or by
        self._context.request_stop()
        return not was_stopping

    # Training ends

    def end_train(self) -> None:
        """End training, when the first callback is notified of it."""
        self._end(self.run.epoch, 0)
        if not self._has_restored:
            self._call("finalize_weights", self.run)
            self._has_restored = True
            self._call("restore_weights", self.run)
            self._call("after_train", self.run)
            self._call("end_train", self.run)

    def _end(self, epochs: int, steps: int) -> None:
        if self._has_ended:
            return
        run, progress = self.run, self.run.progress
        self._has_ended = progress.is_over = True
        is_complete = not self._stopped_mid_epoch and run.epoch >= run.epochs
        finished_by = self._decided_by or (_LAST_EPOCH if is_complete else "")
        progress.is_finished = bool(finished_by)
        if self._decided_by:
            run.outcome = Outcome("stopped", self._decided_by, self._error)
        else:
            run.outcome = Outcome("finished" if finished_by else "interrupted", self._interrupted_by)
        self._call("flush")
        self._call("save_run_state", run, epochs, steps, finished_by)

    def leave(self, callback: Any, error: Optional[BaseException]) -> None:
        """Tear a callback down when MindSpore exits it; before the first, restore weights after an exception.

        Args:
            callback: the callback.
            error: the exception that has ended training, which stays the one that is raised; `None` for none.
        """
        if error is not None:
            self.run.progress.is_over = self._has_restored  # an exception after that does not make training incomplete
            stop_recording()
            # What a callback raises while it is torn down, such as the SystemExit of GracefulStop, does not change how
            # the run ended.
            if not self._is_leaving:
                status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                self.run.outcome = Outcome(status, error=error)
        self._is_leaving = True
        try:
            if self._has_joined and not self._has_restored:
                self._has_restored = True
                self._end_evaluation()
                self._call("restore_weights", self.run)
        finally:
            for each in (callback, *callback.inner):
                try:
                    with self._noted(each, "teardown"):
                        each.teardown()
                except Exception as other:
                    if error is None:
                        raise
                    _add_note(error, f"after that, {type(each).__name__}.teardown raised {other!r}")

    def stop(self) -> None:
        """Stop calling step hooks and handling signals, when MindSpore exits the first callback, which comes last."""
        self.run.step_hooks.stop()
        if self._unguard is not None:
            self._unguard()

    def raise_requested(self) -> None:
        """Raise the exception passed with a request to stop; called when every callback has left the run."""
        if self._error is not None:
            raise self._error

    # How phases are called

    def _call(self, phase: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            with self._noted(callback, phase):
                getattr(callback, phase)(*arguments)

    @contextlib.contextmanager
    def _noted(self, callback: Any, phase: str) -> Iterator[None]:
        """Add a note to an exception that says where it was raised; Python before 3.11 does not print the note."""
        try:
            yield
        except Exception as error:
            if not phase.startswith("check"):  # errors in checks are about the configuration
                run = self.run
                place = f"epoch {run.epoch}, step {run.step_in_epoch}"
                _add_note(error, f"raised in {type(callback).__name__}.{phase}, {place}")
            raise

    def _hear_of_epoch_ends_first(self) -> None:
        """Close and evaluate each epoch before any callback is notified of its end, as `Model.fit` does.

        Otherwise the callbacks before the first of ours would be notified before the evaluation.
        """
        call = training_call()
        manager: Any = None if call is None else call.list_callback
        tell_callbacks = getattr(manager, "on_train_epoch_end", None)
        if tell_callbacks is None:  # not MindSpore's own loop
            return

        def close_and_tell_callbacks(run_context: Any) -> None:
            if self._is_place_known:  # otherwise the epoch had no step, and the callbacks have yet to begin it
                self.close_epoch()
            tell_callbacks(run_context)

        manager.on_train_epoch_end = close_and_tell_callbacks


def _add_note(error: BaseException, note: str) -> None:
    error.__notes__ = [*getattr(error, "__notes__", ()), note]  # type: ignore[attr-defined]


def _may_be_moved(first: Any, callbacks: list[Any]) -> bool:
    """Return whether a callback after the first of ours may move the run to another epoch when one begins.

    The `ResumeCallback` of MindSpore's model repository does so. What ours do at the beginning of the first epoch then
    has to wait until that is done.
    """
    after = callbacks[[callback is first for callback in callbacks].index(True) + 1 :]
    return any(
        any(name in vars(other) for name in _EPOCH_BEGIN)  # as in MindSpore's LambdaCallback
        or (
            not type(other).__module__.startswith("mindspore.")
            and any(getattr(type(other), name, None) is not getattr(Callback, name) for name in _EPOCH_BEGIN)
        )
        for other in after
        if not isinstance(other, Phases)
    )
