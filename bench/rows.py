"""The record of measurements: one CSV row for each benchmark of each run, only ever appended to."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "results.csv"


@dataclasses.dataclass(frozen=True)
class Row:
    """One benchmark of one run; times are milliseconds a call, at three percentiles of the rounds."""

    run: str
    date: str
    commit: str
    device_type: str  # "cpu" or "cuda"
    device: str  # the processor's or the GPU's name
    threads: int
    python: str
    torch: str
    operation: str
    provider: str
    mode: str
    size: str
    p20_ms: float
    p50_ms: float
    p80_ms: float
    peak_mb: float | None  # empty where memory was not measured


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


def append(rows: list[Row], path: Path = RESULTS) -> None:
    """Add rows to the record, writing its header first where there is none yet.

    Raises:
        ValueError: the record has other columns, or already holds one of the runs.
    """
    known = {row.run for row in read(path)}
    repeated = sorted({row.run for row in rows} & known)
    if repeated:
        raise ValueError(f"{path}: run {repeated[0]} is already recorded")
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        writer.writerows([_cell(value) for value in dataclasses.astuple(row)] for row in rows)


def read(path: Path = RESULTS) -> list[Row]:
    """All rows in the order they were appended; none when there is no record yet.

    Raises:
        ValueError: a header or a row that is not a record of this kind, naming the file and the line.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = tuple(next(reader, ()))
        if header != COLUMNS:
            raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(header)}")
        return [_row(cells, f"{path}:{reader.line_num}") for cells in reader]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _row(cells: list[str], where: str) -> Row:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{where}: expected {len(COLUMNS)} cells, got {len(cells)}")
    texts = dict(zip(COLUMNS, cells, strict=True))
    try:
        return Row(
            run=texts["run"],
            date=texts["date"],
            commit=texts["commit"],
            device_type=texts["device_type"],
            device=texts["device"],
            threads=int(texts["threads"]),
            python=texts["python"],
            torch=texts["torch"],
            operation=texts["operation"],
            provider=texts["provider"],
            mode=texts["mode"],
            size=texts["size"],
            p20_ms=float(texts["p20_ms"]),
            p50_ms=float(texts["p50_ms"]),
            p80_ms=float(texts["p80_ms"]),
            peak_mb=float(texts["peak_mb"]) if texts["peak_mb"] else None,
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
