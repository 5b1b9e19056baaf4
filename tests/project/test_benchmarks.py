"""What the benchmarks' figures are made of. How fast anything is, no test says."""

from __future__ import annotations

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import __main__ as table
from benchmarks import peers
from benchmarks._measure import Row, in_turns, options, ratios


def test_a_row_shows_the_median_and_the_quartiles_beside_its_target():
    """And whether the median reaches it."""
    values = [4.0, 1.0, 3.0, 2.0, 5.0]
    row = Row("five over three", values, at_most=3)
    assert (row.median, row.quartiles, row.holds) == (3.0, (2.0, 4.0), True)
    assert table.line(row).split() == "five over three 3× 2× … 4× ≤ 3 holds".split()
    assert table.line(Row("time", [1234.5], "µs", at_least=2000)).split() == (
        "time 1,234 µs 1,234 µs … 1,234 µs ≥ 2000 MISSED".split()
    )
    assert Row("for information", values).holds is None


def test_candidates_take_turns():
    """In the opposite order every second round; the first round, in which all is compiled, does not count."""
    order = []
    candidates = {name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}
    assert in_turns(3, candidates) == {"a": [3.0, 6.0, 7.0], "b": [4.0, 5.0, 8.0]}
    assert "".join(order) == "baabbaab"


def test_a_ratio_is_of_one_round():
    """So that what slows a machine down for a while slows both sides."""
    assert ratios([2.0, 30.0], [1.0, 10.0]) == [2.0, 3.0]


def test_an_unknown_benchmark_is_refused(monkeypatch, capsys):
    """With those that there are."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", "hook"])
    with pytest.raises(SystemExit):
        table.main()
    assert (
        "no benchmark is called hook; there are averaging, data, end_to_end, hooks, peers, start, steps, weights"
        in capsys.readouterr().err
    )


def test_peers_are_compared_within_a_round():
    """Each with a copy in its own process, ours with each of the others in the same round."""
    taken = {
        "ours": [{"copy": 1.0, "state": 1.0}, {"copy": 2.0, "state": 4.0}],
        "Keras": [{"copy": 1.0, "state": 8.0}, {"copy": 2.0, "state": 8.0}],
        "Lightning": [{"copy": 2.0, "state": 10.0}, {"copy": 4.0, "state": 40.0}],
    }
    rows = {row.what: row for row in peers.rows_of("state", taken)}
    assert rows["state: ours over Keras"].values == [1 / 8, 1 / 2]
    assert rows["state: ours over Keras"].at_most == 1 / 5
    assert rows["state: ours over Lightning"].values == [1 / 10, 1 / 10]
    assert rows["state: Lightning over np.copyto of the state"].values == [5.0, 10.0]
    assert rows["state: ours over np.copyto of the state"].at_most == 2


def test_peers_are_skipped_with_a_word_where_there_are_none(monkeypatch, capsys):
    """The other benchmarks run all the same."""
    monkeypatch.setattr(sys, "argv", ["peers"])
    assert peers.measure(options().parse_args()) == []
    assert "--peers-python" in capsys.readouterr().err
