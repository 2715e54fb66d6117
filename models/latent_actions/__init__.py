"""Groups acting on latents ("Learning Group Actions in Disentangled Latent Image Representations").

An autoencoder of images or volumes whose latent channels are parted by a learned mask: those that vary are
moved by the group, the others stay.
"""

from equikernels.models.latent_actions.model import LatentActionModel
from equikernels.models.latent_actions.networks import convolutional_autoencoder
from equikernels.models.latent_actions.pairs import PairOptions, transformed_pair, transformed_scene

__all__ = [
    "LatentActionModel",
    "PairOptions",
    "convolutional_autoencoder",
    "transformed_pair",
    "transformed_scene",
]
