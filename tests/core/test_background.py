"""What is written beside training: in order, and nothing that refers to a file that failed."""

from __future__ import annotations

import threading

import pytest

from ms_callbacks.core.background import BackgroundThread


class Full(Exception):
    """What a write raises."""


def fail(error=Full):
    raise error


def test_what_is_handed_over_runs_in_order_in_another_thread():
    """One after the other, while the caller continues."""
    thread, done, may_go = BackgroundThread(), [], threading.Event()

    def write(number, name):
        assert may_go.wait(10)
        done.append((number, name, threading.current_thread() is threading.main_thread()))

    futures = [thread.submit(write, number, "x") for number in range(5)]
    assert done == []
    may_go.set()
    assert [future.result(10) for future in futures] == [None] * 5
    assert done == [(number, "x", False) for number in range(5)]


def test_no_thread_is_there_before_something_is_written():
    """A run that saves nothing has none."""
    before = set(threading.enumerate())
    thread = BackgroundThread()
    assert set(threading.enumerate()) <= before
    thread.submit(len, "").result(10)
    assert len(set(threading.enumerate()) - before) == 1


@pytest.mark.parametrize("error", [Full, OSError, KeyboardInterrupt])
def test_after_a_failure_nothing_more_is_written(error):
    """Each later one raises what the first raised; those before are whole, and another run's are not concerned."""
    thread, done = BackgroundThread(), []
    futures = [
        thread.submit(done.append, "before"),
        thread.submit(fail, error),
        thread.submit(done.append, "after"),
        thread.submit(fail, ValueError),
    ]
    assert futures[0].result(10) is None
    raised = [future.exception(10) for future in futures[1:]]
    assert type(raised[0]) is error
    assert raised[1] is raised[2] is raised[0]
    BackgroundThread().submit(done.append, "another").result(10)
    assert done == ["before", "another"]


def test_the_longest_wait_for_a_write_is_known():
    """From when it was handed over, as the end of a run has to wait for it."""
    thread, may_go = BackgroundThread(), threading.Event()
    assert thread.longest == 0
    futures = [thread.submit(may_go.wait, 10), thread.submit(len, "")]
    may_go.set()
    for future in futures:
        future.result(10)
    longest = thread.longest
    assert longest > 0
    thread.submit(len, "").result(10)
    assert thread.longest >= longest
