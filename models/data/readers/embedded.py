"""Data that come inside other packages, and the names of all that are at hand without a download."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from equikernels.models.data.columns import Column, Content, label_column
from equikernels.models.data.errors import library, reading
from equikernels.models.data.pixels import PixelColumn
from equikernels.models.data.readers import invariant_regression
from equikernels.models.data.readers.pictures import as_size, fit
from equikernels.models.data.readers.scenes import read_scenes
from equikernels.models.data.readers.two_domains import read_two_domains

__all__ = ["NAMES"]

_PHOTOGRAPHS = (
    "astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket",
)  # fmt: skip


def read_digits(name: str) -> Content:
    """The 1797 handwritten digits of scikit-learn, 8 x 8 pixels with values from 0 to 16, divided by 16."""
    datasets = library("sklearn.datasets", name)
    with reading(name, "the digits of scikit-learn"):
        digits = datasets.load_digits()
    images = (digits.images / 16).astype(np.float32)
    columns: dict[str, Column] = {
        "image": PixelColumn(name, images, "NHW", "pixels, 0 to 16 divided by 16"),
        "label": label_column(name, digits.target, len(images), tuple(map(str, range(10)))),
    }
    return Content(columns, evidence=hashlib.blake2b(images.tobytes()).digest())


def read_photographs(name: str, *, size: int | tuple[int, int] = 256) -> Content:
    """Seven colour photographs of scikit-image.

    Args:
        size: (H, W) or both at once; they are scaled to cover it and cut in the middle.
    """
    target = as_size("size", size)
    data, pillow = library("skimage.data", name), library("PIL.Image", name)
    with reading(name, "the photographs of scikit-image"):
        pictures = [pillow.fromarray(getattr(data, picture)()) for picture in _PHOTOGRAPHS]
        images = np.stack([np.asarray(fit(picture.convert("RGB"), target)) for picture in pictures])
    column = PixelColumn(name, images, "NHWC", "pixels")
    return Content({"image": column}, evidence=hashlib.blake2b(images.tobytes()).digest())


NAMES: dict[str, Callable[..., Content]] = {
    "digits": read_digits,
    "photographs": read_photographs,
    "two-domains": read_two_domains,
    "scenes": read_scenes,
    "invariant-regression": invariant_regression.read,
}
