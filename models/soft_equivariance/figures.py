"""Figures of the digits demonstration, and what they show: curves over softness, filters, repeated turns.

Every figure is a matplotlib Figure of its own; pyplot and its global state are never touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from equikernels.group import SO2, pixel_grid
from equikernels.models.soft_equivariance.certified_error import DigitResult
from equikernels.models.soft_equivariance.digits import SIZE, InvariantClassifier
from equikernels.ops import rotate

# Okabe and Ito's palette, safe for colour-blind readers; line styles repeat every distinction.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "savefig.dpi": 160,
    "savefig.facecolor": "white",
}

CAPTIONS: dict[str, tuple[str, str]] = {
    "trade_off": (
        "What softness buys and costs",
        "Accuracy on upright and on rotated test images (above), and the change that turns make to the "
        "logits, as certified from the weights and as measured (below). Lines are means over training "
        "seeds, bands reach from the lowest to the highest seed. Freedom in the first layer helps with "
        "upright digits and hurts with turned ones. The certificate depends on the size of the weights "
        "too, so that it need not grow with softness. At softness 1 both groups give the same network.",
    ),
    "filters": (
        "What the first layer learns",
        "Six hidden units of the first training, the same in each column; purple and orange are the two "
        "signs, and each filter is scaled to its own largest weight. At softness 0 the filters of C_4 "
        "are symmetric under quarter turns; those of SO(2) are rings, with four free numbers out of 64. "
        "With softness, directions return.",
    ),
    "turns": (
        "One digit, turned once",
        "By the spectral representation and by bilinear interpolation. At quarter turns they agree. "
        "Between them the spectral digit rings, because a stroke one pixel wide is not smooth, and some "
        "pixels leave the range from black to white (shown as black or white); in exchange nothing is "
        "lost, as the next figure shows.",
    ),
    "twelve_turns": (
        "Twelve turns of 30 degrees",
        "Left: the digit after 0, 3, 6, 9 and 12 turns, one after the other. Right: how far k turns are "
        "from one single turn by the whole angle, over all test images (median, and the range of 90 % "
        "of them). The spectral representation keeps the group law up to rounding; bilinear "
        "interpolation blurs the image a little more in every turn.",
    ),
}
"""Name of every figure, its title, and a paragraph that explains it."""

TITLES = {"C_4": "$C_4$: quarter turns", "SO(2)": "SO(2): every angle"}


# -- what is shown -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Curve:
    """Results of one group over softness.

    Attributes:
        softness: (levels,), ascending.
        clean, rotated: accuracies in [0, 1], (levels, seeds).
        certified, measured: errors relative to the length of the logits, (levels, seeds).
    """

    softness: Sequence[float]
    clean: np.ndarray
    rotated: np.ndarray
    certified: np.ndarray
    measured: np.ndarray


def curves(results: Sequence[DigitResult]) -> dict[str, Curve]:
    """One curve for each group, from the results of all levels of softness and all seeds."""
    found = {}
    for group in dict.fromkeys(result.group for result in results):
        own = [result for result in results if result.group == group]
        levels = sorted({result.softness for result in own})

        def table(name: str, own: list[DigitResult] = own, levels: list[float] = levels) -> np.ndarray:
            return np.array([[getattr(r, name) for r in own if r.softness == level] for level in levels])

        found[group] = Curve(
            softness=levels,
            clean=table("accuracy_upright"),
            rotated=table("accuracy_rotated"),
            certified=table("certified_relative"),
            measured=table("measured_relative"),
        )
    return found


def strongest_filters(models: Sequence[InvariantClassifier], units: int = 6) -> np.ndarray:
    """Projected filters (models, units, 64) of the hidden units that matter most in all models together.

    A unit matters as much as |its filter| |its column of W2|, relative to the strongest unit of its model.
    """
    filters = torch.stack([model.first.projected_weight.detach() for model in models])
    columns = torch.stack([model.second.weight.detach().norm(dim=0) for model in models])
    strength = filters.norm(dim=-1) * columns
    total = (strength / strength.amax(1, keepdim=True)).sum(0)
    return filters[:, total.topk(min(units, len(total))).indices].numpy()


@dataclass(frozen=True, eq=False)
class RepeatedTurns:
    """Images after k = 0 .. steps equal turns, by two methods: (steps + 1, count, 64), float64.

    `spectral` and `bilinear` are turned k times in a row; `spectral_once` and `bilinear_once` are turned
    once by k times the angle, which the group law says is the same.
    """

    spectral: Tensor
    spectral_once: Tensor
    bilinear: Tensor
    bilinear_once: Tensor

    def spectral_errors(self) -> Tensor:
        """|k turns - one turn| / |image| of the spectral representation (steps + 1, count)."""
        return (self.spectral - self.spectral_once).norm(dim=-1) / self.spectral[0].norm(dim=-1)

    def bilinear_errors(self) -> Tensor:
        """|k turns - one turn| / |image| of bilinear interpolation (steps + 1, count)."""
        return (self.bilinear - self.bilinear_once).norm(dim=-1) / self.bilinear[0].norm(dim=-1)


def turn_repeatedly(images: Tensor, steps: int = 12) -> RepeatedTurns:
    """Turn images (count, 64) `steps` times by 360 / steps degrees, in two ways: by the spectral grid
    representation of SO(2), and by bilinear interpolation with zeros outside."""
    if images.ndim != 2 or images.shape[1] != SIZE * SIZE or len(images) == 0:
        raise ValueError(f"images must have shape (count >= 1, {SIZE * SIZE}), got {tuple(images.shape)}")
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    images = images.double()
    angle = 2 * math.pi / steps
    grid = pixel_grid(SIZE, SO2())

    def by_matrix(x: Tensor, theta: float) -> Tensor:
        return x @ grid(theta, dtype=torch.float64).mT

    def by_interpolation(x: Tensor, theta: float) -> Tensor:
        return rotate(x.reshape(-1, 1, SIZE, SIZE), theta).reshape(x.shape)

    found = []
    for turn in (by_matrix, by_interpolation):
        chain = [images]
        for _ in range(steps):
            chain.append(turn(chain[-1], angle))
        found += [torch.stack(chain), torch.stack([turn(images, k * angle) for k in range(steps + 1)])]
    return RepeatedTurns(*found)


# -- figures -------------------------------------------------------------------------------------------------


def _band(axes: Axes, x: Sequence[float], y: np.ndarray, colour: str, style: str, label: str) -> None:
    """The mean over seeds, and the range from the lowest to the highest seed."""
    axes.fill_between(x, y.min(1), y.max(1), color=colour, alpha=0.18, linewidth=0)
    marker = "o" if style == "-" else "s"
    axes.plot(x, y.mean(1), style, color=colour, marker=marker, label=label)


def trade_off(curves: Mapping[str, Curve]) -> Figure:
    """Accuracy, and certified and measured error, against softness: one column for each group."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.0 * len(curves), 6.6), layout="constrained")
        grid = figure.subplots(2, len(curves), sharex=True, sharey="row", squeeze=False)
        for column, (name, curve) in enumerate(curves.items()):
            top, bottom = grid[0, column], grid[1, column]
            _band(top, curve.softness, 100 * curve.clean, BLUE, "-", "upright test images")
            _band(top, curve.softness, 100 * curve.rotated, ORANGE, "--", "rotated test images")
            _band(bottom, curve.softness, curve.certified, GREEN, "-", "certified, worst turn checked")
            _band(bottom, curve.softness, curve.measured, ORANGE, "--", "measured, worst turn checked")
            top.set_title(TITLES.get(name, name))
            bottom.set_xlabel("softness s  (0: exactly invariant, 1: unconstrained)")
            bottom.set_xticks(curve.softness)
        # After all curves: setting a limit ends the automatic one, also of the column beside.
        grid[0, 0].set_ylim(0, 104)
        grid[1, 0].set_ylim(0, 1.15 * max(float(curve.certified.max()) for curve in curves.values()) + 1e-9)
        grid[0, 0].legend(loc="lower left")
        grid[1, 0].legend(loc="upper left")
        grid[0, 0].set_ylabel("accuracy (%)")
        grid[1, 0].set_ylabel("change of the logits under turns,\nrelative to their length")
    return figure


