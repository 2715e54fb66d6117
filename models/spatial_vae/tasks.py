"""The task "spatial-vae": a spatial variational autoencoder, trained on images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from equikernels.models.data import Dataset, SampleDraws
from equikernels.models.engine import (
    Batches,
    ConfigurationError,
    OptimizerOptions,
    Task,
    TrainingOptions,
    register_task,
)
from equikernels.models.engine.configuration import check_at_least
from equikernels.models.spatial_vae.ctf import ContrastTransfer, apply_transfer, check_columns
from equikernels.models.spatial_vae.decoders import Activation
from equikernels.models.spatial_vae.model import Decoder, Likelihood, Mask, SpatialVAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SpatialVAEOptions", "SpatialVAETask"]


@dataclass(frozen=True)
class SpatialVAEOptions:
    """Of a spatial variational autoencoder.

    Attributes:
        latent_dim: Numbers of the content.
        layers: Layers of hidden units of the decoder.
        hidden: Hidden units in each.
        encoder_layers: Layers of the encoder; without it as many as the decoder has.
        encoder_hidden: Hidden units in each; without it as many as the decoder has.
        activation: Non-linearity of encoder and decoder.
        bilinear: Products of coordinates and content in the decoder's first layer.
        expand: The decoder sees x^2, y^2 and xy besides x and y.
        residual: Layers of the decoder after the first add their input.
        softplus: Means of the pixels are made positive; not with bernoulli.
        isotropic: Pixels of images that are not square are squares.
        likelihood: Of the pixels; bernoulli takes values from 0 to 1.
        theta_prior: Standard deviation of the prior of the angle, in radians.
        theta_mean_penalty: The prior of the angle is normal; without it, no angle is preferred.
        shift_prior: Standard deviation of the prior of the shift, in pixels.
        mask: Explain all pixels, or those in the disc.
        rotation: Images have an angle.
        translation: Images have a shift.
        decoder: plain draws all pixels at once; only without rotation and translation.
        augment: Show the encoder training images turned by random angles.
        z_delay: Epochs in which the content is held at zero and only the pose is learned.
        samples: Samples of the latents of every image in the bound that is evaluated.
        ctf: star compares images as the microscope would see them, by the columns of a STAR file of RELION;
            not with bernoulli.
        pixel_size: In Angstrom, for ctf; without it that of the STAR file.
        backend: Implementation of the decoder; without it the best one for the device.
    """

    latent_dim: int = 2
    layers: int = 2
    hidden: int = 500
    encoder_layers: int | None = None
    encoder_hidden: int | None = None
    activation: Activation = "tanh"
    bilinear: bool = False
    expand: bool = False
    residual: bool = False
    softplus: bool = False
    isotropic: bool = True
    likelihood: Likelihood = "bernoulli"
    theta_prior: float = math.pi / 4
    theta_mean_penalty: bool = True
    shift_prior: float = 1.4
    mask: Mask = "none"
    rotation: bool = True
    translation: bool = True
    decoder: Decoder = "spatial"
    augment: bool = False
    z_delay: int = 0
    samples: int = 4
    ctf: Literal["none", "star"] = "none"
    pixel_size: float | None = None
    backend: Literal["reference", "torch"] | None = None

    def __post_init__(self) -> None:
        for name in ("latent_dim", "layers", "hidden", "samples"):
            check_at_least(self, name, 1)
        for name in ("encoder_layers", "encoder_hidden"):
            if getattr(self, name) is not None:
                check_at_least(self, name, 1)
        for name in ("theta_prior", "shift_prior"):
            check_at_least(self, name, 0.0, above=True)
        check_at_least(self, "z_delay", 0)
        if self.augment and not self.rotation:
            raise ValueError("augment: expected False without rotation, got True")
        if self.ctf != "none" and self.likelihood == "bernoulli":
            raise ValueError(f"ctf: expected none with likelihood bernoulli, got {self.ctf}")
        if self.pixel_size is not None:
            check_at_least(self, "pixel_size", 0.0, above=True)
            if self.ctf == "none":
                raise ValueError(f"pixel_size: expected none without ctf, got {self.pixel_size}")


OF_THE_TASK = ("augment", "z_delay", "samples", "ctf", "pixel_size")
"""Options that are not the model's."""


