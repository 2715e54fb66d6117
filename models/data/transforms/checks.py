"""What all transforms ask of their arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.models.data.draws import SampleDraws


def check_batch(images: Tensor, draws: SampleDraws, ranks: tuple[int, ...]) -> None:
    """Refuse a batch of other numbers of dimensions than `ranks`, or of another size than `draws`."""
    if images.dim() not in ranks:
        expected = " or ".join(map(str, ranks))
        raise ValueError(f"images: expected {expected} dimensions, got {tuple(images.shape)}")
    if len(draws) != len(images):
        raise ValueError(f"draws: expected those of {len(images)} samples, got {len(draws)}")


def check_probability(probability: float) -> None:
    """Refuse what is no probability."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: expected 0 .. 1, got {probability!r}")


def check_window(name: str, images: Tensor, size: int | tuple[int, int]) -> tuple[int, int]:
    """The height and width of a window that fits into the images."""
    height, width = (size, size) if isinstance(size, int) else size
    if not (1 <= height <= images.shape[-2] and 1 <= width <= images.shape[-1]):
        raise ValueError(f"{name}: expected 1 to {tuple(images.shape[-2:])} pixels, got {(height, width)}")
    return height, width


def coordinate_dtype(images: Tensor) -> torch.dtype:
    """The dtype of angles and shifts."""
    return torch.float64 if images.dtype == torch.float64 else torch.float32
