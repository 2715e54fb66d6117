"""How far an autoencoder is from turning its images with its latents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equikernels.group import Group
from equikernels.metrics import ssim
from equikernels.models.rotational_vae.losses import squared_errors

__all__ = ["turning_errors"]

# Pixels along each side that the windows of structural similarity need.
SSIM_WINDOW = 11


@torch.no_grad()
def turning_errors(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    act: Callable[[Tensor, Tensor], Tensor],
    group: Group,
    x: Tensor,
    elements: Tensor,
) -> dict[str, Tensor]:
    """Errors of every element and image.

    Args:
        x: images (B, C, H, W) in [-1, 1].
        elements: (K,).

    Returns:
        float64 (K, B) on the CPU, with z = E(x) and the image back, y = rho(g)^-1 D(rho(g) z):

        - "round_trip_mse": the mean squared difference of y and x, in the units of x;
        - "round_trip_mse_unit": the same as pictures are shown, cut to [-1, 1] and brought to [0, 1];
        - "psnr": -10 log10 of that, in decibels; infinite where nothing differs;
        - "ssim": the structural similarity of what is shown, for images of at least 11 x 11 pixels;
        - "encoder": |E(rho(g) x) - rho(g) E(x)| / |E(x)|;
        - "decoder": |D(rho(g) z) - rho(g) D(z)| / |D(z)|.

        Where turns interpolate, the numbers hold the error of interpolation too.
    """
    z = encode(x)
    plain = decode(z)
    rows: dict[str, list[Tensor]] = {}
    for g in elements:
        turned = decode(act(z, g))
        back = act(turned, group.inverse(g))
        unit = squared_errors(_shown(back), _shown(x)).double()
        measured = {
            "round_trip_mse": squared_errors(back, x),
            "round_trip_mse_unit": unit,
            "psnr": -10 * unit.log10(),
            "encoder": _relative(encode(act(x, g)), act(z, g), z),
            "decoder": _relative(turned, act(plain, g), plain),
        }
        if min(x.shape[-2:]) >= SSIM_WINDOW:
            measured["ssim"] = _similarities(_shown(back), _shown(x))
        for name, values in measured.items():
            rows.setdefault(name, []).append(values.double().cpu())
    return {name: torch.stack(values) for name, values in rows.items()}


def _shown(images: Tensor) -> Tensor:
    """Images in [-1, 1] as pixels from 0 to 1."""
    return (images.clamp(-1, 1) + 1) / 2


def _similarities(a: Tensor, b: Tensor) -> Tensor:
    """The structural similarity of every pair of images (B, C, H, W): (B,)."""
    return torch.stack([ssim(one[None], other[None]) for one, other in zip(a, b, strict=True)])


def _relative(a: Tensor, b: Tensor, size: Tensor) -> Tensor:
    return (a - b).flatten(1).norm(dim=1) / size.flatten(1).norm(dim=1)
