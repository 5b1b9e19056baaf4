"""Where a training run stands: its epoch and step, and the time and the samples of its steps.

MindSpore tells some of it late and some of it wrong: `cur_epoch_num` is what a callback of somebody's may have moved,
and the size of a dataset only what is to be expected of an epoch, which may have more batches or fewer.
"""

from __future__ import annotations

import time
from typing import Any, Optional

import mindspore as ms

from .samples import Samples

__all__ = ["Progress"]


class Progress:
    """Counts the epochs and steps of a run whose parameters are `args`; knows none of its callbacks.

    Epochs and steps count from 1; `epoch` is absolute, so that a run with `initial_epoch=5` begins at epoch 6.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = args
        self.initial_epoch = 0
        self.resumed_steps = 0  # of its first epoch, those that an earlier run has done
        self._resumed_seconds = 0.0
        self._resumed_samples: Optional[int] = 0
        self._is_epoch_open = False
        self.is_resumed = False  # whether it continues from a state that was kept
        self._epochs_begun = self._epochs_ended = 0
        # What MindSpore counts from: 0, unless it has repaired a fault and begins where that was.
        self._counted_from = 0
        self._first_step = 1  # of the epoch, as MindSpore counts; in an epoch that was resumed, the one it had begun at
        self._steps_of_ended = 0
        self._declared_steps = 0
        self._keeps_size = True  # whether every epoch so far has had the steps that the dataset declares
        self._began = 0.0
        # When a step ended and which; where whatever ends steps can reach it at no cost.
        self.ended_at: list[float] = [0.0, -1]
        self.times_steps = False  # whether every step writes there, for something lies between the last and the end
        self.samples: Optional[Samples] = None  # where a callback asks for their number
        self._paused = 0.0  # the seconds of the epoch that were no training, such as an evaluation between two steps
        self.is_over = False  # whether training has ended, and not by an exception

    # What it goes through

    def open_epoch(self) -> bool:
        """Counts an epoch that begins; returns whether it was not counted already."""
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
        """Learns which epoch the first is; MindSpore tells that to nobody before it begins.

        Later epochs are counted from there: each is numbered again by MindSpore, and moved on by the callback that
        moves it, with callbacks that see the one number and callbacks that see the other.
        """
        self.initial_epoch = int(self._args["cur_epoch_num"]) - 1

    def close_epoch(self, ended: float, waited: float, is_stopped: bool) -> bool:
        """Counts an epoch that ends; returns whether it was not counted already.

        `ended` is when its end was heard of, and `waited` the seconds for which the device was still at work on its
        steps then. Where a stop was asked for, what the epoch had tells nothing of those to come.
        """
        if not self._is_epoch_open:
            return False
        self.ended_at[0] = (self._last_step_ended or ended) + waited
        self._is_epoch_open = False
        self._epochs_ended += 1
        self._steps_of_ended += self.step_in_epoch
        self._keeps_size = self._keeps_size and (is_stopped or self.step_in_epoch == self.steps_per_epoch)
        return True

    def pause(self, seconds: float) -> None:
        """Leave out of the epoch's time what was no training, such as an evaluation between two steps."""
        self._paused += seconds

    def resume(self, steps: int, state: dict[str, Any]) -> None:
        """Let the first epoch continue after `steps` steps, from a state that `state_dict` returned."""
        self.resumed_steps, self.is_resumed = steps, True
        self._resumed_seconds, self._resumed_samples = state.get("seconds", 0.0), state.get("samples")

    def state_dict(self) -> dict[str, Any]:
        """How long the steps of the epoch under way have taken so far, what they have seen, and which is the last."""
        samples = None if self.samples is None else self.samples.count
        return {"seconds": self.seconds, "samples": samples}

    # Where it stands

    @property
    def epoch(self) -> int:
        """The epoch under way."""
        return self.initial_epoch + self._epochs_begun

    @property
    def epochs(self) -> int:
        """The last epoch planned."""
        return self.initial_epoch + int(self._args["epoch_num"])  # `epoch_num` counts from `initial_epoch`

    @property
    def steps_per_epoch(self) -> int:
        """The steps of an epoch as the dataset declares them; where its batches vary, an epoch may have others."""
        if self._declared_steps == 0:
            # With sink mode asked for on a CPU, `batch_num` is `sink_size` while the whole dataset runs.
            sinks = self.is_sinking
            self._declared_steps = self._args["batch_num"] if sinks else self._args["train_dataset"].get_dataset_size()
        return self._declared_steps

    @property
    def known_steps(self) -> Optional[int]:
        """The steps of the epoch under way; `None` where they are known only at its end.

        That is so from the step, or the epoch, on by which the dataset was found to have declared another number.
        """
        holds = self._keeps_size and self.step_in_epoch <= self.steps_per_epoch
        return self.steps_per_epoch if holds else None

    @property
    def last_step(self) -> Optional[int]:
        """The last step of the epoch under way, as MindSpore counts; `None` where it is known only at its end."""
        known = self.known_steps
        return None if known is None else self._first_step + known - 1

    @property
    def step_in_epoch(self) -> int:
        """The step under way, within its epoch."""
        step: int = self._args["cur_step_num"] - self._first_step + 1
        return step

    @property
    def steps_skipped(self) -> int:
        """The steps of the epoch under way that an earlier run has done."""
        return self.resumed_steps if self._epochs_begun == 1 else 0

    @property
    def step(self) -> int:
        """The step under way, since the first step of epoch 1."""
        # `cur_step_num` counts from the start of this call, whatever `initial_epoch`.
        return self.steps_before + int(self._args["cur_step_num"]) - self._counted_from

    @property
    def is_epoch_open(self) -> bool:
        """Whether an epoch has begun and not ended."""
        return self._is_epoch_open

    @property
    def epochs_ended(self) -> int:
        """How many epochs of this call are over."""
        return self._epochs_ended

    @property
    def steps_before(self) -> int:
        """The steps that were done before this call, if every epoch had those that the dataset declares."""
        return self.initial_epoch * self.steps_per_epoch + self.resumed_steps

    @property
    def steps_expected(self) -> int:
        """The step that the run will end with, as far as can be told.

        An epoch counts as having the steps that the dataset declares; once one has had others, the mean of those over.
        """
        usual = self.steps_per_epoch if self._keeps_size else round(self._steps_of_ended / self._epochs_ended)
        left = max(usual - self.step_in_epoch, 0) if self._is_epoch_open else 0
        return self.step + left + (self.epochs - self.epoch) * usual

    @property
    def is_sinking(self) -> bool:
        """Whether steps run on the device without coming back one by one."""
        return bool(self._args.get("dataset_sink_mode", False))

    @property
    def sees_each_loss(self) -> bool:
        """Whether every step gives its loss back, and not the last of a sink alone, as in GRAPH mode."""
        is_graph = ms.get_context("mode") == ms.GRAPH_MODE
        return not (self.is_sinking and is_graph and self.steps_per_epoch > 1)

    @property
    def seconds(self) -> float:
        """The time that the epoch's steps have taken; evaluation does not count."""
        ended = self._last_step_ended if self._is_epoch_open else self.ended_at[0]
        return (ended or time.perf_counter()) - self._began - self._paused

    def clock(self) -> float:
        """Seconds that stand still while the run is paused; the differences of two calls are times of training."""
        return time.perf_counter() - self._paused

    @property
    def _last_step_ended(self) -> float:
        """When the last step ended, where that was noted; else 0."""
        return self.ended_at[0] if self.times_steps or self.ended_at[1] == self._args["cur_step_num"] else 0.0
