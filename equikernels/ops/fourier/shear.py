"""Rotation by three shears, each of them a fractional shift of rows or columns in the Fourier domain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from equikernels.ops import backends
from equikernels.ops.arguments import angles, check_data, compute_dtype
from equikernels.ops.fourier.decomposition import Shears, decompose, offsets, palindrome
from equikernels.ops.fourier.precision import full_precision
from equikernels.ops.fourier.reference import shear_rotate_reference


def shear_rotate(z: Tensor, theta: Tensor | float, *, backend: str | None = None) -> Tensor:
    """Turn every image of a batch about its centre by its own angle, without losing anything.

    The nearest multiple of 90 degrees is an exact index map. The rest, at most 45 degrees, is three shears:
    rows shifted by -tan(phi/2) y, columns by sin(phi) x, rows again, each by the phases of a Fourier
    transform along them (Unser, Thevenaz and Yaroslavsky, "Convolution-based interpolation for fast,
    high-quality rotation of images", 1995). Every shift is orthogonal: the highest frequency of an even
    length, which has no phase, stays as it is. So ``shear_rotate(., -theta)`` is the transpose and the
    inverse to rounding, and norms are kept. Composition holds for smooth content only: at the highest
    frequencies rho(a) rho(b) is not rho(a + b).

    Rows and columns are periodic: what leaves on one side enters on the other. Pad by a tenth of the size,
    and content of the inscribed disc neither leaves nor meets itself: on its way through the shears it
    comes to 1.08 times its distance from the centre.

    Images that are not square keep their shape, so they can be turned exactly by multiples of 180 degrees
    only. The rest, at most 90 degrees, is turned in two halves: five shears.

    Args:
        z: images, (N, C, H, W), float32, float64, bfloat16 or float16, with any strides.
        theta: angles in radians, (N,), of any floating dtype, on the device of `z`; or one number, or a
            tensor without dimensions, for all samples. Positive is counter-clockwise as displayed (row 0 on
            top), as for `rotate`: pi/2 is ``torch.rot90(z, 1, (-2, -1))`` for square images, up to rounding.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor with the shape and dtype of `z`, computed in float32 (float64 for float64 data);
        `theta` is first converted to that dtype. A sample whose angle is then not finite is NaN everywhere,
        and so are its gradients; a finite angle may be as large as it likes. A pixel that is not finite makes
        its whole channel NaN.

    Gradients of any order, in reverse and forward mode, go to `z` and to `theta`, also inside torch.func,
    torch.compile and torch.export: this is plain torch. The result jumps slightly where the nearest turn
    changes, at 45 degrees from one (on images that are not square: at 90 degrees from a half turn); the
    derivative by the angle is that of the side the angle lies on. Autocast changes nothing.

    Raises:
        TypeError: `z` or `theta` is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, or a backend that cannot run here.

    >>> image = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    >>> turned = shear_rotate(image, 0.3)
    >>> bool(torch.allclose(shear_rotate(turned, -0.3), image, atol=1e-13))
    True
    """
    check_data("z", z, (4,))
    dtype = compute_dtype(z.dtype)
    angle = angles(z, theta, dtype)
    chosen = backends.choose("shear_rotate", z.device.type, backend)
    if z.numel() == 0:
        # Torch transforms no empty tensors. The angles still have a gradient, zero.
        return (z + 0 * angle.sum()).contiguous()
    before, shears, after = decompose(angle, square=z.shape[2] == z.shape[3])
    run = shear_rotate_reference if chosen == "reference" else _shear_rotate
    with full_precision(z):
        return run(z.to(dtype), before, shears, after).to(z.dtype).contiguous()


def _shear_rotate(z: Tensor, before: Tensor, shears: Shears, after: Tensor) -> Tensor:
    height, width = z.shape[2:]
    lines = {"rows": (height, width), "columns": (width, height)}
    steps = []
    for axis, slope in shears:
        count, size = lines[axis]
        steps.append((axis, _phases(slope[:, None] * offsets(count, slope), size)[:, None]))
    places = _turned_places(height, width, z.device)
    out = _turn(z, places, before)
    for axis, phases in palindrome(steps):
        out = out if axis == "rows" else out.mT
        out = out + torch.fft.irfft(torch.fft.rfft(out) * phases, n=out.shape[-1])
        out = out if axis == "rows" else out.mT
    return _turn(out, places, after) if height == width else out


def _turned_places(height: int, width: int, device: torch.device) -> Tensor:
    """Where 0, 1, 2 and 3 quarter turns take each pixel from, (4, H W)."""
    places = torch.arange(height * width, device=device).view(height, width)
    # A quarter turn of a rectangle has another shape. Nobody asks for it, and its place may hold anything.
    quarter = places.rot90(1) if height == width else places
    turned = (places, quarter, places.flip(0, 1), quarter.flip(0, 1))
    return torch.stack([each.reshape(-1) for each in turned])


def _turn(z: Tensor, places: Tensor, turns: Tensor) -> Tensor:
    """Every image of `z` turned by its own number of quarter turns."""
    index = places[turns][:, None].expand(-1, z.shape[1], -1)
    return z.flatten(2).gather(2, index).view(z.shape)


def _phases(shift: Tensor, size: int) -> Tensor:
    """exp(2 pi i k shift / size) - 1 for shifts (...) and the frequencies k of a real transform, (..., K).

    What a shift changes, instead of the shift: small angles keep their digits, and angle zero is exact. With
    h half the exponent, it is -2 sin(h)^2 + 2 i sin(h) cos(h).
    """
    frequency = torch.arange(size // 2 + 1, dtype=shift.dtype, device=shift.device)
    if size % 2 == 0:
        # cos(pi j) and its shifts are real only if they stay where they are.
        frequency = torch.where(frequency == size // 2, 0, frequency)
    half = shift[..., None] * (frequency * (math.pi / size))
    sine, cosine = half.sin(), half.cos()
    return torch.complex(-2 * sine * sine, 2 * sine * cosine)
