"""The task "rvae": a VAE whose decoder turns images when their latents turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from equikernels.group import SO2, CyclicGroup, DihedralGroup, Group
from equikernels.models.data import Dataset, SampleDraws
from equikernels.models.data.transforms import center_crop, random_crop
from equikernels.models.engine.batches import Batches
from equikernels.models.engine.configuration import OptimizerOptions, TrainingOptions, check_at_least
from equikernels.models.engine.errors import ConfigurationError
from equikernels.models.engine.tasks import Task, register_task
from equikernels.models.rotational_vae.elements import element_name
from equikernels.models.rotational_vae.model import RotationalVAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RotationalVAEOptions", "RotationalVAETask"]

# How many images a figure shows.
SHOWN = 3

GROUPS: dict[str, Group] = {
    "C_2": CyclicGroup(2),
    "C_4": CyclicGroup(4),
    "D_4": DihedralGroup(4),
    "SO(2)": SO2(),
}


@dataclass(frozen=True)
class RotationalVAEOptions:
    """Of a VAE and how it is made to turn.

    Attributes:
        vae: A folder or hub name of an AutoencoderKL to start from; without it a small random one.
        channels: Channels of the random one at each resolution; every further one halves the image.
        layers: Residual blocks of the random one at each resolution.
        latent_channels: Channels of the latents of the random one.
        norm_groups: Groups of its group norms, which divide all channels.
        attention: Attention in the middle of its encoder and decoder.
        group: What images and latents are turned by; C_2, half turns, is the paper's.
        mode: Turned latents are decoded beside the plain ones (dual, the paper), in their place with some
            probability (implicit), or compared with the latents of turned images (explicit).
        trained: Encoder and decoder, or the decoder alone.
        turned_weight: Weight of the term for turned latents.
        kl_weight: Weight of the posterior's divergence from a unit normal, in nats per image.
        probability: Of a turn, in the mode implicit.
        symmetric: Symmetric down-sampling in the encoder.
        crop: Side of the square windows cut out of the images, at random places in training, in the middle
            elsewhere; 0 takes whole images.
        windows: How many windows a training step cuts out of every image.
    """

    vae: str | None = None
    channels: tuple[int, ...] = (16, 32)
    layers: int = 1
    latent_channels: int = 4
    norm_groups: int = 4
    attention: bool = True
    group: Literal["C_2", "C_4", "D_4", "SO(2)"] = "C_2"
    mode: Literal["dual", "implicit", "explicit"] = "dual"
    trained: Literal["both", "decoder"] = "both"
    turned_weight: float = 1.0
    kl_weight: float = 0.0
    probability: float = 0.5
    symmetric: bool = False
    crop: int = 64
    windows: int = 1

    def __post_init__(self) -> None:
        for name in ("layers", "latent_channels", "norm_groups", "windows"):
            check_at_least(self, name, 1)
        check_at_least(self, "crop", 0)
        if self.windows > 1 and not self.crop:
            raise ValueError(f"windows: expected 1 of whole images (crop = 0), got {self.windows}")
        if not self.channels or any(width < 1 or width % self.norm_groups for width in self.channels):
            raise ValueError(
                f"channels: expected multiples of norm_groups = {self.norm_groups}, got {self.channels}"
            )


@register_task
class RotationalVAETask(Task[RotationalVAEOptions]):
    """The mean squared error of images and of turned images from turned latents.

    The paper trains a pretrained VAE with AdamW at 5e-5, 5 epochs in batches of 3, on windows of 256 pixels.
    The default here is a small random VAE, which needs a larger rate.
    """

    name = "rvae"
    summary = "a diffusion model's VAE whose images turn with its latents"
    options = RotationalVAEOptions
    data = "photographs"
    training = TrainingOptions(epochs=50, batch_size=3)
    optimizer = OptimizerOptions(algorithm="adamw", learning_rate=1e-3)

    def build(self, dataset: Dataset) -> RotationalVAE:
        field = dataset.fields.get("image")
        if field is None or len(field.shape) != 3:
            raise ConfigurationError(f"data: rvae needs images (channels, H, W), {dataset.name} has none")
        options = self.configuration
        try:
            model = RotationalVAE(
                options.vae or _random_autoencoder(options, field.shape[0]),
                GROUPS[options.group],
                options.mode,
                trained=options.trained,
                turned_weight=options.turned_weight,
                kl_weight=options.kl_weight,
                probability=options.probability,
                symmetric_downsampling=options.symmetric,
            )
        except (ValueError, FileNotFoundError) as error:
            raise ConfigurationError(str(error)) from error
        height, width = (options.crop, options.crop) if options.crop else field.shape[1:]
        if height > field.shape[1] or width > field.shape[2]:
            size = f"{field.shape[1]} x {field.shape[2]}"
            raise ConfigurationError(f"crop: images of {dataset.name} are {size}, got {options.crop}")
        if height % model.factor or width % model.factor:
            raise ConfigurationError(
                f"crop: expected sides that {model.factor} divides, got {height} x {width} pixels"
            )
        if height != width and options.group != "C_2":
            raise ConfigurationError(f"crop: {options.group} needs square images, got {height} x {width}")
        if field.shape[0] != model.vae.config.in_channels:
            raise ConfigurationError(
                f"vae: it takes {model.vae.config.in_channels} channels, {dataset.name} has {field.shape[0]}"
            )
        return model

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        assert isinstance(model, RotationalVAE)
        images = batch["image"]
        if model.training and self.configuration.crop:
            draws = _of_windows(draws, self.configuration.windows)
            images = images.repeat_interleave(self.configuration.windows, 0)
            images = random_crop(images, draws, self.configuration.crop)[0]
        else:
            images = self._middle(images)
        return model.loss(2 * images - 1, draws)

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """The means of `RotationalVAE.errors` over the images, by name and element; "_0" is the identity."""
        assert isinstance(model, RotationalVAE)
        elements = _measured(model.group)
        totals: dict[str, Tensor] = {}
        for batch, _ in batches:
            errors = model.errors(2 * self._middle(batch["image"]) - 1, elements)
            for name, values in errors.items():
                totals[name] = totals.get(name, torch.zeros(len(elements))) + values.sum(1)
        return {
            f"{name}_{element_name(model.group, g)}": float(total / len(batches.indices))
            for name, rows in totals.items()
            for g, total in zip(elements, rows, strict=True)
        }

    def figures(self, model: nn.Module, batches: Batches) -> dict[str, Figure]:
        """Latents of some images turned by 180 degrees, and the PSNR of every image and element."""
        from equikernels.models.rotational_vae.figures import element_errors, latent_turns

        assert isinstance(model, RotationalVAE)
        elements = _measured(model.group)
        images = self._middle(next(iter(batches))[0]["image"])
        values: dict[str, list[float]] = {element_name(model.group, g): [] for g in elements}
        for batch, _ in batches:
            errors = model.errors(2 * self._middle(batch["image"]) - 1, elements)
            for own, row in zip(values.values(), errors["psnr"], strict=True):
                own += row.tolist()
        return {
            "latent_turns": latent_turns({"": model}, images[:SHOWN], _half_turn(model.group)),
            "errors": element_errors({"images": values}, "PSNR turned back (dB)"),
        }

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The latent of every image, and its reconstruction with pixels from 0 to 1."""
        assert isinstance(model, RotationalVAE)
        latent = model.encode(2 * self._middle(batch["image"]) - 1)
        return {"latent": latent, "reconstruction": (model.decode(latent).clamp(-1, 1) + 1) / 2}

    def export(self, model: nn.Module, folder: Path) -> None:
        """The VAE as diffusers reads it."""
        assert isinstance(model, RotationalVAE)
        model.save_pretrained(folder)

    def _middle(self, images: Tensor) -> Tensor:
        return center_crop(images, self.configuration.crop) if self.configuration.crop else images


