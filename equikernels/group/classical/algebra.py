"""The Lie algebras so(n) and so(1,3) in a basis of plane rotations and boosts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from equikernels.group.compiling import constant_of_graphs
from equikernels.group.representation import frozen


@dataclass(frozen=True)
class MatrixAlgebra:
    """so(n) on V = R^n, or with `lorentzian` the algebra so(1,3) on V = (t, x, y, z), n = 4.

    The basis of so(n) is X_ij for i < j in lexicographic order; exp(t X_ij) turns by t radians from axis i
    towards axis j. That of so(1,3) is J_x, J_y, J_z, the rotations of space, counter-clockwise seen from
    the tips of the axes, then the boosts K_x, K_y, K_z: exp(r K_x) has the rapidity r along +x. Rotations
    are skew, boosts symmetric; the basis is orthogonal and every element has the Frobenius norm sqrt(2).

    >>> MatrixAlgebra(2).generators.tolist()
    [[[0.0, -1.0], [1.0, 0.0]]]
    """

    n: int
    lorentzian: bool = False

    @property
    def rank(self) -> int:
        """Dimension of a Cartan subalgebra, the length of a highest weight."""
        return self.n // 2

    @property
    def dim(self) -> int:
        """n (n - 1) / 2."""
        return self.n * (self.n - 1) // 2

    @property
    def generators(self) -> np.ndarray:
        """The basis (dim, n, n), float64 and read-only."""
        return _generators(self)

    @property
    def signs(self) -> np.ndarray:
        """eps (dim,) with which -sum eps_k X_k^2 is the Casimir operator: +1 rotations, -1 boosts."""
        return np.repeat([1.0, -1.0], 3) if self.lorentzian else np.ones(self.dim)

    @property
    def planes(self) -> tuple[tuple[int, int], ...]:
        """The axes (i, j) of each plane of so(n), in the order of the basis."""
        return tuple(combinations(range(self.n), 2))

    @property
    def cartan(self) -> np.ndarray:
        """Coefficients (rank, dim), complex, of commuting combinations that every irrep makes Hermitian.

        Their joint eigenvalues are the weights: -i X_12, -i X_34, ... for so(n), K_z and -i J_z for so(1,3).
        """
        coefficients = np.zeros((self.rank, self.dim), dtype=np.complex128)
        if self.lorentzian:
            coefficients[0, 5], coefficients[1, 2] = 1, -1j
            return coefficients
        for i in range(self.rank):
            coefficients[i, self.planes.index((2 * i, 2 * i + 1))] = -1j
        return coefficients

    @property
    def structure_constants(self) -> np.ndarray:
        """c (dim, dim, dim), float64 and read-only, with [X_i, X_j] = sum_k c_ijk X_k."""
        return _structure_constants(self)

    def matrix(self, a: Tensor) -> Tensor:
        """sum_k a_k X_k, (..., n, n), of coordinates (..., dim) in their dtype and on their device."""
        found: Tensor = torch.tensordot(a, _generator_tensor(self.n, self.lorentzian).to(a), dims=1)
        return found

    def coordinates(self, matrix: np.ndarray) -> np.ndarray:
        """Coordinates (..., dim) of matrices (..., n, n) of the algebra."""
        return np.asarray(np.einsum("...ij,kij->...k", matrix, self.generators) / 2)


@lru_cache(maxsize=64)
def _generators(algebra: MatrixAlgebra) -> np.ndarray:
    n = algebra.n
    if algebra.lorentzian:
        basis = np.zeros((6, 4, 4))
        for k in range(3):
            i, j = 1 + (k + 1) % 3, 1 + (k + 2) % 3
            basis[k, j, i], basis[k, i, j] = 1, -1
            basis[3 + k, 0, 1 + k] = basis[3 + k, 1 + k, 0] = 1
        return frozen(basis)
    basis = np.zeros((algebra.dim, n, n))
    for k, (i, j) in enumerate(algebra.planes):
        basis[k, j, i], basis[k, i, j] = 1, -1
    return frozen(basis)


@constant_of_graphs
def _generator_tensor(n: int, lorentzian: bool) -> Tensor:
    """The basis as a tensor: a constant of compiled graphs, which must be called with plain numbers."""
    return torch.as_tensor(MatrixAlgebra(n, lorentzian).generators.copy())


@lru_cache(maxsize=64)
def _structure_constants(algebra: MatrixAlgebra) -> np.ndarray:
    x = algebra.generators
    product = np.einsum("iab,jbc->ijac", x, x)
    return frozen(algebra.coordinates(product - product.transpose(1, 0, 2, 3)))
