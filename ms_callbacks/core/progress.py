"""Track the progress of a training run: its epoch and step, and the time and the samples of its steps.

MindSpore reports some of this late and some of it wrong: another callback may have changed `cur_epoch_num`, and the
size of a dataset is only an estimate for an epoch, which may have more or fewer batches.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Optional

import mindspore as ms

from .mindspore_compat import size_of_dataset
from .samples import Samples

__all__ = ["Progress"]

_BATCHES_UNSEEN = "batches go to the device unseen"


class Progress:
    """Counts the epochs and steps of a run whose parameters are `args`; knows none of its callbacks.

    Epochs and steps count from 1; `epoch` is absolute, so that a run with `initial_epoch=5` begins at epoch 6.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = args
        self.initial_epoch = 0
        self.resumed_steps = 0  # the steps of its first epoch that an earlier run has done
        self._resumed_seconds = 0.0
        self._resumed_samples: Optional[int] = 0
        self._is_epoch_open = False
        self.is_resumed = False  # whether it continues from a saved state
        self._epochs_begun = self._epochs_ended = 0
        # Where MindSpore starts counting: 0, unless it has repaired a fault and begins where that occurred.
        self._counted_from = 0
        self._first_step = 1  # of the epoch, as MindSpore counts; if the epoch was resumed, its very first
        self._steps_of_ended = 0
        self._declared_steps = 0
        self._keeps_size = True  # whether every epoch so far has had the steps that the dataset declares
        self._began = 0.0
        # When a step ended and which; in a list, so that whatever ends steps can reach it at no cost.
        self.ended_at: list[float] = [0.0, -1]
        self.times_steps = False  # whether every step writes there, because something else precedes the epoch's end
        self.samples: Optional[Samples] = None  # if a callback asks for their number
        self._paused = 0.0  # the seconds of the epoch that were not training, such as an evaluation between steps
        self.is_over = False  # whether training has ended, and not by an exception
        self.is_finished = False  # whether it has ended, and not by an interruption

    # Events of the run

    def open_epoch(self) -> bool:
        """Count an epoch that begins; return whether it had not been counted already."""
        if self._is_epoch_open:
            return False
        self._is_epoch_open = True
        self._epochs_begun += 1
        if self._epochs_begun == 1:
            self._counted_from = int(self._args["cur_step_num"])
            if not self.is_resumed:
                self.resumed_steps = self._counted_from % self.steps_per_epoch if self._counted_from else 0
            self.find_place()
        skipped = self.steps_skipped
        self._first_step = self._args["cur_step_num"] + 1 - skipped
        self._began, self._paused = time.perf_counter() - (self._resumed_seconds if skipped else 0), 0.0
        self.ended_at[:] = 0.0, -1
        if self.samples is not None:
            self.samples.begin_epoch(self._resumed_samples if skipped else 0)
        return True

    def find_place(self) -> None:
        """Find out which epoch is the first; MindSpore does not report that before it begins.

        Later epochs are counted from there: MindSpore numbers each one, and a callback that moves the run changes that
        number, so that some callbacks see one number and some the other.
        """
        self.initial_epoch = int(self._args["cur_epoch_num"]) - 1

    def close_epoch(self, ended: float, waited: float, is_stopped: bool) -> bool:
        """Count an epoch that ends; return whether it had not been counted already.

        `ended` is the time at which its end was noticed, and `waited` the seconds for which the device was still
        working on its steps then. If a stop was requested, the epoch's steps say nothing about those of later epochs.
        """
        if not self._is_epoch_open:
            return False
        self.ended_at[0] = (self._last_step_ended or ended) + waited
        self._is_epoch_open = False
        self._epochs_ended += 1
        self._steps_of_ended += self.step_in_epoch
        self._keeps_size = self._keeps_size and (is_stopped or self.step_in_epoch == self.steps_per_epoch)
        return True

    @contextlib.contextmanager
    def pausing(self) -> Iterator[None]:
        """Exclude the time of the block from the epoch's time, for example an evaluation between two steps."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began

    def resume(self, steps: int, state: dict[str, Any]) -> None:
        """Let the first epoch continue after `steps` steps, from a state that `state_dict` returned."""
        self.resumed_steps, self.is_resumed = steps, True
        self._resumed_seconds, self._resumed_samples = state.get("seconds", 0.0), state.get("samples")

    def state_dict(self) -> dict[str, Any]:
        """Return the time and the samples of the current epoch's steps so far, and the last of them."""
        samples = None if self.samples is None else self.samples.count
        return {"seconds": self.seconds, "samples": samples}

    # Where it stands

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return self.initial_epoch + self._epochs_begun

    @property
    def epochs(self) -> int:
        """The last epoch planned."""
        return self.initial_epoch + int(self._args["epoch_num"])  # `epoch_num` counts from `initial_epoch`

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps per epoch that the dataset declares; if its batches vary, an epoch may have another."""
        if self._declared_steps == 0:
            # If sink mode is requested on a CPU, `batch_num` is `sink_size` although the whole dataset runs.
            sinks = self.is_sinking
            self._declared_steps = self._args["batch_num"] if sinks else size_of_dataset(self._args["train_dataset"])
        return self._declared_steps

    @property
    def known_steps(self) -> Optional[int]:
        """The number of steps of the current epoch; `None` if it is known only at its end.

        It is `None` from the step, or the epoch, at which the dataset was found to have declared a wrong number.
        """
        holds = self._keeps_size and self.step_in_epoch <= self.steps_per_epoch
        return self.steps_per_epoch if holds else None

    @property
    def last_step(self) -> Optional[int]:
        """The last step of the current epoch, as MindSpore counts; `None` if it is known only at its end."""
        known = self.known_steps
        return None if known is None else self._first_step + known - 1

    @property
    def step_in_epoch(self) -> int:
        """The current step, within its epoch."""
        step: int = self._args["cur_step_num"] - self._first_step + 1
        return step

    @property
    def steps_skipped(self) -> int:
        """The steps of the current epoch that an earlier run has done."""
        return self.resumed_steps if self._epochs_begun == 1 else 0

    @property
    def step(self) -> int:
        """The current step, counted from the first step of epoch 1."""
        # `cur_step_num` counts from the start of this call, whatever `initial_epoch`.
        return self.steps_before + int(self._args["cur_step_num"]) - self._counted_from

    @property
    def is_epoch_open(self) -> bool:
        """Whether an epoch has begun but not ended."""
        return self._is_epoch_open

    @property
    def epochs_ended(self) -> int:
        """How many epochs of this call are over."""
        return self._epochs_ended

    @property
    def steps_before(self) -> int:
        """The steps that were done before this call, if every epoch had as many as the dataset declares."""
        return self.initial_epoch * self.steps_per_epoch + self.resumed_steps

    @property
    def steps_expected(self) -> int:
        """The step that the run will end with, as far as is known.

        An epoch counts with the steps that the dataset declares or, once one has had another number, with the mean of
        past epochs.
        """
        usual = self.steps_per_epoch if self._keeps_size else round(self._steps_of_ended / self._epochs_ended)
        left = max(usual - self.step_in_epoch, 0) if self._is_epoch_open else 0
        return self.step + left + (self.epochs - self.epoch) * usual

    @property
    def is_sinking(self) -> bool:
        """Whether steps run on the device without returning one by one."""
        return bool(self._args.get("dataset_sink_mode", False))

    def check_sees_steps(self, owner: str, problem: str = _BATCHES_UNSEEN, instead: str = "") -> None:
        """Raise in sink mode; the message names `owner`, the problem there, and what else to do `instead`."""
        if self.is_sinking:
            raise _unsuited(owner, problem, instead)

    @property
    def sees_each_loss(self) -> bool:
        """Whether every step returns its loss, and not only the last of a sink, as in GRAPH mode."""
        is_graph = ms.get_context("mode") == ms.GRAPH_MODE
        return not (self.is_sinking and is_graph and self.steps_per_epoch > 1)

    def check_sees_each_loss(self, owner: str, instead: str) -> None:
        """Raise if the device does not return the loss of every step; the message names `owner`."""
        if not self.sees_each_loss:
            raise _unsuited(owner, "the device returns only the loss of a sink's last step", instead)

    @property
    def seconds(self) -> float:
        """The time that the epoch's steps have taken; evaluation does not count."""
        ended = self._last_step_ended if self._is_epoch_open else self.ended_at[0]
        return (ended or time.perf_counter()) - self._began - self._paused

    def clock(self) -> float:
        """Return seconds that stand still while the run is paused; the difference of two calls is training time."""
        return time.perf_counter() - self._paused

    @property
    def _last_step_ended(self) -> float:
        """Return when the last step ended, if that was noted, or else 0."""
        return self.ended_at[0] if self.times_steps or self.ended_at[1] == self._args["cur_step_num"] else 0.0


def _unsuited(owner: str, problem: str, instead: str) -> ValueError:
    advice = "train with dataset_sink_mode=False" + (f", or {instead}" if instead else "")
    return ValueError(f"{owner}: in sink mode {problem}; {advice}")
