"""What is measured of a trained model: its images, its mask, and where its latents look."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from equikernels.metrics import psnr, rmse, ssim
from equikernels.models.latent_actions.model import LatentActionModel

__all__ = ["compare_images", "object_dependence", "region_correlation"]

LARGEST_WINDOW = 11


def compare_images(images: Tensor, expected: Tensor) -> dict[str, float]:
    """Means over the images (B, C, H, W), or volumes (B, C, D, H, W), with values from 0 to 1.

    The peak signal-to-noise ratio "psnr" in decibels, the structural similarity "ssim", in windows of 11
    pixels or the largest odd number that the images have, and the root mean squared error of each, "rmse";
    in float64.

    >>> found = compare_images(torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 0.1))
    >>> print(f"{found['psnr']:.2f} dB, {found['rmse']:.2f}")
    20.00 dB, 0.10
    """
    images, expected = images.double(), expected.double()
    side = min(images.shape[2:])
    window = min(LARGEST_WINDOW, side if side % 2 else side - 1)
    return {
        "psnr": float(psnr(images, expected)),
        "ssim": float(ssim(images, expected, window=window)),
        "rmse": float(torch.vmap(rmse)(images, expected).mean()),
    }


def region_correlation(part: Tensor, region: Tensor) -> float:
    """How much the size of a part of latents goes with a region of the images.

    The correlation over all samples and places between |part|, the Euclidean norm over channels, and the
    share of the region in the pixels of each place.

    Args:
        part: z_v or z_i, (B, C, h, w).
        region: 1 inside and 0 outside, (B, 1, H, W).

    Returns:
        A number in [-1, 1]; NaN where one of the two is the same everywhere, as for a part without channels.

    >>> region = torch.zeros(1, 1, 4, 4)
    >>> region[..., :2] = 1
    >>> print(f"{region_correlation(region.expand(1, 3, 4, 4), region):.2f}")
    1.00
    """
    size = part.double().norm(dim=1).flatten()
    share = functional.adaptive_avg_pool2d(region.double(), (part.shape[-2], part.shape[-1])).flatten()
    size, share = size - size.mean(), share - share.mean()
    scale = float(size.norm() * share.norm())
    return float(size @ share) / scale if scale else math.nan


@torch.no_grad()
def object_dependence(model: LatentActionModel, scenes: Mapping[str, Tensor]) -> Tensor:
    """The share of every latent channel's answer that comes from the object: (C,) in [0, 1], float64.

    Each scene gets the object of the one before it, and the background of the one before it. With d_o and d_b
    the mean squared changes of a channel, the share is d_o / (d_o + d_b); NaN for a channel that no change
    reaches.

    Args:
        scenes: "object", "coverage" and "background", (B, ., H, W) with values from 0 to 1, B >= 2, which
            make the model's images object + (1 - coverage) background.
    """
    shape, coverage, background = scenes["object"], scenes["coverage"], scenes["background"]

    def encode(shape: Tensor, coverage: Tensor, background: Tensor) -> Tensor:
        return model.encode(2 * (shape + (1 - coverage) * background) - 1).double()

    z = encode(shape, coverage, background)
    others = (shape.roll(1, 0), coverage.roll(1, 0), background)
    by_object = (encode(*others) - z).square().mean((0, 2, 3))
    by_background = (encode(shape, coverage, background.roll(1, 0)) - z).square().mean((0, 2, 3))
    return by_object / (by_object + by_background)
