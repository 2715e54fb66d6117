"""O(n): rotations and reflections of R^n. An element is its n x n matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.classical.algebra import MatrixAlgebra
from equikernels.group.classical.special_orthogonal import SpecialOrthogonal
from equikernels.group.classical.tensor_group import TensorGroup, check_dimension
from equikernels.group.classical.tensor_irreps import mirror_basis
from equikernels.group.classical.weights import Weight, check_weight, has_mirror, weights_up_to
from equikernels.group.group import Element, Group
from equikernels.group.orthogonal_matrices import check_orthogonal, concrete, determinant_sign

Label = tuple[Weight, int]


@dataclass(frozen=True)
class Orthogonal(TensorGroup):
    """Rotations and reflections of R^n, n >= 2.

    Elements are orthogonal matrices (..., n, n), tensors or arrays. The Lie algebra is that of
    SpecialOrthogonal(n); the discrete generator is the reflection diag(-1, 1, ..., 1).

    Irreps: pairs (lambda, j), lambda a highest weight of n // 2 integers lambda_1 >= ... >= lambda_m >= 0
    and j in {0, 1}: the natural action on tensors of that symmetry, times det(g)^j. A weight alone, or an
    integer k for (k, 0, ..., 0), means j = 0. For even n and lambda_m > 0 only j = 0 exists: the factor
    det(g) gives an equivalent irrep.

    Raises TypeError or ValueError where n is no integer >= 2.

    >>> [rep.dim for rep in Orthogonal(4).irreps(1)]  # 1, det, V, V x det, antisymmetric tensors
    [1, 1, 4, 4, 6]
    >>> Orthogonal(3).irrep(((0,), 1))(-torch.eye(3)).tolist()
    [[-1.0]]
    """

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", check_dimension(self.n, "Orthogonal"))

    def __repr__(self) -> str:
        return f"Orthogonal({self.n})"

    @property
    def algebra(self) -> MatrixAlgebra:
        return MatrixAlgebra(self.n)

    @property
    def rotations(self) -> SpecialOrthogonal:
        """The connected component, SO(n)."""
        return SpecialOrthogonal(self.n)

    # -- elements ------------------------------------------------------------------------------

    def check(self, g: Any) -> Tensor:
        return check_orthogonal(g, f"O({self.n})", self.n)

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        rotation = self.rotations.sample(n, generator=generator, dtype=dtype, device=device)
        flip = torch.randint(2, (n,), generator=generator, device=device)
        rotation[:, 0] *= (1 - 2 * flip)[:, None]
        return rotation

    def quadrature(self, degree: int | None = None) -> tuple[Tensor, Tensor]:
        """The quadrature of SO(n) on both components."""
        rotations, weights = self.rotations.quadrature(degree)
        return torch.cat([rotations, self._reflection(0) @ rotations]), weights.repeat(2) / 2

    def log(self, g: Any) -> Tensor:
        """As for SO(n); raises ValueError for determinant -1, which has no logarithm."""
        g = self.check(g)
        if concrete(g) and bool((determinant_sign(g) < 0).any()):
            raise ValueError(f"elements of {self!r} with determinant -1 have no logarithm")
        return self.rotations.log(g)

    def length(self, g: Any) -> Tensor:
        raise ValueError(f"elements of {self!r} mix angles and a reflection: there is no one length")

    @property
    def diameter(self) -> float:
        raise ValueError(f"elements of {self!r} mix angles and a reflection: there is no one length")

    def lengths(self, g: Any) -> tuple[Tensor, Tensor]:
        """|log R| for g = R F^j with F the reflection x_1 -> -x_1, and j."""
        g = self.check(g)
        sign = determinant_sign(g)
        rotation = torch.cat([g[..., :1] * sign[..., None, None], g[..., 1:]], dim=-1)
        return self.rotations.length(rotation), (1 - sign) / 2

    @property
    def diameters(self) -> tuple[float, float]:
        return self.rotations.diameter, 1.0

    def _reflection(self, axis: int) -> Tensor:
        reflection = self.identity
        reflection[axis, axis] = -1
        return reflection

    @property
    def discrete_elements(self) -> tuple[Any, ...]:
        return (self._reflection(0),)

    def conjugates(self) -> tuple[Element, ...]:
        raise ValueError(
            f"the reflections of {self!r} are conjugate to one another, one for each direction: use"
            ' generators="given"'
        )

    # -- irreps --------------------------------------------------------------------------------

    def check_label(self, label: Any) -> Label:
        weight, twist = label, 0
        paired = isinstance(label, (tuple, list)) and len(label) == 2
        if paired and isinstance(label[0], (tuple, list)):
            weight, twist = label
            if isinstance(twist, bool) or twist not in (0, 1):
                raise ValueError(
                    f"label must be a pair (lambda, j), j in (0, 1), for {self!r}, got {label!r}"
                )
        weight = check_weight(weight, self.n, repr(self))
        if twist and has_mirror(weight, self.n):
            raise ValueError(
                f"label must have j = 0 where lambda_m > 0 for {self!r}, got {label!r}: the factor"
                " det(g) gives an equivalent irrep"
            )
        return weight, int(twist)

    def weight(self, label: Label) -> Weight:
        return label[0]

    def labels(self, bounds: Weight) -> tuple[Label, ...]:
        weights = weights_up_to(bounds, self.n)
        return tuple((w, j) for w in weights for j in ((0,) if has_mirror(w, self.n) else (0, 1)))

    def reflection_sign(self, label: Label) -> int:
        """The highest weight vector holds no factor of the last axis, unless lambda_m > 0 and n is even."""
        return 0 if has_mirror(label[0], self.n) else 1 - 2 * label[1]

    def irrep_matrix(self, label: Label, g: Element, dtype: torch.dtype) -> Tensor:
        natural = super().irrep_matrix(label, g, dtype)
        return natural * determinant_sign(g)[..., None, None].to(dtype) if label[1] else natural

    def irrep_operators(self, label: Label) -> tuple[np.ndarray, ...]:
        reflection = self.irrep_matrix(label, self._reflection(self.n - 1), torch.float64)
        return (*self.irrep_generators(label), reflection.numpy())

    def restrict_irrep(self, label: Label, subgroup: Group) -> tuple[tuple[Any, ...], np.ndarray]:
        """Subgroups: O(n), SO(n), and O(k) and SO(k) as matrices that move the first k axes."""
        if subgroup == self:
            return (label,), np.eye(self.irrep_dim(label))
        if isinstance(subgroup, SpecialOrthogonal) and subgroup.n <= self.n:
            labels, basis = self._restrict_to_rotations(label[0])
            if subgroup.n == self.n:
                return labels, basis
            parts = [self.rotations.restrict_irrep(part, subgroup) for part in labels]
            starts = np.cumsum([0] + [self.rotations.irrep_dim(part) for part in labels])
            columns = [
                basis[:, start:end] @ q for start, end, (_, q) in zip(starts, starts[1:], parts, strict=False)
            ]
            return tuple(p for found, _ in parts for p in found), np.concatenate(columns, axis=1)
        if isinstance(subgroup, Orthogonal) and subgroup.n < self.n:
            x = self.irrep_generators(label)
            kept = [x[self.algebra.planes.index(plane)] for plane in subgroup.algebra.planes]
            kept.append(self.irrep_matrix(label, self._reflection(subgroup.n - 1), torch.float64).numpy())
            return subgroup.restriction(kept, label[0][0])
        raise ValueError(f"restriction from {self!r} to {subgroup!r} is not known")

    def _restrict_to_rotations(self, weight: Weight) -> tuple[tuple[Weight, ...], np.ndarray]:
        """The irreps of SO(n) in an irrep, whatever its j."""
        if self.n % 4 == 0 and has_mirror(weight, self.n):
            mirror = (*weight[:-1], -weight[-1])
            return (weight, mirror), np.concatenate(mirror_basis(self.algebra, weight), axis=1)
        return (weight,), np.eye(self.irrep_dim((weight, 0)))
