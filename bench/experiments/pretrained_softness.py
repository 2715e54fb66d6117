"""A pretrained backbone made soft: how far its features move, and how well they follow quarter turns.

``python -m bench.experiments.pretrained_softness SOURCE [--images FOLDER] [--size 224] [--page FILE]``

SOURCE is the folder or the name on the hub of a ViT, DINOv2, DINOv3, ResNet or SegFormer of transformers.
Nothing is trained: every softness is measured on the same weights.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.experiments.soft_backbones import EXACT, GROUP, errors_of
from equikernels.models.data import DataError, load_dataset
from equikernels.models.soft_equivariance import SoftBackbone
from equikernels.project.saving.files import write_text

COMMAND = "python -m bench.experiments.pretrained_softness"
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
# The pixels of ImageNet, for sources that do not say what they were trained on.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Row:
    """One softness.

    Attributes:
        softness: in [0, 1].
        features, pooled: relative errors under quarter turns, means over images.
        moved: mean over images of |f_s(x) - f_1(x)| / |f_1(x)|, f_s the features at this softness.
        limits: what keeps the model from exactness.
    """

    softness: float
    features: float
    pooled: float
    moved: float
    limits: tuple[str, ...]


def sweep(source: str, images: Tensor, levels: Sequence[float], symmetric: bool = False) -> Iterator[Row]:
    """The rows of a source for images (B, 3, S, S), normalized."""

    def soft(softness: float) -> SoftBackbone:
        size = (images.shape[-2], images.shape[-1])
        model = SoftBackbone(source, GROUP, softness=softness, symmetric_sampling=symmetric, image_size=size)
        return model.double().eval()

    with torch.no_grad():
        plain = soft(1.0)(images).maps
    for softness in levels:
        model = soft(softness)
        features, pooled = errors_of(model, images)
        with torch.no_grad():
            change = (model(images).maps - plain).flatten(1).norm(dim=1)
        moved = float((change / plain.flatten(1).norm(dim=1)).mean())
        limits = tuple(f"`{row.name}`: {row.reason}" for row in model.report.limiting)
        yield Row(softness, features, pooled, moved, limits)


def load_images(source: str, count: int, size: int) -> Tensor:
    """The first images of a data set or folder, (count, 3, size, size) in [0, 1].

    Raises:
        DataError: there are none, or they have no three channels.
    """
    dataset = load_dataset(source, size=size)
    field = dataset.fields.get("image")
    if field is None or len(field.shape) != 3 or field.shape[0] != 3:
        raise DataError(f"images: expected pictures with three channels, {source!r} has none")
    return dataset.fetch(torch.arange(min(count, len(dataset))))["image"].double()


def normalization(source: str) -> tuple[Tensor, Tensor, str]:
    """Mean and deviation of pixels (3, 1, 1), and whose they are: ImageNet's where the source says none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        says, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except OSError:
        says = {}
    if "image_mean" in says and "image_std" in says:
        return _by_channel(says["image_mean"]), _by_channel(says["image_std"]), "the source"
    return _by_channel(MEAN), _by_channel(DEVIATION), "ImageNet, for the source says none"


def _by_channel(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).view(3, 1, 1)


def table(rows: Sequence[Row]) -> str:
    """One line for each softness."""
    lines = [
        "| softness | error of the features | of the pooled ones | features moved by |",
        "|---|---|---|---|",
    ]
    for row in rows:
        numbers = ("0" if x < EXACT else f"{x:.3g}" for x in (row.features, row.pooled, row.moved))
        lines.append(f"| {row.softness:g} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def make_page(rows: Sequence[Row], source: str, images: str, shape: tuple[int, ...], normalized: str) -> str:
    """The page as Markdown, for images of this shape with the mean and deviation of `normalized`."""
    versions = ", ".join(
        f"{n} {importlib.metadata.version(n)}" for n in ("equikernels", "torch", "transformers")
    )
    strict = min(rows, key=lambda row: row.softness)
    return (
        "\n\n".join(
            [
                f"# {source}, softened",
                f"`{COMMAND} {source}`, {datetime.date.today().isoformat()}; {versions}.",
                f"{shape[0]} images of {images}, {shape[-1]} pixels along each side, normalized by the mean "
                f"and deviation of {normalized}. Errors are means over images "
                "and the three turns of C_4 of |g f(x) - f(g x)| / |f(x)|; the last column is "
                "|f_s(x) - f(x)| / |f(x)|, f_s the model at softness s and f the plain one. Nothing was "
                "trained.",
                table(rows),
                f"Limited by: {'; '.join(strict.limits) or 'nothing known'}.",
            ]
        )
        + "\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("source", help="folder or hub name of a backbone of transformers")
    parser.add_argument("--images", default="photographs", help="data set or folder (default: photographs)")
    parser.add_argument("--count", type=int, default=4, help="how many images (default: 4)")
    parser.add_argument("--size", type=int, default=224, help="pixels along each side (default: 224)")
    parser.add_argument("--symmetric", action="store_true", help="replace strided layers by symmetric ones")
    parser.add_argument("--page", type=Path, help="write the page here too")
    options = parser.parse_args(arguments)
    for name in ("count", "size"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: expected an integer >= 1, got {getattr(options, name)}")
    try:
        pictures = load_images(options.images, options.count, options.size)
        mean, deviation, whose = normalization(options.source)
        rows = []
        for row in sweep(options.source, (pictures - mean) / deviation, LEVELS, options.symmetric):
            rows.append(row)
            print(f"softness {row.softness:g}: done", file=sys.stderr, flush=True)
        page = make_page(rows, options.source, options.images, tuple(pictures.shape), whose)
        print(page)
        if options.page is not None:
            write_text(options.page, page)
    except (ImportError, OSError, ValueError) as error:
        print(f"{COMMAND}: {str(error).partition(chr(10))[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
