"""The tasks "soft-vit" and "soft-trajectories": classifiers of images and predictions of pedestrians."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from equikernels.group import CyclicGroup
from equikernels.metrics import (
    average_displacement_error,
    combined_accuracy,
    combined_displacement_error,
    final_displacement_error,
    invariance_error,
    trajectory_equivariance_error,
)
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
from equikernels.models.soft_equivariance.trajectories import (
    SoftTrajectoryTransformer,
    constant_velocity,
    standing_still,
    turned_positions,
)
from equikernels.models.soft_equivariance.vision import SoftViT

__all__ = ["SoftTrajectoriesTask", "SoftViTTask", "TrajectoryOptions", "ViTOptions"]


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
        right = moved_right = divergence = 0.0
        for batch, draws in batches:
            images, labels = batch["image"], batch["label"]
            turns = draws.integers("turn", 0, group.n).to(images.device)
            logits, moved = model(images), model(group.act(images, turns))
            right += float((logits.argmax(1) == labels).sum())
            moved_right += float((moved.argmax(1) == labels).sum())
            divergence += float(invariance_error(logits.double(), moved.double())) * len(labels)
        count = len(batches.indices)
        accuracy, moved_accuracy = right / count, moved_right / count
        return {
            "accuracy": accuracy,
            "turned_accuracy": moved_accuracy,
            "combined_accuracy": combined_accuracy(accuracy, moved_accuracy),
            "invariance_error": divergence / count,
        }

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The logits of every image and its most likely class."""
        logits = model(batch["image"])
        return {"logits": logits, "label": logits.argmax(1)}


# -- trajectories --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrajectoryOptions:
    """Of a transformer that predicts positions; the steps to observe and to predict are those of the data.

    Attributes:
        softness: From 0, equivariant under rotations, to 1, free weights.
        activation: Non-linearities of lengths (norm), or of components as in a plain transformer (relu).
        width: Features of a step.
        heads: Of the attention.
        layers: Transformer blocks.
        feedforward: Features between the two layers of a block's feed-forward part.
        dropout: Share of vectors and attention weights left out in training.
        teacher_forcing: Train on true earlier positions, not on predicted ones.
    """

    softness: float = 0.2
    activation: Literal["norm", "relu"] = "norm"
    width: int = 128
    heads: int = 4
    layers: int = 4
    feedforward: int = 512
    dropout: float = 0.1
    teacher_forcing: bool = True


@register_task
class SoftTrajectoriesTask(Task[TrajectoryOptions]):
    """The mean squared distance of predicted from true positions."""

    name = "soft-trajectories"
    summary = "predict where pedestrians go, as equivariant under rotations as you ask"
    options = TrajectoryOptions
    training = TrainingOptions(epochs=100, batch_size=128, monitor="combined_ade")
    optimizer = OptimizerOptions(
        algorithm="adamw",
        learning_rate=5e-4,
        weight_decay=1e-5,
        schedule="cosine",
        final_learning_rate=1e-6,
    )

    def build(self, dataset: Dataset) -> SoftTrajectoryTransformer:
        observed, future = dataset.fields.get("observed"), dataset.fields.get("future")
        if observed is None or future is None:
            raise ConfigurationError(
                f"data: soft-trajectories needs windows of tracks (--data FILE.txt), {dataset.name} has none"
            )
        sizes = self.configuration
        return SoftTrajectoryTransformer(
            sizes.width,
            sizes.heads,
            sizes.layers,
            sizes.feedforward,
            sizes.dropout,
            softness=sizes.softness,
            observe=observed.shape[0],
            predict=future.shape[0],
            activation=sizes.activation,
        )

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        assert isinstance(model, SoftTrajectoryTransformer)
        forced = self.configuration.teacher_forcing
        return model.loss(batch["observed"], batch["future"], teacher_forcing=forced)

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """ADE and FDE as observed, after a random rotation of every sample, their means, eErr, and those of
        walking on and standing still; all in the unit of the positions."""
        sums: dict[str, float] = {}
        for batch, draws in batches:
            observed, future = batch["observed"], batch["future"]
            angle = draws.uniform("angle", high=2 * math.pi).to(observed)
            prediction = model(observed)
            moved = model(turned_positions(observed, angle))
            moved_future = turned_positions(future, angle)
            predict = future.shape[1]
            found = {
                "ade": average_displacement_error(prediction, future),
                "fde": final_displacement_error(prediction, future),
                "turned_ade": average_displacement_error(moved, moved_future),
                "turned_fde": final_displacement_error(moved, moved_future),
                "equivariance_error": trajectory_equivariance_error(
                    turned_positions(prediction, angle), moved
                ),
            }
            for name, rule in (("walking_on", constant_velocity), ("standing_still", standing_still)):
                found[f"{name}_ade"] = average_displacement_error(rule(observed, predict), future)
                found[f"{name}_fde"] = final_displacement_error(rule(observed, predict), future)
            for name, mean in found.items():
                sums[name] = sums.get(name, 0.0) + float(mean) * len(observed)
        numbers = {name: total / len(batches.indices) for name, total in sums.items()}
        for name in ("ade", "fde"):
            numbers[f"combined_{name}"] = combined_displacement_error(
                numbers[name], numbers[f"turned_{name}"]
            )
        return numbers

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The predicted positions (predict, 2) of every window."""
        return {"future": model(batch["observed"])}
