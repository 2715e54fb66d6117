"""Encoders and decoders that keep the grid: latents are smaller images, or volumes, of more channels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import nn

__all__ = ["convolutional_autoencoder"]

SLOPE = 0.2


def convolutional_autoencoder(
    channels: int = 1,
    widths: Sequence[int] = (32, 64),
    dimensions: int = 2,
    groups: int = 1,
    output: Literal["tanh", "linear"] = "tanh",
) -> tuple[nn.Sequential, nn.Sequential]:
    """An encoder that halves every side with each width, and the decoder that mirrors it.

    Convolutions of kernel 4, stride 2 and padding 1, each followed by LeakyReLU(0.2); transposed ones back,
    the last followed by Tanh, so that images lie in (-1, 1), or by nothing. The default widths are those for
    MNIST: 28 x 28 pixels become 64 channels of 7 x 7.

    Args:
        channels: of the images.
        widths: channels after each convolution; the last is the number of latent channels.
        dimensions: 2 for images (N, C, H, W), 3 for volumes (N, C, D, H, W). Every side must be a multiple of
            2^len(widths) to come back as it was.
        groups: parts of the channels that never see each other, in the encoder alone: the first latent
            channels then depend on the first channels of the images only. It divides `channels` and `widths`.
        output: what follows the last convolution. Where nearly all values are -1, as in sparse volumes, the
            first steps drive a Tanh so far down that no gradient comes through it any more.

    Returns:
        (encoder, decoder), with parameters from PyTorch's generator.

    Raises:
        ValueError: no widths, a number of channels below 1, dimensions other than 2 and 3, groups that do not
            divide the channels, another output.

    >>> import torch
    >>> encoder, decoder = convolutional_autoencoder()
    >>> z = encoder(torch.zeros(1, 1, 28, 28))
    >>> z.shape, decoder(z).shape
    (torch.Size([1, 64, 7, 7]), torch.Size([1, 1, 28, 28]))
    """
    sizes = (channels, *widths)
    if len(sizes) < 2 or any(
        isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes
    ):
        raise ValueError(f"channels, widths: expected positive integers, got {channels!r} and {widths!r}")
    if dimensions not in (2, 3):
        raise ValueError(f"dimensions: expected 2 or 3, got {dimensions!r}")
    if (
        isinstance(groups, bool)
        or not isinstance(groups, int)
        or groups < 1
        or any(n % groups for n in sizes)
    ):
        raise ValueError(f"groups: expected a divisor of {', '.join(map(str, sizes))}, got {groups!r}")
    if output not in ("tanh", "linear"):
        raise ValueError(f'output: expected "tanh" or "linear", got {output!r}')
    down, up = (
        (nn.Conv2d, nn.ConvTranspose2d) if dimensions == 2 else (nn.Conv3d, nn.ConvTranspose3d)
    )  # fmt: skip
    encoder: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        encoder += [down(inputs, outputs, 4, stride=2, padding=1, groups=groups), nn.LeakyReLU(SLOPE)]
    decoder: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes[::-1]):
        decoder += [up(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
    decoder[-1:] = [nn.Tanh()] if output == "tanh" else []
    return nn.Sequential(*encoder), nn.Sequential(*decoder)
