"""The page of an experiment: a table for each budget, its conditions, and what follows from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from equikernels.models.engine.experiments import (
    Budget,
    Cell,
    Column,
    Experiment,
    Result,
    finished_cells,
)

__all__ = ["make_page"]


def make_page(experiment: Experiment, kept: Mapping[tuple[str, str, str], Result]) -> str:
    """The page as Markdown: a section with a table of its own for each budget that has results."""
    parts = [f"# {experiment.title}", experiment.introduction.strip()]
    for budget in get_args(Budget):
        cells = experiment.cells.get(budget, ())
        found = finished_cells(experiment, budget, kept)
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
    if len(values) == 1:
        return mean
    # A number may be infinite, of which the standard library has no deviation.
    deviation = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
    return f"{mean} ± {format(deviation, column.format)}"


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
