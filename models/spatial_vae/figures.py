"""Figures of a spatial variational autoencoder: its manifold of content, images upright, a way between two.

Every figure is a matplotlib Figure of its own; pyplot and its global state are never touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from equikernels.models.spatial_vae.model import Parts, SpatialVAE
from equikernels.models.spatial_vae.pose_agreement import as_motion

__all__ = ["interpolation", "manifold", "pose_scatter", "reconstructions", "show_image"]

# Of Okabe and Ito's palette, safe for colour-blind readers.
BLUE, GREY = "#0072B2", "#6b6b6b"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.edgecolor": GREY,
    "savefig.dpi": 110,
    "savefig.facecolor": "white",
}


@torch.no_grad()
def manifold(models: Mapping[str, SpatialVAE], count: int = 11) -> Figure:
    """What every part of the plane of contents looks like, at pose zero: a panel for each model.

    The plane is cut into `count` x `count` cells of equal prior probability; each is drawn by its median, the
    inverse normal distribution function at (i + 1/2) / count.

    Args:
        models: with two numbers of content, by their titles; images of one size.
        count: cells along each side.

    Raises:
        ValueError: a model with another number of contents, or fewer than one cell.

    >>> manifold({"new": SpatialVAE(8, 2, layers=1, hidden=4)}, count=3).axes[0].get_title()
    'new'
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.7 * len(models), 4.0), layout="constrained")
        panels = figure.subplots(1, len(models), squeeze=False)[0]
        for axes, (title, model) in zip(panels, models.items(), strict=True):
            if model.latent_dim != 2:
                raise ValueError(f"models: expected two numbers of content, {title} has {model.latent_dim}")
            places = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
            # From the top row down, so that the second number grows upwards.
            second, first = torch.meshgrid(places.flip(0), places, indexing="ij")
            z = torch.stack([first, second], dim=-1).flatten(0, 1)
            images = model.decode(z.to(next(model.parameters()))).cpu()
            tiles = images.unflatten(0, (count, count)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
            show_image(axes, tiles)
            _ticks(axes, places, model.image_size)
            axes.set_title(title)
            axes.set_xlabel("$z_1$")
        figure.axes[0].set_ylabel("$z_2$")
    return figure


def _ticks(axes: Axes, places: Tensor, size: tuple[int, int]) -> None:
    """The numbers at the ends and in the middle of both sides."""
    count = len(places)
    shown = sorted({0, count // 2, count - 1})
    labels = [f"{places[i]:.1f}".replace("-", "\N{MINUS SIGN}") for i in shown]
    height, width = size
    axes.set_xticks([(i + 0.5) * width - 0.5 for i in shown], labels)
    axes.set_yticks([(count - i - 0.5) * height - 0.5 for i in shown], labels)
    axes.tick_params(length=0)


@torch.no_grad()
def reconstructions(model: SpatialVAE, images: Tensor) -> Figure:
    """Images, what the model makes of them, and the same at pose zero: upright and centred.

    Args:
        images: (N, C, H, W), on the device of the model.

    >>> len(reconstructions(SpatialVAE(8, 2, layers=1, hidden=4), torch.rand(5, 1, 8, 8)).axes)
    15
    """
    theta, shift, z = model.parts(model.encode(images).mean)
    rows = {"input": images, "reconstruction": model.decode(z, theta, shift)}
    if model.pose_dim:
        rows["at pose zero"] = model.decode(z)
    return _image_rows(rows, _limits(images))


@torch.no_grad()
def interpolation(model: SpatialVAE, first: Tensor, second: Tensor, steps: int = 9) -> Figure:
    """From one image to another in equal steps of content and pose; below, the contents at pose zero.

    The angle goes the shorter way.

    Args:
        first, second: (C, H, W), on the device of the model.
        steps: images on the way, both ends included, at least 2.

    Raises:
        ValueError: fewer than 2 steps.

    >>> image = torch.rand(1, 8, 8)
    >>> len(interpolation(SpatialVAE(8, 2, layers=1, hidden=4), image, image, steps=4).axes)
    12
    """
    if steps < 2:
        raise ValueError(f"steps: expected at least 2, got {steps}")
    ends = torch.stack([first, second])
    theta, shift, z = between(model.parts(model.encode(ends).mean), steps)
    beside = torch.full((steps, *first.shape), math.nan).to(ends)
    beside[0], beside[-1] = first, second
    rows = {"input": beside, "decoded": model.decode(z, theta, shift)}
    if model.pose_dim:
        rows["at pose zero"] = model.decode(z)
    return _image_rows(rows, _limits(ends))


def between(ends: Parts, steps: int) -> Parts:
    """Latents in equal steps from the first to the second of two, angles by the shorter way.

    >>> between(Parts(torch.tensor([3.0, -3.0]), None, torch.tensor([[0.0], [2.0]])), 3)
    Parts(theta=tensor([3.0000, 3.1416, 3.2832]), shift=None, z=tensor([[0.],
            [1.],
            [2.]]))
    """
    share = torch.linspace(0, 1, steps).to(ends.z)
    theta = ends.theta
    if theta is not None:
        way = torch.remainder(theta[1] - theta[0] + math.pi, 2 * math.pi) - math.pi
        theta = theta[0] + share * way
    moved, z = (
        None if part is None else torch.lerp(part[0], part[1], share[:, None])
        for part in (ends.shift, ends.z)
    )
    assert z is not None
    return Parts(theta, moved, z)


def pose_scatter(parts: Parts, turn: Tensor, shift: Tensor) -> Figure:
    """Inferred against true motions of images, one point for each; the lines are full recovery.

    The line of the angles is moved by their mean difference: which way up is the model's choice.

    Args:
        parts: with angle and shift, of N images.
        turn: how far each was turned, radians, counter-clockwise, (N,).
        shift: how far it was shifted afterwards, pixels to the right and down, (N, 2).

    Raises:
        ValueError: a model without angle or without shift.

    >>> parts = Parts(torch.zeros(5), torch.zeros(5, 2), torch.zeros(5, 2))
    >>> [axes.get_title() for axes in pose_scatter(parts, torch.zeros(5), torch.zeros(5, 2)).axes]
    ['angle', 'shift to the right', 'shift down']
    """
    angle, vector = as_motion(parts)
    if angle is None or vector is None:
        raise ValueError("parts: expected an angle and a shift, got None")
    difference = (angle - turn).double()
    offset = torch.atan2(difference.sin().mean(), difference.cos().mean())
    degrees = 180 / math.pi
    # The same angle, on the turn of the circle that is nearest to the line.
    near = turn + offset + torch.remainder(difference - offset + math.pi, 2 * math.pi) - math.pi
    panels = (
        ("angle", "degrees", degrees * turn, degrees * near, degrees * float(offset)),
        ("shift to the right", "pixels", shift[:, 0], vector[:, 0], 0.0),
        ("shift down", "pixels", shift[:, 1], vector[:, 1], 0.0),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.2, 3.5), layout="constrained")
        for axes, (title, unit, true, inferred, start) in zip(figure.subplots(1, 3), panels, strict=True):
            x, y = (values.detach().cpu().numpy() for values in (true, inferred))
            axes.axline((0, start), slope=1, color=GREY, linewidth=1, linestyle="--")
            axes.plot(x, y, "o", color=BLUE, markersize=3, alpha=0.5, markeredgewidth=0)
            axes.set_title(title)
            axes.set_xlabel(f"true ({unit})")
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].set_ylabel("inferred")
    return figure


def show_image(axes: Axes, image: Tensor, limits: tuple[float, float] = (0.0, 1.0)) -> None:
    """An image (C, H, W): grey, the mean over channels unless there are three; nothing where it is NaN."""
    pixels = ((image.detach().cpu().double() - limits[0]) / (limits[1] - limits[0])).clamp(0, 1).numpy()
    if len(pixels) == 3:
        axes.imshow(np.moveaxis(pixels, 0, -1), interpolation="nearest")
    else:
        axes.imshow(pixels.mean(0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="#c8c8c8", linewidth=0.6)


def _limits(images: Tensor) -> tuple[float, float]:
    """What is black and what is white: 0 and 1, or the range of images beyond."""
    low, high = float(images.min()), float(images.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _image_rows(rows: Mapping[str, Tensor], limits: tuple[float, float]) -> Figure:
    count = len(next(iter(rows.values())))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.95 * count + 1.4, 0.98 * len(rows) + 0.1), layout="constrained")
        grid = figure.subplots(len(rows), count, squeeze=False)
        for line, (name, images) in zip(grid, rows.items(), strict=True):
            _one_row(line, name, images, limits)
    return figure


def _one_row(line: Sequence[Axes], name: str, images: Tensor, limits: tuple[float, float]) -> None:
    for axes, image in zip(line, images, strict=True):
        if image.isnan().all():
            axes.set_axis_off()
        else:
            show_image(axes, image, limits)
    line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
