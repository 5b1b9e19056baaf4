"""The steps after which processes ask each other: the same in each, and not all of them."""

from __future__ import annotations

import numpy as np
import pytest

from ms_callbacks.core import rounds
from ms_callbacks.core.rounds import Rounds


class Two:
    """Two processes that take the same steps, one of them slower, in one; the clock is that of the one that asks."""

    def __init__(self, monkeypatch, seconds):
        self.seconds, self.now, self.steps = seconds, 0.0, 0
        monkeypatch.setattr(rounds.distributed, "count", lambda: 2)
        monkeypatch.setattr(rounds.distributed, "gathered", self.gathered)
        monkeypatch.setattr(rounds.time, "monotonic", lambda: self.now)
        self.of_other = [0.0]
        self.rounds = Rounds()

    def gathered(self, own):
        assert own.dtype == np.float32
        other = np.array([*self.of_other, own[-1] * 2], np.float32)  # who takes twice as long
        return np.stack([own, other])

    def play(self, steps):
        """The steps after which they ask."""
        due = []
        for _ in range(steps):
            self.steps += 1
            self.now += self.seconds
            if self.rounds.is_due():
                due.append(self.steps)
                assert self.rounds.highest([0.0]) == self.of_other
        return due


def test_one_process_asks_nobody():
    """Each of its steps is one after which it decides."""
    alone = Rounds()
    assert [alone.is_due() for _ in range(3)] == [True] * 3
    assert alone.highest([1, False]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("seconds", "apart"),
    [(1e-4, 20), (0.05, 10), (0.2, 2), (0.5, 1), (100, 1)],
)
def test_they_ask_about_once_a_second_of_the_slowest(monkeypatch, seconds, apart):
    """At most 20 steps apart, at first more often."""
    due = Two(monkeypatch, seconds).play(200)
    assert due[0] == 1
    assert {later - earlier for earlier, later in zip(due[5:], due[6:])} == {apart}
    assert max(later - earlier for earlier, later in zip(due, due[1:])) <= 20


def test_each_is_told_the_highest_of_all(monkeypatch):
    """Whosever it is; also between two epochs, after no step."""
    two = Two(monkeypatch, 1.0)
    two.of_other = [0.0, 7.0]
    assert two.rounds.highest([3.0, 2.0]) == [3.0, 7.0]
    assert two.rounds.highest([3.0, 9.0]) == [3.0, 9.0]
    assert two.rounds.is_due()
