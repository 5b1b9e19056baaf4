"""Measure how fast a run trains, and whether the network or the dataset is the bottleneck."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, Callable, Optional, Union

from ..core import distributed
from ..core.arguments import check_choice, check_int, check_number
from ..core.callback import TrainCallback
from ..core.multiply_adds import per_sample
from ..core.observations import EpochSummary
from ..core.placement import Needs
from ..core.run import Run
from ._interval import Interval, line_of

__all__ = ["ThroughputMonitor"]

_OWNER = "ThroughputMonitor"
# A multiply-add is two operations; the backward pass computes the gradients of inputs and of weights, each at the cost
# of a forward pass.
_FLOPS_OF_MULTIPLY_ADD = 2 * 3

Tokens = Union[int, Callable[[Sequence[Any]], int]]


class ThroughputMonitor(TrainCallback):
    """Report samples per second, step time, and the share of time spent waiting for data, at an interval.

    The time of an interval is the time of its training steps: in each epoch, from the fetch of the first batch to the
    end of the last step. It includes what callbacks do in a step. It excludes evaluations, the saving of states, and
    what callbacks do at the end of an epoch. It also excludes the first step of a run, new or resumed, which compiles
    the network and starts the dataset. Samples are counted from the batches, so a short last batch is counted
    correctly.

    At the end of each interval, its losses are read together. This waits until the device has finished the steps;
    without the wait, only the time to start them would be measured. No other step waits.

    The time for data is the time between two steps, in which MindSpore's loop fetches the next batch. With a share near
    0 the network is the bottleneck, with a share near 1 the dataset. If the device works while Python waits, as in
    PYNATIVE mode and on GPU and Ascend, some of the wait costs nothing, and the share is an upper bound.

    With several processes, samples and tokens are sums over all processes, seconds and data share are means, and each
    process has the same records.

    A training step is counted as 2 operations for each multiply-add of the forward pass, times 3 for the forward and
    the backward pass (Kaplan et al., 2020). The multiply-adds are those that `ShapeInspector` counts. To count them,
    the network runs once on the first batch, in evaluation mode, and is not changed. Recomputation does not count, as
    in PaLM's "model FLOPs utilization" (Chowdhery et al., 2022).

    `History`, `CSVLogger` and other logs have, for each epoch, the means over its intervals of `step_seconds`,
    `data_share`, and `tokens_per_second` and `flops_utilization` if they are known.

    Args:
        every_n_steps: the number of steps per interval, counted from the first step of epoch 1. Default: 50.
        tokens: the number of tokens in each sample, or a function that takes the columns of a batch and returns the
            number of tokens in it, such as `lambda columns: columns[0].size`. The function is called in each step and
            should use only shapes, because reading values waits for the device. Default: None, no tokens are counted.
        peak_flops: the maximum number of operations per second of one device, for the precision of the training, from
            its data sheet. Default: None, the utilization is not computed.
        flops_per_sample: the operations of a training step per sample, for a network with layers that cannot be
            counted. Default: None, counted if `peak_flops` is given.
        verbose: 1 prints a line at each interval; 0 prints nothing. Default: 1.

    Attributes:
        records_ (list[dict]): the intervals, each with the `epoch` and `step` of its end, its number of `steps`, its
            `seconds`, and the values below under the same names without `_`.
        samples_per_second_ (float | None): the samples per second of the latest interval, like all values below;
            `None` before the first interval, or if processes share one network, so that samples cannot be added up.
        tokens_per_second_ (float | None): the tokens per second; `None` without `tokens`.
        step_seconds_ (float | None): the mean time of a step.
        data_share_ (float | None): the share of that time in which Python waited for data, from 0 to 1.
        flops_utilization_ (float | None): the fraction of `peak_flops` that was used; `None` without `peak_flops`.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: sink mode on GPU or Ascend, where
            single steps and batches cannot be seen; the network cannot be found inside a training cell, and
            `flops_per_sample` is not given.

    Example:
        >>> throughput = ThroughputMonitor(4, peak_flops=1e12)
        >>> model.train(2, train_dataset, callbacks=[throughput])
        ThroughputMonitor: epoch 1, step 4: ... samples/s, ... ms per step, ...% of it waiting for data, ...% of peak...
        ThroughputMonitor: epoch 2, step 8: ... samples/s, ... ms per step, ...% of it waiting for data, ...% of peak...
        >>> [record["steps"] for record in throughput.records_]
        [3, 4]
    """

    needs_losses = needs_samples = True
    records_: list[dict[str, Any]]

    def __init__(
        self,
        every_n_steps: int = 50,
        *,
        tokens: Optional[Tokens] = None,
        peak_flops: Optional[float] = None,
        flops_per_sample: Optional[float] = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        self.every_n_steps = check_int(_OWNER, "every_n_steps", every_n_steps, 1)
        self.tokens = tokens if tokens is None or callable(tokens) else check_int(_OWNER, "tokens", tokens, 1)
        self.peak_flops = None if peak_flops is None else check_number(_OWNER, "peak_flops", peak_flops, above=0)
        self.flops_per_sample = (
            None if flops_per_sample is None else check_number(_OWNER, "flops_per_sample", flops_per_sample, above=0)
        )
        if flops_per_sample is not None and peak_flops is None:
            raise ValueError(f"{_OWNER}: flops_per_sample has an effect only with peak_flops; pass both, or neither")
        self.verbose = check_choice(_OWNER, "verbose", verbose, (0, 1))
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the intervals of earlier runs."""
        self.records_ = []

    @property
    def _counts_flops(self) -> bool:
        return self.peak_flops is not None and self.flops_per_sample is None

    def needs(self, run: Run) -> Needs:
        """Require that this process computes the whole output of the network, if operations are counted."""
        return super().needs(run) | (Needs.OUTPUTS if self._counts_flops else Needs.NOTHING)

    def check(self, run: Run) -> None:
        """Raise if single steps cannot be seen, or the network cannot be found."""
        super().check(run)
        problem = "neither single steps nor their batches can be seen"
        run.progress.check_sees_steps(_OWNER, problem, "take seconds and samples per second from History")
        if self._counts_flops:
            try:
                run.parts.network(_OWNER)
            except ValueError as error:
                raise ValueError(
                    f"{_OWNER}: the operations of a step cannot be counted, because the network inside the training "
                    f"cell cannot be found; pass flops_per_sample=..., or leave out peak_flops"
                ) from error

    def before_train(self, run: Run) -> None:
        """Register the functions around each fetch and at the interval."""
        self._flops_of_sample = self.flops_per_sample
        self._interval: Optional[Interval] = None  # before the first step is over
        run.step_hooks.every(self.every_n_steps, self, self._end_interval)
        run.step_hooks.around_fetch(self, self._start, self._end_fetch)
        if self._counts_flops:
            run.step_hooks.on_step_begin(self, self._count_flops)
        if callable(self.tokens):
            run.step_hooks.on_step_end(self, self._count_tokens)

    def summary_names(self, run: Run) -> tuple[str, ...]:
        """Return the names of the numbers that each epoch has."""
        tokens = () if self.tokens is None else ("tokens_per_second",)
        flops = () if self.peak_flops is None else ("flops_utilization",)
        return ("step_seconds", "data_share", *tokens, *flops)

    def summary_values(self, run: Run) -> dict[str, Optional[float]]:
        """Return the means over the intervals that have ended in the epoch."""
        own = list(itertools.takewhile(lambda record: record["epoch"] == run.epoch, reversed(self.records_)))
        means: dict[str, Optional[float]] = {}
        for name in self.summary_names(run):
            values = [record[name] for record in own if record[name] is not None]
            means[name] = sum(values) / len(values) if values else None
        return means

    def before_epoch(self, run: Run) -> None:
        """Start the clock; the first batch is fetched next."""
        self._clock_at_zero = run.progress.clock() - run.progress.seconds
        if self._interval is not None:
            self._interval.mark(run, run.progress.clock())
        self._fetch_began = time.perf_counter()

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Stop the clock at the end of the last step."""
        if self._interval is not None:
            self._interval.add(run, self._clock_at_zero + summary.seconds)

    def state_dict(self) -> dict[str, Any]:
        """Return the intervals so far."""
        return {"records": [dict(each) for each in self.records_]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned; the clock starts after the first step that follows."""
        super().load_state_dict(state)
        self.records_ = [dict(each) for each in state["records"]]

    # In a step

    def _start(self, run: Run) -> None:
        """Start the first interval, now that the first step is over."""
        run.losses.read()
        self._interval = Interval(run, run.progress.clock())
        run.step_hooks.around_fetch(self, self._begin_fetch, self._end_fetch)
        self._begin_fetch(run)

    def _begin_fetch(self, run: Run) -> None:
        self._fetch_began = time.perf_counter()

    def _end_fetch(self, run: Run) -> None:
        if self._interval is not None:
            self._interval.waited += time.perf_counter() - self._fetch_began

    def _count_tokens(self, run: Run) -> None:
        if self._interval is not None and callable(self.tokens):
            self._interval.tokens += int(self.tokens(run.batch or ()))

    def _count_flops(self, run: Run) -> None:
        """Count the operations of a sample, before the first step."""
        run.step_hooks.on_step_begin(self, None)
        count, uncounted = per_sample(run.network, run.parts.inputs(_OWNER, run.batch))
        self._flops_of_sample = float(_FLOPS_OF_MULTIPLY_ADD * count)
        if uncounted:
            self.log(f"operations of {', '.join(uncounted)} are not counted; pass flops_per_sample=... to include them")

    # At the interval

    def _end_interval(self, run: Run) -> None:
        if self._interval is None:
            return
        run.losses.read()  # waits until the device has finished the steps
        now = run.progress.clock()
        self._interval.add(run, now)
        self.records_.append(self._record(run, self._interval))
        self._interval = Interval(run, now)
        if self.verbose:
            self.log(line_of(self.records_[-1]))

    def _record(self, run: Run, own: Interval) -> dict[str, Any]:
        ranks = distributed.count()
        unknown, samples, tokens, seconds, waited = distributed.total(
            [own.samples is None, own.samples or 0, own.tokens, own.seconds, own.waited]
        )
        seconds, waited = seconds / ranks, waited / ranks
        is_known = not unknown and not run.parts.is_split and seconds > 0
        rate = samples / seconds if is_known else None
        if isinstance(self.tokens, int):
            token_rate = None if rate is None else rate * self.tokens
        else:
            token_rate = tokens / seconds if self.tokens is not None and is_known else None
        flops, peak = self._flops_of_sample, self.peak_flops
        return {
            "epoch": run.epoch,
            "step": run.step,
            "steps": own.steps,
            "seconds": seconds,
            "samples_per_second": rate,
            "tokens_per_second": token_rate,
            "step_seconds": seconds / own.steps,
            "data_share": min(waited / seconds, 1.0) if seconds else None,
            "flops_utilization": None if None in (rate, flops, peak) else rate * flops / (peak * ranks),  # type: ignore[operator]
        }

    # The latest interval

    def _latest(self, name: str) -> Optional[float]:
        return self.records_[-1][name] if self.records_ else None

    @property
    def samples_per_second_(self) -> Optional[float]:
        """The samples per second of the latest interval."""
        return self._latest("samples_per_second")

    @property
    def tokens_per_second_(self) -> Optional[float]:
        """The tokens per second of the latest interval."""
        return self._latest("tokens_per_second")

    @property
    def step_seconds_(self) -> Optional[float]:
        """The mean time of a step in the latest interval."""
        return self._latest("step_seconds")

    @property
    def data_share_(self) -> Optional[float]:
        """The share of the latest interval in which Python waited for data."""
        return self._latest("data_share")

    @property
    def flops_utilization_(self) -> Optional[float]:
        """The share of `peak_flops` that the latest interval used."""
        return self._latest("flops_utilization")
