"""The task "soft-grid": a classifier of images whose pixel layers are softly equivariant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from equikernels.group import O2, SO2, CyclicGroup, DihedralGroup, Group
from equikernels.models.data import Dataset, SampleDraws
from equikernels.models.data.transforms import pad_to
from equikernels.models.engine import (
    Batches,
    ConfigurationError,
    OptimizerOptions,
    Task,
    TrainingOptions,
    register_task,
)
from equikernels.models.engine.configuration import check_at_least
from equikernels.models.soft_equivariance.classification import classification_numbers
from equikernels.models.soft_equivariance.soft_grid import SoftGridClassifier

__all__ = ["SoftGridOptions", "SoftGridTask"]

GROUPS: dict[str, Group] = {"C4": CyclicGroup(4), "D4": DihedralGroup(4), "SO2": SO2(), "O2": O2()}


@dataclass(frozen=True)
class SoftGridOptions:
    """Of a classifier with two layers between pixel grids.

    Attributes:
        softness: From 0, invariant under the group, to 1, a plain network.
        group: Quarter turns (C4), these and flips (D4), all turns (SO2), these and flips (O2).
        layer: soft keeps a share of the symmetry-breaking directions; prior adds a free layer to a strict one
            with that share, the residual pathway prior.
        size: Pixels along each side after padding with zeros; without it nothing is padded.
        shrink: Pixels along each side of the squares whose means become the pixels.
        channels: Channels after the first and after the second layer.
        angle: Turns to evaluate at with SO2 and O2: uniformly random within plus and minus so many degrees.
        classes: How many there are, where the data name none.
    """

    softness: float = 0.2
    group: Literal["C4", "D4", "SO2", "O2"] = "C4"
    layer: Literal["soft", "prior"] = "soft"
    size: int | None = None
    shrink: int = 1
    channels: tuple[int, int] = (4, 32)
    angle: float = 30.0
    classes: int | None = None

    def __post_init__(self) -> None:
        check_at_least(self, "shrink", 1)
        if self.size is not None:
            check_at_least(self, "size", 1)
        if self.classes is not None:
            check_at_least(self, "classes", 1)
        if not 0 <= self.softness <= 1:
            raise ValueError(f"softness: expected a number in [0, 1], got {self.softness}")
        if not all(channels >= 1 for channels in self.channels):
            raise ValueError(f"channels: expected two integers >= 1, got {self.channels}")
        if not 0 < self.angle <= 180:
            raise ValueError(f"angle: expected degrees in (0, 180], got {self.angle}")


@register_task
class SoftGridTask(Task[SoftGridOptions]):
    """The cross-entropy of a classifier of upright images."""

    name = "soft-grid"
    summary = "classify images by pixel layers as equivariant as you ask, or with the residual pathway prior"
    options = SoftGridOptions
    training = TrainingOptions(epochs=20, monitor="combined_accuracy", maximize=True)
    optimizer = OptimizerOptions(learning_rate=1e-3, schedule="linear")

    @property
    def group(self) -> Group:
        return GROUPS[self.configuration.group]

    def build(self, dataset: Dataset) -> SoftGridClassifier:
        image, label = dataset.fields.get("image"), dataset.fields.get("label")
        if image is None or label is None or len(image.shape) != 3:
            raise ConfigurationError(f"data: soft-grid needs images with labels, {dataset.name} has none")
        options = self.configuration
        channels, rows, columns = image.shape
        size = options.size or rows
        if options.size is None and rows != columns:
            raise ConfigurationError(
                f"size: must be given, because images of {dataset.name} are not square: {rows} x {columns}"
            )
        if size < max(rows, columns):
            raise ConfigurationError(f"size: expected at least the images' {max(rows, columns)}, got {size}")
        if size % (2 * options.shrink):
            raise ConfigurationError(
                f"size: expected a multiple of 2 * shrink = {2 * options.shrink}, got {size}"
            )
        classes = options.classes or len(label.classes)
        if not classes:
            raise ConfigurationError(f"classes: must be given, because {dataset.name} names none")
        return SoftGridClassifier(
            size,
            self.group,
            options.softness,
            classes,
            layer=options.layer,
            channels_in=channels,
            channels=options.channels,
            shrink=options.shrink,
        )

    def padded(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in the middle of zeros, as the model takes them."""
        return images if self.configuration.size is None else pad_to(images, self.configuration.size)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        assert isinstance(model, SoftGridClassifier)
        return model.loss(self.padded(batch["image"]), batch["label"])

    def moved(self, images: Tensor, draws: SampleDraws) -> Tensor:
        """Padded images (B, C, S, S), each by a random element of its own.

        C4 and D4 move pixels exactly and uniformly; SO2 and O2 turn by bilinear interpolation within the
        option `angle`, O2 after a flip of every other image.
        """
        group, bound = self.group, math.radians(self.configuration.angle)
        element: Any
        if group.order is not None:
            element = draws.integers("element", 0, group.order).to(images.device)
        else:
            element = draws.uniform("angle", low=-bound, high=bound).to(images)
            if isinstance(group, O2):
                element = element, draws.integers("flip", 0, 2).to(images.device)
        return group.act(images, element)

    def evaluate(self, model: nn.Module, batches: Batches) -> dict[str, float]:
        """Accuracy upright, on moved images, their geometric mean, and iErr in nats."""

        def pair(images: Tensor, draws: SampleDraws) -> tuple[Tensor, Tensor]:
            padded = self.padded(images)
            return padded, self.moved(padded, draws)

        return classification_numbers(model, batches, pair)

    def infer(self, model: nn.Module, batch: Mapping[str, Tensor], draws: SampleDraws) -> dict[str, Tensor]:
        """The logits of every image and its most likely class."""
        logits = model(self.padded(batch["image"]))
        return {"logits": logits, "label": logits.argmax(1)}
