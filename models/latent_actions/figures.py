"""Pictures of a model with an action on its latent: what it makes, what its two parts hold, where they lie.

Every figure is a matplotlib Figure of its own; pyplot and its global state are never touched. Volumes are
shown by their largest values along the depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from equikernels.models.latent_actions.model import LatentActionModel

__all__ = [
    "Examples",
    "draw_all",
    "part_sizes",
    "show_image",
    "show_label",
    "swapped_parts",
    "transformed_images",
]

# Okabe and Ito's palette, safe for colour-blind readers.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "legend.frameon": False,
    "savefig.dpi": 120,
    "savefig.facecolor": "white",
}

SHOWN = 6


@dataclass(frozen=True, eq=False)
class Examples:
    """Images or volumes as the model takes them, from -1 to 1, the same transformed, and the elements."""

    x: Tensor
    gx: Tensor
    g: Tensor

    def first(self, count: int) -> Examples:
        return Examples(self.x[:count], self.gx[:count], self.g[:count])


@torch.no_grad()
def draw_all(model: LatentActionModel, examples: Examples) -> dict[str, Figure]:
    """The figures of a run, by name, of the first few examples."""
    few = examples.first(SHOWN)
    return {
        "transformed": transformed_images(model, few),
        "swapped": swapped_parts(model, few.x),
        "parts": part_sizes(model, few.x),
    }


@torch.no_grad()
def transformed_images(model: LatentActionModel, examples: Examples) -> Figure:
    """Images, the same as they should be transformed, and as the model transforms them: three rows."""
    rows = {
        "image $x$": examples.x,
        "truth $g\\,x$": examples.gx,
        "model\n$D(\\Phi_g E(x))$": model.transform(examples.x, examples.g),
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.15 * len(examples.x) + 1.2, 3.7), layout="constrained")
        grid = figure.subplots(3, len(examples.x), squeeze=False)
        for axes, (name, images) in zip(grid, rows.items(), strict=True):
            show_label(axes[0], name)
            for place, image in zip(axes, images, strict=True):
                show_image(place, image)
    return figure


@torch.no_grad()
def swapped_parts(model: LatentActionModel, x: Tensor) -> Figure:
    """D(z_v^a + z_i^b): the part that varies of the images of the first column, in rows, with the part that
    does not of those of the first row, in columns; each image with its own part is framed."""
    count = len(x)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.0 * count + 1.5, 1.0 * count + 1.4), layout="constrained")
        grid = figure.subplots(count + 1, count + 1, squeeze=False)
        grid[0, 0].axis("off")
        for k in range(count):
            show_image(grid[k + 1, 0], x[k])
            show_image(grid[0, k + 1], x[k])
            answers = model.swap(x[k].expand_as(x), x)
            for column, answer in enumerate(answers):
                show_image(grid[k + 1, column + 1], answer, ORANGE if column == k else "#c8c8c8")
        figure.supxlabel("images whose part $z_i$ is taken (top row)")
        figure.supylabel("images whose part $z_v$ is taken (first column)")
    return figure


@torch.no_grad()
def part_sizes(model: LatentActionModel, x: Tensor) -> Figure:
    """Images above |z_v| and |z_i|, the norms over channels of the two parts of their latents."""
    sizes = [part.norm(dim=1) for part in model.parts(model.encode(x))]
    largest = max(float(size.max()) for size in sizes)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.15 * len(x) + 1.8, 3.7), layout="constrained")
        grid = figure.subplots(3, len(x), squeeze=False)
        names = ("image $x$", "varies\n$|z_v|$", "stays\n$|z_i|$")
        for axes, name in zip(grid, names, strict=True):
            show_label(axes[0], name)
        for k, image in enumerate(x):
            show_image(grid[0, k], image)
            for row, size in enumerate(sizes, 1):
                # Of a volume the largest values along its depth, as of the image.
                flat = size[k].amax(0) if size[k].dim() == 3 else size[k]
                drawn = grid[row, k].imshow(flat.cpu().numpy(), cmap="cividis", vmin=0, vmax=largest)
                _bare(grid[row, k])
        figure.colorbar(drawn, ax=list(grid[1:].flat), label="norm over channels", shrink=0.9)
    return figure


def picture(image: Tensor) -> np.ndarray:
    """One image (C, H, W) or volume (C, D, H, W), from -1 to 1, as (H, W) or (H, W, 3), from 0 to 1.

    Other numbers of channels than 3 are shown by their largest value.
    """
    if image.dim() == 4:
        image = image.amax(1)
    image = ((image.detach().float().cpu() + 1) / 2).clamp(0, 1)
    return image.permute(1, 2, 0).numpy() if len(image) == 3 else image.amax(0).numpy()


def show_image(axes: Axes, image: Tensor, frame: str = "#c8c8c8") -> None:
    axes.imshow(picture(image), cmap="gray", vmin=0, vmax=1)
    _bare(axes, frame)


def _bare(axes: Axes, frame: str = "#c8c8c8") -> None:
    """No ticks, and a frame that separates a dark image from the page."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=frame, linewidth=0.6 if frame == "#c8c8c8" else 2.2)


def show_label(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=6)
