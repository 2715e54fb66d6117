"""The specification of `rotate` in plain torch: short, differentiable any number of times, any device."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of angle, cosine, sine, coordinates and weights for data of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def rotate_reference(z: Tensor, theta: Tensor) -> Tensor:
    """Bilinear rotation with zeros outside: z (N, C, H, W), theta (N,) in radians.

    The output at (x, y), measured from the centre, is the input at
        X = cos(theta) x - sin(theta) y,   Y = sin(theta) x + cos(theta) y,
    interpolated between its four neighbours with the weights (1 - |X - X_i|) (1 - |Y - Y_i|).
    """
    batch, channels, height, width = z.shape
    dtype = compute_dtype(z.dtype)
    angle = theta.to(dtype)
    cosine, sine = (f(angle)[:, None, None] for f in (torch.cos, torch.sin))
    x = torch.arange(width, dtype=dtype, device=z.device) - (width - 1) / 2
    y = (torch.arange(height, dtype=dtype, device=z.device) - (height - 1) / 2)[:, None]
    source_x = cosine * x - sine * y + (width - 1) / 2
    source_y = sine * x + cosine * y + (height - 1) / 2

    # Multiplying by NaN makes the whole sample NaN, forward and backward, zeros included.
    defined = torch.where(torch.isfinite(angle), 1.0, torch.nan).to(dtype)[:, None, None, None]
    pixels = (z.to(dtype) * defined).flatten(2)

    left, top = source_x.detach().floor(), source_y.detach().floor()
    right_weight, lower_weight = source_x - left, source_y - top
    out = torch.zeros_like(z, dtype=dtype, memory_format=torch.contiguous_format)
    for row, row_weight in ((top, 1 - lower_weight), (top + 1, lower_weight)):
        for column, column_weight in ((left, 1 - right_weight), (left + 1, right_weight)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = torch.where(inside, row, 0).long() * width + torch.where(inside, column, 0).long()
            tap = pixels.gather(2, index.flatten(1)[:, None].expand(batch, channels, -1)).view(z.shape)
            out = out + (row_weight * column_weight)[:, None] * torch.where(inside[:, None], tap, 0)
    return out.to(z.dtype)
