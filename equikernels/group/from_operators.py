"""Representations given by their matrices alone: the irreps inside, found numerically."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from equikernels.group.cyclic import CyclicGroup
from equikernels.group.dihedral import DihedralGroup
from equikernels.group.group import Group
from equikernels.group.matrix_group import MatrixGroup
from equikernels.group.o2 import O2
from equikernels.group.o3 import O3
from equikernels.group.operator_relations import (
    real_square,
    require,
    require_relations,
    require_skew_and_orthogonal,
)
from equikernels.group.recognise_generic import Blocks, generic_blocks
from equikernels.group.recognise_planar import planar_blocks
from equikernels.group.recognise_rotations import reflected_blocks, rotation_blocks
from equikernels.group.representation import Representation
from equikernels.group.so2 import SO2
from equikernels.group.so3 import SO3


def representation_from_operators(
    group: Group | None = None,
    *,
    algebra: Sequence[np.ndarray | Tensor] = (),
    elements: Sequence[np.ndarray | Tensor] = (),
) -> Representation:
    """The representation of a compact group whose generators act by the given matrices.

    Args:
        group: any compact group, or None for the group that the matrices generate, a `MatrixGroup`.
        algebra: skew matrices (dim, dim), one for each Lie generator: the derivative of rho(exp(t X)) at 0.
        elements: orthogonal matrices, one for each of `group.discrete_elements`: the turn by 2 pi / n for
            C_n, the turn and the flip for D_n, the flip for O(2) beside its algebra.

    Returns:
        A Representation with irreps sorted by label and a float64 change of basis, equal to the given
        matrices up to 1e-8 of their size; `decompose()` is itself. Turns and flips of the plane and
        rotations of space are recognised by their weights (500 dimensions of SO(3) in about a second),
        other groups by averaging random matrices and matching the irreducible blocks with their irreps.

    Raises:
        TypeError, ValueError: a wrong number of matrices, wrong shapes, NaN, matrices that are not skew or
            not orthogonal, that do not obey the relations of the group (the message says which), half-integer
            spin, a group that is not compact.

    >>> turn = np.kron([[0.0, -1.0], [1.0, 0.0]], np.diag([1.0, 3.0]))
    >>> representation_from_operators(SO2(), algebra=[turn]).irreps
    ((1, 1), (3, 1))
    >>> from equikernels.group import CubeGroup
    >>> representation_from_operators(CubeGroup(), elements=CubeGroup().regular().discrete).irreps
    (('A1', 1), ('A2', 1), ('E', 2), ('T1', 3), ('T2', 3))
    """
    if group is None:
        return MatrixGroup(algebra, elements).defining()
    if not isinstance(group, Group):
        raise ValueError(f"group must be a group or None, got {group!r}")
    if not group.is_compact:
        raise ValueError(
            f"{group!r} is not compact: its representations do not decompose into orthogonal ones"
        )
    lie = _matrices("algebra", algebra, group.lie_dim, group)
    discrete = _matrices("elements", elements, len(group.discrete_elements), group)
    dims = {len(matrix) for matrix in lie + discrete}
    if len(dims) != 1:
        raise ValueError(f"algebra and elements must all have one dimension, got {sorted(dims)}")
    require_skew_and_orthogonal(lie, discrete)

    blocks = _blocks(group, lie, discrete)
    blocks.sort(key=lambda block: group.label_order(block[0]))
    irreps = [(label, basis.shape[1] // group.irrep_dim(label)) for label, basis in blocks]
    rep = Representation(
        group, irreps, _orthogonalised(np.concatenate([basis for _, basis in blocks], axis=1))
    )
    for name, given, found in (("algebra", lie, rep.generators), ("elements", discrete, rep.discrete)):
        for k, (matrix, rebuilt) in enumerate(zip(given, found, strict=True)):
            what = f"{name}[{k}] does not obey the relations of {group!r}: its distance from a representation"
            require(what, matrix - rebuilt, float(np.abs(matrix).max()))
    return rep


def _blocks(group: Group, lie: list[np.ndarray], discrete: list[np.ndarray]) -> Blocks:
    if isinstance(group, (SO2, O2, CyclicGroup, DihedralGroup)):
        return planar_blocks(group, lie, discrete)
    require_relations(group, lie, discrete)
    if isinstance(group, SO3):
        return rotation_blocks(lie)
    if isinstance(group, O3):
        require("elements[0] must be its own inverse, but |R R - I|", discrete[0] - discrete[0].T, 1.0)
        return reflected_blocks(lie, discrete[0])
    return generic_blocks(group, lie, discrete)


def _matrices(name: str, given: Sequence[Any], count: int, group: Group) -> list[np.ndarray]:
    if len(given) != count:
        raise ValueError(f"{name} must hold {count} matrices for {group!r}, got {len(given)}")
    return [real_square(f"{name}[{k}]", matrix) for k, matrix in enumerate(given)]


def _orthogonalised(basis: np.ndarray) -> np.ndarray:
    """The nearest orthogonal matrix: bases of different eigenspaces are orthogonal up to rounding only."""
    u, _, vt = np.linalg.svd(basis)
    return np.asarray(u @ vt)
