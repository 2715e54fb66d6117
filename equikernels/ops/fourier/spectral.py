"""Rotation by a representation of SO(2) on the pixels: the group law holds for all angles, to rounding."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

from equikernels.ops import backends, tracing
from equikernels.ops.arguments import angles, check_data, compute_dtype
from equikernels.ops.fourier.precision import full_precision
from equikernels.ops.fourier.reference import spectral_rotate_reference

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def spectral_rotate(
    z: Tensor,
    theta: Tensor | float,
    basis: Tensor,
    frequencies: Tensor | Sequence[int],
    *,
    backend: str | None = None,
) -> Tensor:
    """Apply rho(theta) = Q blockdiag(1, ..., 1, R(k_1 theta), R(k_2 theta), ...) Q^T to every channel.

    R(t) = [[cos t, -sin t], [sin t, cos t]]. Every choice of an orthogonal Q and of integers k is a
    representation of SO(2): rho(a) rho(b) = rho(a + b), rho(-a) = rho(a)^T and rho(2 pi) = I to rounding. The
    choice that turns images, counter-clockwise as displayed and with rho(pi/2) = ``torch.rot90``, comes from
    ``equikernels.group.pixel_grid``::

        rho = pixel_grid(size, SO2())
        basis = torch.tensor(rho.change_of_basis)
        frequencies = [k for k, copies in rho.irreps for _ in range(copies)]

    Args:
        z: images, (N, C, H, W), float32, float64, bfloat16 or float16, with any strides.
        theta: angles in radians, (N,), of any floating dtype, on the device of `z`; or one number, or a
            tensor without dimensions, for all samples.
        basis: Q, (H*W, H*W), floating, on the device of `z`, orthogonal (not checked); row i W + j belongs
            to the pixel (i, j). Converted to the dtype of the computation at every call where it has another.
        frequencies: one integer for each block, in the order of the columns of Q: first a 0 for each
            column that stays, then one k for each pair of columns that turns. A sequence, or an integer
            tensor (blocks,) on the device of `z`. The zeros are checked on a CPU, outside of transforms.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor with the shape and dtype of `z`, computed in float32 (float64 for float64 data);
        the angles k theta are float64 always. A sample whose angle is not finite is NaN everywhere, and so
        are its gradients; a finite angle may be as large as it likes.

    Two products with Q, of (N C, H W) with (H W, H W), make most of the cost. Gradients of any order, in
    reverse and forward mode, go to `z`, `theta` and `basis` (as if only the turning columns of Q acted:
    rho = I + Q_turning (R - 1) Q_turning^T), also inside torch.func, torch.compile and torch.export: this is
    plain torch. Autocast changes nothing.

    Raises:
        TypeError: an argument is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, frequencies that do not fill the basis, or a backend
            that cannot run here.

    >>> basis = torch.eye(4, dtype=torch.float64)[[0, 3, 1, 2]]  # turns the pixels (0, 1) and (1, 1), k = 1
    >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]]]])
    >>> spectral_rotate(image, torch.pi / 2, basis, [0, 0, 1]).round().abs()
    tensor([[[[1., 0.],
              [3., 2.]]]])
    """
    check_data("z", z, (4,))
    dtype = compute_dtype(z.dtype)
    theta = angles(z, theta, torch.float64)
    _check_basis(z, basis)
    frequencies = _frequencies(z, frequencies)
    chosen = backends.choose("spectral_rotate", z.device.type, backend)
    # Any size of angle down to half a turn, so that k theta is finite and has its digits.
    theta = torch.atan2(theta.sin(), theta.cos())
    # Columns that stay do not ask for the angle; yet where it is not finite the whole sample shall be NaN.
    defined = (1 + 0 * theta)[:, None, None, None].to(dtype)
    run = spectral_rotate_reference if chosen == "reference" else _spectral_rotate
    with full_precision(z):
        return run(z.to(dtype) * defined, theta, basis.to(dtype), frequencies).to(z.dtype).contiguous()


def _spectral_rotate(z: Tensor, theta: Tensor, basis: Tensor, frequencies: Tensor) -> Tensor:
    size = basis.shape[0]
    planes = size - len(frequencies)
    turning = basis[:, size - 2 * planes :]
    # exp(i k theta) - 1: what the rotation changes. Small angles keep their digits, and angle zero is exact.
    half = theta[:, None] * (frequencies[len(frequencies) - planes :] / 2)
    sine, cosine = half.sin().to(z.dtype), half.cos().to(z.dtype)
    change = torch.complex(-2 * sine * sine, 2 * sine * cosine)[:, None]
    coefficients = torch.view_as_complex((z.flatten(2) @ turning).unflatten(2, (planes, 2)))
    return z + (torch.view_as_real(coefficients * change).flatten(2) @ turning.mT).view(z.shape)


def _check_basis(z: Tensor, basis: Tensor) -> None:
    if not isinstance(basis, Tensor):
        raise TypeError(f"basis: expected a tensor, got {type(basis).__name__}")
    if not basis.dtype.is_floating_point:
        raise TypeError(f"basis: expected a floating dtype, got {basis.dtype}")
    if basis.device != z.device:
        raise ValueError(f"basis: expected on the device of z, {z.device}, got {basis.device}")
    size = z.shape[2] * z.shape[3]
    if tuple(basis.shape) != (size, size):
        raise ValueError(
            f"basis: expected shape ({size}, {size}) for images of {z.shape[2]} x {z.shape[3]}, "
            f"got {tuple(basis.shape)}"
        )


def _frequencies(z: Tensor, frequencies: Tensor | Sequence[int]) -> Tensor:
    """The frequencies as a tensor (blocks,) that fits the images."""
    if not isinstance(frequencies, Tensor):
        if not isinstance(frequencies, Sequence):
            kind = type(frequencies).__name__
            raise TypeError(f"frequencies: expected a tensor or a sequence of integers, got {kind}")
        if any(isinstance(k, bool) or not isinstance(k, numbers.Integral) for k in frequencies):
            raise TypeError(f"frequencies: expected integers, got {list(frequencies)}")
        frequencies = torch.tensor([int(k) for k in frequencies], dtype=torch.int64, device=z.device)
    if frequencies.dtype not in INTEGERS:
        raise TypeError(f"frequencies: expected an integer dtype, got {frequencies.dtype}")
    if frequencies.device != z.device:
        raise ValueError(f"frequencies: expected on the device of z, {z.device}, got {frequencies.device}")
    size = z.shape[2] * z.shape[3]
    if frequencies.dim() != 1 or not size <= 2 * len(frequencies) <= 2 * size:
        raise ValueError(
            f"frequencies: expected shape (blocks,), {-(-size // 2)} to {size} blocks of one or two of the "
            f"{size} columns of the basis, got {tuple(frequencies.shape)}"
        )
    still = frequencies[: 2 * len(frequencies) - size]
    readable = z.device.type == "cpu" and not tracing.is_traced(frequencies) and not tracing.is_transformed()
    if readable and bool(still.any()):
        raise ValueError(
            f"frequencies: expected {len(still)} zeros first, because {len(frequencies)} blocks fill {size} "
            f"columns only if so many are single, got {still.tolist()}"
        )
    return frequencies
