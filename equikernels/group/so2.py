"""SO(2): rotations of the plane. An element is its angle in radians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group import acting
from equikernels.group.group import Group

if TYPE_CHECKING:
    from equikernels.group.representation import Representation


def check_frequency(label: Any) -> int:
    """An irrep label of SO(2) or C_n as a Python integer; raises ValueError where it is none."""
    if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
        raise ValueError(f"label must be an integer frequency, got {label!r}")
    return int(label)


@dataclass(frozen=True)
class SO2(Group):
    """Rotations of the plane by an angle in radians, counter-clockwise as displayed.

    Elements are angles: Python numbers or floating tensors of any shape. Angles that differ by
    2 pi are the same element; results lie in (-pi, pi]. The irrep of frequency k >= 1 is

        rho_k(t) = [[cos kt, -sin kt], [sin kt, cos kt]]    on (x right, y up),

    k = 0 is trivial. Its Lie generator is k [[0, -1], [1, 0]].

    >>> float(SO2().compose(3.0, 1.0))  # 4 rad, less a full turn
    -2.2831853071795862
    >>> SO2().irrep(2)(torch.tensor(math.pi / 4)).round().int().tolist()
    [[0, -1], [1, 0]]
    """

    @property
    def lie_dim(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "SO(2)"

    @property
    def identity(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    def check(self, g: Any) -> Tensor:
        if isinstance(g, Tensor):
            if not g.is_floating_point():
                raise TypeError(f"elements of SO(2) are angles in radians, floating; got {g.dtype}")
            return g
        angle = torch.as_tensor(np.asarray(g))
        if angle.dtype == torch.bool or angle.is_complex():
            raise TypeError(f"elements of SO(2) are angles in radians, floating; got {angle.dtype}")
        return angle if angle.is_floating_point() else angle.double()

    @staticmethod
    def _wrap(angle: Tensor) -> Tensor:
        return -(torch.remainder(math.pi - angle, 2 * math.pi) - math.pi)

    def compose(self, g: Any, h: Any) -> Tensor:
        return self._wrap(self.check(g) + self.check(h))

    def inverse(self, g: Any) -> Tensor:
        return self._wrap(-self.check(g))

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        unit = torch.rand(n, generator=generator, dtype=dtype or torch.float64, device=device)
        return math.pi - 2 * math.pi * unit

    def quadrature(self, degree: int | None = None) -> tuple[Tensor, Tensor]:
        """degree + 1 equal angles: the mean of exp(i k t) over them is 0 for 0 < |k| <= degree."""
        if degree is None or check_frequency(degree) < 0:
            raise ValueError(f"degree must be a frequency >= 0 for SO(2), got {degree!r}")
        count = check_frequency(degree) + 1
        angles = self._wrap(torch.arange(count, dtype=torch.float64) * (2 * math.pi / count))
        return angles, torch.full((count,), 1 / count, dtype=torch.float64)

    def exp(self, a: Any) -> Tensor:
        """The angle of algebra coordinates (..., 1); a single number is its one coordinate."""
        a = self.check(a)
        if a.ndim and a.shape[-1] != 1:
            raise ValueError(f"a must have shape (..., 1) for SO(2), got {tuple(a.shape)}")
        return self._wrap(a[..., 0] if a.ndim else a)

    def log(self, g: Any) -> Tensor:
        """Algebra coordinates (..., 1) with entries in (-pi, pi]."""
        return self._wrap(self.check(g))[..., None]

    def word_length(self, g: Any) -> Tensor:
        raise ValueError("SO(2) has no discrete generators, so no words; length(g) is |log g|")

    def length(self, g: Any) -> Tensor:
        """|log g| in radians, at most pi."""
        return self._wrap(self.check(g)).abs()

    def act(self, z: Tensor, g: Any, *, method: str = "auto", padding: str | None = None) -> Tensor:
        acting.check_images(self, z)
        method = acting.check_method(self, method, padding, acting.PLANAR_METHODS, exact=False)
        return acting.turn_images(z, acting.on_device(self, g, z), method, padding)

    @property
    def diameter(self) -> float:
        return math.pi

    @property
    def injectivity_radius(self) -> float:
        """The radius below which exp is one-to-one: pi."""
        return math.pi

    @property
    def discrete_elements(self) -> tuple[Any, ...]:
        return ()

    def check_label(self, label: Any) -> int:
        k = check_frequency(label)
        if k < 0:
            raise ValueError(f"label must be a frequency k >= 0 for SO(2), got {k}")
        return k

    def irrep_dim(self, label: int) -> int:
        return 1 if label == 0 else 2

    def irrep_matrix(self, label: int, g: Tensor, dtype: torch.dtype) -> Tensor:
        if label == 0:
            return torch.ones(*g.shape, 1, 1, dtype=dtype, device=g.device)
        # The angle keeps its own precision until the sine is taken: k t in a narrow type loses the turn.
        angle = label * (g if g.dtype in (torch.float32, torch.float64) else g.float())
        c, s = angle.cos(), angle.sin()
        return torch.stack([c, -s, s, c], dim=-1).reshape(*g.shape, 2, 2).to(dtype)

    def irrep_generators(self, label: int) -> np.ndarray:
        if label == 0:
            return np.zeros((1, 1, 1))
        return label * np.array([[[0.0, -1.0], [1.0, 0.0]]])

    def tensor_candidates(self, left: int, right: int) -> tuple[int, ...]:
        return tuple(sorted({abs(left - right), left + right}))

    def restrict_irrep(self, label: int, subgroup: Group) -> tuple[tuple[int, ...], np.ndarray]:
        from equikernels.group.cyclic import CyclicGroup, reduce_frequency

        if isinstance(subgroup, SO2):
            return (label,), np.eye(self.irrep_dim(label))
        if isinstance(subgroup, CyclicGroup):
            if label == 0:
                return (0,), np.eye(1)
            return reduce_frequency(label, subgroup.n)
        raise ValueError(f"restriction from SO(2) to {subgroup!r} is not known")

    def irreps(self, max_label: int | None = None) -> tuple[Representation, ...]:
        if max_label is None:
            raise ValueError("SO(2) has infinitely many irreps: say irreps(max_label=...)")
        return tuple(self.irrep(k) for k in range(max_label + 1))

    def trivial(self) -> Representation:
        return self.irrep(0)

    def defining(self) -> Representation:
        return self.irrep(1)

    def regular(self, max_label: int | None = None) -> Representation:
        """Functions on the circle up to the frequency `max_label`: dimension 2 max_label + 1."""
        from equikernels.group.representation import Representation

        if max_label is None:
            raise ValueError("the regular representation of SO(2) is infinite: say regular(max_label=...)")
        return Representation(self, [(k, 1) for k in range(self.check_label(max_label) + 1)])
