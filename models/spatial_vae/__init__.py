"""Images as content, rotation and translation ("Explicitly disentangling image content from translation and
rotation with spatial-VAE", arXiv 1909.11663)."""

from equikernels.models.spatial_vae.model import Parts, SpatialVAE
from equikernels.models.spatial_vae.posterior import Posterior

__all__ = ["Parts", "Posterior", "SpatialVAE"]
