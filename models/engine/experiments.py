"""What an experiment is: runs in rows, in two sizes, columns of numbers, and what is kept of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from equikernels.models.engine.configuration import RunConfiguration
from equikernels.models.engine.errors import RunError
from equikernels.models.engine.runs import Run, open_run
from equikernels.models.engine.toml import to_toml

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Budget",
    "Cell",
    "Column",
    "Experiment",
    "Finished",
    "Result",
    "best_numbers",
    "finished_cells",
    "run_folder",
]

Budget = Literal["cpu", "full"]
"""What a table is made for: an hour or so of two processor cores, or what a paper did, on a GPU."""


AFTER = "# after: "
"""Begins the comment of a text that names the run which another starts from."""


@dataclass(frozen=True)
class Cell:
    """One run of an experiment.

    Attributes:
        row: the row of the table that it belongs to; runs of one row differ by their seeds.
        configuration: of the run.
        after: the cell whose best weights the run starts from, in place of `training.initial`. It is done
            first, if it has not been done.

    Raises:
        ValueError: both `after` and `training.initial`.
    """

    row: str
    configuration: RunConfiguration[Any]
    after: Cell | None = None

    def __post_init__(self) -> None:
        if self.after is not None and self.configuration.training.initial is not None:
            raise ValueError(f"after, training.initial: expected at most one, got both in {self.row!r}")

    @property
    def text(self) -> str:
        """The configuration as TOML, and which run it starts from: what tells cells of a row apart."""
        own = to_toml(self.configuration)
        return own if self.after is None else text_after(own, self.after.row, self.after.text)


def text_after(own: str, row: str, text: str) -> str:
    """The configuration of a run with, in comments, that of the run that it starts from."""
    return own + AFTER + row + "\n" + "".join(f"# {line}\n" for line in text.splitlines())


@dataclass(frozen=True)
class Column:
    """A column of the table: its heading, the name of its number, and how that is printed."""

    heading: str
    number: str
    format: str = ".4g"


def best_numbers(run: Run) -> dict[str, float]:
    """The validation numbers of the best epoch."""
    best = run.read_metrics()["best"]
    return {name: value for name, value in best.items() if name not in ("epoch", "step")}


@dataclass(frozen=True)
class Experiment:
    """A table of runs, in two sizes that are never mixed.

    Attributes:
        name: of the page, and of the folder of its runs.
        title, introduction: what the page begins with.
        command: what makes the page, without its options.
        cells: the runs of each budget, in the order in which they are done.
        columns: of the table, after the name of the row.
        measure: the numbers of a finished run, by name.
        findings: what the finished cells of one budget say, as Markdown below its table; computed, so that no
            sentence outlives its numbers.
        figures: of a complete table, by name. They are written as NAME_FIGURE.png into the folder "figures"
            beside that of the page.
    """

    name: str
    title: str
    introduction: str
    command: str
    cells: Mapping[Budget, Sequence[Cell]]
    columns: Sequence[Column]
    measure: Callable[[Run], Mapping[str, float]] = best_numbers
    findings: Callable[[Mapping[Cell, Result]], str] | None = None
    figures: Callable[[Finished], Mapping[str, Figure]] | None = None


@dataclass(frozen=True)
class Result:
    """What is kept of a run.

    Attributes:
        budget, row, configuration: which one it is; the last is the text of its cell.
        numbers: by name; empty where it failed.
        failure: why it has none.
        seconds: the time of the training, over all interruptions.
        date: the day it ended.
        conditions: device, processes, threads, machine and versions.
        processor_seconds: of all threads of the main process, which other work does not lengthen; 0 where
            they were not counted.
    """

    budget: Budget
    row: str
    configuration: str
    numbers: Mapping[str, float]
    failure: str
    seconds: float
    date: str
    conditions: Mapping[str, Any]
    processor_seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, str]:
        return self.budget, self.row, self.configuration


def finished_cells(
    experiment: Experiment, budget: Budget, kept: Mapping[tuple[str, str, str], Result]
) -> dict[Cell, Result]:
    """The cells of a budget that a record has, in their order, failed ones too."""
    keys = {cell: (budget, cell.row, cell.text) for cell in experiment.cells.get(budget, ())}
    return {cell: kept[key] for cell, key in keys.items() if key in kept}


def run_folder(experiment: Experiment, budget: Budget, cell: Cell, runs: Path) -> Path:
    """Where the run of a cell is, or will be, in the folder of all runs."""
    # Another configuration has another folder, so that none is taken for this one.
    digest = blake2b(f"{cell.row}\n{cell.text}".encode(), digest_size=6).hexdigest()
    return runs / experiment.name / budget / digest


@dataclass(frozen=True)
class Finished:
    """A complete table, as its figures see it.

    Attributes:
        experiment, budget: which one it is.
        results: of the cells that did not fail, in their order.
        runs: the folder of all runs.
    """

    experiment: Experiment
    budget: Budget
    results: Mapping[Cell, Result]
    runs: Path

    def first(self) -> dict[str, Cell]:
        """The first cell of every row that has any."""
        found: dict[str, Cell] = {}
        for cell in self.results:
            found.setdefault(cell.row, cell)
        return found

    def run(self, cell: Cell) -> Run:
        """The run of a cell.

        Raises:
            RunError: it is not there any more; the record has its numbers alone.
        """
        folder = run_folder(self.experiment, self.budget, cell, self.runs)
        if not (folder / "run.toml").is_file():
            raise RunError(f"{folder}: expected the run of {cell.row!r}, got no file run.toml there")
        return open_run(folder)
