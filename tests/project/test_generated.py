"""What must hold for any input, on thousands that were generated: more than 10,000 cases in each run of this file.

Each test is given the number of cases in `settings`; `CASES` is their sum, and the last test holds it to the promise.
"""

from __future__ import annotations

import json
import math
import os
import string

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mindspore import Tensor
from mindspore.train import RunContext
from training import Script

from ms_callbacks import DynamicLR, EarlyStopping, History, LRCosineAnnealing, LRStepDecay, LRWarmup, ReduceLROnPlateau
from ms_callbacks.core.arguments import check_path
from ms_callbacks.core.lr_callback import Plan
from ms_callbacks.core.monitor import BestTracker, Monitor
from ms_callbacks.core.path_template import PathTemplate

CASES = 0


def cases(count: int):
    """So many generated cases."""
    global CASES
    CASES += count
    return settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=[HealthCheck.filter_too_much]
    )


# The comparison

ANY_FLOAT = st.floats(width=64)
# Values that meet: ties, near ties, and differences of just min_delta.
NEAR = st.sampled_from([0.0, -0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0, 1.25, -1.0, 1e-8, 1 + 1e-7, 1 + 2e-7, 0.30000001])
VALUE = st.one_of(NEAR, ANY_FLOAT)
DELTA = st.one_of(st.sampled_from([0.0, 0.05, 0.25, 1e-8]), st.floats(0, 1e6))
MODE = st.sampled_from(["min", "max"])


