"""The figure of the page on the accuracy of rotations."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.accuracy import disc
from bench.grid_figures import bare
from bench.grid_pictures import DEGREES, Pictures
from bench.rotation_methods import METHODS, cropped, padded
from equikernels.models.soft_equivariance.figures import STYLE

SCALE = 0.5
"""The change shown in the strongest colour, white being one."""


def twelve_turns_figure(chosen: list[tuple[Pictures, int]]) -> Figure:
    """Each picture (a set and its index) after twelve turns by each method, and below it what has changed."""
    titles = ["picture", *METHODS]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.5 * len(titles) + 0.8, 1.75 * 2 * len(chosen)), layout="constrained")
        grid = figure.subplots(2 * len(chosen), len(titles), squeeze=False)
        for block, (pictures, index) in enumerate(chosen):
            image = pictures.images[index : index + 1]
            side = image.shape[-1]
            inside = disc(side)
            top, bottom = grid[2 * block], grid[2 * block + 1]
            for column, title in enumerate(titles):
                turned = padded(image)
                if title in METHODS:
                    for _ in range(12):
                        turned = METHODS[title](turned, DEGREES)
                shown = cropped(turned, side)[0]
                change = np.where(inside, shown - image[0], 0)
                top[column].imshow(shown, cmap="gray", vmin=0, vmax=1)
                bare(top[column])
                bare(bottom[column])
                if block == 0:
                    top[column].set_title(title, fontweight="normal")
                if title == "picture":  # no change to show
                    bottom[column].spines[:].set_visible(False)
                    continue
                bottom[column].imshow(change, cmap="PuOr", vmin=-SCALE, vmax=SCALE)
                error = float(np.linalg.norm(change) / np.linalg.norm(image[0][inside]))
                bottom[column].set_xlabel(f"{100 * error:.0f} %", fontsize=9)
            label = f"12 × {DEGREES:g}°"
            for axes, text in ((top[0], label), (bottom[0], "change")):
                axes.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=8)
    return figure
