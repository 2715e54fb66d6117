"""What the rotation tests share: tolerances by derivation, and inputs of every awkward kind."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SHAPES = (
    (3, 4, 7, 9),
    (2, 1, 32, 28),
    (9, 4, 64, 64),
    (1, 5, 200, 150),
    (2, 4, 1, 1),
    (3, 2, 3, 130),
    (2, 1, 150, 3),
    (1, 7, 33, 65),
    (5, 3, 2, 1),
)


def compute_epsilon(dtype: torch.dtype) -> float:
    return torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps


def value_tolerance(dtype: torch.dtype, shape: tuple[int, ...], largest: float) -> float:
    """Largest difference of two correct results on images bounded by `largest`.

    A coordinate is a sum of three terms no larger than the extent of the image, rounded a few times: 4 ulp of
    the extent. The interpolated surface changes by at most 2 `largest` per pixel along each axis, and two
    results may err in opposite directions. Storing the result adds one rounding to each.
    """
    extent = max(shape[-2:], default=1)
    coordinates = 4 * compute_epsilon(dtype) * max(extent, 1)
    return 2 * (2 * 2 * largest * coordinates + torch.finfo(dtype).eps * largest)


def random_case(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images, angles and an upstream gradient, with values in [-2, 2]."""
    generator = torch.Generator().manual_seed(seed)
    z, grad = (torch.rand(shape, generator=generator, dtype=torch.float64) * 4 - 2 for _ in range(2))
    angle_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    theta = torch.rand(shape[0], generator=generator, dtype=torch.float64) * 20 - 10
    return z.to(dtype), theta.to(angle_dtype), grad.to(dtype)


def smooth_images(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Blobs well inside the image, on which the bilinear surface has nearly no kinks."""
    batch, channels, height, width = shape
    y = torch.linspace(-1, 1, height, dtype=torch.float64)[:, None]
    x = torch.linspace(-1, 1, width, dtype=torch.float64)
    images = [
        torch.exp(-12 * ((x - 0.3 * math.cos(k)) ** 2 + (y - 0.3 * math.sin(k)) ** 2))
        for k in range(batch * channels)
    ]
    return torch.stack(images).view(shape).to(dtype)
