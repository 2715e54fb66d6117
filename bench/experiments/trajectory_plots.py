"""Figures of the trajectory experiment: errors of every row, and predicted paths of three trained models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.experiments.trajectory_findings import PLAIN, STRICT, Rows, by_scene, chosen_softness
from equikernels.models.engine.inference import Use
from equikernels.models.engine.results import Cell, Experiment, Result, read_record, run_folder
from equikernels.models.engine.runs import Run, open_dataset, open_run
from equikernels.models.engine.toml import to_toml
from equikernels.models.soft_equivariance.figures import BLUE, GREEN, GREY, ORANGE, STYLE
from equikernels.models.soft_equivariance.trajectory_figures import Turned, draw_predictions

PANELS = {"combined_ade": "cADE (m)", "combined_fde": "cFDE (m)", "equivariance_error": "eErr (m)"}
RULES = {"combined_ade": "walking_on_ade", "combined_fde": "walking_on_fde"}
COLOURS = (ORANGE, BLUE, "#56B4E9", GREEN)
HATCHES = ("", "//", "..", "xx")
WALKED = 2.0
"""Metres that a pedestrian of the picture goes in the predicted steps at least."""


def leave_figures(
    experiment: Experiment, options: argparse.Namespace, held_out: Callable[[Run], tuple[str, ...]]
) -> None:
    """Draw trajectories_errors_BUDGET.png and trajectories_paths_BUDGET.png in figures, beside results.

    Args:
        options: of the command line of a complete table.
        held_out: the options of the test data of a run.
    """
    folder: Path = options.page.parent.parent / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    kept = read_record(options.record)
    cells = experiment.cells[options.budget]
    results = {cell: kept[options.budget, cell.row, to_toml(cell.configuration)] for cell in cells}
    scenes = by_scene(results)
    error_bars(scenes).savefig(folder / f"{experiment.name}_errors_{options.budget}.png", dpi=90)
    folders = {cell: run_folder(experiment, options.budget, cell, options.runs) for cell in results}
    drawn = paths(results, folders, held_out)
    if drawn is None:
        print(f"{options.runs}: not all runs are there, so that no paths are drawn", file=sys.stderr)
    else:
        drawn.savefig(folder / f"{experiment.name}_paths_{options.budget}.png", dpi=90)


def error_bars(scenes: Mapping[str, Rows]) -> Figure:
    """Means as bars and seeds as dots, a group for each scene, with constant velocity as a line."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(9.0, 2.6 * len(scenes)), 3.6), layout="constrained")
        for axes, (number, label) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
            _bars(axes, scenes, number)
            axes.set_ylabel(label)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _bars(axes: Axes, scenes: Mapping[str, Rows], number: str) -> None:
    names = list(dict.fromkeys(name for rows in scenes.values() for name in rows))
    if len(names) > len(COLOURS):
        raise ValueError(f"scenes: expected at most {len(COLOURS)} rows each, got {', '.join(names)}")
    width = 0.8 / len(names)
    for place, (name, colour, hatch) in enumerate(zip(names, COLOURS, HATCHES, strict=False)):
        for group, rows in enumerate(scenes.values()):
            values = [numbers[number] for numbers in rows[name].values()]
            x = group + (place - (len(names) - 1) / 2) * width
            axes.bar(
                x, np.mean(values), 0.92 * width, color=colour, hatch=hatch, edgecolor="white",
                label=name if group == 0 else None,
            )  # fmt: skip
            axes.plot([x] * len(values), values, "o", color="black", markersize=3.5)
    if number in RULES:
        for group, rows in enumerate(scenes.values()):
            level = next(iter(rows[names[0]].values()))[RULES[number]]
            label = "constant velocity" if group == 0 else None
            axes.plot([group - 0.45, group + 0.45], [level] * 2, "--", color=GREY, label=label)
    axes.set_xticks(range(len(scenes)), list(scenes))
    axes.grid(False, axis="x")


def paths(
    results: Mapping[Cell, Result],
    folders: Mapping[Cell, Path],
    held_out: Callable[[Run], tuple[str, ...]],
    count: int = 5,
) -> Figure | None:
    """Predictions of the first seed's models on the first scene; None where a run is not there."""
    scene, rows = next(iter(by_scene(results).items()))
    soft = chosen_softness(rows)
    assert soft is not None
    runs = {}
    for name in (PLAIN, soft, STRICT):
        cell = next(cell for cell in results if cell.row == f"{scene}, {name}")
        if not (folders[cell] / "run.toml").is_file():
            return None
        runs[name] = open_run(folders[cell])
    run = runs[PLAIN]
    use = Use(data=run.configuration.data, data_options=held_out(run))
    dataset = open_dataset(use.configuration(run))
    whole = dataset.fetch(torch.arange(len(dataset)))
    walked = (whole["future"][:, -1] - whole["observed"][:, -1]).norm(dim=-1)
    # Evenly over the scene's windows, without those who stand.
    moving = torch.nonzero(walked >= min(WALKED, float(walked.max()))).flatten()
    chosen = moving[torch.linspace(0, len(moving) - 1, count).long()]
    observed, future = whole["observed"][chosen], whole["future"][chosen]
    found = {name: Turned.of(run.load_model(dataset), observed) for name, run in runs.items()}
    return draw_predictions(observed, future, found)
