"""Writes a run that was interrupted within its second epoch: its states, its best checkpoint and its log.

Run once, by the version that the files are of, 0.1.0 (format 3), with MindSpore 2.8:

    python tests/data/make_state.py

A later version reads them in `tests/checkpointing/test_earlier_versions.py`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from earlier_run import Interrupted, run

if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent / "version_0_1"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    with contextlib.suppress(Interrupted):
        run(interrupt_at=7)
