"""Small autoencoders of diffusers."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL


def small_vae(attention: bool = True, **changes: object) -> AutoencoderKL:
    """Random, in float64, with an encoder that halves twice where `channels` has three widths."""
    torch.manual_seed(4)
    widths = changes.pop("block_out_channels", (8, 16))
    options = {
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "block_out_channels": widths,
        "norm_num_groups": 4,
        "latent_channels": 3,
        "mid_block_add_attention": attention,
    }
    return AutoencoderKL(**(options | changes)).double()


def images(count: int = 3, side: int = 8, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.rand(count, channels, side, side, generator=generator, dtype=torch.float64) - 1
