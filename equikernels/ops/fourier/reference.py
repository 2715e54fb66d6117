"""The specifications of both rotations: dense matrices, differentiable any number of times, any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from equikernels.ops.fourier.decomposition import Shears, offsets, palindrome
from equikernels.ops.permutation.reference import permute_reference


def shift_matrices(shift: Tensor, size: int) -> Tensor:
    """Matrices (..., size, size) that sample a periodic signal at j + shift, for shifts (...).

    The signal is the trigonometric polynomial through its samples, of the lowest degree. On an even size its
    highest frequency, (-1)^j, does not move:

        size S[j, l] = sum over |k| < size/2 of cos(2 pi k (j + shift - l) / size) + [size even] (-1)^(j - l)
    """
    place = torch.arange(size, device=shift.device)
    steps = place[:, None] - place
    matrix = torch.zeros(*shift.shape, size, size, dtype=shift.dtype, device=shift.device)
    for k in range((size + 1) // 2):
        wave = torch.cos(2 * math.pi * k / size * (steps + shift[..., None, None]))
        matrix = matrix + (wave if k == 0 else 2 * wave)
    if size % 2 == 0:
        matrix = matrix + torch.where(steps % 2 == 0, 1, -1)
    return matrix / size


def shear_rotate_reference(z: Tensor, before: Tensor, shears: Shears, after: Tensor) -> Tensor:
    """Images (N, C, H, W) sheared about their centre, between quarter turns (N,) before and after."""
    height, width = z.shape[2:]
    out = permute_reference(z, before, "turns", False, False)
    for axis, slope in palindrome(shears):
        if axis == "rows":
            matrices = shift_matrices(slope[:, None] * offsets(height, slope), width)
            out = torch.einsum("nyjx,ncyx->ncyj", matrices, out)
        else:
            matrices = shift_matrices(slope[:, None] * offsets(width, slope), height)
            out = torch.einsum("nxiy,ncyx->ncix", matrices, out)
    return permute_reference(out, after, "turns", False, False)


def spectral_rotate_reference(z: Tensor, theta: Tensor, basis: Tensor, frequencies: Tensor) -> Tensor:
    """Q D(theta) Q^T z with D the blocks [[cos, -sin], [sin, cos]] of k theta, after the modes that stay."""
    size = basis.shape[0]
    planes = size - len(frequencies)
    angle = theta[:, None] * frequencies[len(frequencies) - planes :]
    still = angle.new_ones(len(angle), size - 2 * planes)
    cosine = torch.cat([still, angle.cos().repeat_interleave(2, dim=1)], dim=1)
    # The sine stands between the two axes of each plane, nothing between neighbouring planes.
    sine = torch.stack([torch.zeros_like(angle), angle.sin()], dim=2).flatten(1)
    sine = torch.cat([torch.zeros_like(still), sine], dim=1)[:, 1:]
    blocks = cosine.diag_embed() + sine.diag_embed(-1) - sine.diag_embed(1)
    matrices = basis @ blocks.to(basis.dtype) @ basis.mT
    return torch.einsum("npq,ncq->ncp", matrices, z.flatten(2)).view(z.shape)
