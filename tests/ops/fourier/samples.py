"""What the tests of Fourier rotations share: inputs, bounds of rounding errors, explicit matrices."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from equikernels.group import SO2, pixel_grid

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
BACKENDS = ("torch", "reference")
SHAPES = (
    (3, 2, 8, 8),
    (2, 3, 7, 7),
    (2, 1, 6, 9),
    (2, 2, 9, 4),
    (1, 2, 16, 6),
    (2, 1, 1, 5),
    (2, 1, 6, 1),
    (2, 3, 1, 1),
    (3, 1, 2, 2),
)
SHEARS = 5
"""The most that a rotation takes."""


def compute_epsilon(dtype: torch.dtype) -> float:
    return torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps


def transform_error(dtype: torch.dtype, shape: tuple[int, ...]) -> float:
    """Largest |error| / |images| of the shears' transforms alone, their phases being given.

    Every shear has two transforms, each with an error of log2(size) epsilon, and a handful of operations.
    """
    extent = max(shape[-2:], default=1)
    return SHEARS * compute_epsilon(dtype) * (2 * math.log2(2 * extent) + 6)


def rotation_error(dtype: torch.dtype, shape: tuple[int, ...]) -> float:
    """The same with the rounding of phases.

    A shift is at most extent / 2 pixels (a slope is at most one), its phase at most pi a pixel, and both are
    rounded three times.
    """
    extent = max(shape[-2:], default=1)
    return transform_error(dtype, shape) + SHEARS * 3 * compute_epsilon(dtype) * math.pi * extent / 2


def distance(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-300))


def random_case(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images, angles in [-10, 10] and an upstream gradient."""
    generator = torch.Generator().manual_seed(seed)
    z, grad = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    theta = torch.rand(shape[0], generator=generator, dtype=torch.float64) * 20 - 10
    return z.to(dtype), theta.to(torch.float64 if dtype == torch.float64 else torch.float32), grad.to(dtype)


def blobs(height: int, width: int, angle: float) -> Tensor:
    """Gaussians of radius 2 around places within 6 pixels of the centre, turned by an angle: (1, 2, H, W)."""
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height, dtype=torch.float64)[:, None]  # row 0 is on top
    images = []
    for radius, phase in ((6.0, 0.4), (3.0, 2.0)):
        px, py = radius * math.cos(phase + angle), radius * math.sin(phase + angle)
        images.append(torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 8))
    return torch.stack(images)[None]


def fourier_shift(shift: float, size: int) -> np.ndarray:
    """The matrix F^-1 diag(exp(2 pi i k shift / size)) F, with 1 at the highest frequency of an even size."""
    place = np.arange(size)
    transform = np.exp(-2j * np.pi * np.outer(place, place) / size)
    frequency = np.fft.fftfreq(size) * size
    phases = np.exp(2j * np.pi * frequency * shift / size)
    if size % 2 == 0:
        phases[size // 2] = 1
    matrix = transform.conj().T / size @ (phases[:, None] * transform)
    assert np.abs(matrix.imag).max() < 1e-12
    return matrix.real


def shear_matrix(height: int, width: int, axis: str, slope: float) -> np.ndarray:
    """The shear of all rows, or of all columns, as a matrix on images flattened row by row."""
    matrix = np.zeros((height, width, height, width))
    if axis == "rows":
        for i in range(height):
            matrix[i, :, i, :] = fourier_shift(slope * (i - (height - 1) / 2), width)
    else:
        for j in range(width):
            matrix[:, j, :, j] = fourier_shift(slope * (j - (width - 1) / 2), height)
    return matrix.reshape(height * width, -1)


def rotation_matrix(height: int, width: int, degrees: float) -> np.ndarray:
    """The whole rotation by -180 <= degrees <= 180, off the angles at which its shears change."""
    if degrees < 0:
        return rotation_matrix(height, width, -degrees).T
    step = 90 if height == width else 180
    turns = round(degrees / step)
    rest = np.deg2rad(degrees - step * turns)
    places = np.arange(height * width).reshape(height, width)
    matrix = np.eye(height * width)[np.rot90(places, turns * step // 90).ravel()]
    for part in [rest] if height == width else [rest / 2, rest / 2]:
        for axis, slope in (
            ("rows", -np.tan(part / 2)),
            ("columns", np.sin(part)),
            ("rows", -np.tan(part / 2)),
        ):
            matrix = shear_matrix(height, width, axis, slope) @ matrix
    return matrix


def spectral_arguments(size: int | tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, list[int]]:
    """Basis and frequencies of the spectral representation, as the documentation tells to take them."""
    rho = pixel_grid(size, SO2())
    return torch.tensor(rho.change_of_basis, dtype=dtype), [
        k for k, copies in rho.irreps for _ in range(copies)
    ]
