"""Curves over softness: soft layers against the residual pathway prior."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from equikernels.models.soft_equivariance.figures import BLUE, ORANGE, STYLE

Levels = Mapping[float, Mapping[int, float]]
"""A number by softness and seed."""

LABELS = {"soft": "soft layers", "prior": "residual pathway prior"}
TITLES = {"C4": "$C_4$: random quarter turns", "SO2": "SO(2): turns within ± 30°"}
HEADINGS = {"combined_accuracy": "cAcc (%)", "invariance_error": "iErr (nats)"}


def softness_figure(curves: Mapping[tuple[str, str], Mapping[str, Levels]]) -> Figure:
    """One column for each group, one row for each number.

    Args:
        curves: for every group and number the curve of every kind of layer.
    """
    groups = list(dict.fromkeys(group for group, _ in curves))
    numbers = list(dict.fromkeys(number for _, number in curves))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(groups), 3.0 * len(numbers)), layout="constrained")
        grid = figure.subplots(len(numbers), len(groups), sharex=True, squeeze=False)
        for row, number in enumerate(numbers):
            for column, group in enumerate(groups):
                axes = grid[row, column]
                for layer, colour, style in (("prior", ORANGE, "s--"), ("soft", BLUE, "o-")):
                    levels = curves[group, number].get(layer, {})
                    if not levels:
                        continue
                    scale = 100 if number == "combined_accuracy" else 1
                    values = [scale * np.array(list(seeds.values())) for seeds in levels.values()]
                    place = list(levels)
                    low, high = [v.min() for v in values], [v.max() for v in values]
                    axes.fill_between(place, low, high, color=colour, alpha=0.18, linewidth=0)
                    means = [v.mean() for v in values]
                    axes.plot(place, means, style, color=colour, label=LABELS[layer])
                if row == 0:
                    axes.set_title(TITLES[group])
                if row == len(numbers) - 1:
                    axes.set_xlabel("softness s  (0: equivariant, 1: free)")
                if column == 0:
                    axes.set_ylabel(HEADINGS[number])
        grid[0, 0].legend(loc="best")
    return figure