@register_task
class SpatialVAETask(Task[SpatialVAEOptions]):
    """Minus the evidence lower bound, in nats per image."""

    name = "spatial-vae"
    summary = "tell the content of images from their rotation and translation"
    options = SpatialVAEOptions
    training = TrainingOptions(epochs=100, batch_size=100)
    optimizer = OptimizerOptions(learning_rate=1e-4)

    def build(self, dataset: Dataset) -> SpatialVAE:
        shape = tuple(dataset.fields["image"].shape) if "image" in dataset.fields else ()
        if len(shape) != 3:
            raise ConfigurationError(f"data: spatial-vae needs images (C, H, W), {dataset.name} has none")
        given = dataclasses.asdict(self.configuration)
        own = {name: value for name, value in given.items() if name not in OF_THE_TASK}
        try:
            if self.configuration.ctf == "star":
                check_columns(dataset.fields, self.configuration.pixel_size)
            return SpatialVAE((shape[1], shape[2]), channels=shape[0], **own)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        assert isinstance(model, SpatialVAE)
        images, gamma = batch["image"], None
        if model.training and self.configuration.augment:
            gamma = draws.uniform("gamma", (), -math.pi, math.pi).to(images)
        frozen = model.training and draws.epoch < self.configuration.z_delay
        transfer = self._transfer(batch)
        return model.loss(images, draws, gamma=gamma, freeze_content=frozen, transfer=transfer)

    def _transfer(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """How the microscope saw the images of a batch."""
        if self.configuration.ctf == "none":
            return None
        try:
            found = ContrastTransfer.from_star(batch, self.configuration.pixel_size)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        height, width = batch["image"].shape[-2:]
        return found(height, width).to(batch["image"])

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """Evidence lower bounds in nats per image: with `samples` samples of the latents of every image, and
        with the log-likelihood at the posterior's mean in place of its expectation."""
        assert isinstance(model, SpatialVAE)
        sampled = at_mean = 0.0
        for batch, draws in batches:
            images, count, transfer = batch["image"], len(draws), self._transfer(batch)
            shape = (self.configuration.samples, model.pose_dim + model.latent_dim)
            for noise in draws.normal("evaluation", shape).to(images).unbind(1):
                sampled -= (
                    count
                    * float(model.loss(images, noise, transfer=transfer)["loss"])
                    / self.configuration.samples
                )
            zeros = torch.zeros_like(noise)
            at_mean -= count * float(model.loss(images, zeros, transfer=transfer)["loss"])
        return {"elbo": sampled / len(batches.indices), "elbo_at_mean": at_mean / len(batches.indices)}

    def figures(self, model: nn.Module, batches: Batches) -> dict[str, Figure]:
        """Some images at their poses and at none, the way between two, and the plane of two contents."""
        from equikernels.models.spatial_vae.figures import interpolation, manifold, reconstructions

        assert isinstance(model, SpatialVAE)
        batch, _ = next(iter(batches))
        images = batch["image"]
        drawn = {
            "reconstructions": reconstructions(model, images[:10]),
            "interpolation": interpolation(model, images[0], images[-1]),
        }
        if model.latent_dim == 2:
            drawn["manifold"] = manifold({"content at pose zero": model})
        return drawn

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The posterior's means: angle in radians, shift in pixels, content; and the image they draw.

        With a transfer function "seen" is that image as the microscope would see it.
        """
        assert isinstance(model, SpatialVAE)
        theta, shift, z = model.parts(model.encode(batch["image"]).mean)
        drawn, transfer = model.decode(z, theta, shift), self._transfer(batch)
        named = {"theta": theta, "shift": shift, "z": z, "reconstruction": drawn}
        if transfer is not None:
            named["seen"] = apply_transfer(drawn, transfer)
        return {name: value for name, value in named.items() if value is not None}

    def generate(self, model: nn.Module, draws: SampleDraws) -> dict[str, Tensor]:
        """Images of the prior."""
        assert isinstance(model, SpatialVAE)
        theta, shift, z = model.sample_prior(draws)
        return {"image": model.decode(z, theta, shift)}
