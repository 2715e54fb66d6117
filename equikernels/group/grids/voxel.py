"""Representations of rotations on the voxels of a cube."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import block_diag
from torch import Tensor

from equikernels.group.cube import CubeGroup
from equikernels.group.cyclic import CyclicGroup
from equikernels.group.grids.geometry import PixelGrid
from equikernels.group.grids.pixel import SpectralGrid
from equikernels.group.grids.spectral import spectral_modes
from equikernels.group.grids.voxel_geometry import VoxelGrid, make_voxels
from equikernels.group.grids.voxel_interpolated import InterpolatedVoxels
from equikernels.group.grids.voxel_representation import QUARTER_TURN, VoxelRepresentation
from equikernels.group.group import Group
from equikernels.group.permutation import PermutationRepresentation
from equikernels.group.representation import Representation
from equikernels.group.so2 import SO2
from equikernels.group.so3 import SO3


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
        group: CubeGroup(), all rotations that carry the cube to itself; SO3(), all rotations; SO2() or
            CyclicGroup(n), turns about z.
        method: "permutation": exact index maps (CubeGroup and C_1, C_2, C_4). "spectral": SO2() and any
            CyclicGroup(n), an exact orthogonal group law, on every slice the spectral representation of
            `pixel_grid`; its basis is a dense float64 matrix (N^3, N^3), so it is for small N (134 MB
            for N = 16). "interpolated": SO3(), SO2() and CyclicGroup(n), trilinear sampling, zero outside: no
            representation, and no bound holds for it, but any rotation and, by its `apply`, any size.
            "auto": permutation where it exists, else spectral, for SO3() interpolated.
        mask: "ball" keeps the voxels within N / 2 of the centre; a boolean (N, N, N) tensor keeps its true
            voxels and must have the group's symmetry (spectral: each slice that of the square). Interpolation
            takes any mask, what lies outside counts as zero.

    Raises:
        ValueError: unknown method or mask, a group without this action, a size that is no cube.
        TypeError: a size that is no number and no triple.

    No exact action of SO(3) is offered: three sinc derivatives cannot close so(3) in finite dimension.

    >>> import torch
    >>> rho = voxel_grid(3, CubeGroup())
    >>> volume = torch.rand(3, 3, 3, dtype=torch.float64)
    >>> turned = (rho(1) @ volume.reshape(27)).reshape(3, 3, 3)
    >>> torch.equal(turned, torch.rot90(volume, 1, (-2, -1)))
    True
    """
    grid = make_voxels(size, mask)
    if not isinstance(group, (CubeGroup, SO3, SO2, CyclicGroup)):
        raise ValueError(
            "group must be CubeGroup(), SO3(), or SO2() or CyclicGroup(n) for turns about z, for voxel_grid, "
            f"got {group!r}"
        )
    if method not in ("auto", "permutation", "spectral", "interpolated"):
        raise ValueError(
            'method must be "auto", "permutation", "spectral" or "interpolated" for voxel_grid, '
            f"got {method!r}"
        )
    permutes = isinstance(group, CubeGroup) or (isinstance(group, CyclicGroup) and group.n in (1, 2, 4))
    otherwise = "interpolated" if isinstance(group, SO3) else "spectral"
    if method == "permutation" and not permutes:
        raise ValueError(f'{group!r} does not carry voxels to voxels: use method="{otherwise}"')
    chosen = ("permutation" if permutes else otherwise) if method == "auto" else method
    masked = "" if grid.mask is None else ", masked"
    name = f"{chosen} voxels {grid.side}x{grid.side}x{grid.side}{masked}"
    if chosen == "permutation":
        return PermutationVoxels(group, grid, name)
    if isinstance(group, CubeGroup):
        raise ValueError(
            f'method="{chosen}" is for other groups; {group!r} acts exactly by method="permutation"'
        )
    if chosen == "interpolated":
        return InterpolatedVoxels(group, grid, name)
    if isinstance(group, SO3):
        raise ValueError(
            'method="spectral" turns about z, SO2() and CyclicGroup(n); SO(3) acts by method="interpolated"'
        )
    return SpectralVoxels(group, grid, name)
