"""One random filter at several levels of softness, and where turns still change it: a figure of the docs.

python -m bench.softened_filters [--size 11] [--seed 0] [--out docs/figures/softened_filters.png]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from bench.grid_figures import bare
from equikernels.group import CyclicGroup, pixel_grid
from equikernels.models.soft_equivariance.figures import STYLE
from equikernels.project import InvariantProjector, Softness

COMMAND = "python -m bench.softened_filters"
FIGURE = Path("docs") / "figures" / "softened_filters.png"
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
TITLES = {4: "$C_4$: quarter turns", 36: "$C_{36}$: turns by 10°"}
DOTS_PER_INCH = 110


@dataclass(frozen=True, eq=False)
class SoftenedFilter:
    """A filter w projected at every softness, and what the turns g of C_n other than the identity make of it.

    Attributes:
        filters: P(w), (levels, size, size), float64.
        changes: the root mean square over g of (rho(g) P(w) - P(w)) at every pixel, of the same shape.
    """

    filters: np.ndarray
    changes: np.ndarray

    @property
    def relative(self) -> np.ndarray:
        """|changes| / |w|, w the filter at the last level: (levels,)."""
        return np.asarray(np.linalg.norm(self.changes, axis=(1, 2)) / np.linalg.norm(self.filters[-1]))


def random_filter(size: int, seed: int) -> Tensor:
    """Independent normal numbers, smoothed by 1 2 1 along both sides, of norm 1: (size, size), float64.

    Smoothed, because the turns of C_36 are turns of images for content without the finest frequencies alone.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 1, size + 2, size + 2, dtype=torch.float64, generator=generator)
    binomial = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    smooth = functional.conv2d(noise, torch.outer(binomial, binomial)[None, None])[0, 0]
    return smooth / smooth.norm()


def soften_filter(raw: Tensor, order: int, levels: Sequence[float] = LEVELS) -> SoftenedFilter:
    """The filter (size, size) under the invariant projector of C_order on its pixels, order >= 2."""
    grid = pixel_grid(len(raw), CyclicGroup(order))
    turns = grid(torch.arange(1, order), dtype=torch.float64)
    filters, changes = [], []
    for level in levels:
        projected = InvariantProjector(grid, Softness(level))(raw.flatten())
        changes.append((turns @ projected - projected).square().mean(0).sqrt().view_as(raw).numpy())
        filters.append(projected.view_as(raw).numpy())
    return SoftenedFilter(np.stack(filters), np.stack(changes))


def softened_filters_figure(found: Mapping[str, SoftenedFilter], levels: Sequence[float] = LEVELS) -> Figure:
    """Two rows for each group, named by its title: filters, and below them what turns change.

    All filters share one scale, and so do all changes.
    """
    largest = max(float(np.abs(softened.filters).max()) for softened in found.values())
    most = max(float(softened.changes.max()) for softened in found.values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.4 * len(levels) + 1.6, 3.35 * len(found)), layout="constrained")
        parts = figure.subfigures(len(found), 1, hspace=0.04, squeeze=False)[:, 0]
        for part, (title, softened) in zip(parts, found.items(), strict=True):
            part.suptitle(title, fontweight="bold", fontsize=11)
            top, bottom = part.subplots(2, len(levels), squeeze=False)
            for column, level in enumerate(levels):
                shown = top[column].imshow(softened.filters[column], cmap="PuOr", vmin=-largest, vmax=largest)
                moved = bottom[column].imshow(softened.changes[column], cmap="magma_r", vmin=0, vmax=most)
                bare(top[column])
                bare(bottom[column])
                top[column].set_title(f"softness {level:g}", fontweight="normal", fontsize=10)
                bottom[column].set_xlabel(f"{100 * softened.relative[column]:.0f} % of |w|", fontsize=9)
            for axes, image, label in ((top, shown, "filter"), (bottom, moved, "change by turns")):
                bar = part.colorbar(image, ax=axes, label=label, aspect=12, pad=0.02)
                bar.outline.set_visible(False)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=11, help="pixels along each side (default: 11)")
    parser.add_argument("--seed", type=int, default=0, help="of the random filter (default: 0)")
    parser.add_argument("--out", type=Path, default=FIGURE, help=f"the PNG (default: {FIGURE})")
    options = parser.parse_args(arguments)
    if options.size < 2:
        parser.error(f"--size: expected an integer >= 2, got {options.size}")
    if options.seed < 0:
        parser.error(f"--seed: expected an integer >= 0, got {options.seed}")
    raw = random_filter(options.size, options.seed)
    figure = softened_filters_figure({title: soften_filter(raw, n) for n, title in TITLES.items()})
    try:
        figure.savefig(options.out, format="png", dpi=DOTS_PER_INCH)
    except OSError as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
