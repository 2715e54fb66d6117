"""Irreps of O(n) and of the Lorentz group inside tensor powers of V, one box of the Young diagram at a time.

D_lambda is the part of V tensor D_mu on which the Casimir operator has the eigenvalue of lambda, where mu is
lambda less a box in its last row. V tensor D_mu holds the irreps mu +- e_i (and mu itself for odd n), once or
as mirror pairs, and their eigenvalues are different, so with an orthonormal basis E of that eigenspace

    D_lambda(g) = E^T (g kron D_mu(g)) E.

The Casimir operator commutes with every matrix that preserves the metric, so its eigenspaces are invariant
under reflections too; it is symmetric, so they are orthogonal, of the Lorentz group as well.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from equikernels.group.classical.algebra import MatrixAlgebra
from equikernels.group.classical.weights import Weight, tensor_dimension
from equikernels.group.compiling import constant_of_graphs
from equikernels.group.representation import frozen

LARGEST_PRODUCT = 4000
"""The largest dimension of V tensor D_mu in which an irrep is looked for."""

MOST_BOXES = 60
"""The largest sum of the entries of a highest weight, which is the degree of the polynomials D_lambda(g)."""

ROUNDING = 1e-12
"""Entries below this are zeros: those of bases and generators are algebraic numbers far larger."""

TIE = 1e-6
"""Pivots that differ by less are equal: then the first is taken, whatever their rounding."""

WORKING_NUMBERS = 2**22
"""How many numbers an intermediate may hold where a batch can be cut."""


def projector_basis(projector: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """An orthonormal basis (rows, rank) of the range of an orthogonal projector, and its pivot coordinates.

    Each vector is the projection of the coordinate axis that is closest to what is left of the range (the
    first of several equally close), so its entry there is positive and no earlier vector matters to it: the
    basis depends on the projector alone, not on the LAPACK that found it. Real or complex.
    """
    rank = round(float(projector.trace().real))
    basis = np.zeros((len(projector), rank), dtype=projector.dtype)
    left = projector.diagonal().real.copy()
    pivots = []
    for k in range(rank):
        pivot = int(np.argmax(left >= (1 - TIE) * left.max()))
        column = projector[:, pivot] - basis[:, :k] @ basis[pivot, :k].conj()
        basis[:, k] = column / np.sqrt(column[pivot].real)
        left -= np.abs(basis[:, k]) ** 2
        pivots.append(pivot)
    # One Newton step towards the nearest isometry takes the rounding of the recursion back.
    basis = basis @ (1.5 * np.eye(rank) - 0.5 * basis.conj().T @ basis)
    basis[np.abs(basis) < ROUNDING] = 0
    return basis, pivots


def invariant_blocks(operator: np.ndarray) -> list[np.ndarray]:
    """Index sets of coordinates that a symmetric operator does not mix.

    The bases here are even or odd under each sign change of an axis, so most operators fall apart.
    """
    count, block = connected_components(csr_array(np.abs(operator) > ROUNDING), directed=False)
    return [np.flatnonzero(block == k) for k in range(count)]


def _less_a_box(weight: Weight) -> tuple[Weight, int]:
    """The weight without the last box of its last non-zero row, and the row's index from 0."""
    row = max(i for i, entry in enumerate(weight) if entry)
    return (*weight[:row], weight[row] - 1, *weight[row + 1 :]), row


def _check_size(algebra: MatrixAlgebra, weight: Weight) -> None:
    if sum(weight) > MOST_BOXES:
        raise ValueError(
            f"the irrep {weight} of dimension n = {algebra.n} is too large: the entries of its label sum to"
            f" {sum(weight)}, more than {MOST_BOXES}"
        )
    rows = algebra.n * tensor_dimension(_less_a_box(weight)[0], algebra.n)
    if rows > LARGEST_PRODUCT:
        raise ValueError(
            f"the irrep {weight} of dimension n = {algebra.n} is too large: it lies in a product of dimension"
            f" {rows}, more than {LARGEST_PRODUCT}"
        )


@lru_cache(maxsize=128)
def tensor_embedding(algebra: MatrixAlgebra, weight: Weight) -> np.ndarray:
    """E (n, d_mu, d), float64 and read-only: the isometry of irrep `weight` into V tensor D_mu.

    Its columns stand in the order of their pivots. Raises ValueError beyond LARGEST_PRODUCT and MOST_BOXES.
    """
    _check_size(algebra, weight)
    mu, row = _less_a_box(weight)
    n, d_mu = algebra.n, tensor_dimension(mu, algebra.n)
    x = algebra.generators * algebra.signs[:, None, None]
    # Casimir(V tensor D_mu) = Casimir(V) + Casimir(D_mu) + 2 M; M is the content of the box on mu + e_row.
    mixed = -np.einsum("kij,kab->iajb", x, tensor_generators(algebra, mu), optimize=True)
    mixed = mixed.reshape(n * d_mu, n * d_mu)
    content = mu[row] - row
    columns: list[tuple[int, np.ndarray]] = []
    for block in invariant_blocks(mixed):
        values, vectors = np.linalg.eigh(mixed[np.ix_(block, block)])
        chosen = vectors[:, np.abs(values - content) < 0.25]  # all eigenvalues are integers
        basis, pivots = projector_basis(chosen @ chosen.T)
        for pivot, vector in zip(pivots, basis.T, strict=True):
            column = np.zeros(n * d_mu)
            column[block] = vector
            columns.append((int(block[pivot]), column))
    columns.sort(key=lambda pair: pair[0])
    return frozen(np.stack([column for _, column in columns], axis=-1).reshape(n, d_mu, -1))