def filters(learned: Mapping[str, np.ndarray], softness: Sequence[float]) -> Figure:
    """First-layer filters over softness.

    Args:
        learned: for each group the projected filters (levels, units, 64).
        softness: (levels,), one row each.
    """
    with mpl.rc_context(STYLE):
        units = max(block.shape[1] for block in learned.values())
        levels = len(softness)
        size = (0.72 * units * len(learned) + 1.6, 0.64 * levels + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        parts = figure.subfigures(1, len(learned), wspace=0.04, squeeze=False)[0]
        for part, (name, block) in zip(parts, learned.items(), strict=True):
            part.suptitle(TITLES.get(name, name), fontweight="bold", fontsize=11)
            grid = part.subplots(levels, units, squeeze=False)
            for row in range(levels):
                for column in range(units):
                    axes, image = grid[row, column], block[row, column].reshape(SIZE, SIZE)
                    largest = float(np.abs(image).max())
                    axes.imshow(image, cmap="PuOr", vmin=-largest, vmax=largest)
                    _bare(axes)
                grid[row, 0].set_ylabel(
                    f"s = {softness[row]:g}", rotation=0, ha="right", va="center", labelpad=8
                )
    return figure


def single_turns(turns: RepeatedTurns, index: int, columns: int = 7) -> Figure:
    """Image `index` turned once by 0, 30, 60, ... degrees: spectrally above, bilinearly below."""
    degrees = 360 / (len(turns.spectral) - 1)
    titles = [f"{k * degrees:.0f}°" for k in range(columns)]
    rows = {"spectral\n(exact group law)": turns.spectral_once, "bilinear": turns.bilinear_once}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.35 * columns + 1.5, 3.2), layout="constrained")
        grid = figure.subplots(2, columns)
        _image_rows(grid, rows, index, range(columns), titles)
    return figure


