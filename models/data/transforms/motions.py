"""Random motions: turns, shifts and flips."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from equikernels.models.data.draws import SampleDraws
from equikernels.models.data.transforms.checks import check_batch, check_probability, coordinate_dtype
from equikernels.ops import rot90, rotate, rotate3d


def random_rotation(
    images: Tensor,
    draws: SampleDraws,
    *,
    low: float = -math.pi,
    high: float = math.pi,
    order: int | None = None,
    mode: str = "bicubic",
    padding: str = "zeros",
    backend: str | None = None,
    name: str = "rotation",
) -> tuple[Tensor, Tensor]:
    """Turn every image about its centre by an angle of its own.

    Args:
        images: (B, C, H, W), floating.
        draws: of the B samples.
        low, high: bounds of the angles in radians, positive is counter-clockwise as displayed.
        order: draw multiples of 2 pi / order instead, each equally likely. Quarter turns move pixels exactly.
        mode, padding, backend: as `equikernels.ops.rotate` takes them.
        name: of the draw.

    Returns:
        The images, and the angles (B,), float32 (float64 for float64 images), on their device.

    Raises:
        ValueError: a number of draws that is not B, an order below 1, or quarter turns of images that are not
            square.

    >>> turned, angle = random_rotation(torch.rand(2, 1, 8, 8), SampleDraws(0, 0, [0, 1]))
    >>> turned.shape, angle.shape
    (torch.Size([2, 1, 8, 8]), torch.Size([2]))
    """
    check_batch(images, draws, (4,))
    dtype = coordinate_dtype(images)
    if order is None:
        angle = draws.uniform(name, (), low, high, dtype=torch.float64).to(images.device, dtype)
        return rotate(images, angle, mode=mode, padding=padding, backend=backend), angle
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f"order: expected a positive integer, got {order!r}")
    turns = draws.integers(name, 0, order).to(images.device)
    angle = (turns.double() * (2 * math.pi / order)).to(dtype)
    if 4 % order == 0:
        return rot90(images, turns * (4 // order), backend=backend), angle
    return rotate(images, angle, mode=mode, padding=padding, backend=backend), angle


def random_rotation3d(
    volumes: Tensor,
    draws: SampleDraws,
    *,
    mode: str = "bilinear",
    padding: str = "zeros",
    backend: str | None = None,
    name: str = "rotation",
) -> tuple[Tensor, Tensor]:
    """Turn every volume about its centre by a rotation of its own, uniform on SO(3).

    Args:
        volumes: (B, C, D, H, W), floating.
        draws: of the B samples.
        mode, padding, backend: as `equikernels.ops.rotate3d` takes them.
        name: of the draw.

    Returns:
        The volumes, and the rotations (B, 3, 3) of (x right, y up, z deep), float32 (float64 for float64
        volumes), on their device.

    Raises:
        ValueError: a number of draws that is not B.

    >>> turned, R = random_rotation3d(torch.rand(2, 1, 8, 8, 8), SampleDraws(0, 0, [0, 1]))
    >>> torch.allclose(R @ R.mT, torch.eye(3), atol=1e-6)
    True
    """
    check_batch(volumes, draws, (5,))
    # A normal vector has a uniform direction, and unit quaternions are the rotations, each twice.
    w, x, y, z = functional.normalize(draws.normal(name, (4,), dtype=torch.float64), dim=-1).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    R = torch.stack(rows, dim=-1).reshape(-1, 3, 3).to(volumes.device, coordinate_dtype(volumes))
    return rotate3d(volumes, R, mode=mode, padding=padding, backend=backend), R


def random_shift(
    images: Tensor,
    draws: SampleDraws,
    spread: float,
    *,
    distribution: str = "uniform",
    whole: bool = False,
    mode: str = "bicubic",
    padding: str = "zeros",
    backend: str | None = None,
    name: str = "shift",
) -> tuple[Tensor, Tensor]:
    """Move every image by a vector of its own.

    Args:
        images: (B, C, H, W), floating.
        draws: of the B samples.
        spread: in pixels: the bound of a "uniform" `distribution`, both ways, the standard deviation of a
            "normal" one, in each direction.
        whole: round to whole pixels, which moves them exactly. A uniform spread is rounded down first, so
            that all numbers of pixels are equally likely.
        mode, padding, backend: as `equikernels.ops.rotate` takes them.
        name: of the draw.

    Returns:
        The images, and the shifts in pixels (right, down), (B, 2), float32 (float64 for float64 images).

    Raises:
        ValueError: a number of draws that is not B, a spread that is negative or not finite, an unknown
            distribution.

    >>> image = torch.eye(5).view(1, 1, 5, 5)
    >>> moved, shift = random_shift(image, SampleDraws(0, 0, [3]), 2, whole=True)
    >>> shift.shape, set(moved.flatten().tolist()) <= {0.0, 1.0}
    (torch.Size([1, 2]), True)
    """
    check_batch(images, draws, (4,))
    if not (math.isfinite(spread) and spread >= 0):
        raise ValueError(f"spread: expected a finite number of pixels, not negative, got {spread!r}")
    if distribution == "normal":
        shift = spread * draws.normal(name, (2,), dtype=torch.float64)
        shift = shift.round() if whole else shift
    elif distribution == "uniform" and whole:
        most = math.floor(spread)
        shift = draws.integers(name, -most, most + 1, (2,)).double()
    elif distribution == "uniform":
        shift = draws.uniform(name, (2,), -spread, spread, dtype=torch.float64)
    else:
        raise ValueError(f"distribution: expected 'uniform' or 'normal', got {distribution!r}")
    shift = shift.to(images.device, coordinate_dtype(images))
    interpolation = "nearest" if whole else mode
    moved = rotate(images, 0.0, mode=interpolation, padding=padding, translation=shift, backend=backend)
    return moved, shift


def random_flip(
    images: Tensor, draws: SampleDraws, *, axis: int = -1, probability: float = 0.5, name: str = "flip"
) -> tuple[Tensor, Tensor]:
    """Mirror some of the images: along their columns, left to right, for axis -1.

    Args:
        images: (B, C, H, W) or (B, C, D, H, W), of any dtype.
        draws: of the B samples.
        axis: negative, one of the axes of space.
        probability: of a flip, 0 .. 1.
        name: of the draw.

    Returns:
        The images, and which were flipped, bool (B,).

    Raises:
        ValueError: a number of draws that is not B, an axis that is none of space, no probability.

    >>> images = torch.arange(4.0).view(2, 1, 1, 2)
    >>> random_flip(images, SampleDraws(0, 0, [0, 1]), probability=1)[0].flatten().tolist()
    [1.0, 0.0, 3.0, 2.0]
    """
    check_batch(images, draws, (4, 5))
    check_probability(probability)
    if not -(images.dim() - 2) <= axis <= -1:
        raise ValueError(f"axis: expected {-(images.dim() - 2)} .. -1, got {axis!r}")
    flipped = (draws.uniform(name, dtype=torch.float64) < probability).to(images.device)
    chosen = flipped.view(-1, *(1,) * (images.dim() - 1))
    return torch.where(chosen, images.flip(axis), images), flipped
