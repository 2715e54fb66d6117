"""Images that were turned and shifted once, each by a motion of its own that never changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from equikernels.models.data.columns import Column, Field, Rows
from equikernels.models.data.draws import SampleDraws
from equikernels.ops import rotate

__all__ = ["Motion", "moved_columns"]


@dataclass(frozen=True)
class Motion:
    """Normal turns and shifts about zero, functions of the seed and the number of the sample alone.

    Attributes:
        turned: standard deviation of the angle in radians.
        shifted: standard deviation of the shift in pixels, in each direction.
        seed: other seeds, other motions.

    Raises:
        ValueError: a standard deviation that is negative or not finite.
        TypeError: a seed that is no integer.
    """

    turned: float = 0.0
    shifted: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, unit in (("turned", "radians"), ("shifted", "pixels")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected a finite number of {unit}, not negative, got {value!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise TypeError(f"motion_seed: expected an integer, got {self.seed!r}")

    def __bool__(self) -> bool:
        return self.turned > 0 or self.shifted > 0

    def turns(self, rows: Rows) -> Tensor:
        """Angles in radians, counter-clockwise as displayed, float32 (B,)."""
        return (self.turned * self._draws(rows).normal("turn", dtype=torch.float64)).float()

    def shifts(self, rows: Rows) -> Tensor:
        """Shifts in pixels to the right and down, float32 (B, 2)."""
        return (self.shifted * self._draws(rows).normal("shift", (2,), dtype=torch.float64)).float()

    def _draws(self, rows: Rows) -> SampleDraws:
        return SampleDraws(self.seed, 0, torch.from_numpy(rows))


def moved_columns(columns: Mapping[str, Column], motion: Motion) -> dict[str, Column]:
    """The columns of a data set, its images moved, and the motions as the fields "turn" and "shift".

    Raises:
        ValueError: there are no images (C, H, W), or there is a field "turn" or "shift" already.
    """
    images = columns.get("image")
    if images is None or len(images.field.shape) != 3:
        raise ValueError("turned, shifted: expected a data set of images (C, H, W)")
    for name in ("turn", "shift"):
        if name in columns:
            raise ValueError(f"turned, shifted: expected data without a field {name!r}")
    count = len(images)
    return {
        **columns,
        "image": MovedImages(images, motion),
        "turn": Turns(motion, count),
        "shift": Shifts(motion, count),
    }


@dataclass(frozen=True)
class MovedImages:
    """The images of another column, turned about their centres and then shifted, with zeros outside.

    Bilinear interpolation in one pass: no value leaves the range of the image's own and zero.
    """

    images: Column
    motion: Motion

    @property
    def field(self) -> Field:
        own = self.images.field
        return Field(own.shape, own.dtype, f"{own.meaning}, moved", own.classes)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: Rows) -> Tensor:
        turns, shifts = self.motion.turns(rows), self.motion.shifts(rows)
        return rotate(self.images.read(rows), turns, translation=shifts)


@dataclass(frozen=True)
class Turns:
    """How far each image was turned."""

    motion: Motion
    count: int
    field: Field = field(
        default=Field((), torch.float32, "angle by which the image was turned, radians, counter-clockwise"),
        init=False,
    )

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Rows) -> Tensor:
        return self.motion.turns(rows)


@dataclass(frozen=True)
class Shifts:
    """How far each image was shifted, after it was turned."""

    motion: Motion
    count: int
    field: Field = field(
        default=Field((2,), torch.float32, "shift of the turned image, pixels to the right and down"),
        init=False,
    )

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Rows) -> Tensor:
        return self.motion.shifts(rows)