def single(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def better(mode: str, min_delta: float, value: float, best: float | None) -> bool:
    """The definition: finite, and beyond the best by more than `min_delta`, as numbers of single precision."""
    if math.isnan(value) or math.isinf(value):
        return False
    if best is None:
        return True
    if mode == "min":
        return single(value + min_delta) < single(best)
    return single(value - min_delta) > single(best)


@cases(2000)
@given(MODE, DELTA, VALUE, st.none() | VALUE)
def test_better_is_by_its_definition(mode, min_delta, value, best):
    """For any two numbers, NaN and infinities too."""
    assert Monitor("x", mode, min_delta).is_better(value, best) is better(mode, min_delta, value, best)


@cases(1000)
@given(MODE, DELTA, VALUE, VALUE)
def test_better_is_an_order(mode, min_delta, one, other):
    """Nothing is better than itself, no two are better than each other, and min and max mirror each other."""
    monitor = Monitor("x", mode, min_delta)
    assert not monitor.is_better(one, one)
    assert not (monitor.is_better(one, other) and monitor.is_better(other, one))
    mirror = Monitor("x", "max" if mode == "min" else "min", min_delta)
    assert monitor.is_better(one, other) is mirror.is_better(-one, -other)


@cases(1000)
@given(MODE, DELTA, st.lists(VALUE, max_size=30), st.data())
def test_a_tracker_is_by_its_definition_however_often_it_is_saved(mode, min_delta, values, data):
    """Best, epoch and wait; through JSON at any moment, and on in a new one."""
    split = data.draw(st.integers(0, len(values)))
    tracker = BestTracker(Monitor("x", mode, min_delta))
    best, best_epoch, wait = None, 0, 0
    for epoch, value in enumerate(values, 1):
        if epoch == split:
            state = json.loads(json.dumps(tracker.state_dict()))
            tracker = BestTracker(Monitor("x", mode, min_delta))
            tracker.load_state_dict(state)
        is_better = better(mode, min_delta, value, best)
        assert tracker.observe(value, epoch) is is_better
        best, best_epoch, wait = (value, epoch, 0) if is_better else (best, best_epoch, wait + 1)
        assert (tracker.best, tracker.best_epoch, tracker.wait) == (best, best_epoch, wait)


# Schedules

RATE = st.floats(1e-6, 10)
EPOCHS = st.integers(1, 40)
STEPS = st.integers(1, 12)


@cases(1000)
@given(RATE, st.integers(1, 15), st.floats(0.01, 1.5), EPOCHS, STEPS)
def test_step_decay_is_its_formula(rate, step_size, gamma, epochs, steps):
    """The list by step has the rate of its epoch in each."""
    rates = LRStepDecay.lr_list(rate, step_size, gamma, epochs, steps)
    assert len(rates) == epochs * steps
    for step, found in enumerate(rates):
        assert found == rate * gamma ** (step // steps // step_size)


@cases(500)
@given(RATE, st.floats(0.01, 1.5), st.floats(0, 20), EPOCHS)
def test_step_decay_never_goes_below_its_lowest(rate, gamma, min_lr, epochs):
    """Nor above the rate it began with only because that one is lower."""
    rates = LRStepDecay(1, gamma, min_lr=min_lr).rates_for(rate, Plan(epochs, 1))
    assert rates[0] == rate
    assert all(each >= min(rate, min_lr) for each in rates)


@cases(1000)
@given(RATE, st.floats(0, 10), st.integers(1, 40), EPOCHS)
def test_cosine_is_its_formula(rate, eta_min, T_max, epochs):
    """Between its two ends, down for T_max epochs and up again."""
    rates = LRCosineAnnealing(T_max, eta_min=eta_min).rates_for(rate, Plan(epochs, 1))
    expected = eta_min + (rate - eta_min) * np.cos(np.pi * np.arange(epochs) / T_max / 2) ** 2
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-12 * max(rate, eta_min))
    low, high = sorted((rate, eta_min))
    assert all(low - 1e-12 * high <= each <= high + 1e-12 * high for each in rates)
    if epochs > T_max:
        assert math.isclose(rates[T_max], eta_min, rel_tol=1e-9, abs_tol=1e-12)


@cases(1000)
@given(RATE, st.integers(1, 8), st.floats(0, 0.99), EPOCHS, STEPS, st.sampled_from(["none", "step", "cosine", "list"]))
def test_warm_up_rises_and_hands_over(rate, epochs, start_factor, all_epochs, steps, then):
    """By its formula, to the full rate in its last step; what comes after begins there as if it stood alone."""
    after = {
        "none": lambda: None,
        "step": lambda: LRStepDecay(2, 0.5),
        "cosine": lambda: LRCosineAnnealing(3),
        "list": lambda: DynamicLR([0.5] * 500),
    }[then]()
    rates = LRWarmup(epochs, after=after, start_factor=start_factor).rates_for(rate, Plan(all_epochs, steps))
    ramp, rest = rates[: epochs * steps], rates[epochs * steps :]
    last = epochs * steps
    expected = [rate * (start_factor + (1 - start_factor) * step / last) for step in range(1, last + 1)]
    np.testing.assert_allclose(ramp, expected, rtol=1e-12)
    assert all(one < other for one, other in zip(ramp, ramp[1:]))
    assert math.isclose(ramp[-1], rate)
    left = max(all_epochs - epochs, 0)
    if then == "none":
        assert rest == [rate] * left * steps
    elif then == "list":
        assert rest == [0.5] * 500
    else:
        assert rest == [each for each in after.rates_for(rate, Plan(left, steps)) for _ in range(steps)]


# Names of files

PIECES = ["{", "}", "{{", "}}", "{epoch}", "{acc:.2f}", "{step:04d}", "..", ".", "/", "\\", "\0", "~", " ", "%s", "é"]
PIECES += ["{0}", "{acc!r}", "{epoch.real}", "{acc[0]}", "{epoch:>9}", "{epoch:/>9}", "{epoch:\\>9}", "{loss:e}"]
TEXT = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.text(max_size=30),
    st.text(alphabet=string.printable, max_size=30),
)


@cases(1600)
@given(TEXT, st.integers(1, 10**9), ANY_FLOAT, st.sampled_from(["", "folder/", "/a/b/", "../"]))
def test_a_template_makes_a_name_in_its_folder_or_an_error(text, epoch, acc, folder):
    """For any string and any values: `ValueError`, or one name right in the folder that was written."""
    written = os.path.split(folder + text)[0]
    try:
        template = PathTemplate("T", folder + text)
        path = template.path({"epoch": epoch, "step": epoch, "acc": acc, "loss": acc})
    except ValueError:
        return
    head, name = os.path.split(path)
    assert head == os.path.dirname(check_path("T", "path", os.path.join(written, "name")))
    assert name not in ("", ".", "..")
    assert "\0" not in name
    assert os.path.normpath(os.path.join("x", name)) == os.path.join("x", name)
    assert template.may_have_made(name)
    again = template.path({"epoch": epoch, "step": epoch, "acc": acc, "loss": acc}, {os.path.realpath(path)})
    assert again != path
    assert os.path.dirname(again) == head
    assert template.may_have_made(os.path.basename(again))


