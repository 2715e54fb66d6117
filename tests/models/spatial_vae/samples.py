"""Small models in float64 and images for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equikernels.models.spatial_vae import SpatialVAE


def small(size: int | tuple[int, int] = 8, **options: Any) -> SpatialVAE:
    """A model in float64 with the same parameters every time."""
    torch.manual_seed(5)
    return SpatialVAE(size, **{"latent_dim": 2, "layers": 2, "hidden": 7, **options}).double()


def pictures(count: int, channels: int = 1, size: tuple[int, int] = (8, 8)) -> Tensor:
    """Noise in [0, 1], float64."""
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, channels, *size, generator=generator, dtype=torch.float64)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def float64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
