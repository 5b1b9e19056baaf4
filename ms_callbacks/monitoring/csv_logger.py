"""Write the values of each epoch as a row of a CSV file."""

from __future__ import annotations

import codecs
import csv
import io
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

from ..core import distributed
from ..core.arguments import check_bool, check_path, check_text
from ..core.atomic_files import check_folder, remove_orphans, staged
from ..core.callback import TrainCallback
from ..core.names import TRAIN_LOSS
from ..core.observations import EpochSummary, Evaluation
from ..core.run import Run

__all__ = ["CSVLogger"]

_FLUSH_INTERVAL = 1.0  # the least time in seconds between two flushes of step rows to disk
_BEGINNINGS = (b"epoch", b'"epoch"')  # of a log of training


class CSVLogger(TrainCallback):
    """Add a row to a CSV file at the end of each epoch: the values that `History` keeps, by column.

    A row is written in one piece and flushed to disk, so that after a crash it is complete or absent; an incomplete
    last line from an earlier crash is removed when the file is appended to, but one that has all its cells and lacks
    only the line end, as some editors leave it, is kept. A file with Windows line ends or a byte order mark, as Excel
    saves it, keeps them. A missing value is an empty cell.

    In sink mode on GPU and Ascend (in GRAPH mode) the column `loss` is that of the epoch's last step, as a line at the
    start says: the device returns no other.

    If the run evaluates between steps (`Validate(every_n_steps=...)`), there is a column `step`, and also a row for
    each of these evaluations, with the mean `loss` of the epoch's steps so far. With `per_step`, there is a column
    `step` too; the rows of single steps are those without `seconds`.

    The columns are those known before the first step. If an epoch has a value without a column, such as one of a metric
    that returns a dictionary, the file is replaced by one with that column, with empty cells in the earlier rows; a
    column without any value so far may be dropped then.

    Args:
        filename: the file, relative to the working directory at construction; its folder must exist.
        separator: the character between two cells. Default: ",".
        append: adds to an existing file instead of replacing it. Its columns must be the same; with a user's own
            metric, which may return a dictionary, there may be additional ones. Default: False.
        per_step: also adds a row for each step, with its epoch, `step` (counted from the first step of epoch 1) and
            loss. All other cells are empty, and so is the loss if loss scaling dropped the step. The device is not read
            for these rows: they are written together each time losses are read anyway, at the latest 1000 steps later
            and before the epoch's row. They are flushed to disk at most once a second, and before a state is saved.
            With several processes, they are the losses of the first process. Default: False.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: with `append`, the file has
            other columns; `per_step` in sink mode on GPU or Ascend (in GRAPH mode).
        OSError: before the first step: the folder does not exist or cannot be written. Later: a row could not be
            written, as on a full disk, or the file was removed; the rows before it are whole.

    Example:
        >>> logger = CSVLogger(folder + "/log.csv")
        >>> model.train(1, train_dataset, callbacks=[Validate(model, valid_dataset), logger])
        >>> print(open(folder + "/log.csv").readline().strip())
        epoch,loss,acc,eval_loss,learning_rate,seconds,samples_per_second
    """

    needs_losses = needs_samples = True
    transient = ("_descriptor",)

    def __init__(
        self,
        filename: Union[str, os.PathLike[str]],
        separator: str = ",",
        append: bool = False,
        *,
        per_step: bool = False,
    ) -> None:
        super().__init__()
        self.filename = check_path("CSVLogger", "filename", filename)
        self.separator = check_text("CSVLogger", "separator", separator)
        if len(separator) != 1 or separator in '\r\n"':
            raise ValueError(
                f"CSVLogger: separator must be one character, and no quote or line end, but got {separator!r}"
            )
        self.append = check_bool("CSVLogger", "append", append)
        self.per_step = check_bool("CSVLogger", "per_step", per_step)
        self._descriptor: Optional[int] = None
        self._is_flushed, self._flushed_at = True, 0.0
        self._lines: Optional[int] = None  # in the file, including the header; `None` before there is a file
        self._mark, self._line_end = b"", "\n"

    def reset_state(self) -> None:
        """Forget what was learnt in earlier runs."""
        self._lines = None

    def before_train(self, run: Run) -> None:
        """Open the file, and write or check its header."""
        kept = self._kept(run) if self.append or self._lines is not None else b""
        self._columns = self._cells(kept)[0] if kept else self._names(run, run.metrics.names)
        self._mark = codecs.BOM_UTF8 if kept.startswith(codecs.BOM_UTF8) else b""
        self._line_end = "\r\n" if kept.partition(b"\n")[0].endswith(b"\r") else "\n"
        self._lines = kept.count(b"\n")
        if not distributed.is_first():
            return
        remove_orphans(os.path.dirname(os.path.realpath(self.filename)))
        descriptor = self._open()
        size = os.fstat(descriptor).st_size
        os.ftruncate(descriptor, min(size, len(kept)))
        os.write(descriptor, kept[size:])  # the line end of the last row, if it was missing
        if not kept:
            self._write([self._columns])
        if self.per_step:
            run.losses.on_read(self, self._add_steps)

    def check(self, run: Run) -> None:
        """Raise if the file could not be written, or has other columns."""
        super().check(run)
        check_folder("CSVLogger", self.filename)
        if self.per_step:
            run.progress.check_sees_each_loss("CSVLogger", "leave out per_step=True")
        if self.append:
            self._kept(run)
        elif self._lines is None:
            self._check_own()

    def monitors(self, name: str) -> bool:
        """Return true: every value is recorded."""
        return True

    def after_evaluation(self, run: Run, evaluation: Evaluation) -> None:
        """Write a row for an evaluation between two steps."""
        if not evaluation.at_epoch_end:
            self._add(run, evaluation.as_dict())

    def after_epoch(self, run: Run, summary: EpochSummary) -> None:
        """Write the epoch's row."""
        self._add(run, {**summary.as_dict(), "step": summary.step} if "step" in self._columns else summary.as_dict())

    def _add(self, run: Run, record: dict[str, Any]) -> None:
        if self._descriptor is None:
            return  # with several processes, only the first writes
        if any(key not in self._columns for key in record):
            self._widen(run, record)
        cells = [record.get(column) for column in self._columns]
        self._write([["" if cell is None else cell for cell in cells]])

    def _add_steps(self, first: int, losses: list[Optional[float]]) -> None:
        """Write a row for each step whose loss was read."""
        epoch, before = self.run.epoch, self.run.step - self.run.step_in_epoch
        places = [self._columns.index(name) for name in ("epoch", "step", TRAIN_LOSS)]
        rows = []
        for step, loss in enumerate(losses, before + first):
            row: list[Any] = [""] * len(self._columns)
            for place, cell in zip(places, (epoch, step, "" if loss is None else loss)):
                row[place] = cell
            rows.append(row)
        self._write(rows, flushes=time.monotonic() >= self._flushed_at + _FLUSH_INTERVAL)

    def state_dict(self) -> dict[str, Any]:
        """Flush the file to disk; return its number of lines."""
        if not self._is_flushed and self._descriptor is not None:
            self._write([])
        return {"lines": self._lines}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state: the file keeps only the rows that it had when `state_dict` returned the state."""
        super().load_state_dict(state)
        self._lines = state["lines"] if "lines" in state else self._lines_in(state["size"])

    def _lines_in(self, size: int) -> int:
        """Return how many lines the first bytes of the file hold; states before version 0.2 count in bytes."""
        with open(self.filename, "rb") as file:
            return file.read(size).count(b"\n")

    def teardown(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            try:
                if not self._is_flushed:
                    self._write([])
            finally:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> int:
        self._descriptor = os.open(self.filename, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        return self._descriptor

    def _lines_of(self, rows: Iterable[Sequence[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator=self._line_end).writerows(rows)
        return text.getvalue().encode("utf-8")

    def _cells(self, content: bytes) -> list[list[str]]:
        text = io.StringIO(content.decode("utf-8-sig", "replace"), newline="")
        try:
            return list(csv.reader(text, delimiter=self.separator))
        except csv.Error as error:
            raise ValueError(
                f"CSVLogger: {self.filename!r} is not a CSV file ({error}); pass another filename"
            ) from error

    def _kept(self, run: Run) -> bytes:
        """Return what to keep of an existing file: its lines with their ends, except an incomplete last one."""
        if not os.path.exists(self.filename):
            return b""
        with open(self.filename, "rb") as file:
            # Rows that were written after the state from which the run continues will be written again.
            content = b"".join(file.readlines()[: self._lines])
        columns = self._names(run, run.metrics.names)
        cells, header = self._cells(content), self._lines_of([columns]).rstrip()
        if not cells or (content != header and header.startswith(content)):
            return b""  # its header is incomplete
        found = cells[0]
        whole, last = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
        if last and len(cells[-1]) == len(found):
            whole = content + (b"\r\n" if b"\r\n" in whole and not last.endswith(b"\r") else b"\n")
        is_alike = set(self._names(run)) <= set(found) if run.metrics.may_have_others else found == columns
        if not is_alike:
            raise ValueError(
                f"CSVLogger: {self.filename!r} has other columns ({','.join(found)}) than this run "
                f"({','.join(columns)}); pass another filename, or append=False to replace the file"
            )
        return whole

    def _check_own(self) -> None:
        """Raise if the file that would be replaced is not a log."""
        if not os.path.isfile(self.filename):
            return
        with open(self.filename, "rb") as file:
            first = file.readline(1 << 16)
        if first and not first[first.startswith(codecs.BOM_UTF8) * len(codecs.BOM_UTF8) :].startswith(_BEGINNINGS):
            raise ValueError(
                f"CSVLogger: {self.filename!r} is not a training log, whose first column is 'epoch', and would be "
                f"replaced; it begins with {first[:40]!r}; pass another filename, or remove it"
            )

    def _widen(self, run: Run, record: dict[str, Any]) -> None:
        """Replace the file with one that also has a column for each value of the epoch."""
        assert self._descriptor is not None
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        with open(self._descriptor, "rb", closefd=False) as file:
            rows = [dict(zip(self._columns, row)) for row in self._cells(file.read())[1:]]
        filled = {column for row in rows for column, cell in row.items() if cell}
        self._columns = self._names(run, filled.union(record))
        lines = [self._columns, *([row.get(c, "") for c in self._columns] for row in rows)]
        content = self._mark + self._lines_of(lines)
        os.close(self._descriptor)
        self._descriptor = None
        with staged(self.filename, lambda file: file.write(content)):
            pass
        self._open()

    def _write(self, rows: list[list[Any]], *, flushes: bool = True) -> None:
        """Write rows with one call; with `flushes`, also flush the file to disk."""
        assert self._descriptor is not None
        lines = self._lines_of(rows)
        try:
            written = os.write(self._descriptor, lines)
            if written != len(lines):  # the disk is full: remove the incomplete row
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                raise OSError("only a part of the row could be written; is the disk full?")
            self._is_flushed = flushes
            if flushes:
                os.fsync(self._descriptor)
                self._flushed_at = time.monotonic()
        except OSError as error:
            raise OSError(f"CSVLogger: could not write a row to {self.filename!r}: {error}") from error
        if os.fstat(self._descriptor).st_nlink == 0:
            raise OSError(f"CSVLogger: {self.filename!r} was removed while the run was writing it")
        self._lines = (self._lines or 0) + len(rows)

    def _names(self, run: Run, results: Optional[Iterable[str]] = None) -> list[str]:
        """Return the columns of a run with these validation values."""
        source = run.metrics.source
        has_steps = self.per_step or (source is not None and source.every_n_steps is not None)
        first, last = ["epoch", *run.metrics.train_names], ["learning_rate", "seconds", "samples_per_second"]
        if has_steps:
            first.insert(1, "step")
        return [*first, *sorted(set(results or ()).difference(first, last)), *last]
