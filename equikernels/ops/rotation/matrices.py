"""The affine maps of moved pictures: where the place p of the moved picture comes from.

A picture that is turned by R about its centre, magnified by s and then moved by t shows at p what was at
R^-1 (p - t) / s. Places count pixels from the centre, right, down and deep.
"""

from __future__ import annotations

import torch
from torch import Tensor


def planar_matrix(theta: Tensor, translation: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
    """Matrices (N, 2, 3) of turns by theta (N,), counter-clockwise as displayed, rows counting downwards."""
    cosine, sine = theta.cos(), theta.sin()
    inverse = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    return _affine(inverse, translation, scale)


def spatial_matrix(rotation: Tensor, translation: Tensor | None, scale: Tensor | None) -> Tensor:
    """Matrices (N, 3, 4) of rotations (N, 3, 3) that act on (right, up, deep); their inverse is R^T."""
    for axis in (-1, -2):
        right, up, deep = rotation.unbind(axis)
        rotation = torch.stack([right, -up, deep], axis)
    return _affine(rotation.mT, translation, scale)


def _affine(inverse: Tensor, translation: Tensor | None, scale: Tensor | None) -> Tensor:
    if scale is not None:
        # An infinite scale would make a finite matrix, of a single point.
        defined = torch.where(scale.isfinite(), 1.0, torch.nan).to(scale.dtype)
        inverse = inverse * (defined / scale)[:, None, None]
    if translation is None:
        offset = torch.zeros_like(inverse[:, :, :1])
    else:
        # No matrix product, whose precision autocast and TF32 would lower.
        offset = -(inverse * translation[:, None]).sum(-1, keepdim=True)
    return torch.cat([inverse, offset], -1)
