"""What a voxel grid is: its size, its mask, the rotations of the cube as index maps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class VoxelGrid:
    """Voxels of an N x N x N volume (depth, row, column), kept where the mask is true.

    Voxel k of the representation is the k-th kept voxel in row-major order; without a mask its index is
    (depth * N + row) * N + column.

    Attributes:
        side: the number N of voxels along each axis.
        mask: bytes of the boolean mask, or None when every voxel is kept.
    """

    side: int
    mask: bytes | None = None

    @cached_property
    def kept(self) -> np.ndarray:
        """Row-major indices of the kept voxels."""
        if self.mask is None:
            return np.arange(self.side**3)
        return np.flatnonzero(np.frombuffer(self.mask, dtype=bool))

    @property
    def dim(self) -> int:
        """Number of kept voxels."""
        return int(self.kept.size)

    @cached_property
    def doubled_coordinates(self) -> np.ndarray:
        """Twice the centred coordinates (dim, 3) of the kept voxels: integers, x right, y up, z depth."""
        depth, row, column = np.unravel_index(self.kept, (self.side,) * 3)
        return np.stack([2 * column, 2 * (self.side - 1 - row), 2 * depth], axis=1) - (self.side - 1)

    def source(self, matrix: np.ndarray) -> np.ndarray:
        """Index map of a rotation (3, 3) of the cube: voxel p takes what was at the inverse image of p."""
        # Rows times the matrix: the transpose, the inverse rotation, applied to each voxel.
        x, y, z = ((self.doubled_coordinates @ matrix + self.side - 1) // 2).T
        moved = (z * self.side + self.side - 1 - y) * self.side + x
        position = np.full(self.side**3, -1)
        position[self.kept] = np.arange(self.dim)
        source = np.asarray(position[moved])
        if (source < 0).any():
            raise ValueError("mask must be symmetric under the rotations of the group; it is not")
        return source

    def slices(self) -> list[np.ndarray]:
        """The boolean masks (N, N) of the slices of equal depth."""
        keep = np.zeros(self.side**3, dtype=bool)
        keep[self.kept] = True
        return list(keep.reshape((self.side,) * 3))

    def fill(self, values: Tensor) -> Tensor:
        """Volumes (..., N, N, N) from vectors (..., dim) of kept voxels, zero where the mask is false."""
        volume = values.new_zeros(*values.shape[:-1], self.side**3)
        volume[..., torch.tensor(self.kept, device=values.device)] = values
        return volume.reshape(*values.shape[:-1], *(self.side,) * 3)


def make_voxels(size: Any, mask: Any) -> VoxelGrid:
    """A grid from the public arguments `size` (int or (N, N, N)) and `mask` (None, "ball", boolean)."""
    triple = (size,) * 3 if isinstance(size, (int, np.integer)) else size
    try:
        sides = tuple(triple)
    except TypeError:
        raise TypeError(f"size must be an integer or a triple (N, N, N), got {size!r}") from None
    whole = all(isinstance(side, (int, np.integer)) and not isinstance(side, bool) for side in sides)
    if len(sides) != 3 or not whole or min(sides) < 1 or len(set(sides)) != 1:
        raise ValueError(
            f"size must be an integer N >= 1 or a triple (N, N, N): only cubes of voxels, got {size!r}"
        )
    grid = VoxelGrid(int(sides[0]))
    if mask is None:
        return grid
    if isinstance(mask, str):
        if mask != "ball":
            raise ValueError(f'mask must be None, "ball" or a boolean tensor, got {mask!r}')
        keep = (grid.doubled_coordinates**2).sum(axis=1) <= grid.side**2
    else:
        keep = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
        if keep.dtype != bool or keep.shape != (grid.side,) * 3:
            raise ValueError(
                f"mask must be boolean of shape {(grid.side,) * 3}, got {keep.dtype} {keep.shape}"
            )
        if not keep.any():
            raise ValueError("mask must keep at least one voxel; it is false everywhere")
    return VoxelGrid(grid.side, np.ascontiguousarray(keep).tobytes())
