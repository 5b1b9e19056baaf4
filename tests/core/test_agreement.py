"""Processes that were not made alike raise on each of them, before the first step; those that were, train."""

from __future__ import annotations

import contextlib
import json
import logging
import re

import agreement_run
import pytest
from every_callback import MAKE
from jobs import MSRUN, Job, logs
from large_runs_table import check_cell

from ms_callbacks.core import distributed

pytestmark = pytest.mark.skipif(MSRUN is None, reason="this MindSpore has no msrun, which starts several processes")

ALIKE = r"Model: processes that train together must be set up alike, but process 0 has {} where process 1 has {}; give"
DIFFERING = {
    "another configuration": ALIKE.format(r"EarlyStopping\(.*patience=4\)", r"EarlyStopping\(.*patience=5\)"),
    "one more": ALIKE.format(r"History\(\)", "none"),
    "others": ALIKE.format(r"History\(\)", r"LossMonitor\(per_print_times=0\)"),
    "another order": r"must have their callbacks in the same order, but process 0 has History\(\) and LossMonitor",
    "other batches": ALIKE.format("2 steps an epoch", "3 steps an epoch"),
    "other epochs": ALIKE.format("1 epoch", "2 epochs"),
    "a folder without states": r"found different states in '.*': process 0 state-0{7}1 of run \w+, process 1 none; let "
    "directory be a folder that all of them share, or copy the states",
}


def test_processes_train_together_where_they_are_alike_and_say_on_each_where_they_are_not(tmp_path, record_property):
    """One start of two processes for all cases: each is told its part of a case, and goes on to the next.

    What differs is an error on both, so that none waits for what the other never does; paths and lines may differ, for
    the first alone writes and prints. Then each callback alone trains there, or is refused, as the page says.
    """
    with Job(tmp_path, agreement_run.__file__, str(tmp_path), "all") as job:
        assert job.wait() == 0, logs(tmp_path)
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    for case, expected in DIFFERING.items():
        for each in told:
            assert re.search(expected, each[case]), (case, each[case])
    assert "no whole state is left; refused: " in told[1]["a damaged folder"]
    assert told[0]["a damaged folder"] == "TrainingState: failed on process 1; see its log for the reason"
    for case in ("other paths and lines", "states", "copies"):
        assert [each[case] for each in told] == ["", ""], case
    assert told[0]["lr_find"] == told[1]["lr_find"], "each process suggests the same rate, by the means of all losses"
    for kind in MAKE:
        error = told[0][kind.__name__]
        assert told[1][kind.__name__] == error
        check_cell(kind, "data parallel", "refused" if error else "works", record_property)

    assert (tmp_path / "ExportBest" / "best.mindir").exists(), "it is exported when no process waits any more"


@pytest.mark.parametrize("fails", [False, True])
def test_a_long_wait_of_the_others_is_said(fails, monkeypatch, caplog):
    """With what ends it on Ascend; whatever comes of it."""
    monkeypatch.setattr(distributed, "count", lambda: 2)
    monkeypatch.setattr(distributed, "sums", lambda array: array)
    monkeypatch.setattr(distributed, "_LONG", 0.0)

    def act():
        if fails:
            raise OSError("No space left on device")

    logger = logging.getLogger("ms_callbacks")
    monkeypatch.setattr(logger, "propagate", True)
    with pytest.raises(OSError, match="No space left") if fails else contextlib.nullcontext():
        distributed.do_once("BestCheckpoint", act)
    assert "BestCheckpoint: the other processes have waited 0 s for the first; MindSpore ends" in caplog.text


def test_a_process_without_callbacks_is_no_hang(tmp_path):
    """It is at something else when the other waits for it, which is found, and ends the job."""
    soon = {"MS_NODE_TIMEOUT": "10"}
    with Job(tmp_path, agreement_run.__file__, str(tmp_path), "one has none", environment=soon) as job:
        assert job.wait() != 0
    assert "another process that trains together with this one has none of its callbacks" in logs(tmp_path)
