"""Rotations of voxels by trilinear interpolation: any angle about any axis, and no group law."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.special import cosdg, sindg
from torch import Tensor

from equikernels.group.cube import CubeGroup
from equikernels.group.cyclic import CyclicGroup
from equikernels.group.defects import probe_elements
from equikernels.group.grids.interpolated import Interpolated
from equikernels.group.grids.voxel_geometry import VoxelGrid
from equikernels.group.grids.voxel_representation import VoxelRepresentation
from equikernels.group.group import Element
from equikernels.group.representation import frozen
from equikernels.group.so2 import SO2
from equikernels.group.so3 import SO3

LARGEST_MATRIX = 2**27
"""How many numbers the matrices of one call may hold: 1 GiB in float64."""


def hat(distance: Tensor) -> Tensor:
    """The weight 1 - |u| of linear interpolation, 0 beyond |u| = 1.

    Written as (|u + 1| - 2 |u| + |u - 1|) / 2, because automatic derivatives of |u| are 0 at 0: at the kinks
    u = -1, 0, 1 the derivative is then the mean of the one-sided ones, and that of the identity a central
    difference.
    """
    weight = ((distance + 1).abs() - 2 * distance.abs() + (distance - 1).abs()) / 2
    return torch.where(distance.abs() <= 1, weight, 0.0)


class InterpolatedVoxels(Interpolated, VoxelRepresentation):
    """Matrices of trilinear rotation of volumes: no representation, not orthogonal; made by `voxel_grid`.

    (rho(R) v)(p) = v(R^-1 p), interpolated between the eight voxels around, zero outside the grid. Rotations
    of the cube are exact permutations. Elsewhere the product of two matrices blurs more than the matrix of
    the product, so that no bound holds for them; `defects()` says by how much.
    """

    def __init__(self, group: SO3 | SO2 | CyclicGroup, grid: VoxelGrid, name: str) -> None:
        self._init(group, grid.dim, name)
        self._set(_grid=grid, _method="interpolated")

    # -- what it does ----------------------------------------------------------------------------------------

    def apply(self, g: Any, volume: Tensor) -> Tensor:
        """Rotated volumes (..., N, N, N) without any matrix: memory and time for 27 volumes.

        Args:
            g: elements, whose batch shape broadcasts with the leading dimensions of `volume`.
            volume: (..., N, N, N), floating, zero where the mask is false; its dtype and device are kept.

        Differentiable in the volume and in the elements of a Lie group.

        Raises:
            TypeError: a volume that is not floating.
            ValueError: a volume of another size, or one that is not zero outside the mask.

        >>> from equikernels.group import voxel_grid
        >>> rho = voxel_grid(3, SO3())
        >>> volume = torch.zeros(3, 3, 3)
        >>> volume[1, 1, 2] = 1.0  # the tip of the axis x
        >>> turned = rho.apply(SO3().exp([0.0, 0.0, np.pi / 4]), volume)
        >>> round(float(turned[1, 0, 2]), 2), round(float(turned[1, 0, 1]), 2)  # up and right; up
        (0.59, 0.21)
        """
        side = self.grid.side
        self._check_volume(volume)
        working = torch.promote_types(volume.dtype, torch.float32)
        rotations = self._rotations(self.group.to(self.group.check(g), volume.device), working)
        positions = self._positions(rotations)
        batch = torch.broadcast_shapes(rotations.shape[:-2], volume.shape[:-3])
        values = volume.to(working).flatten(-3).expand(*batch, side**3)
        nearest = positions.detach().round()
        found = values.new_zeros(*batch, self.dim)
        for offset in itertools.product((-1, 0, 1), repeat=3):
            taps = nearest + torch.tensor(offset, dtype=working, device=volume.device)
            weight = hat(positions - taps).prod(-1)
            inside = ((taps >= 0) & (taps < side)).all(-1)
            depth, row, column = torch.where(inside[..., None], taps, 0.0).long().unbind(-1)
            index = ((depth * side + row) * side + column).expand(*batch, self.dim)
            found = found + torch.where(inside, weight, 0.0) * values.gather(-1, index)
        return self.grid.fill(found).to(volume.dtype)

    def _matrix(self, g: Element, dtype: torch.dtype) -> Tensor:
        working = torch.promote_types(dtype, torch.float32)
        rotations = self._rotations(g, working)
        side, kept = self.grid.side, torch.tensor(self.grid.kept, device=rotations.device)
        self._require_room(rotations[..., 0, 0].numel() * self.dim * side**3)
        axis = torch.arange(side, dtype=working, device=rotations.device)
        depth, row, column = hat(self._positions(rotations)[..., None] - axis).unbind(-2)
        planes = torch.einsum("...pd,...pr,...pc->...pdrc", depth, row, column).flatten(-3)
        return (planes if self.grid.mask is None else planes[..., kept]).to(dtype)

    def _rotations(self, g: Element, dtype: torch.dtype) -> Tensor:
        """Matrices (..., 3, 3) of checked elements; SO(2) and C_n turn about z."""
        if isinstance(self.group, SO3):
            rotation: Tensor = g.to(dtype)
            return rotation
        if isinstance(self.group, CyclicGroup):
            # From degrees, so that quarter turns are exact.
            degrees = 360.0 * np.arange(self.group.n) / self.group.n
            table = torch.tensor(np.stack([cosdg(degrees), sindg(degrees)]), dtype=dtype, device=g.device)
            c, s = table[:, g % self.group.n].unbind(0)
        else:
            angle = g if g.dtype == torch.float64 else g.to(torch.float32)
            c, s = angle.cos().to(dtype), angle.sin().to(dtype)
        o, one = torch.zeros_like(c), torch.ones_like(c)
        return torch.stack([c, -s, o, s, c, o, o, o, one], dim=-1).reshape(*c.shape, 3, 3)

    def _positions(self, rotations: Tensor) -> Tensor:
        """(depth, row, column) at which each kept voxel p finds its value, R^-1 p: (..., dim, 3)."""
        points = (
            torch.tensor(self.grid.doubled_coordinates, dtype=rotations.dtype, device=rotations.device) / 2
        )
        x, y, z = (points @ rotations).unbind(-1)  # rows times R: the transpose applied to each point
        centre = (self.grid.side - 1) / 2
        return torch.stack([z + centre, centre - y, x + centre], dim=-1)

    @cached_property
    def generators(self) -> np.ndarray:
        """The mean of the one-sided derivatives at the identity: central differences of the rotation field.

        Neither the one-sided derivatives nor their mean integrate to the matrices, and for SO(3) they do not
        close under brackets. Automatic derivatives at the identity agree with them.
        """
        if self.group.lie_dim == 0:
            return frozen(np.zeros((0, self.dim, self.dim)))
        side = self.grid.side
        self._require_room(self.group.lie_dim * side**6)
        eye = sp.eye_array(side)
        difference = (sp.eye_array(side, k=1) - sp.eye_array(side, k=-1)) / 2
        places = ((eye, eye, difference), (eye, difference, eye), (difference, eye, eye))
        columns, rows, depths = (sp.kron(sp.kron(a, b), c) for a, b, c in places)
        points = VoxelGrid(side).doubled_coordinates / 2
        axes = np.eye(3)[2:] if isinstance(self.group, SO2) else np.eye(3)
        found = []
        for axis in axes:
            # d/dt R^-1 p = -axis x p; rows count downwards, against y.
            x, y, z = (sp.diags_array(velocity) for velocity in -np.cross(axis, points).T)
            a = sp.csr_array(x @ columns - y @ rows + z @ depths)
            found.append(a[self.grid.kept][:, self.grid.kept].toarray())
        return frozen(np.stack(found))

    # -- how far it is from a representation -----------------------------------------------------------------

    def defects(self, data: Tensor | np.ndarray | None = None) -> dict[str, float]:
        """How far the matrices are from an orthogonal representation; with volumes, also what these lose.

        Returns:
            The entries of `Representation.defects`; "quarter_turn": |rho - P| / |I| against the exact index
            maps P of quarter turns about the group's axes, where it holds them; with `data`, those of
            `data_defects`.

        Raises:
            ValueError: the matrices are too large; `data_defects` needs none.
        """
        self._require_room(self.dim * self.grid.side**3)
        report = super().defects()
        return report if data is None else report | self.data_defects(data)

    def data_defects(self, data: Tensor | np.ndarray) -> dict[str, float]:
        """What rotation does to given volumes (..., N, N, N), floating, relative to their norm.

        Returns:
            The largest values over a fixed set of elements, without forming a matrix: "data_norm":
            ||rho(g) v| - |v||; "data_round_trip": |rho(g^-1) rho(g) v - v|; "data_homomorphism":
            |rho(g) rho(h) v - rho(gh) v|.
        """
        volumes = torch.as_tensor(data)
        self._check_volume(volumes)
        volumes = volumes.double()
        if not bool(torch.isfinite(volumes).all()) or not float(volumes.norm()) > 0:
            raise ValueError("data must be finite and not zero everywhere: it has no relative errors")
        size = volumes.norm()
        report = {"data_norm": 0.0, "data_round_trip": 0.0, "data_homomorphism": 0.0}
        probes = probe_elements(self.group)
        for g, h in zip(probes, probes[1:] + probes[:1], strict=True):
            turned = self.apply(h, volumes)
            back = self.apply(self.group.inverse(h), turned)
            twice, once = self.apply(g, turned), self.apply(self.group.compose(g, h), volumes)
            errors = [(turned.norm() - size).abs(), (back - volumes).norm(), (twice - once).norm()]
            for name, error in zip(report, errors, strict=True):
                report[name] = max(report[name], float(error / size))
        return report

    def _exact_turns(self) -> list[tuple[Any, np.ndarray]]:
        if not isinstance(self.group, SO3):
            return super()._exact_turns()
        cube = CubeGroup()
        turns = [cube.matrices[s] for s in cube.discrete_elements]
        return [(torch.tensor(turn, dtype=torch.float64), turn) for turn in turns]

    # -- checks ----------------------------------------------------------------------------------------------

    def _require_room(self, numbers: int) -> None:
        if numbers > LARGEST_MATRIX:
            raise ValueError(
                f"matrices of {self!r} would hold {numbers} numbers, at most {LARGEST_MATRIX} are allowed: "
                "ask for fewer elements, use a smaller grid, or rotate volumes with apply(g, volume)"
            )

    def _check_volume(self, volume: Tensor) -> None:
        side = self.grid.side
        if not isinstance(volume, Tensor) or not volume.is_floating_point():
            got = volume.dtype if isinstance(volume, Tensor) else type(volume).__name__
            raise TypeError(f"volumes must be floating tensors, got {got}")
        if tuple(volume.shape[-3:]) != (side,) * 3:
            raise ValueError(
                f"volumes must have shape (..., {side}, {side}, {side}), got {tuple(volume.shape)}"
            )
        if self.grid.mask is not None:
            keep = self.grid.fill(torch.ones(self.dim, dtype=torch.float64)).bool().to(volume.device)
            if bool((volume.detach() != 0).logical_and(~keep).any()):
                raise ValueError("volumes must be zero where the mask is false")
