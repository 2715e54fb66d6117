"""The task "autoencoder": images through a narrow vector and back. The smallest complete task."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.models.data import Dataset, SampleDraws
from equikernels.models.engine.batches import Batches
from equikernels.models.engine.configuration import TrainingOptions, check_at_least
from equikernels.models.engine.errors import ConfigurationError
from equikernels.models.engine.tasks import Task, register_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Autoencoder", "AutoencoderOptions", "AutoencoderTask"]


@dataclass(frozen=True)
class AutoencoderOptions:
    """Sizes of an autoencoder and what it is trained against.

    Attributes:
        latent: Numbers that an image is reduced to.
        hidden: Hidden units of each layer of the encoder; the decoder mirrors them.
        noise: Standard deviation of normal noise that is added to training images, for the model to remove.
        dropout: Share of hidden units that are left out in training.
    """

    latent: int = 16
    hidden: tuple[int, ...] = (128,)
    noise: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(self, "latent", 1)
        check_at_least(self, "noise", 0.0)
        if not all(width >= 1 for width in self.hidden):
            raise ValueError(f"hidden: expected integers >= 1, got {self.hidden}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1), got {self.dropout}")


class Autoencoder(nn.Module):
    """Images (N, *shape) to (N, latent) by `encode`, and back by `decode`: linear layers and ReLU."""

    def __init__(self, shape: tuple[int, ...], options: AutoencoderOptions) -> None:
        super().__init__()
        self.shape = shape
        widths = (math.prod(shape), *options.hidden, options.latent)
        self.encoder = _layers(widths, options.dropout)
        self.decoder = _layers(widths[::-1], options.dropout)

    def encode(self, images: Tensor) -> Tensor:
        latent: Tensor = self.encoder(images.flatten(1))
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        flat: Tensor = self.decoder(latent)
        return flat.reshape(-1, *self.shape)

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))


def _layers(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


@register_task
class AutoencoderTask(Task[AutoencoderOptions]):
    """The mean squared error of reconstructed images, over all pixels."""

    name = "autoencoder"
    summary = "reduce images to a few numbers and back"
    options = AutoencoderOptions
    training = TrainingOptions(epochs=20)

    def build(self, dataset: Dataset) -> Autoencoder:
        if "image" not in dataset.fields:
            raise ConfigurationError(f"data: the autoencoder needs images, {dataset.name} has none")
        return Autoencoder(tuple(dataset.fields["image"].shape), self.configuration)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        images = batch["image"]
        seen = images
        if model.training and self.configuration.noise:
            seen = images + self.configuration.noise * draws.normal("noise", images.shape[1:]).to(images)
        return {"loss": functional.mse_loss(model(seen), images)}

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """Of whole images, for pixels from 0 to 1: the mean peak signal-to-noise ratio in decibels."""
        total = 0.0
        for batch, _ in batches:
            errors = (model(batch["image"]) - batch["image"]).flatten(1).square().mean(1)
            total += float((-10 * errors.double().log10()).sum())
        return {"psnr": total / len(batches.indices)}

    def figures(self, model: nn.Module, batches: Batches) -> dict[str, Figure]:
        """Some images above their reconstructions."""
        from matplotlib.figure import Figure

        batch, _ = next(iter(batches))
        images = batch["image"][:8]
        pairs = torch.stack([images, model(images)]).flatten(2, -3).mean(2).cpu()
        figure = Figure(figsize=(len(images), 2), layout="constrained")
        for axes, picture in zip(figure.subplots(2, len(images)).flat, pairs.flatten(0, 1), strict=True):
            axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
            axes.axis("off")
        return {"reconstructions": figure}

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The latent vector of every image, and its reconstruction."""
        assert isinstance(model, Autoencoder)
        latent = model.encode(batch["image"])
        return {"latent": latent, "reconstruction": model.decode(latent)}
