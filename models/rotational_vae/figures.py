"""Pictures of what a VAE does to turned latents, and of its errors for every group element.

Every figure is a matplotlib Figure of its own; pyplot and its global state are never touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from equikernels.models.rotational_vae.elements import element_name
from equikernels.models.rotational_vae.model import RotationalVAE

__all__ = ["element_errors", "latent_turns"]

# Okabe and Ito's palette, safe for colour-blind readers; markers repeat every distinction.
COLOURS = ("#6b6b6b", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6b6b6b",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 110,
    "savefig.facecolor": "white",
}


@torch.no_grad()
def latent_turns(models: Mapping[str, RotationalVAE], images: Tensor, element: Any) -> Figure:
    """A photograph, its reconstruction, what its turned latent decodes to, and that turned back.

    Args:
        models: by the name that is written beside their rows, one row for every image.
        images: (N, C, H, W) with pixels from 0 to 1; C is 1 or 3.
        element: of the models' groups, or of another group whose elements they have: what latents are
            turned by.

    The numbers below are the decibels of PSNR between what is shown, turned back where it is turned, and the
    original.
    """
    if not models or not len(images):
        raise ValueError(f"models, images: expected some, got {len(models)} and {len(images)}")
    first = next(iter(models.values()))
    angle = _words(element_name(first.group, first.group.check(element)))
    titles = ("original", "reconstruction", f"decoded from the\nlatent, {angle}", "the same, turned back")
    height, width = images.shape[-2:]
    rows = len(models) * len(images)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 0.75 + rows * (1.9 * height / width + 0.25)), layout="constrained")
        grid = figure.subplots(rows, len(titles), squeeze=False)
        for column, title in enumerate(titles):
            grid[0, column].set_title(title)
        for number, (name, model) in enumerate(models.items()):
            shown = _journey(model, images, element)
            for row in range(len(images)):
                line = grid[number * len(images) + row]
                for axes, picture, back in zip(line, shown["seen"], shown["back"], strict=True):
                    decibels = float(-10 * (back[row] - images[row]).square().mean().log10())
                    _picture(axes, picture[row], "" if picture is shown["seen"][0] else f"{decibels:.1f} dB")
                line[0].set_ylabel(name)
    return figure


def _journey(model: RotationalVAE, images: Tensor, element: Any) -> dict[str, list[Tensor]]:
    """What is seen in the four columns, and the same turned back where it is turned; pixels from 0 to 1."""
    z = model.encode(2 * images - 1)
    plain, turned = model.decode(z), model.decode(model.act(z, element))
    back = model.act(turned, model.group.inverse(model.group.check(element)))
    seen = [(picture.clamp(-1, 1) + 1) / 2 for picture in (2 * images - 1, plain, turned, back)]
    return {"seen": seen, "back": [seen[0], seen[1], seen[3], seen[3]]}


def element_errors(
    errors: Mapping[str, Mapping[str, Sequence[float]]], label: str, *, logarithmic: bool = False
) -> Figure:
    """A number for every element and model: means, and the range over repetitions as a line.

    Args:
        errors: for each model the values of every element's repetitions, by `element_name`; all models have
            the same elements.
        label: of the vertical axis.
        logarithmic: the vertical axis.
    """
    elements = list(next(iter(errors.values())))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(5.6, 1.3 + 0.95 * len(elements)), 4.0), layout="constrained")
        axes = figure.subplots()
        for number, (name, values) in enumerate(errors.items()):
            shift = 0.66 * ((number + 0.5) / len(errors) - 0.5)
            places = [index + shift for index in range(len(elements))]
            means = [sum(values[element]) / len(values[element]) for element in elements]
            lows = [min(values[element]) for element in elements]
            highs = [max(values[element]) for element in elements]
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            axes.vlines(places, lows, highs, color=colour, linewidth=1.5)
            axes.plot(places, means, marker, color=colour, label=name, markersize=6)
        if logarithmic:
            axes.set_yscale("log")
        axes.set_xticks(range(len(elements)), [_words(element).replace(", ", ",\n") for element in elements])
        axes.set_xlim(-0.5, len(elements) - 0.5)
        axes.grid(axis="x", visible=False)
        for edge in range(1, len(elements)):
            axes.axvline(edge - 0.5, color="#e4e4e4", linewidth=0.8)
        axes.set_xlabel("what latents are moved by")
        axes.set_ylabel(label)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _words(element: str) -> str:
    """The name of an element for readers.

    >>> _words("0"), _words("90"), _words("180flip")
    ('as it is', 'turned 90°', 'flipped, turned 180°')
    """
    flipped = element.endswith("flip")
    degrees = element.removesuffix("flip")
    turned = "" if degrees == "0" else f"turned {degrees}°"
    return ", ".join(part for part in ("flipped" if flipped else "", turned) if part) or "as it is"


def _picture(axes: Axes, picture: Tensor, text: str) -> None:
    channels_last = picture.permute(1, 2, 0).squeeze(-1).cpu().numpy()
    axes.imshow(channels_last, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlabel(text, fontsize=9, labelpad=2)
    for spine in axes.spines.values():
        spine.set(visible=True, color="#c8c8c8", linewidth=0.6)
