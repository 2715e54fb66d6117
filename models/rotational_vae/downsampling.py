"""Symmetric down-sampling for the encoders of diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

__all__ = ["SYMMETRIC", "SymmetricDownsample", "symmetrise"]

# The key in the configuration of an AutoencoderKL that says it was changed.
SYMMETRIC = "symmetric_downsampling"


class SymmetricDownsample(nn.Module):
    """A convolution of stride 1, padded alike on all sides, and the mean of every 2 x 2 pixels.

    On even grids it halves (N, C, H, W) and commutes with turns and flips if its kernel does. The parameters
    are those of `convolution`, the same objects under the same names.

    Args:
        convolution: with an odd kernel; its stride and padding are not used.

    Raises:
        ValueError: an even kernel.

    >>> import torch
    >>> SymmetricDownsample(nn.Conv2d(4, 8, 3, stride=2))(torch.zeros(1, 4, 6, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        if any(size % 2 == 0 for size in convolution.kernel_size):
            raise ValueError(f"convolution: expected an odd kernel, got {convolution.kernel_size}")
        height, width = convolution.kernel_size
        self.conv = nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            (height, width),
            padding=(height // 2, width // 2),
            groups=convolution.groups,
            bias=convolution.bias is not None,
            device="meta",
        )
        self.conv.weight = convolution.weight
        self.conv.bias = convolution.bias

    def forward(self, features: Tensor) -> Tensor:
        return functional.avg_pool2d(self.conv(features), 2)


def symmetrise(vae: AutoencoderKL) -> list[str]:
    """Replace the one-sided down-sampling of an encoder by a symmetric one with the same weights, in place.

    diffusers pads one row and one column at the end before its 3 x 3 convolutions of stride 2. Their samples
    then lie off the centre of the image, and no kernel makes them commute with a turn. This is another
    network: its weights are a start for training, not a substitute. With
    ``soften(vae, CyclicGroup(4), softness=0)`` it is equivariant to rounding, if all its sizes are even.

    The configuration gets the key "symmetric_downsampling", which `load_autoencoder` follows; diffusers
    itself warns that it does not know the key, and would run the saved weights with its own down-sampling.

    Returns:
        The names of the layers that were replaced; none the second time.

    Raises:
        TypeError: `vae` is no AutoencoderKL.
    """
    from diffusers import AutoencoderKL
    from diffusers.models.downsampling import Downsample2D

    if not isinstance(vae, AutoencoderKL):
        raise TypeError(f"vae: expected a diffusers AutoencoderKL, got {type(vae).__name__}")
    one_sided = [
        name
        for name, module in vae.named_modules()
        if isinstance(module, Downsample2D) and module.use_conv and module.padding == 0
    ]
    for name in one_sided:
        vae.set_submodule(name, SymmetricDownsample(vae.get_submodule(name).conv))
    if one_sided:
        vae.register_to_config(**{SYMMETRIC: True})
    return one_sided
