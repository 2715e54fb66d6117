"""Figures of the pixel grids: modes of the spectral representation, and pictures turned by each method."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.grid_pictures import DEGREES, METHODS, Pictures, turned_reference
from equikernels.group.grids.geometry import PixelGrid
from equikernels.group.grids.spectral import rotation_generator, spectral_modes
from equikernels.models.soft_equivariance.figures import STYLE

SHOWN_METHODS = ("spectral", "bilinear", "bicubic")


@dataclass(frozen=True, eq=False)
class Mode:
    """One mode of the spectral representation.

    Attributes:
        image: (N, N).
        frequency: the one it has under the sinc derivative, not an integer.
        snapped: the integer it is given.
        roughness: -<mode, Laplacian mode>.
        obstructed: whether the quarter turn negates it although it cannot turn.
    """

    image: np.ndarray
    frequency: float
    snapped: int
    roughness: float
    obstructed: bool = False


def grid_modes(side: int) -> list[Mode]:
    """The first axis of every plane, and the modes that do not turn, of the side x side grid."""
    grid = PixelGrid(side, side)
    modes, generator, laplacian = spectral_modes(grid), rotation_generator(grid), grid.laplacian

    def roughness(v: np.ndarray) -> float:
        return float(-v @ laplacian @ v)

    found = []
    for k, basis in modes.planes:
        for first, second in basis.transpose(1, 2, 0):
            frequency = float(second @ (generator @ first))
            found.append(Mode(first.reshape(side, side), frequency, k, roughness(first)))
    fixed = np.concatenate([modes.fixed_even, modes.fixed_odd], axis=1)
    # A fixed mode ought to stay where it is under the exact quarter turn; an obstructed one is negated.
    negated = (fixed[grid.quarter_turn] * fixed).sum(axis=0) < 0
    still = fixed[:, ~negated]
    # Any basis of the still ones will do: that of the Laplacian can be looked at.
    still = still @ np.linalg.eigh(-still.T @ laplacian @ still)[1]
    for basis, obstructed in ((still, False), (fixed[:, negated], True)):
        found += [Mode(v.reshape(side, side), 0.0, 0, roughness(v), obstructed) for v in basis.T]
    return found


def chosen_modes(side: int, columns: int) -> list[tuple[str, Mode]]:
    """Modes that tell most, each with a caption: the smoothest of each small frequency, and special ones."""
    modes = grid_modes(side)
    special = [
        (
            "moved farthest",
            max((m for m in modes if m.frequency), key=lambda m: abs(m.frequency - m.snapped)),
        ),
        ("fastest", max(modes, key=lambda m: m.snapped)),
    ]
    paired = [m for m in modes if m.snapped == 2 and abs(m.frequency) < 1e-6]
    if paired:
        special[0] = ("null, paired", min(paired, key=lambda m: m.roughness))
    special += [("obstructed", m) for m in modes if m.obstructed]
    smooth = []
    for k in range(columns - len(special)):
        own = [m for m in modes if m.snapped == k and not m.obstructed and (m.frequency or k == 0)]
        smooth.append(("", min(own, key=lambda m: m.roughness)))
    return smooth + special


def spectral_modes_figure(sides: tuple[int, ...], columns: int = 8) -> Figure:
    """One row of modes for each size, with the frequency that each has and the integer it is given."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.35 * columns + 0.9, 1.9 * len(sides)), layout="constrained")
        grid = figure.subplots(len(sides), columns, squeeze=False)
        for axes_row, side in zip(grid, sides, strict=True):
            for axes, (caption, mode) in zip(axes_row, chosen_modes(side, columns), strict=True):
                largest = float(np.abs(mode.image).max())
                axes.imshow(mode.image, cmap="PuOr", vmin=-largest, vmax=largest)
                bare(axes)
                axes.set_title(
                    f"{abs(mode.frequency):.2f} → {mode.snapped}", fontweight="normal", fontsize=10
                )
                axes.set_xlabel(caption, fontsize=9)
            axes_row[0].set_ylabel(f"{side} × {side}", rotation=0, ha="right", va="center", labelpad=8)
    return figure


def rotated_pictures(chosen: list[tuple[Pictures, int]]) -> Figure:
    """Each picture (a set and its index) turned once by 30 degrees, and twelve times, by each method."""
    titles = ["picture", "reference", *SHOWN_METHODS]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.6 * len(titles) + 1.2, 1.75 * 2 * len(chosen)), layout="constrained")
        grid = figure.subplots(2 * len(chosen), len(titles), squeeze=False)
        for block, (pictures, index) in enumerate(chosen):
            image, fine = pictures.images[index : index + 1], pictures.fine[index : index + 1]
            for row, turns in enumerate((1, 12)):
                reference = turned_reference(fine, DEGREES) if turns == 1 else image
                shown = [image, reference]
                for name in SHOWN_METHODS:
                    turned = image
                    for _ in range(turns):
                        turned = METHODS[name](turned, DEGREES)
                    shown.append(turned)
                for axes, title, turned in zip(grid[2 * block + row], titles, shown, strict=True):
                    axes.imshow(turned[0], cmap="gray", vmin=0, vmax=1)
                    bare(axes)
                    if block == row == 0:
                        axes.set_title(title, fontweight="normal")
                label = f"{DEGREES:g}°" if turns == 1 else f"{turns} × {DEGREES:g}°"
                grid[2 * block + row, 0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
    return figure


def bare(axes: Axes) -> None:
    """No ticks, and a thin frame that separates a dark image from the page."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=True, color="#c8c8c8", linewidth=0.6)
