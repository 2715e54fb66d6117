"""An orthogonal change of basis and the cheapest way found to apply it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from equikernels.ops.bases.orbits import OrbitFamily, OrbitTransform, connected_parts
from equikernels.ops.bases.transform import orbit_transform

SMALL_ORBIT = 16
"""Orbits up to this size are mixed in registers; beyond, a dense product is as fast."""

MOST_SECTORS = 16
"""More products than this for one change of basis are too small to be fast."""

SECTOR_TOLERANCE = 1e-9
"""Entries between two bases below this are rounding: they join no sectors."""

WORTHWHILE = 0.75
"""Share of the dense product's multiplications above which structure is not worth its passes."""


@dataclass(frozen=True, eq=False)
class Sector:
    """A part of the coordinates that is mixed among itself: `rows` of one basis, `columns` of the other."""

    rows: slice
    columns: slice
    matrix: np.ndarray


class Basis:
    """An orthogonal matrix U (dim, dim), float64: x -> x U gives coordinates, y -> y U^T the vector.

    It is applied as nothing at all (the identity), as an orbit transform, as an orbit transform followed by
    dense products in sectors, or as a dense product, whichever multiplies least.

    Args:
        matrix: U, orthogonal to 1e-9; the columns are the basis.
        symmetry: an orthogonal matrix T that splits U, such as a basis adapted to the symmetries of a grid:
            T^T U is then block-diagonal up to the order of its rows and columns.

    Raises:
        ValueError: a matrix that is not square or not orthogonal.

    >>> Basis(np.eye(4)).kind, Basis(np.eye(4)[::-1]).kind
    ('identity', 'orbits')
    """

    def __init__(self, matrix: np.ndarray, symmetry: np.ndarray | None = None) -> None:
        matrix = np.array(matrix, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"matrix: expected (dim, dim), got {matrix.shape}")
        defect = np.abs(matrix.T @ matrix - np.eye(len(matrix))).max(initial=0.0)
        if not defect <= 1e-9:
            raise ValueError(f"matrix: expected orthogonal columns, but |U^T U - I| is {defect:.1e}")
        matrix.setflags(write=False)
        self.matrix = matrix
        self.dim = len(matrix)
        self.orbits: OrbitTransform | None = None
        self.sectors: tuple[Sector, ...] = ()
        self._dense: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._blocks: dict[tuple[torch.dtype, torch.device], tuple[Tensor, ...]] = {}
        self.kind = self._find(symmetry)

    def _find(self, symmetry: np.ndarray | None) -> str:
        if np.array_equal(self.matrix, np.eye(self.dim)):
            return "identity"
        whole = OrbitTransform.of_matrix(self.matrix)
        if whole is not None and whole.largest <= SMALL_ORBIT:
            self.orbits = whole
            return "orbits"
        if symmetry is not None and self._split(symmetry):
            return "sectors"
        return "dense"

    def _split(self, symmetry: np.ndarray) -> bool:
        """Find sectors that are contiguous columns of U, and put T's columns in their order."""
        inner = symmetry.T @ self.matrix
        rows, columns, _ = connected_parts(np.where(np.abs(inner) > SECTOR_TOLERANCE, inner, 0.0))
        transform = OrbitTransform.of_matrix(symmetry)
        if transform is None or transform.largest > SMALL_ORBIT:
            return False
        # The coordinates of a sector side by side, and in them those of equal place in their orbits.
        listed = [outputs for family in transform.families for outputs in family.outputs]
        order = np.concatenate(listed)
        order = order[np.argsort(rows[order], kind="stable")]
        # A run of columns that belong to one sector; a sector may have several runs.
        starts = np.flatnonzero(np.diff(columns, prepend=-1))
        if len(starts) > MOST_SECTORS:
            return False
        sectors = []
        for start, end in zip(starts, [*starts[1:], self.dim], strict=True):
            own = np.flatnonzero(rows[order] == columns[start])
            block = slice(int(own[0]), int(own[-1]) + 1)
            chosen = slice(int(start), int(end))
            sectors.append(Sector(block, chosen, np.ascontiguousarray(inner[order][block, chosen])))
        cost = sum(s.matrix.size for s in sectors) + transform.multiplications
        if cost > WORTHWHILE * self.dim**2:
            return False
        self.orbits, self.sectors = transform.renamed(np.argsort(order)), tuple(sectors)
        return True

    @cached_property
    def stages(self) -> tuple[OrbitTransform, ...]:
        """The sparse orthogonal matrices whose product is U, where that is how it is applied."""
        if self.orbits is None:
            return ()
        if not self.sectors:
            return (self.orbits,)
        families = []
        for rows in sorted({(s.rows.start, s.rows.stop) for s in self.sectors}):
            runs = [s for s in self.sectors if (s.rows.start, s.rows.stop) == rows]
            outputs = np.concatenate([np.arange(s.columns.start, s.columns.stop) for s in runs])
            mix = np.concatenate([s.matrix for s in runs], axis=1).T
            families.append(OrbitFamily.single(np.arange(*rows), outputs, mix))
        return self.orbits, OrbitTransform(self.dim, tuple(families))

    @cached_property
    def multiplications(self) -> int:
        """Multiplications for one vector."""
        if self.kind == "identity":
            return 0
        orbits = self.orbits.multiplications if self.orbits is not None else self.dim**2
        return orbits + sum(sector.matrix.size for sector in self.sectors)

    def dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """U in a dtype on a device, kept."""
        key = (dtype, device)
        if key not in self._dense:
            self._dense[key] = torch.tensor(self.matrix, dtype=dtype, device=device)
        return self._dense[key]

    def blocks(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        """The sectors' matrices in a dtype on a device, kept."""
        key = (dtype, device)
        if key not in self._blocks:
            self._blocks[key] = tuple(
                torch.tensor(s.matrix, dtype=dtype, device=device) for s in self.sectors
            )
        return self._blocks[key]

    def analyse(self, x: Tensor) -> Tensor:
        """x U for x (..., dim): the coordinates of vectors."""
        if self.kind == "identity":
            return x
        if self.orbits is None:
            return x @ self.dense(x.dtype, x.device)
        moved = orbit_transform(x, self.orbits)
        if not self.sectors:
            return moved
        blocks = self.blocks(x.dtype, x.device)
        parts = [moved[..., s.rows] @ block for s, block in zip(self.sectors, blocks, strict=True)]
        return torch.cat(parts, dim=-1)

    def synthesise(self, y: Tensor) -> Tensor:
        """y U^T for y (..., dim): the vectors of coordinates."""
        if self.kind == "identity":
            return y
        if self.orbits is None:
            return y @ self.dense(y.dtype, y.device).mT
        if not self.sectors:
            return orbit_transform(y, self.orbits, inverse=True)
        blocks = self.blocks(y.dtype, y.device)
        by_rows: dict[tuple[int, int], Tensor] = {}
        for s, block in zip(self.sectors, blocks, strict=True):
            key = (s.rows.start, s.rows.stop)
            part = y[..., s.columns] @ block.mT
            by_rows[key] = by_rows[key] + part if key in by_rows else part
        moved = torch.cat([by_rows[key] for key in sorted(by_rows)], dim=-1)
        return orbit_transform(moved, self.orbits, inverse=True)

    def __repr__(self) -> str:
        cost = f"{self.multiplications} of {self.dim**2} multiplications"
        return f"Basis({self.dim} coordinates, {self.kind}, {cost})"
