"""Experiments: tables of runs, each kept as soon as it ends, on a page with its conditions."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import statistics
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

from equikernels.models.data import DataError
from equikernels.models.engine.configuration import RunConfiguration
from equikernels.models.engine.errors import ConfigurationError, NonFiniteError, RunError, Stopped
from equikernels.models.engine.runs import Run, open_run
from equikernels.models.engine.tasks import configuration_from
from equikernels.models.engine.toml import to_toml
from equikernels.models.engine.trainer import resume, train
from equikernels.project.saving.files import write_text

__all__ = [
    "Budget",
    "Cell",
    "Column",
    "Experiment",
    "Result",
    "best_numbers",
    "complete",
    "experiment_main",
    "experiment_options",
    "run_folder",
]

Budget = Literal["cpu", "full"]
"""What a table is made for: an hour or so of two processor cores, or what a paper did, on a GPU."""


@dataclass(frozen=True)
class Cell:
    """One run of an experiment.

    Attributes:
        row: the row of the table that it belongs to; runs of one row differ by their seeds.
        configuration: of the run.
    """

    row: str
    configuration: RunConfiguration[Any]


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
    """

    name: str
    title: str
    introduction: str
    command: str
    cells: Mapping[Budget, Sequence[Cell]]
    columns: Sequence[Column]
    measure: Callable[[Run], Mapping[str, float]] = best_numbers
    findings: Callable[[Mapping[Cell, Result]], str] | None = None


@dataclass(frozen=True)
class Result:
    """What is kept of a run.

    Attributes:
        budget, row, configuration: which one it is; the configuration as TOML.
        numbers: by name; empty where it failed.
        failure: why it has none.
        seconds: the time of the training, over all interruptions.
        processor_seconds: of all threads of the main process, which other work does not lengthen.
        date: the day it ended.
        conditions: device, processes, threads, machine and versions.
    """

    budget: Budget
    row: str
    configuration: str
    numbers: Mapping[str, float]
    failure: str
    seconds: float
    processor_seconds: float
    date: str
    conditions: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.budget, self.row, self.configuration


# -- running -------------------------------------------------------------------------------------------------


def complete(
    experiment: Experiment, budget: Budget, *, page: Path, record: Path, runs: Path
) -> dict[Cell, Result]:
    """Do what is left of an experiment; after every run the record has its line and the page its row.

    A run that was interrupted goes on, one whose loss is not finite has its reason in the table.

    Args:
        page: the Markdown page, made anew from the record.
        record: a file of JSON lines, one for each finished run of either budget.
        runs: the folder that has the folders of the runs.

    Raises:
        RunError: a run cannot go on, or the record is damaged.
        Stopped: a signal came.
    """
    kept = read_record(record)
    results = {}
    _write_page(experiment, page, kept)
    for cell in experiment.cells[budget]:
        key = (budget, cell.row, to_toml(cell.configuration))
        if key not in kept:
            kept[key] = _run_cell(experiment, budget, cell, runs)
            record.parent.mkdir(parents=True, exist_ok=True)
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(kept[key])) + "\n")
            _write_page(experiment, page, kept)
        results[cell] = kept[key]
    return results


def _run_cell(experiment: Experiment, budget: Budget, cell: Cell, runs: Path) -> Result:
    folder = run_folder(experiment, budget, cell, runs)
    numbers: Mapping[str, float] = {}
    failure = ""
    try:
        if (folder / "run.toml").exists():
            resume(folder)
        else:
            train(cell.configuration, folder)
        numbers = dict(experiment.measure(open_run(folder)))
    except NonFiniteError as error:
        failure = str(error)
    metrics = open_run(folder).read_metrics()
    return Result(
        budget,
        cell.row,
        to_toml(cell.configuration),
        numbers,
        failure,
        float(metrics.get("seconds", 0.0)),
        float(metrics.get("processor_seconds", 0.0)),
        datetime.date.today().isoformat(),
        metrics.get("conditions", {}),
    )


def run_folder(experiment: Experiment, budget: Budget, cell: Cell, runs: Path) -> Path:
    """Where the run of a cell is, or will be, in the folder of all runs."""
    # Another configuration has another folder, so that none is taken for this one.
    text = f"{cell.row}\n{to_toml(cell.configuration)}"
    return runs / experiment.name / budget / blake2b(text.encode(), digest_size=6).hexdigest()


def read_record(path: Path) -> dict[tuple[str, str, str], Result]:
    """The results in a record; of equal runs the last. None where there is no file.

    An interrupted run can leave a last line without its end, which is cut off the file.

    Raises:
        RunError: any other line is no result.
    """
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    found = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            result = Result(**json.loads(line))
            result = dataclasses.replace(result, configuration=_as_of_today(result.configuration))
        except (ValueError, TypeError) as error:
            raise RunError(f"{path}, line {number}: no result: {error}") from error
        found[result.key] = result
    return found


def _as_of_today(text: str) -> str:
    """A configuration with the defaults of later options; as it is, where it means nothing any more."""
    try:
        return to_toml(configuration_from(tomllib.loads(text), "a record"))
    except ConfigurationError:
        return text


