"""A projection of weights as data: two bases, what their coordinates are, a factor for every pair of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from equikernels.ops.bases import Basis

Operator = float | np.ndarray
"""What happens to the d_out x d_in matrices between a copy of one type and a copy of another: they are
multiplied by a number, or, stacked by columns, by a symmetric matrix (d_in d_out, d_in d_out)."""


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a weight.

    Attributes:
        basis: the change to coordinates that fall into types.
        types: for each type an integer array (dim, copies): its coordinates, those of one copy in a column.
            All types together hold every coordinate once.
    """

    basis: Basis
    types: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        listed = np.concatenate([t.ravel() for t in self.types]) if self.types else np.zeros(0, dtype=int)
        if not np.array_equal(np.sort(listed), np.arange(self.basis.dim)):
            raise ValueError(
                f"types: expected every one of the {self.basis.dim} coordinates once, got {listed.tolist()}"
            )

    @property
    def dim(self) -> int:
        """Coordinates of one channel."""
        return self.basis.dim


@dataclass(frozen=True, eq=False)
class BlockProjection:
    """P(W) = U_out (F o (U_out^T W U_in)) U_in^T on every m x n block of a weight.

    Attributes:
        out, inn: the two sides.
        scale: F on blocks (..., m, n) in coordinates, differentiable; must not change its argument.
        find_operators: gives F by pairs of types (out, in) where it is not zero, float64; None where F is not
            constant, as with a cut-off that is trained.
        known_tiles: what is made of `operators` for numbers of channels, kept.
        scale_into: the same F for plain tensors of the CPU: ``scale_into(x, out)``, where out may be x; None:
            there is no such kernel.
    """

    out: Side
    inn: Side
    scale: Callable[[Tensor], Tensor]
    find_operators: Callable[[], Mapping[tuple[int, int], Operator]] | None = None
    scale_into: Callable[[Tensor, Tensor], None] | None = None
    known_tiles: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False)

    @property
    def is_constant(self) -> bool:
        """Whether F depends on nothing that is trained."""
        return self.find_operators is not None

    @cached_property
    def operators(self) -> Mapping[tuple[int, int], Operator]:
        """F by pairs of types (out, in) where it is not zero; raises ValueError where F is not constant."""
        if self.find_operators is None:
            raise ValueError("the factors depend on something that is trained: there is no list of them")
        return self.find_operators()
