"""Numbers that a classifier is judged by: as images are, and moved."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from equikernels.metrics import combined_accuracy, invariance_error
from equikernels.models.data import SampleDraws
from equikernels.models.engine import Batches

__all__ = ["classification_numbers"]


def classification_numbers(
    classify: Callable[[Tensor], Tensor],
    batches: Batches,
    pair: Callable[[Tensor, SampleDraws], tuple[Tensor, Tensor]],
) -> dict[str, float]:
    """Accuracy upright, on moved images, their geometric mean, and iErr in nats, over all batches.

    Args:
        classify: images (B, C, H, W) to logits (B, K).
        pair: the images of a batch as the model takes them, and the same moved.
    """
    right = moved_right = divergence = 0.0
    for batch, draws in batches:
        labels = batch["label"]
        images, moved_images = pair(batch["image"], draws)
        logits, moved = classify(images), classify(moved_images)
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
