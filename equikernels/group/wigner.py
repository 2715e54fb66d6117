"""Real Wigner matrices: the irreps of SO(3) as polynomials in the entries of the rotation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from equikernels.group.clebsch_gordan import clebsch_gordan, raising, real_basis
from equikernels.group.compiling import constant_of_graphs

HARMONIC_AXES = (1, 2, 0)
"""The order (y, z, x) in which the real spherical harmonics of degree 1 hold the coordinates (x, y, z)."""

WORKING_NUMBERS = 2**18
"""How many numbers an intermediate may hold: a few MiB stay in a processor's cache."""


def rotation_generators(degree: int) -> np.ndarray:
    """The generators (3, 2l+1, 2l+1) of rotations about x, y, z: float64, skew, [X_x, X_y] = X_z.

    X_k is the conjugate of -i J_k, with J from the ladder operators, carried to the real basis: the
    coefficients of f(R^-1 v) turn like conjugates of the harmonics themselves.
    """
    up = raising(degree)
    angular = [(up + up.T) / 2, (up - up.T) / 2j, np.diag(np.arange(-degree, degree + 1.0))]
    basis = real_basis(degree)
    real = np.stack([(basis @ (1j * j.conj()) @ basis.conj().T).real for j in angular])
    skew: np.ndarray = (real - real.transpose(0, 2, 1)) / 2
    return skew


@constant_of_graphs
def _coupling(degree: int) -> Tensor:
    """The isometry C (3, 2l-1, 2l+1) of irrep l inside 1 times l - 1; a constant of compiled graphs."""
    return torch.as_tensor(clebsch_gordan(1, degree - 1, degree).copy())


def _next_degree(coupling: Tensor, first: Tensor, previous: Tensor) -> Tensor:
    """D_l = C^T (D_1 kron D_(l-1)) C for (3, 3, n) and (2l-1, 2l-1, n): irrep l inside 1 times l - 1.

    Elements stand last, so that the constant C meets many of them in one long matrix product.
    """
    _, old, new = coupling.shape
    columns = coupling.transpose(1, 2).reshape(3 * new, old) @ previous
    columns = columns.reshape(old, 3, new, -1)
    rows = [(turn[:, None, :] * columns).sum(1) for turn in first.unbind(0)]
    return (coupling.reshape(3 * old, new).mT @ torch.cat(rows).flatten(1)).reshape(new, new, -1)


def wigner_matrix(degree: int, rotation: Tensor) -> Tensor:
    """D_l (..., 2l+1, 2l+1) of rotations (..., 3, 3), float32 or float64, on their device.

        Y_l(R v) = D_l(R) Y_l(v),    Y_l the real spherical harmonics m = -l .. l about the axis z.

    No angles occur: D_1 is R on (y, z, x), and D_l is the part of D_1 kron D_(l-1) of degree l. The result is
    a polynomial in the entries of R, so derivatives of every order exist everywhere, the identity included.

    >>> quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    >>> wigner_matrix(2, quarter).diagonal().round().int().tolist()
    [-1, 0, 1, 0, -1]
    """
    batch = rotation.shape[:-2]
    if degree == 0:
        return torch.ones(*batch, 1, 1, dtype=rotation.dtype, device=rotation.device)
    axes = list(HARMONIC_AXES)
    first = rotation[..., axes, :][..., axes]
    if degree == 1:
        return first
    couplings = [_coupling(k).to(rotation) for k in range(2, degree + 1)]
    pieces = []
    chunk = max(1, WORKING_NUMBERS // (3 * (2 * degree - 1) * (2 * degree + 1)))
    for elements in first.reshape(-1, 3, 3).permute(1, 2, 0).split(chunk, dim=-1):
        matrix = elements
        for coupling in couplings:
            matrix = _next_degree(coupling, elements, matrix)
        pieces.append(matrix)
    return torch.cat(pieces, dim=-1).permute(2, 0, 1).reshape(*batch, 2 * degree + 1, 2 * degree + 1)
