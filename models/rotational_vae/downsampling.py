"""Symmetric down-sampling for the encoders of diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from equikernels.nn import SymmetricDownsample

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

__all__ = ["SYMMETRIC", "symmetrise"]

# The key in the configuration of an AutoencoderKL that says it was changed.
SYMMETRIC = "symmetric_downsampling"


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
