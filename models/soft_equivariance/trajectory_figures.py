"""Pictures of predicted trajectories: as observed, and of turned input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from equikernels.models.soft_equivariance.figures import BLUE, GREEN, GREY, ORANGE, STYLE
from equikernels.models.soft_equivariance.trajectories import turned_positions

__all__ = ["Turned", "draw_predictions"]

LOOKS = ((ORANGE, "s"), (BLUE, "o"), (GREEN, "^"))
"""Colour and marker of the models, in their order."""


@dataclass(frozen=True, eq=False)
class Turned:
    """What a model predicts, and what it predicts for turned input, turned back.

    Both are (B, predict, 2), in the frame of the input; they are equal for an equivariant model.
    """

    upright: Tensor
    turned_back: Tensor

    @staticmethod
    @torch.no_grad()
    def of(model: nn.Module, observed: Tensor, angle: float = math.pi / 2) -> Turned:
        """Of positions (B, observe, 2), turned about the last of them by an angle in radians."""
        origin = observed[:, -1:]
        there = torch.full((len(observed),), angle, dtype=observed.dtype, device=observed.device)
        moved = model(turned_positions(observed - origin, there))
        return Turned(model(observed).cpu(), (turned_positions(moved, -there) + origin).cpu())


def draw_predictions(observed: Tensor, future: Tensor, found: Mapping[str, Turned]) -> Figure:
    """A column for every window: above the predictions, below those of the turned input, turned back.

    Args:
        observed, future: (B, observe, 2) and (B, predict, 2), in metres.
        found: for at most three models by name, of the same windows.
    """
    if len(found) > len(LOOKS):
        raise ValueError(f"found: expected at most {len(LOOKS)} models, got {len(found)}")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.7 * len(observed) + 0.6, 6.0), layout="constrained")
        grid = figure.subplots(2, len(observed), squeeze=False)
        for column in range(len(observed)):
            for row, name in enumerate(("upright", "turned_back")):
                axes: Axes = grid[row, column]
                _known(axes, observed[column], future[column])
                for (colour, marker), (label, turned) in zip(LOOKS, found.items(), strict=False):
                    path = _from(observed[column], getattr(turned, name)[column])
                    axes.plot(
                        path[:, 0], path[:, 1], color=colour, marker=marker, markersize=3.5, linewidth=1.4,
                        label=label,
                    )  # fmt: skip
                _square(axes, observed[column], future[column], found, column)
            grid[1, column].set_xlabel("x (m)")
        grid[0, 0].set_ylabel("as observed\ny (m)")
        grid[1, 0].set_ylabel("turned by 90°, predicted,\nturned back;  y (m)")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _known(axes: Axes, observed: Tensor, future: Tensor) -> None:
    path = _from(observed, future)
    axes.plot(observed[:, 0], observed[:, 1], color=GREY, linewidth=2.4, label="observed")
    axes.plot(path[:, 0], path[:, 1], color="black", linestyle=":", linewidth=2.4, label="true")


def _square(axes: Axes, observed: Tensor, future: Tensor, found: Mapping[str, Turned], column: int) -> None:
    """One scale for x and y, and the same limits for both rows, around all paths of a window."""
    ahead = [path[column] for turned in found.values() for path in (turned.upright, turned.turned_back)]
    points = torch.cat([observed, future, *ahead])
    low, high = points.amin(0), points.amax(0)
    middle, half = (low + high) / 2, 0.55 * float((high - low).amax())
    axes.set(
        xlim=(float(middle[0]) - half, float(middle[0]) + half),
        ylim=(float(middle[1]) - half, float(middle[1]) + half),
        aspect="equal",
    )
    axes.locator_params(nbins=5)


def _from(observed: Tensor, ahead: Tensor) -> Tensor:
    """A path ahead with the last observed position before it."""
    return torch.cat([observed[-1:], ahead])