def _of_windows(draws: SampleDraws, count: int) -> SampleDraws:
    """Random numbers of `count` windows of every sample, each with a number of its own: window 0 of sample 0,
    window 1, and so on."""
    windows = draws.indices[:, None] * count + torch.arange(count)
    return SampleDraws(draws.seed, draws.epoch, windows.flatten())


def _measured(group: Group) -> Tensor:
    """The elements that are measured: all of a finite group, and four angles of SO(2)."""
    if group.order is None:
        return torch.tensor([0.0, 45.0, 90.0, 180.0], dtype=torch.float64).deg2rad()
    elements: Tensor = group.elements()
    return elements


def _half_turn(group: Group) -> Any:
    """180 degrees, which every group here has."""
    return group.n // 2 if isinstance(group, (CyclicGroup, DihedralGroup)) else math.pi


def _random_autoencoder(options: RotationalVAEOptions, image_channels: int) -> Any:
    from diffusers import AutoencoderKL

    count = len(options.channels)
    return AutoencoderKL(
        in_channels=image_channels,
        out_channels=image_channels,
        down_block_types=("DownEncoderBlock2D",) * count,
        up_block_types=("UpDecoderBlock2D",) * count,
        block_out_channels=options.channels,
        layers_per_block=options.layers,
        latent_channels=options.latent_channels,
        norm_num_groups=options.norm_groups,
        mid_block_add_attention=options.attention,
    )
