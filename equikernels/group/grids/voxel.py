"""Representations of rotations on the voxels of a cube."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor

from equikernels.group.cube import CubeGroup
from equikernels.group.cyclic import CyclicGroup
from equikernels.group.grids.geometry import PixelGrid
from equikernels.group.grids.pixel import SpectralGrid
from equikernels.group.grids.spectral import spectral_modes
from equikernels.group.group import Group
from equikernels.group.permutation import PermutationRepresentation
from equikernels.group.representation import Representation
from equikernels.group.so2 import SO2

QUARTER_TURN = 1
"""The turn about z by 90 degrees as an element of CubeGroup()."""


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
        """How the matrices are made: "permutation" or "spectral"."""
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
        turn: Any = {SO2: np.pi / 2, CubeGroup: QUARTER_TURN}.get(type(self.group))
        if isinstance(self.group, CyclicGroup) and self.group.n % 4 == 0:
            turn = self.group.n // 4
        if turn is not None:
            exact = torch.eye(self.dim, dtype=torch.float64)[
                self.grid.source(CubeGroup().matrices[QUARTER_TURN])
            ]
            report["quarter_turn"] = float((self(turn) - exact).norm()) / float(np.sqrt(self.dim))
        return report

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return ("voxels", self.group, self._grid, self._method)


class PermutationVoxels(PermutationRepresentation, VoxelRepresentation):
    """Rotations that carry voxels to voxels."""

    def __init__(self, group: Group, grid: VoxelGrid, name: str) -> None:
        if isinstance(group, CyclicGroup):
            elements: tuple[int, ...] = (4 // group.n * QUARTER_TURN % 4,)
        else:
            elements = group.discrete_elements
        sources = [grid.source(CubeGroup().matrices[g]) for g in elements]
        super().__init__(group, np.stack(sources), name)
        self._set(_grid=grid, _method="permutation")

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return ("voxels", self.group, self._grid, self._method)


class SpectralVoxels(VoxelRepresentation):
    """Turns about z by any angle: the spectral representation of the pixels on every slice."""

    _obstructed: int

    def __init__(self, group: SO2 | CyclicGroup, grid: VoxelGrid, name: str) -> None:
        masks = [mask.tobytes() for mask in grid.slices() if mask.any()]
        known = {mask: spectral_pixels(grid.side, mask) for mask in set(masks)}
        slices = [known[mask] for mask in masks]
        irreps = [pair for rep in slices for pair in rep.irreps]
        whole = Representation(SO2(), irreps, block_diag(*(rep.change_of_basis for rep in slices)))
        sorted_ = (whole if group == SO2() else whole.restrict(group)).decompose()
        self._init(group, grid.dim, name)
        self._set(_irreps=sorted_.irreps, _given_basis=sorted_._basis, _grid=grid, _method="spectral")
        self._set(_obstructed=sum(rep.obstructed_modes for rep in slices))

    @property
    def obstructed_modes(self) -> int:
        """Modes of all slices that the exact turn of the grid moves and this representation leaves fixed."""
        return self._obstructed


def spectral_pixels(side: int, mask: bytes) -> SpectralGrid:
    """The spectral representation of SO(2) on the pixels of one slice that its mask keeps."""
    grid = PixelGrid(side, side, None if all(mask) else mask)
    return SpectralGrid(SO2(), grid, spectral_modes(grid), "slice")


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


def voxel_grid(
    size: int | tuple[int, int, int],
    group: Group,
    *,
    method: str = "auto",
    mask: str | Tensor | np.ndarray | None = None,
) -> VoxelRepresentation:
    """How rotations act on the voxels of a cube (no channels): vectors of dimension N^3.

    Volumes are (D, H, W) = (N, N, N) on the axes x right (columns), y up (against the rows, row 0 on top) and
    z depth, turned about their centre. Index = (depth * N + row) * N + column. The turn about z by +90
    degrees is torch.rot90(volume, 1, (-2, -1)): that of `pixel_grid` on every slice.

    Args:
        size: N, or the triple (N, N, N).
        group: CubeGroup(), all rotations that carry the cube to itself; SO2() or CyclicGroup(n), turns
            about z.
        method: "permutation": exact index maps (CubeGroup and C_1, C_2, C_4). "spectral": SO2() and any
            CyclicGroup(n), an exact orthogonal group law, on every slice the spectral representation of
            `pixel_grid`; its basis is a dense float64 matrix (N^3, N^3), so it is for small N (134 MB
            for N = 16). "auto": permutation where it exists, else spectral.
        mask: "ball" keeps the voxels within N / 2 of the centre; a boolean (N, N, N) tensor keeps its true
            voxels and must have the group's symmetry (spectral: each slice that of the square).

    Raises:
        ValueError: unknown method or mask, a group without this action, a size that is no cube.
        TypeError: a size that is no number and no triple.

    >>> rho = voxel_grid(3, CubeGroup())
    >>> volume = torch.rand(3, 3, 3, dtype=torch.float64)
    >>> turned = (rho(1) @ volume.reshape(27)).reshape(3, 3, 3)
    >>> torch.equal(turned, torch.rot90(volume, 1, (-2, -1)))
    True
    """
    grid = make_voxels(size, mask)
    if not isinstance(group, (CubeGroup, SO2, CyclicGroup)):
        raise ValueError(
            "group must be CubeGroup(), or SO2() or CyclicGroup(n) for turns about z, for voxel_grid, "
            f"got {group!r}"
        )
    if method not in ("auto", "permutation", "spectral"):
        raise ValueError(f'method must be "auto", "permutation" or "spectral" for voxel_grid, got {method!r}')
    permutes = isinstance(group, CubeGroup) or (isinstance(group, CyclicGroup) and group.n in (1, 2, 4))
    if method == "permutation" and not permutes:
        raise ValueError(f'{group!r} does not carry voxels to voxels: use method="spectral"')
    chosen = ("permutation" if permutes else "spectral") if method == "auto" else method
    masked = "" if grid.mask is None else ", masked"
    name = f"{chosen} voxels {grid.side}x{grid.side}x{grid.side}{masked}"
    if chosen == "permutation":
        return PermutationVoxels(group, grid, name)
    if isinstance(group, CubeGroup):
        raise ValueError(
            f'method="spectral" is for SO2() and CyclicGroup(n); {group!r} acts by method="permutation"'
        )
    return SpectralVoxels(group, grid, name)
