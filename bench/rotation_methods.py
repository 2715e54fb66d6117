"""The ways of turning pictures and volumes that the page on the accuracy of rotations compares."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.grid_pictures import Method
from equikernels.group import SO2, CubeGroup
from equikernels.ops import cube_rotate, rotate3d, shear_rotate

# -- pictures ------------------------------------------------------------------------------------------------


def by(method: str) -> Method:
    """A method of ``SO2().act``, with zeros outside where it interpolates."""

    def turn(images: np.ndarray, degrees: float) -> np.ndarray:
        z, angle = torch.as_tensor(images)[:, None], torch.tensor(np.deg2rad(degrees), dtype=torch.float64)
        return SO2().act(z, angle, method=method)[:, 0].numpy()

    return turn


METHODS: dict[str, Method] = {
    "nearest": by("nearest"),
    "bilinear": by("bilinear"),
    "bicubic": by("bicubic"),
    "three shears": by("shear"),
    "spectral": by("spectral"),
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
    return rotate3d(volumes[:, None], rotation)[:, 0]


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
