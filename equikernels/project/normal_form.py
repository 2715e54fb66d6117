"""The real Schur form of a normal operator: an orthogonal basis of invariant planes and axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from equikernels.group import Representation
from equikernels.ops.bases.basis import SECTOR_TOLERANCE
from equikernels.ops.bases.orbits import connected_parts
from equikernels.project.spectrum import cluster

NORMALITY_TOLERANCE = 1e-9
"""|A A^T - A^T A| relative to |A|^2 above which an operator does not count as normal."""

RESIDUAL_TOLERANCE = 1e-8
"""How far the block diagonal form may be from the operator, relative to its largest entry."""


@dataclass(frozen=True, eq=False)
class NormalForm:
    """A = U (blocks) U^T with 2 x 2 blocks [[a, -b], [b, a]], b > 0, and 1 x 1 blocks [a].

    Attributes:
        basis: U (dim, dim), orthogonal float64. Columns: the first axes of all planes, their second
            axes, the single axes, so that slices of U^T x hold one kind of coordinate each.
        planes: eigenvalues a + ib of the planes (p,), complex.
        axes: eigenvalues of the single axes (dim - 2p,), real.
        symmetry: a sparse orthogonal matrix that splits the basis, see Representation.symmetry_basis. The
            columns of one sector are then side by side among the first axes, among the second and among the
            single ones.
    """

    basis: np.ndarray
    planes: np.ndarray
    axes: np.ndarray
    symmetry: np.ndarray | None = None

    @property
    def dim(self) -> int:
        return int(self.basis.shape[0])


def normality_defect(a: np.ndarray) -> float:
    """|A A^T - A^T A| / |A|^2 in the Frobenius norm: zero exactly for normal operators."""
    size = float(np.linalg.norm(a)) ** 2
    return float(np.linalg.norm(a @ a.T - a.T @ a)) / size if size > 0 else 0.0


def normal_form_of_operator(a: np.ndarray, name: str) -> NormalForm:
    """The normal form of a matrix by a real Schur decomposition.

    For a normal matrix the quasi-triangular factor is block diagonal up to rounding; its off-diagonal
    part is checked and dropped. Raises ValueError if the operator is not normal, naming `name`.
    """
    defect = normality_defect(a)
    if not defect <= NORMALITY_TOLERANCE:
        raise _not_normal(name, f"|A A^T - A^T A| / |A|^2 is {defect:.1e}")
    n = a.shape[0]
    scale = float(np.abs(a).max(initial=0.0))
    t, u = scipy.linalg.schur(a, output="real")
    first, second, axes = [], [], []
    i = 0
    while i < n:
        if i + 1 < n and abs(t[i + 1, i]) > NORMALITY_TOLERANCE * scale:
            # LAPACK's standard 2 x 2 block has equal diagonal entries and off-diagonal ones of opposite
            # sign; naming the axes in the order that makes the lower left one positive gives b > 0.
            pair = (i, i + 1) if t[i + 1, i] > 0 else (i + 1, i)
            first.append(pair[0])
            second.append(pair[1])
            i += 2
        else:
            axes.append(i)
            i += 1
    one, two = np.array(first, dtype=int), np.array(second, dtype=int)
    single = np.array(axes, dtype=int)
    planes = (t[one, one] + t[two, two]) / 2 + 1j * (t[two, one] - t[one, two]) / 2
    # The defect of a matrix is of second order in its distance from the normal ones: a small defect can
    # hide an off-diagonal part far above rounding.
    blocks = np.zeros_like(t)
    blocks[one, one] = blocks[two, two] = planes.real
    blocks[two, one], blocks[one, two] = planes.imag, -planes.imag
    blocks[single, single] = t[single, single]
    residual = float(np.abs(t - blocks).max(initial=0.0)) / scale if scale else 0.0
    if residual > RESIDUAL_TOLERANCE:
        raise _not_normal(name, f"its blocks differ from it by {residual:.1e}")
    return NormalForm(u[:, np.concatenate([one, two, single])], planes, t[single, single])


def _not_normal(name: str, defect: str) -> ValueError:
    return ValueError(f'{name} is not normal ({defect}), so it has no spectral form: use method="svd"')


def normal_form_of_representation(rep: Representation) -> NormalForm:
    """The normal form of the one constraint operator of a representation, read off its irreps: exact."""
    group = rep.group
    basis = rep.change_of_basis
    first, second, single = [], [], []
    planes: list[np.ndarray] = []
    axes: list[np.ndarray] = []
    start = 0
    for label, copies in rep.irreps:
        operator = group.irrep_constraints(label)[0]
        d = len(operator)
        columns = start + np.arange(copies * d).reshape(copies, d)
        start += copies * d
        if d == 1:
            single.append(columns[:, 0])
            axes.append(np.full(copies, operator[0, 0]))
        else:
            first.append(columns[:, 0])
            second.append(columns[:, 1])
            planes.append(np.full(copies, operator[0, 0] + 1j * operator[1, 0]))
    nothing = np.zeros(0, dtype=int)
    one, two, alone = (np.concatenate([nothing, *found]) for found in (first, second, single))
    values = np.concatenate([np.zeros(0, dtype=complex), *planes])
    reals = np.concatenate([np.zeros(0), *axes])
    symmetry = rep.symmetry_basis
    if symmetry is not None:
        _, sectors, _ = connected_parts(np.where(np.abs(symmetry.T @ basis) > SECTOR_TOLERANCE, 1.0, 0.0))
        by_sector = np.lexsort([values.imag, sectors[two], sectors[one]])
        one, two, values = one[by_sector], two[by_sector], values[by_sector]
        by_sector = np.argsort(sectors[alone], kind="stable")
        alone, reals = alone[by_sector], reals[by_sector]
    return NormalForm(basis[:, np.concatenate([one, two, alone])], values, reals, symmetry)


@dataclass(frozen=True, eq=False)
class BlockPairs:
    """Singular values |mu_out - nu_in| for every pair of blocks of two normal forms.

    For two planes M = [[m11, m12], [m21, m22]] has two singular values: `same`, |out - in|, on the part
    that commutes with the rotation, and `opposite`, |out - conj(in)|, on the rest.

    Attributes:
        same, opposite: (p_out, p_in).
        plane_axis: (p_out, r_in) for a plane out and an axis in, `axis_plane` (r_out, p_in) the other
            way round, `axis_axis` (r_out, r_in).
    """

    same: np.ndarray
    opposite: np.ndarray
    plane_axis: np.ndarray
    axis_plane: np.ndarray
    axis_axis: np.ndarray

    @property
    def parts(self) -> tuple[tuple[np.ndarray, int], ...]:
        """Each table with how many coordinates share one entry."""
        return (
            (self.same, 2),
            (self.opposite, 2),
            (self.plane_axis, 2),
            (self.axis_plane, 2),
            (self.axis_axis, 1),
        )


def block_pairs(out: NormalForm, inn: NormalForm) -> BlockPairs:
    """Singular values of C(W) = W A - B W for all block pairs, from clustered eigenvalues."""
    everything = np.concatenate([out.planes, out.axes, inn.planes, inn.axes])
    distinct, index = cluster(everything.astype(complex))
    snapped = distinct[index] if everything.size else everything
    cuts = np.cumsum([out.planes.size, out.axes.size, inn.planes.size])
    po, ao, pi, ai = np.split(snapped, cuts)
    return BlockPairs(
        np.abs(po[:, None] - pi),
        np.abs(po[:, None] - pi.conj()),
        np.abs(po[:, None] - ai),
        np.abs(ao[:, None] - pi),
        np.abs(ao[:, None] - ai),
    )
