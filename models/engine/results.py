"""Experiments: tables of runs, each kept as soon as it ends, on a page with its conditions."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from equikernels.models.data import DataError
from equikernels.models.engine.errors import ConfigurationError, NonFiniteError, RunError, Stopped
from equikernels.models.engine.experiments import (
    AFTER,
    Budget,
    Cell,
    Column,
    Experiment,
    Finished,
    Result,
    best_numbers,
    finished_cells,
    run_folder,
    text_after,
)
from equikernels.models.engine.figures import save_figure
from equikernels.models.engine.locking import locked
from equikernels.models.engine.pages import make_page
from equikernels.models.engine.runs import open_run
from equikernels.models.engine.tasks import configuration_from
from equikernels.models.engine.toml import to_toml
from equikernels.models.engine.trainer import resume, train
from equikernels.project.saving.files import write_text

__all__ = [
    "Budget",
    "Cell",
    "Column",
    "Experiment",
    "Finished",
    "Result",
    "best_numbers",
    "complete",
    "experiment_main",
    "finished_cells",
    "make_page",
    "read_record",
    "run_folder",
]


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
        ConfigurationError: another process is at work on the experiment in the same folder of runs.
        RunError: a run cannot go on, or the record is damaged.
        Stopped: a signal came.
    """
    with ExitStack() as stack:
        # Of the processes of one launch, which train together, the first stands for all.
        if os.environ.get("RANK", "0") == "0":
            stack.enter_context(locked(runs / experiment.name))
        return _complete(experiment, budget, page, record, runs)


def _complete(
    experiment: Experiment, budget: Budget, page: Path, record: Path, runs: Path
) -> dict[Cell, Result]:
    kept = read_record(record)
    results = {}
    _write_page(experiment, page, kept)
    for cell in experiment.cells[budget]:
        key = (budget, cell.row, cell.text)
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
        _train_cell(experiment, budget, cell, runs)
        numbers = dict(experiment.measure(open_run(folder)))
    except NonFiniteError as error:
        failure = str(error)
    # A cell whose first run failed has none of its own.
    metrics = open_run(folder).read_metrics() if (folder / "run.toml").exists() else {}
    return Result(
        budget,
        cell.row,
        cell.text,
        numbers,
        failure,
        float(metrics.get("seconds", 0.0)),
        datetime.date.today().isoformat(),
        metrics.get("conditions", {}),
        float(metrics.get("processor_seconds", 0.0)),
    )


def _train_cell(experiment: Experiment, budget: Budget, cell: Cell, runs: Path) -> None:
    """Begin a cell's run or go on with it, after the one that it starts from."""
    folder = run_folder(experiment, budget, cell, runs)
    configuration = cell.configuration
    if cell.after is not None:
        _train_cell(experiment, budget, cell.after, runs)
        initial = str(run_folder(experiment, budget, cell.after, runs))
        training = dataclasses.replace(configuration.training, initial=initial)
        configuration = dataclasses.replace(configuration, training=training)
    if (folder / "run.toml").exists():
        resume(folder)
    else:
        train(configuration, folder)


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
    own, after, rest = text.partition(AFTER)
    if after:
        row, *lines = rest.splitlines()
        earlier = "".join(f"{line.removeprefix('# ')}\n" for line in lines)
        return text_after(_as_of_today(own), row, _as_of_today(earlier))
    try:
        return to_toml(configuration_from(tomllib.loads(text), "a record"))
    except ConfigurationError:
        return text


def _write_page(experiment: Experiment, page: Path, kept: Mapping[tuple[str, str, str], Result]) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, make_page(experiment, kept))


# -- command line --------------------------------------------------------------------------------------------


def _options(experiment: Experiment, arguments: Sequence[str] | None, root: Path) -> argparse.Namespace:
    """What the command line says: `budget`, and the paths `page`, `record` and `runs`."""
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

    Figures are drawn when the table is complete. Where one cannot be, because the run that it shows is not
    there any more, say, all files of figures stay as they were; so do the page and the record.

    Args:
        make: the experiment.
        root: the folder with docs and build.

    Returns:
        0; 1 where a run diverged, cannot go on or cannot be drawn, 2 for a mistake, 130 and 143 after a
        signal. All but 0 tell one line.
    """
    experiment = make()
    options = _options(experiment, arguments, root)
    try:
        results_of_cells = complete(
            experiment, options.budget, page=options.page, record=options.record, runs=options.runs
        )
        good = {cell: result for cell, result in results_of_cells.items() if not result.failure}
        folder = options.page.parent.parent / "figures"
        _draw(Finished(experiment, options.budget, good, options.runs), folder)
    except (RunError, DataError, Stopped, OSError) as error:
        print(f"{experiment.command}: {error}", file=sys.stderr)
        if isinstance(error, Stopped):
            return error.exit_code
        return 2 if isinstance(error, (ConfigurationError, DataError)) else 1
    failed = [cell for cell, result in results_of_cells.items() if result.failure]
    if not failed:
        return 0
    named = "; ".join(
        f"{cell.row!r} with seed {cell.configuration.seed} in "
        f"{run_folder(experiment, options.budget, cell, options.runs)}"
        for cell in failed
    )
    print(
        f"{experiment.command}: {len(failed)} of {len(results_of_cells)} runs failed, for reasons that "
        f"{options.record} has: {named}",
        file=sys.stderr,
    )
    return 1


def _draw(finished: Finished, folder: Path) -> None:
    experiment = finished.experiment
    if experiment.figures is None or not finished.results:
        return
    try:
        # All of them before any is written: pictures of two tables are never mixed.
        figures = experiment.figures(finished)
    except RunError as error:
        raise type(error)(f"no figures: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{experiment.name}_{name}.png")
