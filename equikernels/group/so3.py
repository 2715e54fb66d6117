"""SO(3): rotations of space. An element is its 3 x 3 matrix."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor

from equikernels.group import acting
from equikernels.group.clebsch_gordan import check_degree, clebsch_gordan
from equikernels.group.group import Element, Group
from equikernels.group.orthogonal_matrices import (
    OrthogonalMatrices,
    check_orthogonal,
    concrete,
    determinant_sign,
    floating,
)
from equikernels.group.so2 import SO2
from equikernels.group.wigner import HARMONIC_AXES, rotation_generators, wigner_matrix
from equikernels.ops import rotate3d

if TYPE_CHECKING:
    from equikernels.group.representation import Representation


def _quaternion(g: Tensor) -> Tensor:
    """Unit quaternions (..., 4), scalar first and not negative, of rotations (..., 3, 3).

    4 q q^T is linear in the entries of R. Its row of largest diagonal, normalised, is q without a root of a
    difference: accurate and differentiable at every angle.
    """
    (a, b, c), (d, e, f), (i, j, k) = (row.unbind(-1) for row in g.unbind(-2))
    one = torch.ones_like(a)
    rows = [
        [one + a + e + k, j - f, c - i, d - b],
        [j - f, one + a - e - k, b + d, c + i],
        [c - i, b + d, one - a + e - k, f + j],
        [d - b, c + i, f + j, one - a - e + k],
    ]
    outer = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    unit = row / torch.linalg.vector_norm(row, dim=-1, keepdim=True)
    rising: Tensor = torch.where(unit[..., :1] < 0, -unit, unit)
    return rising


def _cross_matrix(a: Tensor) -> Tensor:
    """The matrices (..., 3, 3) of v -> a x v."""
    x, y, z = a.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).reshape(*x.shape, 3, 3)


@dataclass(frozen=True)
class SO3(OrthogonalMatrices):
    """Rotations of space.

    Elements are orthogonal matrices (..., 3, 3) of determinant +1, tensors or arrays, which act on columns
    (x, y, z). Half precision is accepted and computed in float32. The Lie algebra has the basis X_x, X_y,
    X_z of rotations about the axes, counter-clockwise seen from their tips: [X_x, X_y] = X_z.

    The irrep of degree l >= 0 has dimension 2l + 1 and the basis of real spherical harmonics m = -l .. l
    about the axis z, without the Condon-Shortley sign: Y_l(R v) = rho_l(R) Y_l(v). Irrep 1 is R on (y, z, x);
    `defining()` puts it in the order (x, y, z). Labels may carry a parity, "1o", which SO(3) ignores.

    >>> SO3().irrep(2).dim
    5
    >>> quarter = SO3().exp([0.0, 0.0, math.pi / 2])
    >>> SO3().defining()(quarter).round().int().tolist()
    [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    """

    def __repr__(self) -> str:
        return "SO(3)"

    def check(self, g: Any) -> Tensor:
        matrix = check_orthogonal(g, "SO(3)")
        if concrete(matrix) and bool((determinant_sign(matrix) < 0).any()):
            raise ValueError("elements of SO(3) must have determinant +1, got -1; O(3) holds reflections too")
        return matrix

    def act(self, z: Tensor, g: Any, *, method: str = "auto", padding: str | None = None) -> Tensor:
        acting.check_volumes(self, z)
        method = acting.check_method(self, method, padding, acting.SPATIAL_METHODS, exact=False)
        return rotate3d(z, acting.on_device(self, g, z), mode=method, padding=padding or "zeros")

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        dtype = dtype or torch.float64
        working = torch.promote_types(dtype, torch.float32)
        q = torch.randn(n, 4, generator=generator, dtype=working, device=device)
        q = q / torch.linalg.vector_norm(q, dim=-1, keepdim=True)
        v = _cross_matrix(q[:, 1:])
        eye = torch.eye(3, dtype=working, device=device)
        rotation: Tensor = (eye + 2 * (q[:, :1, None] * v + v @ v)).to(dtype)
        return rotation

    def quadrature(self, degree: int | None = None) -> tuple[Tensor, Tensor]:
        """R_z(alpha) R_y(beta) R_z(gamma): equal angles alpha and gamma, Gauss-Legendre in cos(beta).

        Sums over alpha and gamma leave the entry m = m' = 0 of D_l, the Legendre polynomial P_l(cos beta).
        """
        if degree is None:
            raise ValueError("degree must be an integer >= 0 for SO(3): quadrature(degree)")
        count = check_degree(degree, "degree") + 1
        angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
        cosines, weights = np.polynomial.legendre.leggauss((count + 1) // 2)
        beta = torch.as_tensor(cosines).acos()
        alpha, beta, gamma = torch.meshgrid(angles, beta, angles, indexing="ij")
        every = torch.as_tensor(weights)[None, :, None] / (2 * count**2)
        rotations = self.from_euler(alpha.flatten(), beta.flatten(), gamma.flatten())
        return rotations, every.expand(alpha.shape).flatten()

    def exp(self, a: Any) -> Tensor:
        """The rotation (..., 3, 3) by |a| radians about a, for algebra coordinates a (..., 3).

        R = I + sin(t)/t K + (1 - cos(t))/t^2 K^2 with K v = a x v and t = |a|; smooth at a = 0.
        """
        a = floating(a, "algebra coordinates of SO(3)")
        if a.ndim == 0 or a.shape[-1] != 3:
            raise ValueError(f"a must have shape (..., 3) for SO(3), got {tuple(a.shape)}")
        given = a.dtype
        a = a.to(torch.promote_types(given, torch.float32))
        square = a.square().sum(-1)[..., None, None]
        # Below this the next term of either series is lost in rounding; the root never sees a zero.
        small = square < torch.finfo(a.dtype).eps ** (1 / 3)
        half = torch.where(small, 1.0, square).sqrt() / 2
        sine = half.sin() / half
        first = torch.where(small, 1 - square / 6 + square.square() / 120, sine * half.cos())
        second = torch.where(small, 0.5 - square / 24 + square.square() / 720, sine.square() / 2)
        k = _cross_matrix(a)
        eye = torch.eye(3, dtype=a.dtype, device=a.device)
        rotation: Tensor = (eye + first * k + second * (k @ k)).to(given)
        return rotation

    def log(self, g: Any) -> Tensor:
        """Algebra coordinates (..., 3) of length at most pi; accurate and differentiable below pi.

        From the quaternion (w, v): 2 atan2(|v|, w) v / |v|. At pi either sign of the axis is a logarithm.
        """
        g = self.check(g)
        q = _quaternion(g.to(torch.promote_types(g.dtype, torch.float32)))
        w, v = q[..., :1], q[..., 1:]
        square = v.square().sum(-1, keepdim=True)
        small = square < torch.finfo(q.dtype).eps ** (1 / 3)
        norm = torch.where(small, 1.0, square).sqrt()
        ratio = square / torch.where(small, w, 1.0).square()
        series = (1 - ratio / 3 + ratio.square() / 5) / torch.where(small, w, 1.0)
        return (2 * torch.where(small, series, torch.atan2(norm, w) / norm) * v).to(g.dtype)

    def from_axis_angle(self, axis: Any, angle: Any) -> Tensor:
        """The rotation (..., 3, 3) by an angle (...) in radians about an axis (..., 3) of length > 0.

        The result has the dtype and the device of the axis; the batch shapes broadcast.
        """
        axis = floating(axis, "the axis of a rotation")
        if axis.ndim == 0 or axis.shape[-1] != 3:
            raise ValueError(f"axis must have shape (..., 3), got {tuple(axis.shape)}")
        norm = torch.linalg.vector_norm(axis, dim=-1, keepdim=True)
        if concrete(axis) and not bool((norm > 0).all()):
            raise ValueError("axis must not be zero or NaN: it has no direction")
        angle = torch.as_tensor(angle, dtype=axis.dtype, device=axis.device)
        return self.exp(axis / norm * angle[..., None])

    def from_euler(self, alpha: Any, beta: Any, gamma: Any) -> Tensor:
        """R_z(alpha) R_y(beta) R_z(gamma), (..., 3, 3), for angles (...) in radians that broadcast."""
        axes = torch.eye(3, dtype=torch.float64)[[2, 1, 2]]
        turns = [
            self.exp(angle[..., None] * axis.to(angle))
            for angle, axis in zip((SO2().check(t) for t in (alpha, beta, gamma)), axes, strict=True)
        ]
        return self.compose(self.compose(turns[0], turns[1]), turns[2])

    def word_length(self, g: Any) -> Tensor:
        raise ValueError("SO(3) has no discrete generators, so no words; length(g) is |log g|")

    def length(self, g: Any) -> Tensor:
        """The rotation angle |log g| (...) in radians, at most pi."""
        g = self.check(g)
        q = _quaternion(g.to(torch.promote_types(g.dtype, torch.float32)))
        angle = 2 * torch.atan2(torch.linalg.vector_norm(q[..., 1:], dim=-1), q[..., 0])
        # Rounding pi to a narrow type must not exceed the diameter.
        return angle.clamp(max=math.pi).to(g.dtype)

    @property
    def diameter(self) -> float:
        return math.pi

    @property
    def discrete_elements(self) -> tuple[Any, ...]:
        return ()

    def check_label(self, label: Any) -> int:
        if isinstance(label, str) and re.fullmatch(r"\d+[eo]?", label):
            return int(label.rstrip("eo"))
        return check_degree(label)

    def irrep_dim(self, label: int) -> int:
        return 2 * label + 1

    def irrep_matrix(self, label: int, g: Element, dtype: torch.dtype) -> Tensor:
        # A degree-l polynomial in the entries of R: narrow types would lose l times their own rounding.
        working = torch.promote_types(torch.promote_types(g.dtype, dtype), torch.float32)
        return wigner_matrix(label, g.to(working)).to(dtype)

    def irrep_generators(self, label: int) -> np.ndarray:
        return rotation_generators(label)

    def restrict_irrep(self, label: int, subgroup: Group) -> tuple[tuple[Any, ...], np.ndarray]:
        """Subgroups: SO(3), and SO(2) or C_n as rotations about the axis z."""
        from equikernels.group.cyclic import CyclicGroup

        dim = self.irrep_dim(label)
        if subgroup == self:
            return (label,), np.eye(dim)
        if not isinstance(subgroup, (SO2, CyclicGroup)):
            raise ValueError(f"restriction from SO(3) to {subgroup!r} is not known")
        # Harmonics m and -m are cos(m phi) and sin(m phi): the plane of frequency m.
        columns = [label] + [label + sign * m for m in range(1, label + 1) for sign in (1, -1)]
        parts = [SO2().restrict_irrep(m, subgroup) for m in range(label + 1)]
        labels = tuple(found for labels, _ in parts for found in labels)
        return labels, np.eye(dim)[:, columns] @ block_diag(*(basis for _, basis in parts))

    def tensor_embeddings(self, left: int, right: int) -> tuple[tuple[int, np.ndarray], ...]:
        """By Clebsch-Gordan coefficients: every l from |left - right| to left + right once."""
        rows = self.irrep_dim(left) * self.irrep_dim(right)
        degrees = range(abs(left - right), left + right + 1)
        return tuple((k, clebsch_gordan(left, right, k).reshape(rows, -1)) for k in degrees)

    def irreps(self, max_label: int | None = None) -> tuple[Representation, ...]:
        if max_label is None:
            raise ValueError("SO(3) has infinitely many irreps: say irreps(max_label=...)")
        return tuple(self.irrep(k) for k in range(check_degree(max_label, "max_label") + 1))

    def trivial(self) -> Representation:
        return self.irrep(0)

    def defining(self) -> Representation:
        """The matrix R itself, on (x, y, z)."""
        from equikernels.group.representation import Representation

        return Representation(self, [(1, 1)], change_of_basis=np.eye(3)[:, HARMONIC_AXES])

    def regular(self, max_label: int | None = None) -> Representation:
        """Functions on the group up to degree `max_label`: irrep l as often as its dimension 2l + 1."""
        from equikernels.group.representation import Representation

        if max_label is None:
            raise ValueError("the regular representation of SO(3) is infinite: say regular(max_label=...)")
        highest = check_degree(max_label, "max_label")
        return Representation(self, [(k, 2 * k + 1) for k in range(highest + 1)])
