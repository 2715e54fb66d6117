"""Rotation-equivariant VAEs ("Inducing Rotational Equivariance in a Diffusion Model's VAE")."""

from equikernels.models.rotational_vae.downsampling import symmetrise
from equikernels.models.rotational_vae.files import load_autoencoder
from equikernels.models.rotational_vae.model import RotationalVAE

__all__ = ["RotationalVAE", "load_autoencoder", "symmetrise"]
