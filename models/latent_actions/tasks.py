"""The task "latent-actions": learn which latent channels turn with the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from equikernels.group import SO2, SO3, CubeGroup, CyclicGroup, Group
from equikernels.models.data import Dataset, SampleDraws
from equikernels.models.engine.batches import Batches
from equikernels.models.engine.configuration import OptimizerOptions, TrainingOptions, check_at_least
from equikernels.models.engine.errors import ConfigurationError
from equikernels.models.engine.tasks import Task, register_task
from equikernels.models.latent_actions.model import LatentActionModel
from equikernels.models.latent_actions.networks import convolutional_autoencoder
from equikernels.models.latent_actions.pairs import PairOptions, transformed_pair

__all__ = ["LatentActionOptions", "LatentActionTask"]

GROUPS: dict[str, Group] = {"so2": SO2(), "c4": CyclicGroup(4), "so3": SO3(), "cube": CubeGroup()}
PLANAR = ("so2", "c4")


@dataclass(frozen=True)
class LatentActionOptions:
    """Of a model with a group acting on a part of its latent.

    Attributes:
        group: What moves the images: so2, any angle; c4, exact quarter turns; of volumes so3 or cube.
        widths: Channels after each convolution of the encoder, which halves every side; the last is the
            number of latent channels. The decoder mirrors it.
        partition: The channels that vary: learned; manual, the first half; none, all of them.
        threshold: Of the mask, a channel varies where the sigmoid of its logit is larger.
        start: Of the logits: N(logit(threshold), 0.1), or around zero, 0.1 N(0, 1), as published.
        estimator: Of the gradient of the mask: ste, straight-through, or counterfactual.
        invariant_weight: Of the consistency of the channels that do not vary.
        varying_weight: Of the consistency of those that do.
        pairs: What the pairs of images are.
    """

    group: Literal["so2", "c4", "so3", "cube"] = "so2"
    widths: tuple[int, ...] = (32, 64)
    partition: Literal["learned", "manual", "none"] = "learned"
    threshold: float = 0.5
    start: Literal["threshold", "zero"] = "threshold"
    estimator: Literal["ste", "counterfactual"] = "ste"
    invariant_weight: float = 1.0
    varying_weight: float = 1.0
    pairs: PairOptions = field(default_factory=PairOptions)

    def __post_init__(self) -> None:
        if not self.widths or not all(width >= 1 for width in self.widths):
            raise ValueError(f"widths: expected at least one integer, all >= 1, got {self.widths}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: expected a number between 0 and 1, got {self.threshold}")
        check_at_least(self, "invariant_weight", 0.0)
        check_at_least(self, "varying_weight", 0.0)
        if self.pairs.square and self.group not in PLANAR:
            raise ValueError(
                f"square: only images get one, got {self.pairs.square} with the group {self.group}"
            )


@register_task
class LatentActionTask(Task[LatentActionOptions]):
    """Images with values from 0 to 1, of any data set; the networks see them from -1 to 1.

    Every sample is seen with its own random element of the group in every epoch.
    """

    name = "latent-actions"
    summary = "part latents into what turns with the image and what does not"
    options = LatentActionOptions
    training = TrainingOptions(epochs=50, batch_size=64)
    optimizer = OptimizerOptions(algorithm="adam", learning_rate=1e-3)

    def build(self, dataset: Dataset) -> LatentActionModel:
        options = self.configuration
        dimensions = 2 if options.group in PLANAR else 3
        kind = "images" if dimensions == 2 else "volumes"
        if "image" not in dataset.fields:
            raise ConfigurationError(f"data: latent-actions needs {kind}, {dataset.name} has none")
        channels, *sides = dataset.fields["image"].shape
        if len(sides) != dimensions:
            raise ConfigurationError(
                f"data: the group {options.group} moves {kind}, {dataset.name} has shape {(channels, *sides)}"
            )
        multiple = 2 ** len(options.widths)
        # The window of the structural similarity asks for more than 5.
        if len(set(sides)) > 1 or sides[0] % multiple or sides[0] < 8:
            raise ConfigurationError(
                f"data: {len(options.widths)} widths need equal sides that are multiples of {multiple}, at "
                f"least 8, {dataset.name} has {' x '.join(map(str, sides))}"
            )
        if options.pairs.square > sides[0]:
            raise ConfigurationError(
                f"square: expected at most {sides[0]} pixels, as {dataset.name} has, "
                f"got {options.pairs.square}"
            )
        encoder, decoder = convolutional_autoencoder(channels, options.widths, dimensions)
        return LatentActionModel(
            encoder,
            decoder,
            GROUPS[options.group],
            options.widths[-1],
            partition=options.partition,
            threshold=options.threshold,
            start=options.start,
            estimator=options.estimator,
            invariant_weight=options.invariant_weight,
            varying_weight=options.varying_weight,
        )

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        assert isinstance(model, LatentActionModel)
        x, gx, g = self._pair(batch, draws)
        # After the turn, so that what comes in from outside is background, -1, and not grey.
        return model.loss(2 * x - 1, 2 * gx - 1, g)

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """Of transformed images by random elements, for values from 0 to 1, means over the images.

        The peak signal-to-noise ratio in decibels, the structural similarity, the root of the mean squared
        error; and the share of latent channels that vary.
        """
        assert isinstance(model, LatentActionModel)
        numbers: list[dict[str, Tensor]] = []
        for batch, draws in batches:
            x, gx, g = self._pair(batch, draws)
            numbers.append(_compare((model.transform(2 * x - 1, g) + 1) / 2, gx))
        means = {
            name: float(torch.cat([part[name] for part in numbers]).mean()) for name in numbers[0]
        }  # fmt: skip
        return {**means, "varying_share": float(model.mask.double().mean())}

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The two parts of every latent, each with zeros in the other's channels; the reconstruction."""
        assert isinstance(model, LatentActionModel)
        z = model.encode(2 * batch["image"] - 1)
        varying, invariant = model.parts(z)
        return {"varying": varying, "invariant": invariant, "reconstruction": (model.decode(z) + 1) / 2}

    def _pair(self, batch: Mapping[str, Tensor], draws: SampleDraws) -> tuple[Tensor, Tensor, Tensor]:
        options = self.configuration
        return transformed_pair(batch["image"], draws, GROUPS[options.group], options.pairs)


def _compare(images: Tensor, expected: Tensor) -> dict[str, Tensor]:
    """Numbers (B,), float64, for images, or volumes, with values from 0 to 1."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    images, expected = images.double(), expected.double()
    squared = (images - expected).square().flatten(1).mean(1)
    similarity = structural_similarity_index_measure(images, expected, data_range=1.0, reduction="none")
    assert isinstance(similarity, Tensor)
    return {"psnr": -10 * squared.log10(), "ssim": similarity.reshape(len(images)), "rmse": squared.sqrt()}
