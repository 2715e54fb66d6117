"""What the tests of motions share: angles, rotations, and the sampling they must equal."""

from __future__ import annotations

import torch
from torch import Tensor


def moved(theta: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
    """The map of `rotate` in float64 as the inverse of the motion p -> s R p + t."""
    matrices = []
    for angle, step, factor in zip(theta.double(), translation.double(), scale.double(), strict=True):
        # Counter-clockwise as displayed: right goes up, and up is against the rows.
        turn = torch.stack(
            [torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])]
        )
        motion = torch.eye(3, dtype=torch.float64)
        motion[:2, :2], motion[:2, 2] = factor * turn, step
        matrices.append(torch.linalg.inv(motion)[:2])
    return torch.stack(matrices)


def moved_in_space(rotation: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
    """The map of `rotate3d` likewise; rotations act on (right, up, deep), translations go down."""
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
    matrices = []
    for turn, step, factor in zip(rotation.double(), translation.double(), scale.double(), strict=True):
        motion = torch.eye(4, dtype=torch.float64)
        motion[:3, :3], motion[:3, 3] = factor * (mirror @ turn @ mirror), step
        matrices.append(torch.linalg.inv(motion)[:3])
    return torch.stack(matrices)


def random_rotations(count: int, seed: int = 0) -> Tensor:
    """Rotations (count, 3, 3), float64."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator, dtype=torch.float64))
    return q * torch.linalg.det(q)[:, None, None]


def random_motion(count: int, dims: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Translations (count, dims) of a few pixels and scales (count,) in [0.6, 1.6], float64."""
    generator = torch.Generator().manual_seed(seed)
    translation = torch.rand(count, dims, generator=generator, dtype=torch.float64) * 4 - 2
    return translation, torch.rand(count, generator=generator, dtype=torch.float64) + 0.6
