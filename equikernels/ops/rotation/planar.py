"""Rotation of images by one angle per sample."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from equikernels.ops import backends, sampling
from equikernels.ops.arguments import angles, check_data
from equikernels.ops.registration import register_kernels
from equikernels.ops.rotation.autograd import rotate_apply
from equikernels.ops.rotation.matrices import planar_matrix
from equikernels.ops.rotation.motion import scales, translations
from equikernels.ops.rotation.reference import rotate_reference
from equikernels.ops.sampling.checks import check_options

register_kernels("rotate")


def rotate(
    z: Tensor,
    theta: Tensor | float,
    *,
    mode: str = "bilinear",
    padding: str = "zeros",
    translation: Tensor | Sequence[float] | None = None,
    scale: Tensor | float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Turn every image of a batch about its centre by its own angle; optionally magnify it, then move it.

    With p = (x, y) the place of an output pixel, counted in pixels from the centre ((W - 1)/2, (H - 1)/2),
    right and down, the output at p is the input, interpolated, at

        R(theta)^-1 (p - translation) / scale,    R(theta)^-1 (x, y) = (c x - s y, s x + c y),

    c = cos(theta), s = sin(theta). This is the action of the plane rotation R on functions,
    (rho(theta) z)(p) = z(R(theta)^-1 p), written for rows that count downwards; a turn alone equals
    ``torch.nn.functional.affine_grid`` with the matrix [[c, -s H/W, 0], [s W/H, c, 0]] followed by
    ``grid_sample``, both with ``align_corners=False``. For any other affine map: `affine_sample`.

    Args:
        z: images, (N, C, H, W), float32, float64, bfloat16 or float16, with any strides.
        theta: angles in radians, (N,), of any floating dtype, on the device of `z`; or one number, or a
            tensor without dimensions, for all samples. Positive is counter-clockwise as displayed (row 0 on
            top), so pi/2 is ``torch.rot90(z, 1, (-2, -1))`` for square images, up to rounding.
        mode: interpolation, "nearest" (ties to the even pixel), "bilinear" or "bicubic" (Keys' kernel with
            slope -0.75, as in torch).
        padding: what lies outside the image: "zeros"; "border", the nearest pixel of the border; or
            "reflection", the image mirrored at the outer edges of its border pixels.
        translation: how far the turned image is moved, in pixels (right, down), (N, 2), of any floating
            dtype, on the device of `z`; or one vector for all samples, a tensor (2,) or two numbers.
        scale: how much the image is magnified about its centre, (N,), of any floating dtype, on the device of
            `z`; or one number, or a tensor without dimensions, for all samples. Above 1 it grows; a negative
            scale also turns it by half a turn. Shrinking does not smooth: pixels are left out.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor with the shape and dtype of `z`. Angle, cosine, sine, coordinates and weights are
        float32 (float64 for float64 data) whatever the dtype of the data; `theta`, `translation` and `scale`
        are first converted to that dtype. A sample whose angle, translation or scale is then not finite, or
        whose scale is 0, is NaN everywhere, and so are its gradients; likewise one whose R^-1 / scale or
        R^-1 translation / scale is beyond all numbers. A finite angle may be as large as it likes.

    Gradients go to `z`, `theta`, `translation` and `scale` (each in its own dtype), to any order and in
    forward mode; those of the motion are the derivatives of the interpolated surface, which jump for
    "bilinear" where a pixel's taps change. For "nearest" they are zero: an angle cannot be learned through
    it. Results are deterministic and do not depend on the number of threads. Autocast leaves dtypes alone.
    Inside torch.compile forward mode raises NotImplementedError, and torch.func.grad raises. In a forked
    child process set one thread before calling (``torch.set_num_threads(1)``).

    Raises:
        TypeError: an argument is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, an unknown option, or a backend that cannot run here.

    >>> import torch
    >>> image = torch.arange(9.0).view(1, 1, 3, 3)
    >>> rotate(image, torch.pi / 2).round().abs()
    tensor([[[[2., 5., 8.],
              [1., 4., 7.],
              [0., 3., 6.]]]])
    >>> rotate(image, 0.0, translation=(1, 0), padding="border")
    tensor([[[[0., 0., 1.],
              [3., 3., 4.],
              [6., 6., 7.]]]])
    """
    check_data("z", z, (4,))
    check_options(mode, padding, 2)
    theta = angles(z, theta)
    translation, scale = translations(z, translation), scales(z, scale)
    if mode != "bilinear" or padding != "zeros" or translation is not None or scale is not None:
        return sampling.run("rotate", z, planar_matrix(theta, translation, scale), mode, padding, backend)
    chosen = backends.choose("rotate", z.device.type, backend)
    if chosen == "reference":
        return rotate_reference(z, theta)
    # Kernels of their own, which need one angle instead of six numbers and know that nothing is stretched.
    out: Tensor = rotate_apply(z, theta, 0, chosen)
    return out
