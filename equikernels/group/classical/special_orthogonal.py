"""SO(n): rotations of R^n. An element is its n x n matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.classical.algebra import MatrixAlgebra
from equikernels.group.classical.logarithm import rotation_logarithm
from equikernels.group.classical.quadrature import rotation_quadrature
from equikernels.group.classical.tensor_group import TensorGroup, check_dimension, signed_weights
from equikernels.group.classical.tensor_irreps import mirror_tensor, tensor_generators
from equikernels.group.classical.weights import (
    Weight,
    check_count,
    check_weight,
    has_mirror,
    weights_up_to,
    weyl_dimension,
)
from equikernels.group.group import Element, Group
from equikernels.group.orthogonal_matrices import check_orthogonal, concrete, determinant_sign


@dataclass(frozen=True)
class SpecialOrthogonal(TensorGroup):
    """Rotations of R^n, n >= 2.

    Elements are orthogonal matrices (..., n, n) of determinant +1, tensors or arrays. Half precision is
    accepted and computed in float32. The Lie algebra has the basis X_ij for i < j in lexicographic order;
    exp(t X_ij) turns by t radians from axis i towards axis j. For n = 2 that is [[0, -1], [1, 0]]; for n = 3
    it is X_12 = X_z, X_13 = -X_y, X_23 = X_x in terms of SO3's.

    Irreps are labelled by highest weights, tuples of m = n // 2 integers lambda_1 >= ... >= |lambda_m| >= 0;
    an integer k means (k, 0, ..., 0), the traceless symmetric tensors of degree k. Where n is a multiple of
    4, lambda_m may be negative: a reflection exchanges (.., lambda_m) and (.., -lambda_m). For n = 2, 6, ..
    that pair is complex conjugate, so the label with lambda_m > 0 names their real sum, of complex type.

    Raises TypeError or ValueError where n is no integer >= 2.

    >>> SpecialOrthogonal(4).irrep((1, 1)).dim, SpecialOrthogonal(5).irrep((2, 1)).dim
    (3, 35)
    >>> V = SpecialOrthogonal(4).defining()
    >>> (V @ V).irreps
    (((0, 0), 1), ((1, -1), 1), ((1, 1), 1), ((2, 0), 1))
    """

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", check_dimension(self.n, "SpecialOrthogonal"))

    def __repr__(self) -> str:
        return f"SpecialOrthogonal({self.n})"

    @property
    def algebra(self) -> MatrixAlgebra:
        return MatrixAlgebra(self.n)

    # -- elements ------------------------------------------------------------------------------

    def check(self, g: Any) -> Tensor:
        name = f"SO({self.n})"
        matrix = check_orthogonal(g, name, self.n)
        if concrete(matrix) and bool((determinant_sign(matrix) < 0).any()):
            raise ValueError(
                f"elements of {name} must have determinant +1, got -1; O({self.n}) holds reflections too"
            )
        return matrix

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Haar: the Q of a Gaussian matrix Q R with positive diagonal of R, its first row reversed where
        the determinant is -1."""
        dtype = dtype or torch.float64
        working = torch.promote_types(dtype, torch.float32)
        gauss = torch.randn(n, self.n, self.n, generator=generator, dtype=working, device=device)
        q, r = torch.linalg.qr(gauss)
        q = q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)[..., None, :].to(working)
        rows = torch.ones(n, self.n, 1, dtype=working, device=device)
        rows[:, 0, 0] = determinant_sign(q)
        found: Tensor = (q * rows).to(dtype)
        return found

    def quadrature(self, degree: int | None = None) -> tuple[Tensor, Tensor]:
        """Rotations (count, n, n) and weights: exact for entries of irreps with lambda_1 <= degree.

        A product of spheres S^(n-1) .. S^1: the count grows as degree to the power n (n - 1) / 2.
        """
        return rotation_quadrature(self.n, check_count(degree, "degree"))

    def log(self, g: Any) -> Tensor:
        """Algebra coordinates (..., lie_dim) of a shortest logarithm, to absolute rounding at every angle.

        At angles of pi it is one of several. By a real Schur form of each element, in float64 on the CPU:
        raises ValueError where a derivative is asked for, or numbers cannot be seen (compile, vmap).
        """
        g = self.check(g)
        if not concrete(g):
            raise ValueError(f"log of {self!r} looks at numbers: it cannot be compiled or transformed")
        if g.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"log of {self!r} has no derivative: detach the element first")
        elements = g.detach().double().cpu().reshape(-1, self.n, self.n).numpy()
        logs = [self.algebra.coordinates(rotation_logarithm(element)) for element in elements]
        stacked = np.stack(logs) if logs else np.zeros((0, self.lie_dim))
        return torch.as_tensor(stacked).reshape(*g.shape[:-2], self.lie_dim).to(g.device, g.dtype)

    def length(self, g: Any) -> Tensor:
        """|log g| (...): the root of the sum of the squares of the plane angles in radians. No derivative."""
        norm: Tensor = torch.linalg.vector_norm(self.log(g), dim=-1)
        return norm.clamp(max=self.diameter)

    @property
    def diameter(self) -> float:
        """Every plane turned by pi: pi sqrt(n // 2)."""
        return math.pi * math.sqrt(self.n // 2)

    # -- irreps --------------------------------------------------------------------------------

    @property
    def _mirrored(self) -> bool:
        """Whether mirror pairs are two real irreps, not one of complex type."""
        return self.n % 4 == 0

    def check_label(self, label: Any) -> Weight:
        return check_weight(label, self.n, repr(self), mirrored=self._mirrored)

    def weight(self, label: Weight) -> Weight:
        return label

    def labels(self, bounds: Weight) -> tuple[Weight, ...]:
        return signed_weights(bounds, self.n) if self._mirrored else tuple(weights_up_to(bounds, self.n))

    def _half(self, label: Weight) -> tuple[Weight, Tensor] | None:
        """The irrep of O(n) and the columns that span one half of it, for half of a real mirror pair."""
        if not (self._mirrored and has_mirror(label, self.n)):
            return None
        natural = (*label[:-1], abs(label[-1]))
        return natural, mirror_tensor(self.n, natural, label[-1] > 0)

    def irrep_dim(self, label: Weight) -> int:
        return weyl_dimension(label, self.n) * self.irrep_type(label)

    def irrep_type(self, label: Weight) -> int:
        return 2 if has_mirror(label, self.n) and not self._mirrored else 1

    def irrep_matrix(self, label: Weight, g: Element, dtype: torch.dtype) -> Tensor:
        half = self._half(label)
        if half is None:
            return super().irrep_matrix(label, g, dtype)
        working = torch.promote_types(torch.promote_types(g.dtype, dtype), torch.float32)
        both = super().irrep_matrix(half[0], g, working)
        columns = half[1].to(both)
        return (columns.mT @ both @ columns).to(dtype)

    def irrep_generators(self, label: Weight) -> np.ndarray:
        half = self._half(label)
        if half is None:
            return super().irrep_generators(label)
        columns = half[1].numpy()
        x = columns.T @ tensor_generators(self.algebra, half[0]) @ columns
        return np.asarray((x - x.transpose(0, 2, 1)) / 2)

    def restrict_irrep(self, label: Weight, subgroup: Group) -> tuple[tuple[Weight, ...], np.ndarray]:
        """Subgroups: SO(n), and SO(k) as rotations of the first k axes."""
        if subgroup == self:
            return (label,), np.eye(self.irrep_dim(label))
        if not isinstance(subgroup, SpecialOrthogonal) or subgroup.n > self.n:
            raise ValueError(f"restriction from {self!r} to {subgroup!r} is not known")
        x = self.irrep_generators(label)
        kept = [x[self.algebra.planes.index(plane)] for plane in subgroup.algebra.planes]
        return subgroup.restriction(kept, label[0])
