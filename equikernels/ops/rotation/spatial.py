"""Rotation of volumes by one rotation matrix per sample."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equikernels.ops import sampling
from equikernels.ops.arguments import check_data
from equikernels.ops.registration import register_kernels
from equikernels.ops.rotation.matrices import spatial_matrix
from equikernels.ops.rotation.motion import rotations, scales, translations
from equikernels.ops.sampling.checks import check_options

register_kernels("rotate3d")


def rotate3d(
    volume: Tensor,
    R: Tensor,
    *,
    mode: str = "bilinear",
    padding: str = "zeros",
    translation: Tensor | Sequence[float] | None = None,
    scale: Tensor | float | None = None,
    check: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Turn every volume of a batch about its centre by its own rotation; optionally magnify it, then move it.

    Rotations act on (x right, y up, z deep): x along the columns, y against the rows (row 0 on top), z along
    the slices. These are the axes of ``equikernels.group.CubeGroup()`` and of
    ``equikernels.group.voxel_grid(N, SO3())``. The result is

        (rho(R) v)(p) = v(R^-1 p),    R^-1 computed as R^T,

    interpolated, with p counted in voxels from the centre; magnified and moved it is
    v(R^-1 (p - translation) / scale). A turn about z by an angle is `rotate` on every slice, and the
    rotations of a cube are `cube_rotate`, up to rounding.

    Args:
        volume: volumes, (N, C, D, H, W), float32, float64, bfloat16 or float16, with any strides.
        R: rotation matrices, (N, 3, 3), of any floating dtype, on the device of `volume`; or (3, 3), one for
            all samples. They are not checked unless `check` says so. For a matrix that is no rotation the
            result is that of v(R^T p).
        mode: interpolation, "nearest" (ties to the even voxel) or "bilinear", which may be called "trilinear"
            here.
        padding: what lies outside the volume: "zeros"; "border", the nearest voxel of the border; or
            "reflection", the volume mirrored at the outer faces of its border voxels.
        translation: how far the turned volume is moved, in voxels (right, down, deep), (N, 3), of any
            floating dtype, on the device of `volume`; or one vector for all samples, a tensor (3,) or three
            numbers. It counts along the indices, so its second entry is down where that of `R` is up.
        scale: how much the volume is magnified about its centre, (N,), of any floating dtype, on the device
            of `volume`; or one number, or a tensor without dimensions, for all samples. Above 1 it grows; a
            negative scale also inverts it through the centre.
        check: raise ValueError unless every matrix is a rotation, R^T R = 1 with entries good to 1e-4 (1e-8
            for float64 `R`, four epsilons for half precision), and det R > 0. This reads the values, which
            waits for a GPU and is not possible in compiled functions and under torch.vmap.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor with the shape and dtype of `volume`. Matrices, coordinates and weights are
        float32 (float64 for float64 data) whatever the dtype of the data; `R`, `translation` and `scale` are
        first converted to that dtype. A sample for which one of them is then not finite, or whose scale is
        0, is NaN everywhere, and so are its gradients; likewise one whose R^-1 / scale or
        R^-1 translation / scale is beyond all numbers.

    Gradients go to `volume`, `R`, `translation` and `scale` (each in its own dtype), to any order and in
    forward mode. Those of `R` are the derivatives by its nine entries, through the transpose: of v(R^T p) as
    it stands, also off the rotations. Project them on the tangent space, or let them flow on to the angles
    or the quaternion `R` is made of. For "nearest" the gradients of the motion are zero; for "bilinear" they
    are those of the interpolated volume and jump where a voxel's taps change. Results are deterministic and
    do not depend on the number of threads. Autocast leaves dtypes alone. Inside torch.compile forward mode
    raises NotImplementedError, and torch.func.grad raises. In a forked child process set one thread before
    calling (``torch.set_num_threads(1)``).

    Raises:
        TypeError: an argument is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, an unknown option, a matrix that is no rotation if
            `check`, or a backend that cannot run here.

    >>> import torch
    >>> volume = torch.arange(8.0).view(1, 1, 2, 2, 2)
    >>> about_z = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    >>> torch.equal(rotate3d(volume, about_z, check=True), torch.rot90(volume, 1, (-2, -1)))
    True
    """
    check_data("volume", volume, (5,))
    mode = "bilinear" if mode == "trilinear" else mode
    check_options(mode, padding, 3)
    matrices = rotations(volume, R, check)
    matrix = spatial_matrix(matrices, translations(volume, translation), scales(volume, scale))
    return sampling.run("rotate3d", volume, matrix, mode, padding, backend)
