"""The irreps of a group of matrices, found inside the tensor powers of the matrices themselves.

Every irrep of a compact group of orthogonal matrices V occurs in a tensor power of V. Those of degree k are
the ones that occur first in the k-th power: inside V tensor an irrep mu of degree k - 1. With the isometry E,

    D(g) = E^T (V(g) kron D_mu(g)) E,

a polynomial of degree k in the entries of g, exact and differentiable for every g.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from equikernels.group.isotypic import IsotypicBlock, alignment, isotypic_blocks
from equikernels.group.recognise_generic import Blocks, match_blocks
from equikernels.group.representation import frozen

if TYPE_CHECKING:
    from equikernels.group.matrix_group import MatrixGroup

IrrepLabel = tuple[int, int]

TRIVIAL: IrrepLabel = (0, 0)


class MatrixIrrep(NamedTuple):
    """One irrep and where it was found.

    Attributes:
        embedding: isometry E: (n, d) into the matrices for degree 1, (d_left * d_right, d) above.
        left, right: the irreps of degree 1 and k - 1 whose product holds it (None up to degree 1).
        lie: generators (lie_dim, d, d), skew.
        discrete: matrices (s, d, d) of the discrete generators.
        commutant: 1, 2 or 4 for real, complex or quaternionic type.
    """

    embedding: np.ndarray
    left: IrrepLabel | None
    right: IrrepLabel | None
    lie: np.ndarray
    discrete: np.ndarray
    commutant: int

    @property
    def dim(self) -> int:
        return int(self.embedding.shape[1])

    @property
    def operators(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return list(self.lie), list(self.discrete)


def _irrep(
    block: IsotypicBlock,
    lie: list[np.ndarray],
    discrete: list[np.ndarray],
    left: IrrepLabel | None = None,
    right: IrrepLabel | None = None,
) -> MatrixIrrep:
    d = block.dim
    forms = [block.form(a) for a in lie]
    generators = np.stack([(a - a.T) / 2 for a in forms]) if forms else np.zeros((0, d, d))
    elements = np.stack([block.form(g) for g in discrete]) if discrete else np.zeros((0, d, d))
    return MatrixIrrep(
        frozen(block.first), left, right, frozen(generators), frozen(elements), block.commutant
    )


@lru_cache(maxsize=16)
def defining_blocks(group: MatrixGroup) -> tuple[tuple[IsotypicBlock, IrrepLabel], ...]:
    """The isotypic blocks of the matrices themselves, with their labels: (0, 0), then (1, 0), (1, 1), ..."""
    blocks = isotypic_blocks(list(group.algebra), list(group.discrete))
    found: list[tuple[IsotypicBlock, IrrepLabel]] = []
    for block in blocks:
        trivial = block.dim == 1 and _is_trivial(block, group)
        found.append((block, TRIVIAL if trivial else (1, sum(label[0] for _, label in found))))
    return tuple(found)


def _is_trivial(block: IsotypicBlock, group: MatrixGroup) -> bool:
    lie = [np.zeros((1, 1)) for _ in group.algebra]
    ones = [np.eye(1) for _ in group.discrete]
    forms = [block.form(a) for a in group.algebra], [block.form(g) for g in group.discrete]
    return alignment((lie, ones), forms) is not None


@lru_cache(maxsize=256)
def irreps_of_degree(group: MatrixGroup, degree: int) -> tuple[MatrixIrrep, ...]:
    """The irreps that occur first in the tensor power of this degree, (degree, 0), (degree, 1), ..."""
    if degree == 0:
        ones = np.ones((len(group.discrete), 1, 1))
        return (MatrixIrrep(frozen(np.eye(1)), None, None, np.zeros((group.lie_dim, 1, 1)), frozen(ones), 1),)
    if degree == 1:
        lie, discrete = list(group.algebra), list(group.discrete)
        return tuple(_irrep(b, lie, discrete) for b, label in defining_blocks(group) if label != TRIVIAL)
    if is_complete(group, degree - 1):
        return ()
    known = [irrep for k in range(degree) for irrep in irreps_of_degree(group, k)]
    found: list[MatrixIrrep] = []
    for i, left in enumerate(irreps_of_degree(group, 1)):
        for j, right in enumerate(irreps_of_degree(group, degree - 1)):
            lie, discrete = product_operators(left, right)
            for block in isotypic_blocks(lie, discrete):
                irrep = _irrep(block, lie, discrete, (1, i), (degree - 1, j))
                if not any(_equivalent(irrep, other) for other in known + found):
                    found.append(irrep)
    return tuple(found)


def is_complete(group: MatrixGroup, degree: int) -> bool:
    """Whether the irreps up to a degree are all of a finite group: d^2 / commutant sums to the order."""
    if group.lie_dim:
        return False
    irreps = [irrep for k in range(degree + 1) for irrep in irreps_of_degree(group, k)]
    return sum(irrep.dim**2 // irrep.commutant for irrep in irreps) == group.order


def _equivalent(a: MatrixIrrep, b: MatrixIrrep) -> bool:
    return a.dim == b.dim and alignment(a.operators, b.operators) is not None


def product_operators(left: MatrixIrrep, right: MatrixIrrep) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Lie and discrete generators of the Kronecker product."""
    eye_left, eye_right = np.eye(left.dim), np.eye(right.dim)
    lie = [np.kron(a, eye_right) + np.kron(eye_left, b) for a, b in zip(left.lie, right.lie, strict=True)]
    return lie, [np.kron(a, b) for a, b in zip(left.discrete, right.discrete, strict=True)]


@lru_cache(maxsize=256)
def product_blocks(
    group: MatrixGroup, left: IrrepLabel, right: IrrepLabel
) -> tuple[tuple[IrrepLabel, np.ndarray], ...]:
    """The irreps inside a product, one after the other, with their embeddings (d_left * d_right, d)."""
    operators = product_operators(group.matrix_irrep(left), group.matrix_irrep(right))
    levels = ([(k, i) for i in range(len(irreps_of_degree(group, k)))] for k in range(left[0] + right[0] + 1))
    blocks: Blocks = match_blocks(group, isotypic_blocks(*operators), operators, levels)
    found: list[tuple[IrrepLabel, np.ndarray]] = []
    for label, basis in sorted(blocks, key=lambda block: block[0]):
        d = group.irrep_dim(label)
        found += [(label, frozen(basis[:, k : k + d])) for k in range(0, basis.shape[1], d)]
    return tuple(found)


def evaluate(group: MatrixGroup, label: IrrepLabel, g: Tensor) -> Tensor:
    """D(g), (..., d, d), in the dtype and on the device of the matrices g (..., n, n)."""
    if label == TRIVIAL:
        return torch.ones(*g.shape[:-2], 1, 1, dtype=g.dtype, device=g.device)
    irrep = group.matrix_irrep(label)
    e = torch.as_tensor(irrep.embedding.copy()).to(g)
    if irrep.left is None or irrep.right is None:
        return e.mT @ g @ e
    left, right = evaluate(group, irrep.left, g), evaluate(group, irrep.right, g)
    e = e.reshape(left.shape[-1], right.shape[-1], -1)
    moved = torch.einsum("...ab,bde->...ade", left, e)
    moved = torch.einsum("...cd,...ade->...ace", right, moved)
    matrix: Tensor = torch.einsum("acf,...ace->...fe", e, moved)
    return matrix