# State through JSON, wherever a run is split


class Written:
    """A run whose values are written down, that can begin at any epoch; without a dataset, for there are thousands."""

    def __init__(self) -> None:
        self.script = Script()
        self.is_stopped = False

    def run(self, callbacks, values, first=1) -> list[float]:
        """Drives the callbacks from epoch `first` to the end or the stop; returns the rate after each epoch."""

        class Args(dict):
            __getattr__ = dict.__getitem__

        args = Args(cur_step_num=0, epoch_num=len(values) - first + 1, batch_num=1, dataset_sink_mode=True)
        args.update(list_callback=list(callbacks), network=self.script.network, train_network=self.script.network)
        args.update(optimizer=self.script.optimizer, loss_fn=None, train_dataset=None, net_outputs=Tensor(1.0))
        context, rates = RunContext(args), []

        def call(hook: str) -> None:
            for callback in callbacks:
                getattr(callback, hook)(context)

        for callback in callbacks:
            callback.__enter__()
        call("on_train_begin")
        for epoch, value in enumerate(values[first - 1 :], first):
            args["cur_epoch_num"] = epoch
            args["cur_step_num"] += 1
            args.pop("eval_results", None)
            call("on_train_epoch_begin")
            call("on_train_step_begin")
            call("on_train_step_end")
            if value is not None:
                args["eval_results"] = {"x": value}
            call("on_train_epoch_end")
            rates.append(self.script.rate)
            if context.get_stop_requested():
                break
        self.is_stopped = context.get_stop_requested()
        call("on_train_end")
        for callback in callbacks:
            callback.__exit__(None, None, None)
        return rates


WRITTEN = Written()
VALUES = st.lists(st.one_of(st.none(), NEAR, st.floats(-2, 2), st.just(math.nan)), min_size=2, max_size=8)


def split_and_whole(make, values, split):
    """The states and rates of a run, and of the same run that went on after `split` epochs in new objects."""
    ends = []
    for at in (None, split):
        WRITTEN.script.optimizer.learning_rate.set_data(Tensor(0.1))
        one = make()
        rates = WRITTEN.run(one, values[:at])
        if at is not None and not WRITTEN.is_stopped:
            states = [json.loads(json.dumps(each.state_dict())) for each in one]
            one = make()
            for each, state in zip(one, states):
                each.load_state_dict(state)
            rates += WRITTEN.run(one, values, first=at + 1)
        ends.append((json.dumps([each.state_dict() for each in one]), rates))
    return ends


@cases(300)
@given(VALUES, st.data(), MODE, st.integers(0, 3), st.booleans(), st.none() | st.floats(-1, 1))
def test_early_stopping_goes_on_wherever_it_was_split(values, data, mode, patience, check_finite, baseline):
    """The same best, wait, stop and reason."""

    def make():
        return [
            EarlyStopping("x", mode=mode, patience=patience, check_finite=check_finite, baseline=baseline, verbose=0)
        ]

    whole, split = split_and_whole(make, values, data.draw(st.integers(1, len(values) - 1)))
    assert whole == split


@cases(300)
@given(VALUES, st.data(), MODE, st.integers(0, 2), st.integers(0, 2), st.sampled_from([0.0, 0.02]))
def test_reduce_lr_on_plateau_goes_on_wherever_it_was_split(values, data, mode, patience, cooldown, min_lr):
    """The same best, wait, cooldown and rates."""

    def make():
        return [
            ReduceLROnPlateau(
                "x", mode=mode, patience=patience, cooldown=cooldown, min_lr=min_lr, factor=0.5, verbose=0
            )
        ]

    whole, split = split_and_whole(make, values, data.draw(st.integers(1, len(values) - 1)))
    assert whole == split


@cases(300)
@given(VALUES, st.data())
def test_history_goes_on_wherever_it_was_split(values, data):
    """The same epochs and values, NaN too, but for the times."""

    class Untimed(History):
        def state_dict(self):
            state = super().state_dict()
            timed = ("seconds", "samples_per_second")
            return {**state, "history": {key: each for key, each in state["history"].items() if key not in timed}}

    whole, split = split_and_whole(lambda: [Untimed()], values, data.draw(st.integers(1, len(values) - 1)))
    assert whole == split


def test_there_are_ten_thousand():
    """Of this file alone."""
    print(f"\n{CASES} generated cases")
    assert CASES >= 10_000
