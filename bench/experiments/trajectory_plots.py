"""Figures of the trajectory experiment: errors of every row, and predicted paths of three trained models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.experiments.trajectory_findings import PLAIN, STRICT, Rows, by_scene, chosen_softness
from equikernels.models.engine.inference import Use
from equikernels.models.engine.results import Finished
from equikernels.models.engine.runs import Run, open_dataset
from equikernels.models.soft_equivariance.figures import BLUE, GREEN, GREY, ORANGE, STYLE
from equikernels.models.soft_equivariance.trajectory_figures import Turned, draw_predictions

PANELS = {"combined_ade": "cADE (m)", "combined_fde": "cFDE (m)", "equivariance_error": "eErr (m)"}
RULES = {"combined_ade": "walking_on_ade", "combined_fde": "walking_on_fde"}
COLOURS = (ORANGE, BLUE, "#56B4E9", GREEN)
HATCHES = ("", "//", "..", "xx")
WALKED = 2.0
"""Metres that a pedestrian of the picture goes in the predicted steps at least."""


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
            values = [numbers[number] for numbers in rows.get(name, {}).values()]
            if not values:
                continue
            x = group + (place - (len(names) - 1) / 2) * width
            axes.bar(
                x, np.mean(values), 0.92 * width, color=colour, hatch=hatch, edgecolor="white",
                label=name if name not in axes.get_legend_handles_labels()[1] else None,
            )  # fmt: skip
            axes.plot([x] * len(values), values, "o", color="black", markersize=3.5)
    if number in RULES:
        for group, rows in enumerate(scenes.values()):
            level = next(iter(next(iter(rows.values())).values()))[RULES[number]]
            label = "constant velocity" if group == 0 else None
            axes.plot([group - 0.45, group + 0.45], [level] * 2, "--", color=GREY, label=label)
    axes.set_xticks(range(len(scenes)), list(scenes))
    axes.grid(False, axis="x")


def paths(finished: Finished, held_out: Callable[[Run], tuple[str, ...]], count: int = 5) -> Figure | None:
    """Predictions on the first scene, of the first run of each of three rows; None where a row failed.

    Args:
        held_out: the options of the test data of a run.
    """
    scene, rows = next(iter(by_scene(finished.results).items()))
    soft = chosen_softness(rows)
    if soft is None or not {PLAIN, STRICT} <= rows.keys():
        return None
    first = finished.first()
    runs = {name: finished.run(first[f"{scene}, {name}"]) for name in (PLAIN, soft, STRICT)}
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
