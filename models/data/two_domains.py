"""Simulated projections of a body with two domains, one of which swings: images whose truth is known.

The body is a sum of Gaussian densities, so its projections are exact: nothing is interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data.draws import SampleDraws
from equikernels.models.data.errors import library, reading

__all__ = ["TwoDomains", "simulate_two_domains", "write_two_domains"]

Array = NDArray[np.float64]

LARGEST_SWING = math.radians(40.0)
RADIUS = 0.085
"""Standard deviation of every density; lengths are in halves of the image's side."""
HINGE = np.array([-0.22, -0.20, 0.0])
# Not along the projection: the swinging domain also comes nearer, which shortens its image.
AXIS = np.array([0.0, math.sin(math.radians(25)), math.cos(math.radians(25))])
# x, y, z and weight. The domains make an angle, as the legs of an integrin do, and the fixed one is heavier.
FIXED = np.array(
    [
        (-0.22, -0.20, 0.00, 1.6), (-0.10, -0.21, 0.04, 1.6), (0.02, -0.24, 0.08, 1.6),
        (0.14, -0.28, 0.04, 1.8), (0.26, -0.30, -0.04, 2.0), (0.34, -0.24, -0.08, 2.2),
        (0.36, -0.13, 0.00, 2.2),
    ]
)  # fmt: skip
SWINGING = np.array(
    [
        (-0.21, -0.07, 0.03, 1.0), (-0.20, 0.06, 0.06, 1.0), (-0.18, 0.19, 0.08, 1.0),
        (-0.17, 0.32, 0.06, 1.2), (-0.09, 0.40, 0.02, 1.4),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class TwoDomains:
    """Images and how each was made.

    Attributes:
        images: (N, S, S) float32, noise included; the noise has the standard deviation 1.
        conformation: (N,) float32 in [-1, 1]: 40 degrees of swing to either side.
        theta: (N,) float32 radians in [-pi, pi): the image is turned clockwise as displayed.
        shift: (N, 2) float32, pixels to the right and up, by which the turned image was moved.
    """

    images: NDArray[np.float32]
    conformation: NDArray[np.float32]
    theta: NDArray[np.float32]
    shift: NDArray[np.float32]


def simulate_two_domains(
    count: int, size: int = 40, seed: int = 0, *, snr: float = 0.5, shift: float = 1.0, turned: bool = True
) -> TwoDomains:
    """Projections of the body in random conformations, turned in the plane, moved, with white noise.

    Image i depends on i, the seed and the other options, not on the count.

    Args:
        count: N.
        size: S, pixels of a side.
        seed: of conformations, poses and noise.
        snr: variance of the pixels of the unturned body at rest over the variance of the noise, which is 1;
            infinity for images without noise, scaled as for 1.
        shift: standard deviation of the movements along each axis, in pixels.
        turned: whether the body is turned, by angles that are uniform on the circle.

    Raises:
        ValueError: a number that cannot be.

    >>> body = simulate_two_domains(3, size=16, seed=1)
    >>> body.images.shape, body.shift.shape, bool((abs(body.conformation) <= 1).all())
    ((3, 16, 16), (3, 2), True)
    """
    for name, number, least in (("count", count, 1), ("size", size, 2)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise ValueError(f"{name}: expected an integer >= {least}, got {number!r}")
    if not snr > 0:
        raise ValueError(f"snr: expected a number > 0, got {snr}")
    if not (shift >= 0 and math.isfinite(shift)):
        raise ValueError(f"shift: expected a finite number >= 0, got {shift}")
    draws = SampleDraws(seed, 0, range(count))
    conformation = draws.uniform("conformation", (), -1.0, 1.0)
    theta = draws.uniform("theta", (), -math.pi, math.pi) if turned else torch.zeros(count)
    moved = draws.normal("shift", (2,)) * shift
    images = project(conformation, theta, moved, size)
    rest = project(torch.zeros(1), torch.zeros(1), torch.zeros(1, 2), size)
    noiseless = math.isinf(snr)
    images *= math.sqrt(1.0 if noiseless else snr) / rest.std(correction=0)
    # A part at a time: noise is drawn in float64.
    for part in () if noiseless else torch.arange(count).split(1000):
        images[part] += SampleDraws(seed, 0, part).normal("noise", (size, size))
    return TwoDomains(images.numpy(), conformation.numpy(), theta.numpy(), moved.numpy())


def write_two_domains(path: str | Path, made: TwoDomains, pixel_size: float = 1.0) -> tuple[Path, Path]:
    """Write the images as an MRC stack, and the truths as an .npz archive beside it.

    ``load_dataset(stack, extra=truths)`` gives the fields of ``load_dataset("two-domains")``.

    Args:
        path: of the stack, NAME.mrcs; the archive is NAME.npz. Files that are there are replaced.
        pixel_size: in Angstrom, for the header.

    Returns:
        The paths of the stack and of the archive.

    Raises:
        DataError: a file cannot be written, or mrcfile is not installed.
        ValueError: a pixel size that is not positive.
    """
    if not pixel_size > 0:
        raise ValueError(f"pixel_size: expected a number > 0, got {pixel_size}")
    stack = Path(path)
    truths = stack.with_suffix(".npz")
    mrcfile = library("mrcfile", stack)
    with reading(stack, "a file that can be written"):
        with mrcfile.new(stack, overwrite=True) as file:
            file.set_data(made.images)
            file.set_image_stack()
            file.voxel_size = pixel_size
        np.savez(truths, conformation=made.conformation, theta=made.theta, shift=made.shift)
    return stack, truths


def project(conformation: Tensor, theta: Tensor, shift: Tensor, size: int) -> Tensor:
    """Projections without noise, in arbitrary units: (N, S, S) float32."""
    centres = body(conformation.double())
    weights = torch.from_numpy(np.concatenate([FIXED[:, 3], SWINGING[:, 3]]))
    x, y = centres[..., 0] * (size / 2), centres[..., 1] * (size / 2)
    cos, sin = theta.double().cos()[:, None], theta.double().sin()[:, None]
    right, up = shift.double()[:, :1], shift.double()[:, 1:]
    x, y = x * cos + y * sin + right, -x * sin + y * cos + up
    grid = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    width = 2 * (RADIUS * size / 2) ** 2
    columns = torch.exp(-((grid - x[..., None]) ** 2) / width)
    rows = torch.exp(-((-grid - y[..., None]) ** 2) / width)
    return torch.einsum("nbh,nbw,b->nhw", rows, columns, weights).float()


def body(conformation: Tensor) -> Tensor:
    """Centres of the densities (N, B, 3), float64: x to the right, y up, z towards the eye."""
    arm = torch.from_numpy(SWINGING[:, :3] - HINGE)
    axis = torch.from_numpy(AXIS)
    angle = (conformation * LARGEST_SWING)[:, None, None]
    # Rodrigues' formula.
    along = (arm @ axis)[:, None] * axis
    across = torch.linalg.cross(axis.expand_as(arm), arm)
    swung = along + angle.cos() * (arm - along) + angle.sin() * across + torch.from_numpy(HINGE)
    fixed = torch.from_numpy(FIXED[:, :3]).expand(len(conformation), -1, -1)
    return torch.cat([fixed, swung], dim=1)