@lru_cache(maxsize=128)
def tensor_generators(algebra: MatrixAlgebra, weight: Weight) -> np.ndarray:
    """Generators (dim, d, d) of irrep `weight`, float64 and read-only: rotations skew, boosts symmetric."""
    if not any(weight):
        return frozen(np.zeros((algebra.dim, 1, 1)))
    e = tensor_embedding(algebra, weight)
    n, d_mu, d = e.shape
    columns = e.reshape(n * d_mu, d)
    mu = _less_a_box(weight)[0]
    found = np.empty((algebra.dim, d, d))
    for k, (first, second) in enumerate(zip(algebra.generators, tensor_generators(algebra, mu), strict=True)):
        moved = np.tensordot(first, e, axes=1) + second @ e
        x = columns.T @ moved.reshape(n * d_mu, d)
        found[k] = (x - algebra.signs[k] * x.T) / 2
    found[np.abs(found) < ROUNDING] = 0
    return frozen(found)


@constant_of_graphs
def _embedding_tensor(n: int, lorentzian: bool, weight: Weight) -> Tensor:
    """E as a tensor: a constant of compiled graphs, which must be called with plain numbers."""
    return torch.as_tensor(tensor_embedding(MatrixAlgebra(n, lorentzian), weight).copy())


def _one_more_box(e: Tensor, g: Tensor, previous: Tensor) -> Tensor:
    """E^T (g kron D) E for matrices g (..., n, n) and D (..., d_mu, d_mu)."""
    n, d_mu, d = e.shape
    right = (previous @ e.transpose(0, 1).reshape(d_mu, n * d)).unflatten(-1, (n, d))
    both = torch.einsum("...ij,...ajk->...iak", g, right).flatten(-3, -2)
    return e.reshape(n * d_mu, d).mT @ both


def tensor_matrix(algebra: MatrixAlgebra, weight: Weight, g: Tensor) -> Tensor:
    """D_lambda (..., d, d) at matrices g (..., n, n), float32 or float64, that preserve the metric.

    Reflections are allowed: this is the natural action on tensors. The result is a polynomial in the entries
    of g of degree sum(weight), so derivatives of every order exist.

    >>> tensor_matrix(MatrixAlgebra(4), (1, 1), -torch.eye(4)).diagonal().round().int().tolist()
    [1, 1, 1, 1, 1, 1]
    """
    batch = g.shape[:-2]
    if not any(weight):
        return torch.ones(*batch, 1, 1, dtype=g.dtype, device=g.device)
    chain = [weight]
    while sum(chain[0]) > 1:
        chain.insert(0, _less_a_box(chain[0])[0])
    # The first box is V itself, E = I.
    embeddings = [_embedding_tensor(algebra.n, algebra.lorentzian, step).to(g) for step in chain[1:]]
    if not embeddings:
        return g
    size = max(e.numel() for e in embeddings)
    pieces = []
    for elements in g.reshape(-1, algebra.n, algebra.n).split(max(1, WORKING_NUMBERS // size)):
        matrix = elements
        for e in embeddings:
            matrix = _one_more_box(e, elements, matrix)
        pieces.append(matrix)
    d = embeddings[-1].shape[-1]
    return torch.cat(pieces).reshape(*batch, d, d)


def _pfaffian(algebra: MatrixAlgebra, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The sum over all pairings of the axes of the products of X_ij, each with the sign of its pairing."""
    if not axes:
        return np.eye(x.shape[-1])
    first, rest = axes[0], axes[1:]
    terms = [
        (-1) ** k
        * x[algebra.planes.index((first, axis))]
        @ _pfaffian(algebra, x, tuple(a for a in rest if a != axis))
        for k, axis in enumerate(rest)
    ]
    return np.asarray(sum(terms))


@lru_cache(maxsize=64)
def mirror_basis(algebra: MatrixAlgebra, weight: Weight) -> tuple[np.ndarray, np.ndarray]:
    """Bases (2 d, d) of the two irreps of SO(n), n a multiple of 4, in an irrep of O(n) with lambda_m > 0.

    Their highest weights end in +lambda_m and -lambda_m. The Pfaffian of the X_ij commutes with rotations,
    changes its sign under reflections, and is (-1)^(m/2) prod(lambda_i + rho_i) up to a positive factor.
    """
    x = tensor_generators(algebra, weight)
    pfaffian = _pfaffian(algebra, x, tuple(range(algebra.n))) * (-1) ** (algebra.rank // 2)
    pfaffian /= np.linalg.norm(pfaffian) / math.sqrt(len(pfaffian))
    eye = np.eye(len(pfaffian))
    plus, minus = (projector_basis((eye + sign * (pfaffian + pfaffian.T) / 2) / 2)[0] for sign in (1, -1))
    return frozen(plus), frozen(minus)


@constant_of_graphs
def mirror_tensor(n: int, weight: Weight, positive: bool) -> Tensor:
    """One of the two bases as a tensor: a constant of compiled graphs."""
    return torch.as_tensor(mirror_basis(MatrixAlgebra(n), weight)[0 if positive else 1].copy())
