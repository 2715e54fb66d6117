"""The task "soft-vit", a classifier of images; the package's other tasks come from modules of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from equikernels.group import CyclicGroup
from equikernels.models.data import Dataset, SampleDraws
from equikernels.models.engine import (
    Batches,
    ConfigurationError,
    Task,
    TrainingOptions,
    register_task,
)
from equikernels.models.engine.configuration import check_at_least
from equikernels.models.soft_equivariance.classification import classification_numbers
from equikernels.models.soft_equivariance.regression_task import RegressionOptions, SoftRegressionTask
from equikernels.models.soft_equivariance.soft_grid_task import SoftGridOptions, SoftGridTask
from equikernels.models.soft_equivariance.trajectory_task import SoftTrajectoriesTask, TrajectoryOptions
from equikernels.models.soft_equivariance.vision import SoftViT

__all__ = [
    "RegressionOptions",
    "SoftRegressionTask",
    "SoftGridOptions",
    "SoftGridTask",
    "SoftTrajectoriesTask",
    "SoftViTTask",
    "TrajectoryOptions",
    "ViTOptions",
]


# -- images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ViTOptions:
    """Of a vision transformer made soft.

    Attributes:
        softness: From 0, invariant under turns of the image, to 1, a plain transformer.
        turns: The group: this many turns in a full circle.
        source: A folder or a name on the hub of a trained ViT; without it one is built from the sizes below.
        width: Features of a token.
        depth: Transformer blocks.
        heads: Of the attention.
        feedforward: Features between the two layers of a block's feed-forward part.
        patch: Pixels along each side of a patch.
        classes: How many there are, where the data name none.
    """

    softness: float = 0.2
    turns: int = 4
    source: str | None = None
    width: int = 64
    depth: int = 2
    heads: int = 4
    feedforward: int = 128
    patch: int = 2
    classes: int | None = None

    def __post_init__(self) -> None:
        for name in ("turns", "width", "depth", "heads", "feedforward", "patch"):
            check_at_least(self, name, 1)


@register_task
class SoftViTTask(Task[ViTOptions]):
    """The cross-entropy of a classifier of images."""

    name = "soft-vit"
    summary = "classify images with a vision transformer as invariant under turns as you ask"
    options = ViTOptions
    training = TrainingOptions(epochs=20, monitor="combined_accuracy", maximize=True)

    def build(self, dataset: Dataset) -> SoftViT:
        from transformers import ViTConfig

        image, label = dataset.fields.get("image"), dataset.fields.get("label")
        if image is None or label is None or len(image.shape) != 3:
            raise ConfigurationError(f"data: soft-vit needs images with labels, {dataset.name} has none")
        sizes = self.configuration
        classes = sizes.classes or len(label.classes)
        if not classes:
            raise ConfigurationError(f"classes: must be given, because {dataset.name} names none")
        channels, rows, columns = image.shape
        source: ViTConfig | str | None = sizes.source
        if source is None:
            if rows % sizes.patch or columns % sizes.patch:
                raise ConfigurationError(
                    f"patch: expected a divisor of the image's sides {rows} x {columns}, got {sizes.patch}"
                )
            source = ViTConfig(
                hidden_size=sizes.width,
                num_hidden_layers=sizes.depth,
                num_attention_heads=sizes.heads,
                intermediate_size=sizes.feedforward,
                image_size=(rows, columns),
                patch_size=sizes.patch,
                num_channels=channels,
            )
        group = CyclicGroup(sizes.turns)
        return SoftViT(source, classes, group, softness=sizes.softness)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        assert isinstance(model, SoftViT)
        return model.loss(batch["image"], batch["label"])

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """Accuracy upright, after a random turn of the group, their geometric mean, and iErr in nats."""
        group = CyclicGroup(self.configuration.turns)

        def pair(images: Tensor, draws: SampleDraws) -> tuple[Tensor, Tensor]:
            turns = draws.integers("turn", 0, group.n).to(images.device)
            return images, group.act(images, turns)

        return classification_numbers(model, batches, pair)

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The logits of every image and its most likely class."""
        logits = model(batch["image"])
        return {"logits": logits, "label": logits.argmax(1)}
