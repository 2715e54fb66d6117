"""What all representations on voxels share: their grid, and how their defects are reported."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group.cube import CubeGroup
from equikernels.group.cyclic import CyclicGroup
from equikernels.group.grids.voxel_geometry import VoxelGrid
from equikernels.group.representation import Representation
from equikernels.group.so2 import SO2

QUARTER_TURN = 1
"""The turn about z by 90 degrees as an element of CubeGroup()."""


class VoxelRepresentation(Representation):
    """A representation that acts on the voxels of `grid`; made by `voxel_grid`."""

    _grid: VoxelGrid
    _method: str

    @property
    def grid(self) -> VoxelGrid:
        """Size and mask of the voxels acted on."""
        return self._grid

    @property
    def method(self) -> str:
        """How the matrices are made: "permutation", "spectral" or "interpolated"."""
        return self._method

    def defects(self, data: Tensor | np.ndarray | None = None) -> dict[str, float]:
        """How far the matrices are from a representation, and from the exact quarter turn about z.

        Returns:
            The entries of `Representation.defects`, then, where the group holds it, "quarter_turn":
            |rho - P| / |I| in the Frobenius norm against the exact index map P of the turn by 90 degrees.
        """
        if data is not None:
            raise ValueError("data is for pixel grids; energy shares of volumes are not reported")
        report = self._matrix_defects()
        size = float(np.sqrt(self.dim))
        for element, matrix in self._exact_turns():
            exact = torch.eye(self.dim, dtype=torch.float64)[self.grid.source(matrix)]
            difference = float((self(element) - exact).norm()) / size
            report["quarter_turn"] = max(report.get("quarter_turn", 0.0), difference)
        return report

    def _exact_turns(self) -> list[tuple[Any, np.ndarray]]:
        """Elements that carry voxels to voxels, with their matrices: the quarter turn about z."""
        turn: Any = {SO2: np.pi / 2, CubeGroup: QUARTER_TURN}.get(type(self.group))
        if isinstance(self.group, CyclicGroup) and self.group.n % 4 == 0:
            turn = self.group.n // 4
        return [] if turn is None else [(turn, CubeGroup().matrices[QUARTER_TURN])]

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return ("voxels", self.group, self._grid, self._method)
