"""Writes what each epoch had to tell as a row of a CSV file."""

from __future__ import annotations

import csv
import io
import os
from typing import Any, Optional

from ..core import _ranks
from ..core._callback import TrainCallback
from ..core._checks import check_bool, check_path, check_text
from ..core._context import Run
from ..core._files import check_folder

__all__ = ["CSVLogger"]


class CSVLogger(TrainCallback):
    """Adds a row to a CSV file at the end of each epoch: the values that `History` keeps, by column.

    A row is written in one piece and flushed to the disk, so that after a crash it is whole or not there at all; a
    torn last line of an earlier crash is removed when the file is appended to. A value that is not there is an empty
    cell.

    Args:
        filename: the file; its folder must exist.
        separator: what stands between two cells, one character. Default: ",".
        append: goes on with the file where it is there, instead of beginning it anew. Its columns must be the same.
            Default: False.

    Raises:
        TypeError, ValueError: an argument is not as described; before the first step: with `append`, the file has
            other columns.
        OSError: before the first step: the folder does not exist or cannot be written. Later: a row could not be
            written, as on a full disk, or the file was removed; the rows before it are whole.

    Example:
        >>> logger = CSVLogger(folder + "/log.csv")
        >>> model.train(1, train_dataset, callbacks=[Validate(model, valid_dataset), logger])
        >>> print(open(folder + "/log.csv").readline().strip())
        epoch,loss,acc,eval_loss,learning_rate,seconds,samples_per_second
    """

    def __init__(self, filename: str, separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = check_path("CSVLogger", "filename", filename)
        self.separator = check_text("CSVLogger", "separator", separator)
        if len(separator) != 1 or separator in '\r\n"':
            raise ValueError(
                f"CSVLogger: separator must be one character, and no quote or line end, but got {separator!r}"
            )
        self.append = check_bool("CSVLogger", "append", append)
        self._descriptor: Optional[int] = None
        self._size: Optional[int] = None

    def on_train_begin(self, run_context: Any) -> None:
        """Opens the file and writes or checks its header."""
        super().on_train_begin(run_context)
        self._columns = self._columns_of(self._run)
        header = self._line(self._columns)
        if self.begins_anew():
            self._size = None
        kept = self._kept(header) if self.append or self._size is not None else 0
        if not _ranks.is_first():
            return
        self._descriptor = os.open(self.filename, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.ftruncate(self._descriptor, kept)
        if not kept:
            self._write(header)

    def check(self, run: Run) -> None:
        """Raises where the file could not be written, or has other columns."""
        super().check(run)
        check_folder("CSVLogger", self.filename)
        if self.append:
            self._kept(self._line(self._columns_of(run)))

    @property
    def follows_losses(self) -> bool:
        """Always: their mean is part of a row."""
        return True

    @property
    def follows_samples(self) -> bool:
        """Always: for those of a second."""
        return True

    def after_epoch(self, run: Run) -> None:
        """Writes the epoch's row."""
        record = run.record
        new = [key for key in record if key not in self._columns]
        if new:
            raise ValueError(f"CSVLogger: the evaluation gave {new}, which {self.filename!r} has no column for")
        if self._descriptor is None:
            return  # the first of several processes writes
        cells = [record.get(column) for column in self._columns]
        self._write(self._line(["" if cell is None else cell for cell in cells]))

    def state_dict(self) -> dict[str, Any]:
        """How long the file is."""
        return {"size": self._size if self._descriptor is None else os.fstat(self._descriptor).st_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next run go on with the rows that were there when `state_dict` returned the state."""
        super().load_state_dict(state)
        self._size = state["size"]

    def on_exit(self) -> None:
        """Closes the file."""
        if self._descriptor is not None:
            self._size = os.fstat(self._descriptor).st_size
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _columns_of(run: Run) -> list[str]:
        return [
            "epoch",
            *run.train_names,
            *sorted(run.result_names or []),
            "learning_rate",
            "seconds",
            "samples_per_second",
        ]

    def _line(self, cells: list[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator="\n").writerow(cells)
        return text.getvalue().encode("utf-8")

    def _kept(self, header: bytes) -> int:
        """How many bytes of a file that is there to keep: all but a line that was never finished."""
        if not os.path.exists(self.filename):
            return 0
        with open(self.filename, "rb") as file:
            content = file.read(self._size)  # rows that were written after the state it goes on from will come again
        whole = content[: content.rfind(b"\n") + 1]
        if whole and not whole.startswith(header):
            first = whole.split(b"\n", 1)[0].decode("utf-8", "replace")
            raise ValueError(
                f"CSVLogger: {self.filename!r} has other columns ({first}) than this run ({header.decode().strip()}); "
                f"pass another filename, or append=False to begin it anew"
            )
        return len(whole)

    def _write(self, line: bytes) -> None:
        assert self._descriptor is not None
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):  # the disk is full: take the piece of a row away again
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                raise OSError("only a part of the row could be written; is the disk full?")
            os.fsync(self._descriptor)
        except OSError as error:
            raise OSError(f"CSVLogger: could not write a row to {self.filename!r}: {error}") from error
        if os.fstat(self._descriptor).st_nlink == 0:
            raise OSError(f"CSVLogger: {self.filename!r} was removed while the run was writing it")
