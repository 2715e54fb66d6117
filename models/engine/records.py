"""The records of a run: rows of numbers as CSV and for TensorBoard, and metrics.json."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equikernels.models.engine.errors import RunError
from equikernels.project.saving.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CsvLog", "RunLogs", "write_json"]

LOGS = ("steps", "epochs", "validation")
"""What is recorded: single steps, means over epochs, validations."""


class CsvLog:
    """A CSV file that grows by rows of the same columns, written through at every row.

    Nothing in it depends on time, so that an interrupted and resumed run has the same file as any other.

    Args:
        length: how many bytes of the file count; what an interrupted run wrote after them is cut off.

    Raises:
        RunError: the file is shorter than that.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        try:
            found = self._file.tell()
            if found < length:
                raise RunError(
                    f"{path}: expected the {length} bytes that the checkpoint speaks of, got {found}"
                )
            self._file.truncate(length)
            with path.open(encoding="utf-8", newline="") as file:
                self.columns = next(csv.reader(file), [])
        except BaseException:
            self._file.close()
            raise

    def append(self, row: Mapping[str, object]) -> None:
        """Add a row; the first one decides the columns."""
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        if not self.columns:
            self.columns = list(row)
            writer.writerow(self.columns)
        if list(row) != self.columns:
            raise RunError(
                f"{self.path}: expected numbers named {', '.join(self.columns)}, got {', '.join(row)}: "
                "a task must give the same names every time"
            )
        writer.writerow(row.values())
        left = memoryview(lines.getvalue().encode())
        with self._named():
            while left:
                left = left[self._file.write(left) :]

    def to_disk(self) -> int:
        """Have every row on the disk; the length of the file in bytes."""
        with self._named():
            os.fsync(self._file.fileno())
        return self._file.tell()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Give errors of an open file, which do not know it, the name of the file."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        self._file.close()


class RunLogs:
    """All rows of a run: steps.csv, epochs.csv and validation.csv, and TensorBoard's where it is installed.

    Args:
        folder: the run's.
        lengths: of each log in bytes, as the checkpoint that the run goes on from tells them; empty at the
            start.
        step: the step that the run goes on from.
    """

    def __init__(self, folder: Path, lengths: Mapping[str, int], step: int) -> None:
        self._logs = {name: CsvLog(folder / f"{name}.csv", lengths.get(name, 0)) for name in LOGS}
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            # Steps count from 1: those after the checkpoint are forgotten, they come again.
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def append(self, log: str, place: Mapping[str, int], numbers: Mapping[str, float]) -> None:
        """Add a row to one of the logs: where it was, then its numbers.

        Args:
            place: "step" and "epoch".
        """
        self._logs[log].append({**place, **numbers})
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{log}/{name}", value, place["step"])

    def figure(self, name: str, figure: Figure, step: int) -> None:
        if self._board is not None:
            self._board.add_figure(name, figure, step, close=False)

    def to_disk(self) -> dict[str, int]:
        """Have every row on the disk; the lengths of the logs in bytes."""
        if self._board is not None:
            self._board.flush()
        return {name: log.to_disk() for name, log in self._logs.items()}

    def close(self) -> None:
        for log in self._logs.values():
            log.close()
        if self._board is not None:
            self._board.close()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write or replace a JSON file as a whole. Numbers that JSON has not, NaN and infinity, become null."""
    write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _plain(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, float) and content - content != 0:
        return None
    return content
