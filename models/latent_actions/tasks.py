"""The task "latent-actions": learn which latent channels turn with the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import SO2, SO3, CubeGroup, CyclicGroup, Group
from equikernels.models.data import Dataset, SampleDraws
from equikernels.models.data.transforms import pad_to
from equikernels.models.engine.batches import Batches
from equikernels.models.engine.configuration import OptimizerOptions, TrainingOptions, check_at_least
from equikernels.models.engine.errors import ConfigurationError
from equikernels.models.engine.tasks import Task, register_task
from equikernels.models.latent_actions.measuring import compare_images
from equikernels.models.latent_actions.model import LatentActionModel
from equikernels.models.latent_actions.networks import convolutional_autoencoder
from equikernels.models.latent_actions.pairs import (
    SCENE_FIELDS,
    PairOptions,
    transformed_pair,
    transformed_scene,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        method: How the group acts on latents: auto is exact where the group allows it and bilinear elsewhere;
            the latents of so2 also turn without loss of length, by shear or spectral.
        target: Latents of the transformed images in the losses: stopped, a constant, as published; free; or
            auto, stopped where the action keeps the lengths of latents, free where it does not, since
            training diverges there otherwise.
        output: The decoder ends with Tanh, as published, or with its last convolution, for sparse volumes.
        average: Images and volumes become means over blocks of so many pixels a side.
        side: Then they get a frame of zeros up to this side, so that they can be halved once for each width.
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
    method: Literal["auto", "exact", "bilinear", "shear", "spectral"] = "auto"
    target: Literal["auto", "stopped", "free"] = "auto"
    output: Literal["tanh", "linear"] = "tanh"
    average: int = 1
    side: int | None = None
    pairs: PairOptions = field(default_factory=PairOptions)

    def __post_init__(self) -> None:
        check_at_least(self, "average", 1)
        if self.side is not None:
            check_at_least(self, "side", 8)
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
        if self.method not in ("auto", "exact", "bilinear") and self.group != "so2":
            raise ValueError(f"method: {self.method} turns images by any angle, the group is {self.group}")
        if self.method == "exact" and self.group in ("so2", "so3"):
            raise ValueError(f"method: the group {self.group} does not move every pixel to a pixel")
        if self.pairs.scene != "whole" and self.group not in PLANAR:
            raise ValueError(f"scene: {self.pairs.scene} needs images, the group {self.group} moves volumes")
        if self.pairs.scene == "layers" and any(width % 2 for width in self.widths):
            raise ValueError(f"widths: expected even ones for the two layers of a scene, got {self.widths}")


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
        for name in ("image", *(SCENE_FIELDS if options.pairs.scene != "whole" else ())):
            if name not in dataset.fields:
                raise ConfigurationError(
                    f"data: latent-actions needs {kind if name == 'image' else name}, {dataset.name} has none"
                )
        channels, *sides = dataset.fields["image"].shape
        if len(sides) != dimensions:
            raise ConfigurationError(
                f"data: the group {options.group} moves {kind}, {dataset.name} has shape {(channels, *sides)}"
            )
        side = self._side(dataset.name, sides)
        if options.pairs.square > side:
            raise ConfigurationError(
                f"square: expected at most {side} pixels, as {dataset.name} has, got {options.pairs.square}"
            )
        layers = 2 if options.pairs.scene == "layers" else 1
        encoder, decoder = convolutional_autoencoder(
            layers * channels, options.widths, dimensions, layers, options.output
        )
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
            method=options.method,
            target=options.target,
        )

    def _side(self, name: str, sides: Sequence[int]) -> int:
        """The side of what the model sees."""
        options = self.configuration
        if len(set(sides)) > 1 or sides[0] % options.average:
            raise ConfigurationError(
                f"data: expected equal sides that are multiples of average, {options.average}, "
                f"{name} has {' x '.join(map(str, sides))}"
            )
        side = sides[0] // options.average
        if options.side is not None and options.side < side:
            raise ConfigurationError(f"side: expected at least {side}, as {name} has, got {options.side}")
        side = options.side or side
        multiple = 2 ** len(options.widths)
        if side % multiple or side < 8:
            raise ConfigurationError(
                f"data: {len(options.widths)} widths need sides that are multiples of {multiple}, at least "
                f"8, {name} has {side} (average and side change that)"
            )
        return side

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        assert isinstance(model, LatentActionModel)
        x, gx, g = self.pair(batch, draws)
        # After the turn, so that what comes in from outside is background, -1, and not grey.
        return model.loss(2 * x - 1, 2 * gx - 1, g)

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """Of transformed images by random elements, for values from 0 to 1, means over the images.

        The peak signal-to-noise ratio in decibels, the structural similarity, the root of the mean squared
        error; and the share of latent channels that vary.
        """
        assert isinstance(model, LatentActionModel)
        totals: dict[str, float] = {}
        for batch, draws in batches:
            x, gx, g = self.pair(batch, draws)
            found = compare_images((model.transform(2 * x - 1, g) + 1) / 2, gx)
            for name, mean in found.items():
                totals[name] = totals.get(name, 0.0) + mean * len(x)
        means = {name: total / len(batches.indices) for name, total in totals.items()}
        return {**means, "varying_share": float(model.mask.double().mean())}

    def figures(self, model: nn.Module, batches: Batches) -> dict[str, Figure]:
        """Transformed images beside the truth, swapped parts, and where latents of each part are large."""
        from equikernels.models.latent_actions.figures import Examples, draw_all

        assert isinstance(model, LatentActionModel)
        batch, draws = next(iter(batches))
        x, gx, g = self.pair(batch, draws)
        return draw_all(model, Examples(2 * x - 1, 2 * gx - 1, g))

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The two parts of every latent, each with zeros in the other's channels; the reconstruction."""
        assert isinstance(model, LatentActionModel)
        z = model.encode(2 * self.seen(batch) - 1)
        varying, invariant = model.parts(z)
        return {"varying": varying, "invariant": invariant, "reconstruction": (model.decode(z) + 1) / 2}

    def seen(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The images or volumes of a batch as the model sees them, with values from 0 to 1."""
        if self.configuration.pairs.scene == "layers":
            return torch.cat([self._prepared(batch[name]) for name in ("object", "background")], dim=1)
        return self._prepared(batch["image"])

    def pair(self, batch: Mapping[str, Tensor], draws: SampleDraws) -> tuple[Tensor, Tensor, Tensor]:
        """(x, gx, g) of a batch, with values from 0 to 1; see `transformed_pair` and `transformed_scene`."""
        options = self.configuration
        group = GROUPS[options.group]
        if options.pairs.scene == "whole":
            return transformed_pair(self._prepared(batch["image"]), draws, group, options.pairs)
        parts = {name: self._prepared(batch[name]) for name in SCENE_FIELDS}
        return transformed_scene(parts, draws, group, options.pairs)

    def _prepared(self, images: Tensor) -> Tensor:
        options = self.configuration
        if options.average > 1:
            pool = functional.avg_pool2d if images.dim() == 4 else functional.avg_pool3d
            images = pool(images, options.average)
        return images if options.side is None else pad_to(images, options.side)