# -- the page ------------------------------------------------------------------------------------------------


def _write_page(experiment: Experiment, page: Path, kept: Mapping[tuple[str, str, str], Result]) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, make_page(experiment, kept))


def make_page(experiment: Experiment, kept: Mapping[tuple[str, str, str], Result]) -> str:
    """The page as Markdown: a section with a table of its own for each budget that has results."""
    parts = [f"# {experiment.title}", experiment.introduction.strip()]
    for budget in get_args(Budget):
        cells = experiment.cells.get(budget, ())
        found = {
            cell: kept[key]
            for cell in cells
            if (key := (budget, cell.row, to_toml(cell.configuration))) in kept
        }
        done = list(found.values())
        if done:
            parts += [
                f"## Budget {budget}",
                _conditions(experiment, budget, cells, done),
                _table(experiment, done),
            ]
        finished = {cell: result for cell, result in found.items() if not result.failure}
        if finished and experiment.findings is not None:
            parts.append(experiment.findings(finished).strip())
    return "\n\n".join(parts) + "\n"


def _table(experiment: Experiment, done: Sequence[Result]) -> str:
    headings = ["", *(column.heading for column in experiment.columns), "runs", "processor time"]
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for row in dict.fromkeys(result.row for result in done):
        own = [result for result in done if result.row == row]
        finished = [result for result in own if not result.failure]
        entries = [_entry(column, finished) for column in experiment.columns]
        time = _time(sum(result.processor_seconds for result in own))
        lines.append("| " + " | ".join([row, *entries, str(len(own)), time]) + " |")
    failed = [f"- {result.row}: failed, {result.failure}." for result in done if result.failure]
    return "\n".join([*lines, *([""] if failed else []), *failed])


def _entry(column: Column, results: Sequence[Result]) -> str:
    """Mean ± standard deviation over the runs of a row."""
    values = [result.numbers[column.number] for result in results if column.number in result.numbers]
    if not values:
        return "-"
    mean = format(statistics.fmean(values), column.format)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), column.format)}"


def _conditions(experiment: Experiment, budget: Budget, cells: Sequence[Cell], done: Sequence[Result]) -> str:
    seeds = sorted({cell.configuration.seed for cell in cells})
    dates = sorted({result.date for result in done})
    devices = sorted({_device(result.conditions) for result in done})
    total = _time(sum(result.seconds for result in done))
    processor = _time(sum(result.processor_seconds for result in done))
    spread = ", means ± standard deviations over them" if len(seeds) > 1 else ""
    lines = [
        f"`{experiment.command} --budget {budget}`",
        f"{len(done)} of {len(cells)} runs, {processor} of processor time in {total} together, {dates[0]}"
        + (f" to {dates[-1]}" if len(dates) > 1 else "")
        + f"; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}{spread}.",
        *(f"On {device}." for device in devices),
    ]
    return "\n\n".join([lines[0], " ".join(lines[1:])])


def _device(conditions: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in conditions.get("versions", {}).items())
    device = conditions.get("device", "an unknown device")
    processes, threads = conditions.get("processes", "?"), conditions.get("threads", "?")
    return (
        f"{device} ({conditions.get('machine', '?')}), processes: {processes}, threads: {threads}; {versions}"
    )


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


# -- command line --------------------------------------------------------------------------------------------


def experiment_options(
    experiment: Experiment, arguments: Sequence[str] | None = None, root: Path = Path()
) -> argparse.Namespace:
    """What the command line says: `budget`, and the paths `page`, `record` and `runs`.

    Args:
        root: the folder with docs and build.
    """
    parser = argparse.ArgumentParser(prog=experiment.command, description=experiment.title)
    budgets = [budget for budget in get_args(Budget) if budget in experiment.cells]
    parser.add_argument("--budget", choices=budgets, default=budgets[0], help="default: %(default)s")
    results = root / "docs" / "results"
    for option, default in (
        ("page", results / f"{experiment.name}.md"),
        ("record", results / f"{experiment.name}.jsonl"),
        ("runs", root / "build" / "runs"),
    ):
        parser.add_argument(f"--{option}", type=Path, default=default, help="default: %(default)s")
    return parser.parse_args(arguments)


def experiment_main(
    make: Callable[[], Experiment], arguments: Sequence[str] | None = None, root: Path = Path()
) -> int:
    """The command of an experiment: ``--budget cpu|full``, and where everything is.

    Args:
        make: the experiment.
        root: the folder with docs and build.

    Returns:
        0; 1 where a run cannot go on, 2 for a mistake, 130 and 143 after a signal. All but 0 tell one line.
    """
    experiment = make()
    options = experiment_options(experiment, arguments, root)
    places = {"page": options.page, "record": options.record, "runs": options.runs}
    try:
        results_of_cells = complete(experiment, options.budget, **places)
    except (RunError, DataError, Stopped, OSError) as error:
        print(f"{experiment.command}: {error}", file=sys.stderr)
        if isinstance(error, Stopped):
            return error.exit_code
        return 2 if isinstance(error, (ConfigurationError, DataError)) else 1
    return 1 if any(result.failure for result in results_of_cells.values()) else 0
