"""Kronecker products of irreps of different groups, and the irreps into which real ones split."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache, reduce

import numpy as np
import torch
from torch import Tensor

from equikernels.group.group import Group, Label
from equikernels.group.intertwiners import NULL_TOLERANCE, intertwiner_space
from equikernels.group.isotypic import isotypic_blocks


def kronecker(matrices: Sequence[Tensor]) -> Tensor:
    """The Kronecker product (..., d1 d2 ..., d1 d2 ...) of matrices (..., d, d), in numpy.kron's order."""

    def pair(a: Tensor, b: Tensor) -> Tensor:
        size = a.shape[-1] * b.shape[-1]
        product = a[..., :, None, :, None] * b[..., None, :, None, :]
        return product.reshape(*product.shape[:-4], size, size)

    return reduce(pair, matrices)


@lru_cache(maxsize=256)
def commutant(group: Group, label: Label) -> np.ndarray:
    """An orthonormal basis (1, 2 or 4, d, d) of the matrices that commute with an irrep."""
    d = group.irrep_dim(label)
    scalars = np.eye(d)[None] / math.sqrt(d)
    if d % 2:  # a matrix J with J^2 = -1 needs an even dimension, so these are of real type
        return scalars
    lie = list(group.irrep_generators(label))
    elements = [group.check(s) for s in group.discrete_elements]
    discrete = [group.irrep_matrix(label, s, torch.float64).numpy() for s in elements]
    # The equations for a whole matrix have d^2 unknowns: the type is found with less work.
    if group.is_compact and isotypic_blocks(lie, discrete)[0].commutant == 1:
        return scalars
    return intertwiner_space([(a, a) for a in lie], [(r, r) for r in discrete])


def _axes(projector: np.ndarray) -> np.ndarray:
    """An orthonormal basis (n, rank) of a projector's image that rounding does not turn.

    Gram-Schmidt on the columns in their order, less those that are nearly dependent. The columns left out
    hold less than n (0.37^2 / n) < 1 of the trace of what is missing, so nothing is missing.
    """
    n, rank = len(projector), round(float(np.trace(projector)))
    found = np.zeros((n, 0))
    for column in projector.T:
        for _ in range(2):  # twice is enough for orthogonality to rounding
            column = column - found @ (found.T @ column)
        if found.shape[1] < rank and np.linalg.norm(column) > 0.37 / math.sqrt(n):
            found = np.column_stack([found, column / np.linalg.norm(column)])
    return found


@lru_cache(maxsize=512)
def components(factors: tuple[Group, ...], labels: tuple[Label, ...]) -> tuple[np.ndarray, ...]:
    """The inequivalent irreps inside a Kronecker product of irreps, as aligned embeddings of their copies.

    Returns arrays (copies, D, d), float64 and read-only, one for each component: E_c^T (kron of the irreps)
    E_c is one irrep for all its copies c, and all the columns together are an orthogonal matrix (D, D).

    What commutes with the product is spanned by the Kronecker products of what commutes with the factors.
    The eigenspaces of a random symmetric matrix of that algebra are irreducible, and a random one of its
    matrices maps each copy to every equivalent one. Both are projections of fixed random matrices, so they
    do not depend on the basis in which the algebra was found.
    """
    algebras = [commutant(factor, label) for factor, label in zip(factors, labels, strict=True)]
    dim = math.prod(algebra.shape[-1] for algebra in algebras)
    if sum(len(algebra) > 1 for algebra in algebras) < 2:  # the whole algebra is a field
        whole = np.eye(dim)[None]
        whole.setflags(write=False)
        return (whole,)
    random = np.random.default_rng(0)
    symmetric, mixing = (_projected(random.standard_normal((dim, dim)), algebras) for _ in range(2))
    values, vectors = np.linalg.eigh(symmetric + symmetric.T)
    starts = np.flatnonzero(np.diff(values, prepend=-np.inf) > NULL_TOLERANCE)
    found: list[list[np.ndarray]] = []
    for span in np.split(vectors, starts[1:], axis=1):
        projector = span @ span.T
        for copies in found:
            image = projector @ mixing @ copies[0]
            length = float(np.linalg.norm(image)) / math.sqrt(image.shape[1])
            if length > NULL_TOLERANCE:
                copies.append(image / length)
                break
        else:
            found.append([_axes(projector)])
    stacked = tuple(np.stack(copies) for copies in found)
    for array in stacked:
        array.setflags(write=False)
    return stacked


def _projected(matrix: np.ndarray, algebras: Sequence[np.ndarray]) -> np.ndarray:
    """The orthogonal projection of a matrix onto the span of the Kronecker products of bases."""
    result = np.zeros_like(matrix)
    for choice in itertools.product(*algebras):
        basis = reduce(np.kron, choice)
        result += float((basis * matrix).sum()) * basis
    return result
