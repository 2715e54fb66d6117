"""What each way of rotating keeps: docs/results/rotation_accuracy.md and its figure.

    python -m bench.rotation_accuracy [--page FILE] [--figures FOLDER]

Pictures and their eight times finer originals are those of bench.grid_accuracy. Every method turns the
picture with a border of zeros, a tenth of its size in all, and errors are taken inside the inscribed disc of
the picture: what leaves the canvas, or comes in from its other side, is not the question here.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from bench.accuracy import disc, number, relative_error, table, versions
from bench.grid_pictures import DEGREES, REPOSITORY, Method, Pictures, data_sets, turned_reference
from bench.rotation_figures import SCALE, twelve_turns_figure
from bench.rotation_methods import METHODS, VOLUME_METHODS, cropped, padded
from bench.rotation_volumes import ROTATIONS, Volumes, ball, rotations, volume_sets

PAGE = REPOSITORY / "docs" / "results" / "rotation_accuracy.md"
FIGURES = REPOSITORY / "docs" / "figures"
FIGURE = "rotation_methods.png"

SECOND = 40.0
"""Degrees of the second turn of a composition. The two together are past 45, where shears change."""

Measures = Mapping[str, float]
Results = Mapping[str, Mapping[str, Measures]]
"""Measures by the names of data and method."""

# -- measures ------------------------------------------------------------------------------------------------

MEASURES = {
    "round trip": f"one turn by {DEGREES:g} degrees and back, against the picture",
    "twelve turns": f"twelve turns by {DEGREES:g} degrees, against the picture",
    "composition": f"turns by {DEGREES:g} and {SECOND:g} degrees, against one by {DEGREES + SECOND:g}",
    "reference": (
        f"one turn by {DEGREES:g} degrees, against the eight times finer original, turned by a quintic\n"
        "  spline and reduced by means of 8 x 8 blocks"
    ),
    "ringing, once": (
        "the largest distance of a pixel from the range of its picture and border, after one turn"
    ),
    "ringing, twelve": "the same after twelve turns",
}


def ringing(found: np.ndarray, images: np.ndarray) -> float:
    """The mean over images of the largest distance of a pixel in the disc from the range of the image."""
    low, high = (f(images, axis=(1, 2))[:, None] for f in (np.min, np.max))
    side = found.shape[-1]
    inside = found[:, disc(side)]
    return float(np.maximum(inside - high, low - inside).clip(min=0).max(axis=1).mean())


def measure(pictures: Pictures, method: Method) -> dict[str, float]:
    images = pictures.images
    side = images.shape[-1]
    canvas, region = padded(images), disc(side)

    def shown(turned: np.ndarray) -> np.ndarray:
        return cropped(turned, side)

    once = method(canvas, DEGREES)
    twelve = canvas
    for _ in range(12):
        twelve = method(twelve, DEGREES)
    together = method(canvas, DEGREES + SECOND)
    return {
        "round trip": relative_error(shown(method(once, -DEGREES)), images, region),
        "twelve turns": relative_error(shown(twelve), images, region),
        "composition": relative_error(shown(method(once, SECOND)), shown(together), region),
        "reference": relative_error(shown(once), turned_reference(pictures.fine, DEGREES), region),
        "ringing, once": ringing(shown(once), canvas),
        "ringing, twelve": ringing(shown(twelve), canvas),
    }


def measure_volumes(
    volumes: Volumes, method: Callable[[Tensor, Tensor], Tensor], turns: Tensor
) -> dict[str, float]:
    """Means over rotations (count, 3, 3); a composition is of each with the next."""
    region = ball(volumes.values.shape[-1])
    errors: dict[str, list[float]] = {"round trip": [], "composition": []}
    if volumes.formula is not None:
        errors["reference"] = []
    for first, second in zip(turns, turns.roll(-1, 0), strict=True):
        once = method(volumes.values, first)
        pairs = {
            "round trip": (method(once, first.mT), volumes.values),
            "composition": (method(once, second), method(volumes.values, second @ first)),
        }
        if volumes.formula is not None:
            pairs["reference"] = (once, volumes.formula(first))
        for name, (found, expected) in pairs.items():
            errors[name].append(relative_error(found.numpy(), expected.numpy(), region))
    return {name: float(np.mean(values)) for name, values in errors.items()}


# -- the page ------------------------------------------------------------------------------------------------

INTRODUCTION = """# What rotations keep

Made by `python -m bench.rotation_accuracy`, every number on this page included. Turns are counter-clockwise.
Errors are |found - expected| / |expected|, means over the pictures, inside the inscribed disc."""

METHODS_EXPLAINED = """The methods are those of `SO2().act`: *nearest*, *bilinear* and *bicubic* are
`equikernels.ops.rotate` with zeros outside, *three shears* is `shear_rotate`, *spectral* is
`spectral_rotate`.
Every method turns the picture with a border of zeros, a tenth of its size in all."""

WHAT_TO_USE = """## What to use when

