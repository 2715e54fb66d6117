"""The ways of turning pictures and volumes that the page on the accuracy of rotations compares."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.grid_pictures import METHODS as GRID_METHODS
from bench.grid_pictures import Method
from equikernels.group import SO2, SO3, CubeGroup, pixel_grid, voxel_grid
from equikernels.group.grids.voxel_interpolated import InterpolatedVoxels
from equikernels.ops import cube_rotate, shear_rotate, spectral_rotate

# -- pictures ------------------------------------------------------------------------------------------------


def sampled(mode: Literal["nearest", "bicubic"]) -> Method:
    """torch.nn.functional.grid_sample, zeros outside."""

    def turn(images: np.ndarray, degrees: float) -> np.ndarray:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        z = torch.as_tensor(images)[:, None]
        matrix = torch.tensor([[c, -s, 0.0], [s, c, 0.0]], dtype=z.dtype).expand(len(z), 2, 3)
        grid = F.affine_grid(matrix, list(z.shape), align_corners=False)
        turned: np.ndarray = F.grid_sample(z, grid, mode=mode, align_corners=False)[:, 0].numpy()
        return turned

    return turn


def three_shears(images: np.ndarray, degrees: float) -> np.ndarray:
    return shear_rotate(torch.as_tensor(images)[:, None], float(np.deg2rad(degrees)))[:, 0].numpy()


@cache
def _spectral_basis(side: int) -> tuple[Tensor, Tensor]:
    rho = pixel_grid(side, SO2())
    frequencies = torch.tensor([k for k, copies in rho.irreps for _ in range(copies)])
    return torch.tensor(rho.change_of_basis), frequencies


def spectral(images: np.ndarray, degrees: float) -> np.ndarray:
    z, theta = torch.as_tensor(images)[:, None], float(np.deg2rad(degrees))
    return spectral_rotate(z, theta, *_spectral_basis(images.shape[-1]))[:, 0].numpy()


METHODS: dict[str, Method] = {
    "nearest": sampled("nearest"),
    "bilinear": GRID_METHODS["bilinear"],
    "bicubic": sampled("bicubic"),
    "three shears": three_shears,
    "spectral": spectral,
}


def padded(images: np.ndarray) -> np.ndarray:
    """Images (count, N, N) with zeros around them, a tenth of N or a little more, half on each side."""
    edge = -(-images.shape[-1] // 20)
    return np.pad(images, ((0, 0), (edge, edge), (edge, edge)))


def cropped(images: np.ndarray, side: int) -> np.ndarray:
    """The middle (count, side, side) of images."""
    edge = (images.shape[-1] - side) // 2
    return images[:, edge : edge + side, edge : edge + side]


# -- volumes -------------------------------------------------------------------------------------------------


def trilinear(volumes: Tensor, rotation: Tensor) -> Tensor:
    """Volumes (count, N, N, N) turned by a matrix (3, 3), each voxel from the eight around its source."""
    rho = voxel_grid(volumes.shape[-1], SO3())
    assert isinstance(rho, InterpolatedVoxels)
    return rho.apply(rotation, volumes)


def nearest_cube_rotation(rotation: Tensor) -> int:
    """The element of the cube group that turns least from a rotation (3, 3)."""
    # The trace of Q^T R falls with the angle between the two.
    traces = np.einsum("gij,ij->g", CubeGroup().matrices, rotation.numpy())
    return int(traces.argmax())


def trilinear_after_cube(volumes: Tensor, rotation: Tensor) -> Tensor:
    """The nearest of the 24 rotations of the cube by an exact index map, the rest by interpolation."""
    g = nearest_cube_rotation(rotation)
    exact = torch.tensor(CubeGroup().matrices[g], dtype=rotation.dtype)
    return trilinear(cube_rotate(volumes[:, None], g)[:, 0], rotation @ exact.mT)


def euler_angles(rotation: Tensor) -> tuple[float, float, float]:
    """(a, b, c) with R = R_z(a) R_y(b) R_z(c), those with the smaller |a| + |c| of the two there are.

    The angles of the inverse are then (-c, -b, -a).
    """
    r = rotation.numpy()
    tilt = np.hypot(r[0, 2], r[1, 2])
    b = float(np.arctan2(tilt, r[2, 2]))
    if tilt < 1e-12:  # the axis z stays: one turn about it is enough
        return float(np.arctan2(-r[0, 1], r[1, 1])), b, 0.0
    a, c = float(np.arctan2(r[1, 2], r[0, 2])), float(np.arctan2(r[2, 1], -r[2, 0]))
    if abs(a) + abs(c) <= np.pi:
        return a, b, c
    return a - float(np.copysign(np.pi, a)), -b, c - float(np.copysign(np.pi, c))


def turns_of_slices(volumes: Tensor, rotation: Tensor) -> Tensor:
    """Three turns about axes, each by the three shears of every slice across it."""
    a, b, c = euler_angles(rotation)
    # About z a slice is an image as it is. About y, z is to the right and x downwards: the turn from z to x
    # is clockwise there.
    turned = shear_rotate(volumes, c)
    turned = shear_rotate(turned.permute(0, 2, 3, 1), -b).permute(0, 3, 1, 2)
    return shear_rotate(turned, a)


VOLUME_METHODS = {
    "trilinear": trilinear,
    "trilinear after the nearest cube rotation": trilinear_after_cube,
    "three turns of slices by shears": turns_of_slices,
}
