"""The irreps inside a representation of a classical group, by Casimir eigenspaces and highest weights.

A vector of weight lambda on which the Casimir operator is C(lambda) belongs to irreps lambda only: every
other irrep nu with that weight has a larger C(nu). So the vectors of weight lambda in the Casimir eigenspace
are the highest weight vectors, one for each copy, and an intertwiner out of D_lambda is known by where it
takes its own. The generators carry it from there to the rest of the irrep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from equikernels.group.classical.algebra import MatrixAlgebra
from equikernels.group.classical.tensor_irreps import invariant_blocks, projector_basis
from equikernels.group.classical.weights import Weight, casimir
from equikernels.group.group import Label
from equikernels.group.representation import frozen

INTEGER_TOLERANCE = 1e-6
"""How far an eigenvalue that must be an integer may be from one."""

NEW_DIRECTION = 1e-6
"""Singular values below this are directions already reached; the others are of order one."""


@dataclass(frozen=True)
class Candidate:
    """An irrep that may be inside.

    Attributes:
        label, weight: its label and its highest weight.
        reflection_sign: how the reflection of the last axis acts on the highest weight vector: +1 or -1; 0
            where it moves that vector or the group has no reflections.
        operators: gives its Lie generators (d, d), then its matrix of that reflection if the group has it.
    """

    label: Label
    weight: Weight
    reflection_sign: int
    operators: Callable[[], Sequence[np.ndarray]]


def casimir_eigenspaces(algebra: MatrixAlgebra, x: Sequence[csr_array]) -> dict[int, np.ndarray]:
    """Orthonormal bases (D, w), real, of the eigenspaces of -sum eps_k X_k^2 by their integer eigenvalues."""
    operator = -sum(sign * (a @ a) for sign, a in zip(algebra.signs, x, strict=True)).toarray()
    operator = (operator + operator.T) / 2
    columns: dict[int, list[np.ndarray]] = {}
    for block in invariant_blocks(operator):
        values, vectors = np.linalg.eigh(operator[np.ix_(block, block)])
        integers = np.round(values).astype(int)
        if np.abs(values - integers).max() > INTEGER_TOLERANCE * max(1, np.abs(values).max()):
            raise ValueError("the generators do not satisfy the relations of the algebra")
        for value in np.unique(integers):
            full = np.zeros((len(operator), int((integers == value).sum())))
            full[block] = vectors[:, integers == value]
            columns.setdefault(int(value), []).append(full)
    return {value: np.concatenate(parts, axis=1) for value, parts in sorted(columns.items())}


def highest_vectors(algebra: MatrixAlgebra, lie: np.ndarray, weight: Weight) -> np.ndarray:
    """Orthonormal vectors (w, r), complex, of a weight, for Lie generators (lie_dim, w, w)."""
    eye = np.eye(lie.shape[-1])
    distance = np.zeros(lie.shape[1:], dtype=np.complex128)
    for h, entry in zip(np.tensordot(algebra.cartan, lie, axes=1), weight, strict=True):
        shifted = h - entry * eye
        distance += shifted @ shifted
    values, vectors = np.linalg.eigh(distance)  # sums of squares of integers
    return np.asarray(vectors[:, values < 0.25])


def _carry(
    small: Sequence[np.ndarray], large: Sequence[np.ndarray], start: np.ndarray, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis (d, k) of what the operators make of `start` (d,), and its images (r, w, k).

    The same linear combinations are taken on both sides: of the operators `small` on `start`, and of
    `large` on each of the vectors `images` (r, w) that correspond to it.
    """
    basis, carried = start[:, None], images[:, :, None]
    newest, newest_images = basis, carried
    while newest.shape[1]:
        moved = np.concatenate([operator @ newest for operator in small], axis=1)
        moved_images = np.concatenate([operator @ newest_images for operator in large], axis=2)
        for _ in range(2):  # twice is enough for orthogonality to rounding
            overlap = basis.conj().T @ moved
            moved = moved - basis @ overlap
            moved_images = moved_images - carried @ overlap
        left, sigma, right = np.linalg.svd(moved, full_matrices=False)
        fresh = sigma > NEW_DIRECTION
        newest = left[:, fresh]
        newest_images = moved_images @ (right[fresh].conj().T / sigma[fresh])
        basis = np.concatenate([basis, newest], axis=1)
        carried = np.concatenate([carried, newest_images], axis=2)
    return basis, carried


def _real_intertwiners(basis: np.ndarray, carried: np.ndarray) -> list[np.ndarray]:
    """Real isometries (D, d) with orthogonal images from complex ones given on a basis."""
    d, k = basis.shape
    maps = carried @ basis.conj().T
    if k < d:
        # The irrep is the sum of this complex one and its conjugate: its maps are real on the sum.
        return list(2 * maps.real)
    # Real and imaginary parts are intertwiners too, and span as many dimensions as there are copies: their
    # Gram matrix is a projector.
    parts = np.concatenate([maps.real, maps.imag])
    gram = np.einsum("iab,jab->ij", parts, parts) / d
    combinations, _ = projector_basis((gram + gram.T) / 2)
    return list(np.einsum("ij,iab->jab", combinations, parts))


def decompose(
    algebra: MatrixAlgebra, operators: Sequence[np.ndarray | csr_array], irreps: Iterable[Candidate]
) -> tuple[tuple[Label, np.ndarray], ...]:
    """The irreps inside a representation, each with its isometric embedding (D, d), float64 and read-only.

    Args:
        algebra: that of the group.
        operators: the Lie generators (D, D), rotations skew and boosts symmetric, and for groups with
            reflections the matrix of the reflection of the last axis; dense or sparse.
        irreps: those that may be inside; the result follows their order within each Casimir eigenvalue.

    Side by side the embeddings are orthogonal. Raises ValueError if the irreps do not fill the space.
    """
    sparse = [csr_array(operator) for operator in operators]
    candidates = list(irreps)
    found: list[tuple[Label, np.ndarray]] = []
    for value, space in casimir_eigenspaces(algebra, sparse[: algebra.dim]).items():
        inside = np.stack([space.T @ (operator @ space) for operator in sparse])
        for irrep in candidates:
            if casimir(irrep.weight, algebra.n) != value:
                continue
            vectors = highest_vectors(algebra, inside[: algebra.dim], irrep.weight)
            half = np.eye(vectors.shape[1])
            if irrep.reflection_sign:
                reflected = vectors.conj().T @ inside[-1] @ vectors
                half = (half + irrep.reflection_sign * reflected) / 2
            # The projector on the whole space, because `space` is LAPACK's choice and the result must not be.
            vectors = space @ vectors
            images, _ = projector_basis(vectors @ half @ vectors.conj().T)
            if not images.shape[1]:
                continue
            own = irrep.operators()
            start = _own_vector(algebra, own, irrep.weight)
            basis, carried = _carry(own, list(inside), start, images.T @ space)
            for t in _real_intertwiners(basis, space @ carried):
                found.append((irrep.label, frozen(t)))
    if sum(t.shape[1] for _, t in found) != sparse[0].shape[0]:
        raise ValueError("the irreps inside the representation are not all known")
    return tuple(found)


def _own_vector(algebra: MatrixAlgebra, operators: Sequence[np.ndarray], weight: Weight) -> np.ndarray:
    """The highest weight vector (d,) of an irrep itself."""
    vectors = highest_vectors(algebra, np.stack(operators[: algebra.dim]), weight)
    return np.asarray(projector_basis(vectors @ vectors.conj().T)[0][:, 0])
