"""How well pixel grids rotate pictures: docs/results/grid_accuracy.md and its figures.

    python -m bench.grid_accuracy [--page FILE] [--figures FOLDER]

Every picture starts on a grid eight times finer. Its reduction by means of 8 x 8 blocks is what the methods
turn; the fine picture, turned by a quintic spline and reduced in the same way, is the reference. What lies
outside a picture is zero for every method. Errors are relative to the norm of the picture they are compared
with, in the same region, and are means over the pictures.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.accuracy import disc, number, relative_error, table, versions
from bench.grid_figures import rotated_pictures, spectral_modes_figure
from bench.grid_pictures import (
    DEGREES,
    METHODS,
    REPOSITORY,
    Method,
    Pictures,
    data_sets,
    turned_reference,
)
from equikernels.group.grids.geometry import PixelGrid
from equikernels.group.grids.pixel import energy_defects

PAGE = REPOSITORY / "docs" / "results" / "grid_accuracy.md"
FIGURES = REPOSITORY / "docs" / "figures"

# -- measures ------------------------------------------------------------------------------------------------

MEASURES = {
    "round trip": "one turn by 30 degrees and back, against the picture",
    "twelve turns": "twelve turns by 30 degrees, against the picture",
    "reference": "one turn by 30 degrees, against the reference",
}


def overshoot(images: np.ndarray) -> float:
    """The mean over images of the largest distance of a pixel from [0, 1]."""
    return float(np.maximum(images - 1, -images).clip(min=0).max(axis=(1, 2)).mean())


@dataclass(frozen=True)
class Accuracy:
    """Relative errors by measure, inside the disc and on the whole square, and the overshoot of one turn."""

    disc: Mapping[str, float]
    square: Mapping[str, float]
    overshoot: float


def measure(pictures: Pictures, method: Method) -> Accuracy:
    images = pictures.images
    once = method(images, DEGREES)
    twelve = images
    for _ in range(12):
        twelve = method(twelve, DEGREES)
    reference = turned_reference(pictures.fine, DEGREES)
    pairs = {
        "round trip": (method(once, -DEGREES), images),
        "twelve turns": (twelve, images),
        "reference": (once, reference),
    }
    inside = disc(images.shape[-1])
    in_disc, in_square = (
        {name: relative_error(*pair, region) for name, pair in pairs.items()}
        for region in (inside, np.ones_like(inside))
    )
    return Accuracy(in_disc, in_square, overshoot(once))


Results = Mapping[str, Mapping[str, Accuracy]]
"""Accuracies by the names of pictures and method."""

# -- the page ------------------------------------------------------------------------------------------------


INTRODUCTION = f"""# Accuracy of rotations on pixel grids

Made by `python -m bench.grid_accuracy`; every number and every ranking on this page is computed by it. One
turn is {DEGREES:g} degrees, counter-clockwise. Errors are |found - expected| / |expected|, means over the
pictures, inside the inscribed disc (radius N / 2) and on the whole square.

- *Round trip*: {MEASURES["round trip"]}.
- *Twelve turns*: {MEASURES["twelve turns"]}.
- *Reference*: {MEASURES["reference"]}: the eight times finer original, turned by a quintic spline and reduced
  by means of 8 x 8 blocks.
- *Outside [0, 1]*: the largest distance of a pixel from that range after one turn, averaged."""

METHODS_EXPLAINED = """Methods: *spectral* is `pixel_grid(N, SO2())`; *bilinear* is `equikernels.ops.rotate`;
*bicubic* and *quintic* are `scipy.ndimage.rotate(..., reshape=False, mode="grid-constant")` of order 3 and 5.
Outside the picture is zero for all of them. A round trip that returns the picture does not say that the
turned picture was right: the reference does."""


def ranking(accuracies: Mapping[str, Accuracy]) -> str:
    """The methods by their distance from the reference inside the disc, the best first."""
    errors = {name: accuracy.disc["reference"] for name, accuracy in accuracies.items()}
    return ", ".join(f"{name} {number(errors[name])}" for name in sorted(errors, key=errors.__getitem__))


def make_page(sets: list[Pictures], results: Results, date: str, packages: str) -> str:
    """The whole page as Markdown."""
    parts = [INTRODUCTION, f"Conditions: {date}; {packages}; float64.", METHODS_EXPLAINED, "## Pictures"]
    lines = []
    for pictures in sets:
        count, side = pictures.images.shape[:2]
        shares = energy_defects(PixelGrid(side, side), pictures.images)
        energies = [f"{100 * share:.2g} %" for share in shares.values()]
        lines.append([pictures.name, f"{count} of {side} x {side}", *energies, pictures.source])
    head = ["pictures", "count and size", "energy outside the disc", "above 0.35 cycles per pixel", "source"]
    parts.append(table(head, lines))
    for pictures in sets:
        accuracies = results[pictures.name]
        rows = []
        for name, accuracy in accuracies.items():
            errors = [number(region[m]) for m in MEASURES for region in (accuracy.disc, accuracy.square)]
            rows.append([name, *errors, number(accuracy.overshoot)])
        columns = [f"{m}, {region}" for m in MEASURES for region in ("disc", "square")]
        parts += [
            f"## {pictures.name[0].upper()}{pictures.name[1:]}",
            table(["method", *columns, "outside [0, 1]"], rows),
            f"Against the reference inside the disc, best first: {ranking(accuracies)}.",
        ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.grid_accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    options = parser.parse_args(arguments)
    sets = data_sets()
    results = {
        pictures.name: {name: measure(pictures, method) for name, method in METHODS.items()}
        for pictures in sets
    }
    page = make_page(sets, results, datetime.date.today().isoformat(), versions())
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page, encoding="utf-8")
    options.figures.mkdir(parents=True, exist_ok=True)
    spectral_modes_figure((9, 10)).savefig(options.figures / "spectral_modes.png")
    digits = next((s for s in sets if s.name == "MNIST digits"), sets[0])
    photos = next(s for s in sets if s.name == "photographs")
    rotated_pictures([(digits, 4), (photos, 6)]).savefig(options.figures / "rotated_pictures.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
