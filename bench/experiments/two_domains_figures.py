"""Figures of the experiment on a body with two domains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from equikernels.models.data.two_domains import project
from equikernels.models.engine.results import Cell, Result

if TYPE_CHECKING:
    from bench.experiments.two_domains import Judged

__all__ = ["content_figure", "correlation_figure", "draw_figures", "latent_figure"]

# Okabe and Ito's palette, safe for colour-blind readers; markers repeat the distinction.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"
MEASURES = {
    "conformation": (BLUE, "o"),
    "rotation": (ORANGE, "s"),
    "rotation up to half turns": (GREEN, "^"),
}
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "legend.frameon": False,
}


def draw_figures(
    results: Mapping[Cell, Result], spatial: Judged | None, plain: Judged | None
) -> dict[str, Figure]:
    """All figures, by name.

    Args:
        results: the table's cells.
        spatial, plain: a run of each kind; figures that need one which is not there are left out.
    """
    with mpl.rc_context(STYLE):
        figures = {"correlations": correlation_figure(results)}
        if spatial is not None:
            figures["content"] = content_figure(spatial)
            if plain is not None:
                figures["latents"] = latent_figure(spatial, plain)
    return figures


def correlation_figure(results: Mapping[Cell, Result]) -> Figure:
    """A point for every run and measure."""
    rows = list(dict.fromkeys(cell.row for cell in results))
    figure = Figure(figsize=(6.4, 0.5 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    for measure, (colour, marker) in MEASURES.items():
        points = [
            (result.numbers[measure], rows.index(cell.row))
            for cell, result in results.items()
            if measure in result.numbers
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(
                x, y, marker, color=colour, markersize=8, alpha=0.7, markeredgewidth=0, label=measure,
                clip_on=False,
            )  # fmt: skip
    axes.set(xlabel="correlation with the truth on new images", yticks=range(len(rows)), yticklabels=rows)
    axes.set(xlim=(min(0.0, axes.get_xlim()[0]), 1.0), ylim=(len(rows) - 0.5, -0.5))
    axes.grid(axis="x", color="#e4e4e4")
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def latent_figure(spatial: Judged, plain: Judged, points: int = 1000) -> Figure:
    """Content against conformation for both models, and the angle against the true one."""
    figure = Figure(figsize=(9.0, 3.1), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, judged, colour, name in (
        (axes[0], spatial, BLUE, "spatial-VAE"),
        (axes[1], plain, GREY, "ordinary VAE, 1 latent"),
    ):
        true, found = judged.answers.conformation[:points], judged.answers.z[:points, judged.latent]
        ax.plot(true.numpy(), found.numpy(), ".", color=colour, markersize=3)
        ax.set(title=name, xlabel="true conformation", ylabel="content latent")
    said = spatial.answers
    assert said.theta is not None
    true, found = said.true_theta[:points], said.theta[:points]
    angles = true.rad2deg().numpy(), _wrapped(found).rad2deg().numpy()
    axes[2].plot(*angles, ".", color=ORANGE, markersize=3)
    ticks = range(-180, 181, 90)
    axes[2].set(title="spatial-VAE", xlabel="true angle (degrees)", ylabel="angle (degrees)")
    axes[2].set(xticks=ticks, yticks=ticks, aspect="equal")
    return figure


def content_figure(spatial: Judged, columns: int = 7) -> Figure:
    """The body as it is along its conformation, and as the decoder draws it along the content latent."""
    model, said, latent = spatial.model, spatial.answers, spatial.latent
    order = said.conformation.argsort()
    levels = torch.stack([part[len(part) // 2] for part in order.chunk(columns)])
    conformation = said.conformation[levels]
    # The latents that go with these conformations: the mean over the images around each.
    z = torch.stack([said.z[part].mean(0) for part in order.chunk(columns)])
    assert said.theta is not None
    # The decoder has an orientation of its own.
    between = said.true_theta - said.theta
    turn = torch.atan2(between.sin().mean(), between.cos().mean())
    truth = project(conformation, torch.zeros(columns), torch.zeros(columns, 2), model.image_size[0])
    with torch.no_grad():
        # theta turns what is drawn clockwise, as the truth's does: from the model's frame to the body's.
        drawn = model.decode(z.to(next(model.parameters())), (-turn).expand(columns))[:, 0]
    figure = Figure(figsize=(1.15 * columns, 2.7), layout="constrained")
    axes = figure.subplots(2, columns)
    for row, images in zip(axes, (truth, drawn), strict=True):
        low, high = float(images.min()), float(images.max())
        for ax, image in zip(row, images, strict=True):
            ax.imshow(image.numpy(), cmap="gray", vmin=low, vmax=high)
            ax.set(xticks=[], yticks=[])
    for ax, level in zip(axes[0], conformation.tolist(), strict=True):
        ax.set_title(f"{level:+.2f}")
    axes[0, 0].set_ylabel("simulated")
    axes[1, 0].set_ylabel("decoded")
    figure.suptitle(f"conformation (content latent {latent + 1} below)", fontsize=9)
    return figure


def _wrapped(angles: torch.Tensor) -> torch.Tensor:
    """In [-pi, pi)."""
    return torch.remainder(angles + math.pi, 2 * math.pi) - math.pi
