"""How much a convolution can amplify an image: a rigorous bound over all frequencies.

On images of infinite extent a convolution with K (C_out, C_in, h, w) multiplies each frequency t of the
image by the matrix F(t) = sum_ab K[:, :, a, b] exp(i (a t_1 + b t_2)), so that its norm is sup_t |F(t)| in
the operator norm. Finite images are covered: with zero padding the layer is R K E, where E extends an image
by zeros (an isometry) and R keeps the samples of the output window, every s-th one for a stride s (a
contraction), and a dilation d only replaces t by d t. With circular padding by at most half the window, the
layer keeps samples of a convolution on a torus, whose frequencies are some of the t.

The supremum is taken over a continuum. For unit vectors u, v and a phase, q(t) = Re(exp(i phi) u* F(t) v) is,
along one axis and with the window centred, a real trigonometric polynomial of degree d = (h - 1) / 2 (for
even h in half-integers: q(2 s) is one of degree 2 d in s). Where |q| is largest, at t0 with value |q| > 0,
such a polynomial obeys q(t) >= q(t0) cos(d (t - t0)) for |t - t0| <= pi / d (M. Riesz). Of M equispaced
points one lies within pi / M of t0, so that for M > 2 d

    sup |q| <= max over the M points |q| / cos(pi d / M),

the inequality of Ehlich and Zeller. It holds for each axis in turn, and for every u and v, hence for |F|.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

POINTS_PER_DEGREE = 16
"""Sample points per axis for each degree of the polynomial: the bound exceeds the grid's maximum by at most
1 / cos(pi / 16)^2, 4 %."""

ROUNDING = 1 + 1e-9
"""What norms are multiplied by, so that rounding in float64 cannot make a bound too small."""


def operator_norm(matrices: Tensor) -> Tensor:
    """Upper bounds, within 1e-9, of the largest singular values (...,) of real or complex (..., m, n)."""
    tall = matrices if matrices.shape[-2] >= matrices.shape[-1] else matrices.mH
    if tall.numel() == 0:
        return torch.zeros(tall.shape[:-2], dtype=torch.float64)
    # Scaled first: squares of tiny numbers vanish, and the largest eigenvalue alone keeps its digits.
    size = torch.linalg.vector_norm(tall, dim=(-2, -1))
    safe = torch.where(size > 0, size, 1.0)
    unit = tall / safe[..., None, None]
    largest = torch.linalg.eigvalsh(unit.mH @ unit)[..., -1].clamp(min=0)
    norms: Tensor = torch.minimum(largest.sqrt(), torch.ones_like(size)) * size * ROUNDING
    return norms


def convolution_norm(kernel: Tensor, groups: int = 1, points: int = POINTS_PER_DEGREE) -> float:
    """An upper bound of the norm of a convolution of images, of any stride, dilation and size.

    Args:
        kernel: (C_out, C_in / groups, h, w), real.
        groups: as of torch.nn.Conv2d.
        points: sample points per axis and degree, >= 3; more make the bound tighter.

    Returns:
        The least of the bound above and sqrt(h w) |K|_F, which is at least |F(t)| by Cauchy and Schwarz.

    >>> round(convolution_norm(torch.ones(1, 1, 3, 3, dtype=torch.float64)), 6)  # 9, at the frequency 0
    9.0
    """
    if points < 3:
        raise ValueError(f"points must be >= 3 for a bound, got {points}")
    kernel = kernel.detach().to("cpu", torch.float64)
    height, width = kernel.shape[-2:]
    frobenius = float(kernel.norm())
    if frobenius == 0:
        return 0.0
    # Blocks of a grouped convolution see channels of their own: its norm is that of the worst block.
    blocks = kernel.reshape(groups, kernel.shape[0] // groups, *kernel.shape[1:])
    counts = [1 if side == 1 else math.ceil(points * (side - 1) / 2) for side in (height, width)]
    slack = math.prod(
        1 / math.cos(math.pi * (side - 1) / 2 / count)
        for side, count in zip((height, width), counts, strict=True)
    )
    along_height, along_width = (_waves(side, n) for side, n in zip((height, width), counts, strict=True))
    # Real kernels: F(-t) is the conjugate of F(t), so half of the first axis is enough.
    half = along_height[: counts[0] // 2 + 1].to(torch.complex128)
    rows = torch.einsum("goihw,th->tgoiw", blocks.to(torch.complex128), half)
    largest = 0.0
    for row in rows:
        matrices = torch.einsum("goiw,sw->sgoi", row, along_width)
        largest = max(largest, float(operator_norm(matrices).max()))
    # Sums over the window by the triangle inequality, tight for smoothing kernels.
    summed = float(operator_norm(blocks.permute(0, 3, 4, 1, 2)).sum(dim=(1, 2)).max())
    least = min(largest * slack, math.sqrt(height * width) * frobenius * ROUNDING, summed)
    return least


def _waves(side: int, count: int) -> Tensor:
    """exp(i a t) for positions a = 0 .. side - 1 at `count` equispaced frequencies t (count, side)."""
    t = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.exp(1j * t[:, None] * torch.arange(side, dtype=torch.float64))
