"""Figures of the trade-off of softness: the three cut-offs themselves, and accuracy against the bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.softness_cells import KNOBS
from equikernels.group import SO2, pixel_grid
from equikernels.models.soft_equivariance.digits import SIZE
from equikernels.models.soft_equivariance.figures import BLUE, GREEN, GREY, ORANGE, STYLE
from equikernels.project.projector import constraint_spectrum

Curves = Mapping[tuple[str, str], tuple[tuple[float, ...], Mapping[str, np.ndarray]]]
"""By group and knob: the levels, and each measure as (levels, seeds)."""

LOOKS = {
    "s": (BLUE, "o-", "softness s (values in blue)"),
    "b": (ORANGE, "s", "hard cut-off b: no values between"),
    "tau": (GREEN, "^-.", "smooth width tau"),
}
PANELS = {
    "SO(2)": {"upright": "upright", "near": "turned by up to 30°", "turned": "turned by any angle"},
    "C_4": {"upright": "upright", "near": "turned by 90° or 270°", "turned": "turned by 90°, 180° or 270°"},
}
NAMES = {"s": "softness s", "b": "hard cut-off b", "tau": "smooth width tau"}
LABELLED = (0.0, 0.25, 0.5, 1.0)
SHOWN = {"s": 0.25, "b": 2.5, "tau": 2.0}
RADII = {"SO(2)": "30°", "C_4": "90°"}


def bound_figure(curves: Curves) -> Figure:
    """Accuracy against the certified error of the layer: a row for each group, a curve for each knob.

    Points are means over seeds, bars their standard deviations. Hard cut-offs have no line: every one in the
    same gap between singular values is the same projection.
    """
    groups = [group for group in PANELS if any(group == own for own, _ in curves)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 3.5 * len(groups) + 0.3), layout="constrained")
        grid = figure.subplots(len(groups), 3, sharey="row", sharex="row", squeeze=False)
        for axes_row, group in zip(grid, groups, strict=True):
            for axes, (measure, title) in zip(axes_row, PANELS[group].items(), strict=True):
                for knob, (colour, style, label) in LOOKS.items():
                    if (group, knob) not in curves:
                        continue
                    levels, values = curves[group, knob]
                    x, y = values["certified_layer"], 100 * values[measure]
                    spread = y.std(axis=1, ddof=1) if y.shape[1] > 1 else np.zeros(len(y))
                    axes.errorbar(
                        x.mean(axis=1), y.mean(axis=1), yerr=spread, fmt=style, color=colour, label=label,
                        elinewidth=1, markersize=5, linewidth=1.6,
                    )  # fmt: skip
                    if knob == "s" and measure == "upright":
                        _label_levels(axes, levels, x.mean(axis=1), y.mean(axis=1), colour)
                axes.set_title(f"{group}: {title}")
                axes.set_xlabel(f"certified error within {RADII[group]} (0: invariant)")
            axes_row[0].set_ylabel("accuracy (%)")
            axes_row[0].set_ylim(0, 102)
            axes_row[0].legend(loc="lower right")
    return figure


def _label_levels(axes: Axes, levels: Sequence[float], x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """The value of some levels below their points: those between would lie on each other."""
    for index, level in enumerate(levels):
        if level not in LABELLED:
            continue
        axes.annotate(
            f"{level:g}", (x[index], y[index]), xytext=(0, -14), textcoords="offset points",
            ha="center", fontsize=8, color=colour,
        )  # fmt: skip


def cutoff_figure() -> Figure:
    """What each cut-off keeps of every singular value of SO(2) on the pixels of a digit."""
    spectrum = constraint_spectrum(pixel_grid(SIZE, SO2()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 2.9), layout="constrained")
        for axes, (knob, level) in zip(figure.subplots(1, 3, sharey=True), SHOWN.items(), strict=True):
            response = np.asarray(KNOBS[knob](level).response(spectrum))
            colour = LOOKS[knob][0]
            axes.bar(spectrum.values, np.ones_like(response), color="none", edgecolor=GREY, linewidth=0.6)
            axes.bar(spectrum.values, response, color=colour)
            free = float(response @ spectrum.multiplicities)
            axes.set_title(f"{NAMES[knob]} = {level:g}: {free:.3g} of {len(spectrum)} free")
            axes.set_xlabel("singular value (0: no turn changes it)")
            axes.set_xticks(range(0, 12, 2))
            axes.grid(False)
            if knob == "s":
                axes.set_ylabel("share that is kept")
    return figure
