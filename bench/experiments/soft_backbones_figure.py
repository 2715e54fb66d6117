"""Error curves of softened backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from equikernels.models.soft_equivariance.figures import BLUE, GREEN, ORANGE, STYLE

FAMILIES = ("ViT and DINOv2", "ResNet", "SegFormer")
LOOKS = ((BLUE, "o-"), (ORANGE, "s--"), (GREEN, "^:"))


def family(name: str) -> str:
    """The panel of a backbone."""
    return next((one for one in FAMILIES[1:] if name.startswith(one)), FAMILIES[0])


def backbones_figure(errors: Mapping[str, Sequence[Sequence[float]]], levels: Sequence[float]) -> Figure:
    """A panel for each family, a curve for each backbone.

    Args:
        errors: for each backbone the relative errors (levels, seeds).
        levels: of softness.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 3.8), layout="constrained")
        grid = figure.subplots(1, len(FAMILIES), sharey=True)
        for axes, title in zip(grid, FAMILIES, strict=True):
            own = [name for name in errors if family(name) == title]
            for name, (colour, style) in zip(own, LOOKS, strict=False):
                values = np.array(errors[name])
                axes.fill_between(levels, values.min(1), values.max(1), color=colour, alpha=0.18, linewidth=0)
                label = name.removeprefix(f"{title}, ")
                axes.plot(levels, values.mean(1), style, color=colour, label=label)
            axes.set_ylim(bottom=0)
            axes.set_title(title)
            axes.set_xlabel("softness s")
            axes.set_xticks(levels)
            if own:
                axes.legend(loc="lower right")
        grid[0].set_ylabel("relative error of the features\nunder quarter turns")
    return figure
