"""Arrays of pixels and voxels as tensors: the order of their axes, and the range of their values."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data.columns import Array, Field, Rows
from equikernels.models.data.errors import data_error, reading

__all__ = ["PixelColumn", "check_layout", "guess_layout", "to_pixels"]

# Numbers of channels that tell the axis of channels from one of space.
_CHANNELS = (1, 3, 4)
_SPACE = ("HW", "DHW")


def to_pixels(values: NDArray) -> Tensor:
    """Values as float32: uint8 is divided by 255, everything else keeps its values.

    >>> to_pixels(np.array([0, 51, 255], dtype=np.uint8)).tolist()
    [0.0, 0.2, 1.0]
    >>> to_pixels(np.array([0, 51, 255], dtype=np.int16)).tolist()
    [0.0, 51.0, 255.0]
    """
    tensor = torch.from_numpy(values.astype(np.float32, order="C"))
    return tensor.div_(255) if values.dtype == np.uint8 else tensor


def check_layout(layout: str) -> str:
    """The layout itself.

    Raises:
        ValueError: it is not N followed by H and W, with or without D and C, each once.

    >>> check_layout("NHWC")
    'NHWC'
    """
    letters = sorted(layout) if isinstance(layout, str) else []
    if letters not in (sorted(f"N{channels}{space}") for channels in ("", "C") for space in _SPACE):
        expected = "N, then H and W in any order, with D for volumes and C for channels"
        raise ValueError(f"layout: expected {expected}, got {layout!r}")
    if not layout.startswith("N"):
        raise ValueError(f"layout: expected N, the samples, first, got {layout!r}")
    return layout


def guess_layout(source: str | os.PathLike[str], shape: tuple[int, ...]) -> str:
    """The layout that an array of images or volumes most likely has, from its number of axes and of channels.

    An axis of 1, 3 or 4 right after the samples or at the very end is taken for that of channels.

    Raises:
        DataError: an array that has no such layout, or more than one.

    >>> guess_layout("a.npy", (10, 28, 28)), guess_layout("a.npy", (10, 32, 32, 3))
    ('NHW', 'NHWC')
    >>> guess_layout("a.npy", (10, 28, 28, 28))
    'NDHW'
    """
    if len(shape) == 3:
        return "NHW"
    if len(shape) not in (4, 5):
        raise data_error(
            source, "images or volumes, 3 to 5 axes (or say layout=)", f"an array of shape {shape}"
        )
    first, last = shape[1] in _CHANNELS, shape[-1] in _CHANNELS
    space = "HW" if len(shape) == 4 else "DHW"
    if first != last:
        return f"N{space}C" if last else f"NC{space}"
    if first or space == "DHW":
        expected = f"{' or '.join(map(str, _CHANNELS))} channels either first or last (or say layout=)"
        raise data_error(source, expected, f"an array of shape {shape}")
    return "NDHW"


@dataclass(frozen=True)
class PixelColumn:
    """An array of images (N, H, W), (N, H, W, C) ... as float32 (B, C, H, W), volumes as (B, C, D, H, W).

    Args:
        source: what to name in errors.
        array: of numbers, real.
        layout: letters of its axes, N first.
        meaning: of the field.

    Raises:
        DataError: an array that the layout does not fit, without values, or not of real numbers.
    """

    source: str | os.PathLike[str]
    array: Array
    layout: str
    meaning: str
    field: Field = field(init=False)

    def __post_init__(self) -> None:
        shape, dtype = self.array.shape, self.array.dtype
        if len(shape) != len(self.layout):
            raise data_error(self.source, f"an array {self.layout}", f"one of shape {shape}")
        if min(shape) < 1:
            raise data_error(self.source, "at least one value", f"an array of shape {shape}")
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise data_error(self.source, "real numbers", dtype)
        space = "DHW" if "D" in self.layout else "HW"
        sizes = dict(zip(self.layout, shape, strict=True))
        one = (sizes.get("C", 1), *(sizes[axis] for axis in space))
        meaning = self.meaning
        if dtype == np.uint8:
            meaning += ", 0 to 1 from uint8"
        elif dtype.kind != "f":
            meaning += f", {dtype} as they are"
        object.__setattr__(self, "field", Field(one, torch.float32, meaning))

    def __len__(self) -> int:
        return self.array.shape[0]

    def read(self, rows: Rows) -> Tensor:
        values = np.asarray(self.array[rows])
        wanted = "NCDHW" if "D" in self.layout else "NCHW"
        order = [self.layout.index(axis) for axis in wanted if axis in self.layout]
        with reading(self.source, "values that float32 can hold"), np.errstate(over="raise"):
            pixels = to_pixels(values.transpose(order))
        return pixels.reshape(len(rows), *self.field.shape)
