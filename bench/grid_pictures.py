"""Pictures with eight times finer originals, and the ways of turning them that are compared."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.ndimage
import torch

from equikernels.group import SO2, pixel_grid
from equikernels.ops import rotate

REPOSITORY = Path(__file__).resolve().parent.parent

FACTOR = 8
"""How much finer than the pictures their originals are."""

DEGREES = 30.0
DIGITS = 200
PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "moon", "rocket")
PHOTOGRAPH_SIDE = 32

# -- pictures ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pictures:
    """Originals (count, 8 N, 8 N), float64 in [0, 1], row 0 on top, and where they come from."""

    name: str
    source: str
    fine: np.ndarray

    @property
    def images(self) -> np.ndarray:
        """The pictures (count, N, N) that are turned."""
        return reduce_blocks(self.fine)


def reduce_blocks(fine: np.ndarray) -> np.ndarray:
    """Means of blocks of 8 x 8: (..., 8 N, 8 N) to (..., N, N)."""
    side = fine.shape[-1] // FACTOR
    return fine.reshape(*fine.shape[:-2], side, FACTOR, side, FACTOR).mean((-3, -1))


def enlarge(images: np.ndarray, side: int) -> np.ndarray:
    """Images (count, n, n) on side x side pixels by a cubic spline, clipped to [0, 1]."""
    factor = side / images.shape[-1]
    zoomed = scipy.ndimage.zoom(images, (1, factor, factor), order=3, mode="grid-constant", grid_mode=True)
    return np.clip(zoomed, 0, 1)


def smooth_digits() -> Pictures:
    """scikit-learn's 8 x 8 digits drawn large on 28 x 28: strokes several pixels wide."""
    from sklearn.datasets import load_digits

    images = load_digits().images[:DIGITS] / 16.0
    source = f"the first {DIGITS} of scikit-learn's 8 x 8 digits, enlarged by a cubic spline"
    return Pictures("smooth digits", source, enlarge(images, 28 * FACTOR))


def data_root() -> Path:
    """The real data sets: EQUIKERNELS_DATA, or the sibling folder ``shared/data`` of the repository."""
    named = os.environ.get("EQUIKERNELS_DATA")
    return Path(named) if named else REPOSITORY.parent / "shared" / "data"


def mnist_digits() -> Pictures | None:
    """MNIST's test images, None where the data set is absent."""
    file = data_root() / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not file.is_file():
        return None
    with gzip.open(file) as stream:
        stream.read(16)  # the header: a magic number and three sizes
        images = np.frombuffer(stream.read(DIGITS * 28 * 28), dtype=np.uint8).reshape(DIGITS, 28, 28)
    source = f"the first {DIGITS} test images of MNIST; their originals are cubic splines through them"
    return Pictures("MNIST digits", source, enlarge(images / 255.0, 28 * FACTOR))


def photographs() -> Pictures:
    """Grey patches of scikit-image's photographs: two corners and the middle of each."""
    import skimage.color
    import skimage.data

    side = PHOTOGRAPH_SIDE * FACTOR
    patches = []
    for name in PHOTOGRAPHS:
        picture = getattr(skimage.data, name)() / 255.0
        grey = skimage.color.rgb2gray(picture) if picture.ndim == 3 else picture
        height, width = grey.shape[0] - side, grey.shape[1] - side
        for row, column in ((0, 0), (height // 2, width // 2), (height, width)):
            patches.append(grey[row : row + side, column : column + side])
    source = f"three {side} x {side} patches each of {', '.join(PHOTOGRAPHS)} (scikit-image), in grey"
    return Pictures("photographs", source, np.stack(patches))


def fade(pictures: Pictures) -> Pictures:
    """The same pictures, falling to zero between 0.7 and 1 of the radius of the inscribed disc."""
    side = pictures.fine.shape[-1]
    axis = (np.arange(side) - (side - 1) / 2) / (side / 2)
    radius = np.hypot(axis[:, None], axis)
    window = np.cos(np.pi / 2 * np.clip((radius - 0.7) / 0.3, 0, 1)) ** 2
    return Pictures(
        f"{pictures.name}, faded", f"the {pictures.name}, zero outside the disc", pictures.fine * window
    )


def data_sets() -> list[Pictures]:
    photos = photographs()
    found = [smooth_digits(), mnist_digits(), photos, fade(photos)]
    return [pictures for pictures in found if pictures is not None]


# -- methods -------------------------------------------------------------------------------------------------

Method = Callable[[np.ndarray, float], np.ndarray]
"""Turns images (count, N, N) counter-clockwise by an angle in degrees."""


@cache
def _spectral_matrix(side: int, degrees: float) -> np.ndarray:
    return pixel_grid(side, SO2())(np.deg2rad(degrees)).numpy()


def spectral(images: np.ndarray, degrees: float) -> np.ndarray:
    side = images.shape[-1]
    return (images.reshape(-1, side * side) @ _spectral_matrix(side, degrees).T).reshape(images.shape)


def bilinear(images: np.ndarray, degrees: float) -> np.ndarray:
    angle = float(np.deg2rad(degrees))
    return rotate(torch.as_tensor(images)[:, None], angle)[:, 0].numpy()


def spline(order: Literal[1, 3, 5]) -> Method:
    """scipy.ndimage.rotate with a spline of this order, on the grid of the picture, zero outside."""

    def turn(images: np.ndarray, degrees: float) -> np.ndarray:
        turned: np.ndarray = scipy.ndimage.rotate(
            images, degrees, axes=(2, 1), reshape=False, order=order, mode="grid-constant"
        )
        return turned

    return turn


METHODS: dict[str, Method] = {
    "spectral": spectral,
    "bilinear": bilinear,
    "bicubic": spline(3),
    "quintic": spline(5),
}


def turned_reference(fine: np.ndarray, degrees: float) -> np.ndarray:
    """What turned pictures should be: originals (count, 8 N, 8 N), turned and reduced to (count, N, N)."""
    return reduce_blocks(spline(5)(fine, degrees))