def twelve_turns(turns: RepeatedTurns, index: int) -> Figure:
    """Image `index` after a growing number of turns, and the errors of all images against one single turn."""
    steps = len(turns.spectral) - 1
    shown = [round(k * steps / 4) for k in range(5)]
    titles = [f"{k} turns" if k else "original" for k in shown]
    rows = {"spectral": turns.spectral, "bilinear": turns.bilinear}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.2, 3.1), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(1.75, 1.0), wspace=0.03, squeeze=False)[0]
        _image_rows(left.subplots(2, len(shown)), rows, index, shown, titles)
        axes = right.subplots()
        count = np.arange(2, steps + 1)
        for errors, colour, style, label in (
            (turns.bilinear_errors(), ORANGE, "s--", "bilinear"),
            (turns.spectral_errors(), BLUE, "o-", "spectral"),
        ):
            low, middle, high = np.quantile(errors[2:].numpy(), (0.05, 0.5, 0.95), axis=1)
            axes.fill_between(count, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(count, middle, style, color=colour, label=label)
        axes.set_yscale("log")
        axes.set_ylim(1e-16, 10)
        axes.set_yticks([1e-16, 1e-12, 1e-8, 1e-4, 1])
        axes.set_xticks(np.arange(0, steps + 1, 3)[1:])
        axes.set_xlabel(f"number of turns by {360 / steps:.0f}°")
        axes.set_ylabel("|k turns − one turn| / |image|")
        axes.legend(loc="center right")
    return figure


def _image_rows(
    grid: np.ndarray, rows: Mapping[str, Tensor], index: int, shown: Sequence[int], titles: Sequence[str]
) -> None:
    """One row of axes for each method. Grey values outside [0, 1] are shown as black or white."""
    for row, (name, images) in enumerate(rows.items()):
        for column, k in enumerate(shown):
            axes = grid[row, column]
            axes.imshow(images[k, index].reshape(SIZE, SIZE).numpy(), cmap="gray", vmin=0, vmax=1)
            _bare(axes)
            if row == 0:
                axes.set_title(titles[column], fontweight="normal")
        grid[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)


def _bare(axes: Axes) -> None:
    """No ticks, and a thin frame that separates a dark image from the page."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=True, color="#c8c8c8", linewidth=0.6)
