"""Quadrature on SO(n) from spheres: a rotation is where it takes a pole, and a rotation that keeps it."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import roots_gegenbauer
from torch import Tensor


def _turn(n: int, first: int, second: int, angles: Tensor) -> Tensor:
    """Rotations (count, n, n) from axis `first` towards axis `second`."""
    turns = torch.eye(n, dtype=torch.float64).repeat(len(angles), 1, 1)
    turns[:, first, first] = turns[:, second, second] = angles.cos()
    turns[:, second, first] = angles.sin()
    turns[:, first, second] = -angles.sin()
    return turns


def _products(left: Tensor, right: Tensor) -> Tensor:
    """All products (a * b, n, n) of (a, n, n) and (b, n, n)."""
    return (left[:, None] @ right[None]).flatten(0, 1)


def _padded(rotations: Tensor) -> Tensor:
    """Rotations of the first n - 1 axes as matrices (count, n, n)."""
    padded = torch.nn.functional.pad(rotations, (0, 1, 0, 1))
    padded[:, -1, -1] = 1
    return padded


def _sphere(n: int, degree: int) -> tuple[Tensor, Tensor]:
    """Rotations (count, n, n) that take the last axis to the nodes of a quadrature on S^(n-1), and weights.

    Exact for polynomials up to `degree`: x = cos(b) e_n + sin(b) y with y on S^(n-2), and Gauss nodes for the
    weight (1 - t^2)^((n - 3)/2) of t = cos(b); on the circle degree + 1 equal angles.
    """
    if n == 2:
        angles = torch.arange(degree + 1, dtype=torch.float64) * (2 * math.pi / (degree + 1))
        return _turn(2, 0, 1, angles), torch.full((degree + 1,), 1 / (degree + 1), dtype=torch.float64)
    smaller, smaller_weights = _sphere(n - 1, degree)
    cosines, weights = roots_gegenbauer(degree // 2 + 1, (n - 2) / 2)
    tilts = _turn(n, n - 1, n - 2, torch.as_tensor(np.arccos(cosines)))
    both = torch.outer(smaller_weights, torch.as_tensor(weights / weights.sum()))
    return _products(_padded(smaller), tilts), both.flatten()


def rotation_quadrature(n: int, degree: int) -> tuple[Tensor, Tensor]:
    """Rotations (count, n, n) and weights (count,), float64, sum 1: exact for irreps with lambda_1 <= degree.

    Averaging a matrix entry of such an irrep over SO(n - 1), exact by induction because lambda_1 does not
    grow in a restriction, leaves a spherical harmonic of degree lambda_1 of the place of the pole.
    """
    rotations, weights = _sphere(2, degree)
    for k in range(3, n + 1):
        poles, pole_weights = _sphere(k, degree)
        rotations = _products(poles, _padded(rotations))
        weights = torch.outer(pole_weights, weights).flatten()
    return rotations, weights
