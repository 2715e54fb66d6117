"""Generators of groups of matrices: what they must obey, logarithms and random products in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from equikernels.group.classical.logarithm import rotation_logarithm
from equikernels.group.operator_relations import (
    RESIDUAL_TOLERANCE,
    real_square,
    require_skew_and_orthogonal,
)

FACTORS = 24
"""How many random elements are multiplied to sample a group: each takes its mean closer to Haar's."""

POWER_BITS = 10
"""Discrete generators occur in powers 0 .. 2^10 - 1: nearly uniform where they have fewer elements."""


def square_matrices(
    algebra: Sequence[np.ndarray | Tensor], elements: Sequence[np.ndarray | Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Skew and orthogonal generators as float64 stacks (lie_dim, n, n) and (s, n, n), checked."""
    lie = [real_square(f"algebra[{k}]", matrix) for k, matrix in enumerate(algebra)]
    discrete = [real_square(f"elements[{k}]", matrix) for k, matrix in enumerate(elements)]
    shapes = sorted({matrix.shape for matrix in lie + discrete})
    if len(shapes) != 1:
        raise ValueError(f"algebra and elements must hold matrices of one shape, got {shapes or 'none'}")
    require_skew_and_orthogonal(lie, discrete)
    none = np.zeros((0, *shapes[0]))
    return np.stack(lie) if lie else none, np.stack(discrete) if discrete else none


def require_closed_algebra(lie: np.ndarray, discrete: np.ndarray) -> None:
    """That skew matrices are the basis of a Lie algebra that conjugation by discrete generators preserves."""
    if len(lie) == 0:
        return
    span = lie.reshape(len(lie), -1)
    sizes = np.linalg.norm(span, axis=1)
    if not (sizes > 0).all():
        raise ValueError(f"algebra[{int(np.argmin(sizes))}] must not be zero")
    basis, sigma, _ = np.linalg.svd((span / sizes[:, None]).T, full_matrices=False)
    if sigma[-1] < RESIDUAL_TOLERANCE:
        raise ValueError(
            f"algebra must be linearly independent, but its smallest singular value is {sigma[-1]:.1e}"
        )

    def require_inside(matrix: np.ndarray, size: float, what: str) -> None:
        vector = matrix.ravel()
        distance = float(np.linalg.norm(vector - basis @ (basis.T @ vector))) / size
        if distance > RESIDUAL_TOLERANCE:
            raise ValueError(
                f"{what} must lie in the span of algebra, but its distance is {distance:.1e} of its size"
            )

    for i in range(len(lie)):
        for j in range(i):
            bracket = lie[i] @ lie[j] - lie[j] @ lie[i]
            require_inside(bracket, float(sizes[i] * sizes[j]), f"[algebra[{i}], algebra[{j}]]")
    for k, s in enumerate(discrete):
        for i in range(len(lie)):
            what = f"elements[{k}] algebra[{i}] elements[{k}]^-1"
            require_inside(s @ lie[i] @ s.T, float(sizes[i]), what)


def matrix_logarithm(matrix: np.ndarray, algebra: np.ndarray, tolerance: float, group: str) -> np.ndarray:
    """Coordinates (lie_dim,) of the principal logarithm in the basis of the algebra, verified.

    Raises ValueError where exp of the nearest element of the algebra is further than `tolerance` from the
    matrix.
    """
    if np.linalg.det(matrix) < 0:
        raise ValueError(f"g has determinant -1: it has no logarithm in the algebra of {group}")
    log = rotation_logarithm(matrix)
    coordinates = np.linalg.lstsq(algebra.reshape(len(algebra), -1).T, log.ravel(), rcond=None)[0]
    error = float(np.abs(scipy.linalg.expm(np.tensordot(coordinates, algebra, axes=1)) - matrix).max())
    if error > tolerance:
        raise ValueError(
            f"the logarithm of g is not known here: its principal logarithm is not in the algebra of {group} "
            f"(exp of the nearest element there is {error:.1e} off g)"
        )
    return np.asarray(coordinates)


def slowest_frequency(a: np.ndarray) -> float:
    """The smallest positive frequency of a skew matrix that is not zero."""
    frequencies = np.abs(np.linalg.eigvalsh(1j * a))
    return float(frequencies[frequencies > 1e-9 * frequencies.max()].min())


def random_products(
    algebra: np.ndarray,
    discrete: np.ndarray,
    count: int,
    generator: torch.Generator | None,
    device: torch.device | str | None,
) -> Tensor:
    """Products (count, n, n), float64, of random exponentials and random powers of discrete generators."""
    periods = torch.tensor([2 * math.pi / slowest_frequency(a) for a in algebra], dtype=torch.float64)
    basis, letters = torch.tensor(algebra, device=device), torch.tensor(discrete, device=device)
    n = algebra.shape[-1]
    product = torch.eye(n, dtype=torch.float64, device=device).expand(count, n, n)
    for _ in range(FACTORS):
        a = torch.randn(count, len(algebra), generator=generator, dtype=torch.float64, device=device)
        a = a * periods.to(a.device)
        product = product @ torch.linalg.matrix_exp(torch.einsum("nk,kab->nab", a, basis))
        for letter in letters:
            power = letter
            exponent = torch.randint(2**POWER_BITS, (count,), generator=generator, device=device)
            for bit in range(POWER_BITS):
                chosen = (exponent >> bit & 1).bool()[:, None, None]
                product = torch.where(chosen, product @ power, product)
                power = power @ power
    return product
