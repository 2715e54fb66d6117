"""Simulated projections of a body with two domains, one of which swings: images whose truth is known.

The body is a sum of Gaussian densities, so its projections are exact: nothing is interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equikernels.models.data.draws import SampleDraws

__all__ = ["TwoDomains", "simulate_two_domains"]

Array = NDArray[np.float64]

LARGEST_SWING = math.radians(40.0)
RADIUS = 0.085
"""Standard deviation of every density; lengths are in halves of the image's side."""
HINGE = np.array([0.02, 0.05, 0.0])
# Not along the projection: the swinging domain also comes nearer, which shortens its image.
AXIS = np.array([0.0, math.sin(math.radians(25)), math.cos(math.radians(25))])
# x, y, z and weight. The fixed domain is bent and has a heavy end, so that no turn maps its image to itself.
FIXED = np.array(
    [
        (0.02, 0.02, 0.00, 1.0), (-0.10, -0.05, 0.04, 1.0), (-0.20, -0.15, 0.08, 1.0),
        (-0.28, -0.27, 0.04, 1.0), (-0.30, -0.40, -0.04, 1.3), (-0.20, -0.48, -0.08, 1.6),
        (-0.08, -0.50, 0.00, 1.6), (-0.16, -0.38, 0.08, 1.3),
    ]
)  # fmt: skip
SWINGING = np.array(
    [
        (0.10, 0.13, 0.05, 1.0), (0.17, 0.22, 0.10, 1.0), (0.24, 0.31, 0.12, 1.0),
        (0.33, 0.37, 0.10, 1.2), (0.22, 0.43, 0.06, 1.2),
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
