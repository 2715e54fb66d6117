"""Experiments with figures beside their page."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from equikernels.models.engine.results import (
    Budget,
    Cell,
    Experiment,
    Result,
    experiment_main,
    finished_cells,
    read_record,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Budget, Mapping[Cell, Result]], Mapping[str, "Figure"]]
"""The figures of the finished runs of a budget, by the names of their files."""


def run_and_draw(
    make: Callable[[], Experiment], draw: Draw, arguments: Sequence[str] | None = None, root: Path = Path()
) -> int:
    """The command of an experiment, then its figures from the record, for every budget that has runs.

    They go to the folder `figures` beside that of the page: docs/figures for docs/results/NAME.md.

    Returns:
        What `experiment_main` returns. After a mistake or a signal nothing is drawn.
    """
    code = experiment_main(make, arguments, root)
    if code not in (0, 1):
        return code
    experiment = make()
    results = root / "docs" / "results"
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", type=Path, default=results / f"{experiment.name}.md")
    parser.add_argument("--record", type=Path, default=results / f"{experiment.name}.jsonl")
    places, _ = parser.parse_known_args(arguments)
    kept = read_record(places.record)
    folder = places.page.parent.parent / "figures"
    for budget in get_args(Budget):
        found = finished_cells(experiment, budget, kept)
        found = {cell: result for cell, result in found.items() if not result.failure}
        if found:
            folder.mkdir(parents=True, exist_ok=True)
            for name, figure in draw(budget, found).items():
                figure.savefig(folder / name, dpi=110)
    return code
