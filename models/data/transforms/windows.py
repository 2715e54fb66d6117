"""Windows of images, frames around them, and squares painted over them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from equikernels.models.data.draws import SampleDraws
from equikernels.models.data.transforms.checks import check_batch, check_probability, check_window


def random_crop(
    images: Tensor, draws: SampleDraws, size: int | tuple[int, int], *, name: str = "crop"
) -> tuple[Tensor, Tensor]:
    """Cut a window out of every image, at a place of its own, each equally likely.

    Args:
        images: (B, C, H, W), of any dtype.
        draws: of the B samples.
        size: (height, width) of the windows, or both at once, at most (H, W).
        name: of the draw.

    Returns:
        The windows, and their first row and column, int64 (B, 2).

    Raises:
        ValueError: a number of draws that is not B, or windows that do not fit.

    >>> crops, corners = random_crop(torch.rand(2, 3, 9, 9), SampleDraws(0, 0, [0, 1]), 4)
    >>> crops.shape, corners.shape
    (torch.Size([2, 3, 4, 4]), torch.Size([2, 2]))
    """
    check_batch(images, draws, (4,))
    height, width = check_window("size", images, size)
    corners = _corners(draws, name, images.shape[-2] - height + 1, images.shape[-1] - width + 1)
    corners = corners.to(images.device)
    rows = corners[:, :1] + torch.arange(height, device=images.device)
    columns = corners[:, 1:] + torch.arange(width, device=images.device)
    samples = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[:, None, None]
    return images[samples, channels, rows[:, None, :, None], columns[:, None, None, :]], corners


def center_crop(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """The window (height, width) in the middle of images (B, C, H, W); an odd rest is cut at the end.

    Raises:
        ValueError: a window that does not fit.

    >>> center_crop(torch.arange(25).view(1, 1, 5, 5), 2).flatten().tolist()
    [6, 7, 11, 12]
    """
    height, width = check_window("size", images, size)
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width]


def pad_to(images: Tensor, size: int | tuple[int, ...], value: float = 0.0) -> Tensor:
    """Images (B, C, H, W), or volumes (B, C, D, H, W), in the middle of larger ones; an odd rest at the end.

    Args:
        size: of every side, or all at once.
        value: of what is added.

    Raises:
        ValueError: a size that is smaller than the images, or of another number of sides.

    >>> pad_to(torch.ones(1, 1, 1, 2), 3).tolist()
    [[[[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]]
    """
    sides = tuple(images.shape[2:])
    wanted = (size,) * len(sides) if isinstance(size, int) else size
    if len(wanted) != len(sides) or any(new < old for new, old in zip(wanted, sides, strict=True)):
        raise ValueError(f"size: expected at least {sides}, got {wanted}")
    frame: list[int] = []
    # Of the last axis first.
    for new, old in zip(reversed(wanted), reversed(sides), strict=True):
        before = (new - old) // 2
        frame += [before, new - old - before]
    return functional.pad(images, frame, value=value)


def paint_square(images: Tensor, corners: Tensor, side: int = 8, value: float = 1.0) -> Tensor:
    """Images with a square of one value painted over each; what lies outside the image is left away.

    Args:
        images: (B, C, H, W), of any dtype.
        corners: the first row and column of the squares, int64 (B, 2).
        side: in pixels.
        value: of all channels.

    Raises:
        ValueError: corners of another shape, or a side below 1.

    >>> paint_square(torch.zeros(1, 1, 3, 3), torch.tensor([[1, 0]]), side=2).int().tolist()
    [[[[0, 0, 0], [1, 1, 0], [1, 1, 0]]]]
    """
    if tuple(corners.shape) != (len(images), 2):
        raise ValueError(f"corners: expected shape {(len(images), 2)}, got {tuple(corners.shape)}")
    if isinstance(side, bool) or not isinstance(side, int) or side < 1:
        raise ValueError(f"side: expected a positive number of pixels, got {side!r}")
    rows = torch.arange(images.shape[-2], device=images.device) - corners[:, :1]
    columns = torch.arange(images.shape[-1], device=images.device) - corners[:, 1:]
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return images.masked_fill(inside, value)


def random_square(
    images: Tensor,
    draws: SampleDraws,
    *,
    side: int = 8,
    value: float = 1.0,
    probability: float = 1.0,
    name: str = "square",
) -> tuple[Tensor, Tensor]:
    """Paint a square at a place of its own over every image, the part that does not turn of "blocked" data.

    A scene whose object turns and whose square stays: turn the images first, then `paint_square` at the same
    corners over the turned ones and over those that were not turned.

    Args:
        images: (B, C, H, W), of any dtype.
        draws: of the B samples.
        side: in pixels, at most that of the images; value: of all channels of the square.
        probability: that an image gets a square.
        name: of the draw.

    Returns:
        The images, and the first row and column of the squares, int64 (B, 2): outside, (-side, -side), where
        there is none.

    Raises:
        ValueError: a number of draws that is not B, a square that does not fit, no probability.

    >>> blocked, corners = random_square(torch.zeros(1, 1, 28, 28), SampleDraws(0, 0, [0]))
    >>> blocked.sum().item()
    64.0
    """
    check_batch(images, draws, (4,))
    check_probability(probability)
    check_window("side", images, side)
    corners = _corners(draws, name, images.shape[-2] - side + 1, images.shape[-1] - side + 1)
    there = draws.uniform(name, dtype=torch.float64) < probability
    corners = torch.where(there[:, None], corners, -side).to(images.device)
    return paint_square(images, corners, side, value), corners


def _corners(draws: SampleDraws, name: str, rows: int, columns: int) -> Tensor:
    """Places in a grid, int64 (B, 2)."""
    row, column = draws.integers(f"{name} row", 0, rows), draws.integers(f"{name} column", 0, columns)
    return torch.stack((row, column), dim=1)
