"""What actions by interpolation refuse: they keep no group law, so they have none of what comes from one."""

from __future__ import annotations

from typing import Any

import numpy as np

from equikernels.group.group import Group
from equikernels.group.representation import Representation


class Interpolated(Representation):
    """Matrices of interpolation, for comparison: no representation, not orthogonal, no irreps."""

    @property
    def is_orthogonal(self) -> bool:
        return False

    @property
    def irreps(self) -> tuple[tuple[Any, int], ...]:
        raise ValueError(f"{self!r} is not a representation: interpolation has no irreps")

    @property
    def change_of_basis(self) -> np.ndarray:
        raise ValueError(f"{self!r} is not a representation: interpolation has no normal form")

    @property
    def _basis(self) -> np.ndarray:
        return self.change_of_basis

    def restrict(self, subgroup: Group, embedding: Any = None) -> Representation:
        raise ValueError(f"{self!r} cannot be restricted: build the grid of {subgroup!r} instead")

    def __add__(self, other: Representation) -> Representation:
        raise ValueError(f"{self!r} cannot be added: it is not a representation")

    def __mul__(self, copies: int) -> Representation:
        raise ValueError(f"{self!r} cannot be multiplied: it is not a representation")

    __rmul__ = __mul__

    def __matmul__(self, other: Representation) -> Representation:
        raise ValueError(f"{self!r} has no tensor product: it is not a representation")

    def dual(self) -> Representation:
        raise ValueError(f"{self!r} has no dual: it is not a representation")