- **Latents that are turned and turned back**, or turned many times: `shear_rotate`. It is orthogonal: nothing
  is lost, gradients neither grow nor fade, and the inverse is exact. One turn is no better picture
  than interpolation makes (columns *reference* and *composition*); the gain is that errors do not add up.
  Two turns are one turn for smooth content only, and the result jumps a little at 45 degrees from a multiple
  of 90. Pad by a tenth; content in the corners wraps around, as the photographs that fill their square show.
- **Operators, projectors and small latents that need the group law itself**: `spectral_rotate`, or the
  matrices of `pixel_grid`. Composition is exact for all angles and every content. It needs content inside the
  disc to look like a rotation, and costs two products with a matrix of (H W, H W).
- **Pictures for people, augmentation, one turn each**: bilinear (`rotate`) where nothing may leave the range
  of the picture and speed counts, bicubic where sharpness counts. Do not repeat either: see twelve turns.
- **Labels and masks**: nearest, which invents no values. It keeps no law either.

Both orthogonal methods ring: an edge cannot turn without loss and stay within its range. Where values must
stay in a range, clip the last result, not those in between."""

CAPTION = f"""After twelve turns by {DEGREES:g} degrees, which are a full circle, each picture should be as it
was. Below it is what has changed inside the disc, in colours from -{SCALE:g} to {SCALE:g}, and its size
relative to the picture."""

VOLUMES_EXPLAINED = f"""Means over {ROTATIONS} uniform rotations of SO(3), inside the inscribed ball. *Round
trip*: a rotation and its inverse; *composition*: two rotations, against their product; *reference*: one
rotation, against the formula that drew the volume, turned."""

VOLUMES_CONCLUDED = """Splitting off the nearest of the 24 rotations of the cube changes nothing but rounding:
the weights of trilinear interpolation have the symmetry of the cube, so the index map only does first what
the sampling does anyway. It is worth having where a rotation *is* one of the 24, and nothing is interpolated.

The third line is another way: a rotation is three turns about axes, each of them `shear_rotate` of the slices
across it. Its inverse is exact for every volume. Composition and accuracy are near perfect for smooth
volumes; on shapes of zeros and ones they are not."""


def make_page(
    sets: list[Pictures], volumes: list[Volumes], results: Results, date: str, packages: str
) -> str:
    """The whole page as Markdown."""
    parts = [
        INTRODUCTION,
        "\n".join(f"- *{name[0].upper()}{name[1:]}*: {meaning}." for name, meaning in MEASURES.items()),
        METHODS_EXPLAINED,
        f"Conditions: {date}; {packages}; float64.",
        WHAT_TO_USE,
        "## Pictures",
        f"![A digit and a photograph after twelve turns by each method](../figures/{FIGURE})",
        CAPTION,
    ]
    for pictures in sets:
        count, side = pictures.images.shape[:2]
        parts += [
            f"### {capital(pictures.name)}",
            f"{capital(pictures.source)}; {count} of {side} x {side}.",
            measures_table(results[pictures.name]),
        ]
    parts += [
        "## Volumes",
        VOLUMES_EXPLAINED,
    ]
    for each in volumes:
        count, side = each.values.shape[:2]
        parts += [
            f"### {capital(each.name)}",
            f"{capital(each.source)}; {count} of {side} x {side} x {side}.",
            measures_table(results[each.name]),
        ]
    parts.append(VOLUMES_CONCLUDED)
    return "\n\n".join(parts) + "\n"


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def measures_table(methods: Mapping[str, Measures]) -> str:
    """One line for each method, one column for each measure."""
    columns = list(next(iter(methods.values())))
    lines = [[name, *(number(values[column]) for column in columns)] for name, values in methods.items()]
    return table(["method", *columns], lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.rotation_accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args(arguments)
    sets, volumes, turns = data_sets(), volume_sets(), rotations()
    results: dict[str, dict[str, dict[str, float]]] = {}
    for pictures in sets:
        results[pictures.name] = {name: measure(pictures, method) for name, method in METHODS.items()}
    for each in volumes:
        results[each.name] = {
            name: measure_volumes(each, method, turns) for name, method in VOLUME_METHODS.items()
        }
    page = make_page(sets, volumes, results, datetime.date.today().isoformat(), versions())
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page, encoding="utf-8")
    options.figures.mkdir(parents=True, exist_ok=True)
    digits = next((s for s in sets if s.name == "MNIST digits"), sets[0])
    photographs = next(s for s in sets if s.name == "photographs, faded")
    twelve_turns_figure([(digits, 4), (photographs, 6)]).savefig(options.figures / FIGURE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
