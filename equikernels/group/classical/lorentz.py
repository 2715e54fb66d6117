"""The Lorentz group SO+(1,3): rotations and boosts of space-time. An element is its 4 x 4 matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.classical.algebra import MatrixAlgebra
from equikernels.group.classical.logarithm import lorentz_logarithm
from equikernels.group.classical.special_orthogonal import SpecialOrthogonal
from equikernels.group.classical.tensor_group import TensorGroup
from equikernels.group.classical.tensor_irreps import tensor_matrix
from equikernels.group.classical.weights import Weight, check_weight, has_mirror, weights_up_to
from equikernels.group.group import Group
from equikernels.group.orthogonal_matrices import HALF_TOLERANCE, TOLERANCES, concrete, floating

if TYPE_CHECKING:
    from equikernels.group.representation import Representation

METRIC = (1.0, -1.0, -1.0, -1.0)
"""The diagonal of eta."""


@dataclass(frozen=True)
class Lorentz(TensorGroup):
    """Proper orthochronous Lorentz transformations: g^T eta g = eta with eta = diag(1, -1, -1, -1),
    det g = 1, g_00 >= 1.

    Elements are matrices (..., 4, 4) that act on columns (t, x, y, z), tensors or arrays. The Lie algebra has
    the basis J_x, J_y, J_z (turns by radians, counter-clockwise seen from the tips of the axes; skew), K_x,
    K_y, K_z (boosts by rapidities: exp(r K_x) takes (1, 0, 0, 0) to (cosh r, sinh r, 0, 0); symmetric):
    [J_x, J_y] = J_z, [J_x, K_y] = K_z, [K_x, K_y] = -J_z.

    Irreps are labelled (a, b), a >= b >= 0, or an integer a for (a, 0): the highest weights of the
    complexified algebra, which is that of SO(4). (a, 0) are the traceless symmetric tensors of degree a;
    b > 0 is of complex type, (1, 1) the antisymmetric tensors in the order tx, ty, tz, xy, xz, yz. The
    complex spins are (a + b) / 2 and (a - b) / 2. Matrices of irreps are not orthogonal, but
    rho(g^T) = rho(g)^T, so that a representation is still an orthogonal matrix times a direct sum of irreps.

    The group is not compact: bounds, `length`, `diameter`, `quadrature` and `regular` raise ValueError.

    >>> Lorentz().irrep((1, 1)).dim
    6
    >>> (Lorentz().defining() @ Lorentz().defining()).irreps
    (((0, 0), 1), ((1, 1), 1), ((2, 0), 1))
    """

    def __repr__(self) -> str:
        return "Lorentz()"

    @property
    def algebra(self) -> MatrixAlgebra:
        return MatrixAlgebra(4, lorentzian=True)

    @property
    def is_compact(self) -> bool:
        return False

    # -- elements ------------------------------------------------------------------------------

    def check(self, g: Any) -> Tensor:
        matrix = floating(g, "elements of the Lorentz group are matrices, whose entries")
        if matrix.shape[-2:] != (4, 4):
            raise ValueError(
                f"elements of the Lorentz group must have shape (..., 4, 4), got {tuple(matrix.shape)}"
            )
        if not concrete(matrix) or matrix.numel() == 0:
            return matrix
        values = matrix.detach()
        if values.dtype not in TOLERANCES:
            values = values.float()
        eta = values.new_tensor(METRIC).diag()
        # Rounding of the entries of a boost grows with their squares.
        size = values.abs().amax((-2, -1)).square().clamp(min=1)
        defect = float(((values.mT @ eta @ values - eta).abs().amax((-2, -1)) / size).max())
        tolerance = TOLERANCES.get(matrix.dtype, HALF_TOLERANCE)
        if not np.isfinite(defect):
            raise ValueError(
                "elements of the Lorentz group must be finite, but some entries are NaN or infinite"
            )
        if defect > tolerance:
            raise ValueError(
                "elements of the Lorentz group must preserve the metric diag(1, -1, -1, -1), but"
                f" |g^T eta g - eta| / |g|^2 reaches {defect:.1e}"
                f" (allowed for {matrix.dtype}: {tolerance:.0e})"
            )
        if bool((values[..., 0, 0] < 0).any()):
            raise ValueError("elements of the Lorentz group must have g_00 >= 1, got one that reverses time")
        if bool((_space_determinant(values) < 0).any()):
            raise ValueError("elements of the Lorentz group must have determinant +1, got -1")
        return matrix

    def inverse(self, g: Any) -> Tensor:
        """eta g^T eta."""
        matrix = self.check(g)
        eta = matrix.new_tensor(METRIC)
        return eta[:, None] * matrix.mT * eta

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """`n` rotations from the Haar measure of SO(3), each times a boost in a uniform direction with
        rapidity |N(0, 1)|. The group has no Haar probability; this law is invariant under rotations."""
        dtype = dtype or torch.float64
        working = torch.promote_types(dtype, torch.float32)
        turns = SpecialOrthogonal(3).sample(n, generator=generator, dtype=working, device=device)
        rotation = torch.nn.functional.pad(turns, (1, 0, 1, 0))
        rotation[:, 0, 0] = 1
        direction = torch.randn(n, 3, generator=generator, dtype=working, device=device)
        rapidity = torch.randn(n, 1, generator=generator, dtype=working, device=device)
        direction = rapidity * direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        return (rotation @ self.exp(torch.nn.functional.pad(direction, (3, 0)))).to(dtype)

    def log(self, g: Any) -> Tensor:
        """Angles, then rapidities (..., 6), of a shortest logarithm; differentiable where it is unique.

        A turn by pi has two. Computed in float64 or float32, to the rounding of the entries of g.
        """
        g = self.check(g)
        return lorentz_logarithm(g.to(torch.promote_types(g.dtype, torch.float32))).to(g.dtype)

    def length(self, g: Any) -> Tensor:
        raise ValueError("the Lorentz group is not compact: no bound holds, so its elements have no length")

    @property
    def diameter(self) -> float:
        raise ValueError("the Lorentz group is not compact: no bound holds, so it has no diameter")

    # -- irreps --------------------------------------------------------------------------------

    def check_label(self, label: Any) -> Weight:
        return check_weight(label, 4, repr(self))

    def weight(self, label: Weight) -> Weight:
        return label

    def labels(self, bounds: Weight) -> tuple[Weight, ...]:
        return tuple(weights_up_to(bounds, 4))

    def irrep_type(self, label: Weight) -> int:
        return 2 if has_mirror(label, 4) else 1

    def regular(self, max_label: int | None = None) -> Representation:
        raise ValueError(
            "the Lorentz group is not compact: its regular representation holds none of these irreps"
        )

    def dual_matrix(self, label: Weight) -> np.ndarray:
        """The symmetric orthogonal H (d, d), float64, with rho(g^-1)^T = H rho(g) H^T: the action of eta.

        g^-1 = eta g^T eta, and eta acts on tensors like any matrix that preserves the metric.
        """
        eta = torch.tensor(METRIC, dtype=torch.float64).diag()
        return tensor_matrix(self.algebra, self.check_label(label), eta).numpy()

    def restrict_irrep(self, label: Weight, subgroup: Group) -> tuple[tuple[Any, ...], np.ndarray]:
        """Subgroups: the Lorentz group, and SpecialOrthogonal(3) as the rotations of (x, y, z)."""
        if subgroup == self:
            return (label,), np.eye(self.irrep_dim(label))
        if subgroup != SpecialOrthogonal(3):
            raise ValueError(f"restriction from {self!r} to {subgroup!r} is not known")
        turn_x, turn_y, turn_z = self.irrep_generators(label)[:3]
        rotations = SpecialOrthogonal(3)
        return rotations.restriction([turn_z, -turn_y, turn_x], label[0])


def _space_determinant(g: Tensor) -> Tensor:
    """The determinant (...) of the block of x, y, z: g_00 det g, without the cancellation of large boosts."""
    space = g[..., 1:, 1:]
    volume: Tensor = (torch.linalg.cross(space[..., 0, :], space[..., 1, :]) * space[..., 2, :]).sum(-1)
    return volume
