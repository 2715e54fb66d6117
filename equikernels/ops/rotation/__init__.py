"""Rotation of images by one angle per sample."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor

from equikernels.ops import backends
from equikernels.ops.extension import UNAVAILABLE
from equikernels.ops.rotation.autograd import rotate_apply
from equikernels.ops.rotation.reference import compute_dtype, rotate_reference

__all__ = ["rotate"]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
MODES = ("bilinear",)
PADDINGS = ("zeros",)

backends.register(backends.Backend("rotate", "reference", ("any",)))
backends.register(backends.Backend("rotate", "cpp", ("cpu",), available=not UNAVAILABLE, reason=UNAVAILABLE))


def rotate(
    z: Tensor,
    theta: Tensor | float,
    *,
    mode: str = "bilinear",
    padding: str = "zeros",
    translation: Tensor | None = None,
    scale: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Turn every image of a batch about its centre by its own angle.

    The output at column j and row i is the input, interpolated bilinearly and zero outside the image, at

        X = c (j - cx) - s (i - cy) + cx,    Y = s (j - cx) + c (i - cy) + cy,

    c = cos(theta), s = sin(theta), centre (cx, cy) = ((W - 1)/2, (H - 1)/2). This is the action of the plane
    rotation R on functions, (rho(theta) z)(p) = z(R(theta)^-1 p), written for rows that count downwards. It
    equals ``torch.nn.functional.affine_grid`` with the matrix [[c, -s H/W, 0], [s W/H, c, 0]] followed by
    ``grid_sample``, both with ``align_corners=False``.

    Args:
        z: images, (N, C, H, W), float32, float64, bfloat16 or float16, with any strides.
        theta: angles in radians, (N,), of any floating dtype, on the device of `z`; or one number, or a
            tensor without dimensions, for all samples. Positive is counter-clockwise as displayed (row 0 on
            top), so pi/2 is ``torch.rot90(z, 1, (-2, -1))`` for square images, up to rounding.
        mode: interpolation, "bilinear".
        padding: what lies outside the image, "zeros".
        translation: not available yet.
        scale: not available yet.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor with the shape and dtype of `z`. Angle, cosine, sine, coordinates and weights are
        float32 (float64 for float64 data) whatever the dtype of the data; `theta` is first converted to that
        dtype. A sample whose angle is then not finite is NaN everywhere, and so are its gradients; a finite
        angle may be as large as it likes.

    Gradients go to `z` and to `theta` (in its own dtype), to any order and in forward mode; the derivative by
    the angle is that of the bilinear surface, which jumps where a pixel's taps change. Results are
    deterministic and do not depend on the number of threads. Autocast leaves dtypes alone. Inside
    torch.compile forward mode raises NotImplementedError, and torch.func.grad raises. In a forked child
    process set one thread before calling (``torch.set_num_threads(1)``).

    Raises:
        TypeError: `z` or `theta` is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, an unknown or not yet available option, or a backend
            that cannot run here.

    >>> image = torch.arange(9.0).view(1, 1, 3, 3)
    >>> rotate(image, torch.pi / 2).round().abs()
    tensor([[[[2., 5., 8.],
              [1., 4., 7.],
              [0., 3., 6.]]]])
    """
    _check_images(z)
    _check_options(mode, padding, translation, scale)
    theta = _angles(z, theta)
    chosen = backends.choose("rotate", z.device.type, backend)
    if chosen == "reference":
        return rotate_reference(z, theta)
    out: Tensor = rotate_apply(z, theta, 0, chosen)
    return out


def _check_images(z: Tensor) -> None:
    if not isinstance(z, Tensor):
        raise TypeError(f"z: expected a tensor, got {type(z).__name__}")
    if z.dtype not in DTYPES:
        raise TypeError(f"z: expected float32, float64, bfloat16 or float16, got {z.dtype}")
    if z.layout != torch.strided:
        raise TypeError(f"z: expected a dense tensor, got {z.layout}")
    if z.dim() != 4:
        raise ValueError(f"z: expected 4 dimensions (N, C, H, W), got {z.dim()}: {tuple(z.shape)}")


def _check_options(mode: str, padding: str, translation: object, scale: object) -> None:
    if mode not in MODES:
        raise ValueError(f"mode: only {', '.join(MODES)} is available yet, got {mode!r}")
    if padding not in PADDINGS:
        raise ValueError(f"padding: only {', '.join(PADDINGS)} is available yet, got {padding!r}")
    if translation is not None:
        raise ValueError(f"translation: only None is available yet, got {type(translation).__name__}")
    if scale is not None:
        raise ValueError(f"scale: only None is available yet, got {type(scale).__name__}")


def _angles(z: Tensor, theta: Tensor | float) -> Tensor:
    """The angles as a tensor (N,) in the dtype of the coordinates."""
    batch, dtype = z.shape[0], compute_dtype(z.dtype)
    if not isinstance(theta, Tensor):
        if isinstance(theta, bool) or not isinstance(theta, numbers.Real):
            raise TypeError(f"theta: expected a tensor or a number, got {type(theta).__name__}")
        return torch.full((batch,), float(theta), dtype=dtype, device=z.device)
    if not theta.dtype.is_floating_point:
        raise TypeError(f"theta: expected a floating dtype, got {theta.dtype}")
    if theta.device != z.device:
        raise ValueError(f"theta: expected on the device of z, {z.device}, got {theta.device}")
    if theta.dim() == 0:
        theta = theta.expand(batch)
    if theta.dim() != 1 or theta.shape[0] != batch:
        raise ValueError(f"theta: expected shape ({batch},), one angle per sample, got {tuple(theta.shape)}")
    return theta if theta.dtype == dtype else theta.to(dtype)
