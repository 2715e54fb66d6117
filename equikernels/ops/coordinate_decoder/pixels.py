"""The pixels that a coordinate MLP is evaluated at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from equikernels.ops.coordinate_decoder.weights import EXPANDED_COORDINATES, check_alike

Coordinates = Tensor | tuple[Tensor, Tensor]


class Pixels(NamedTuple):
    """Coordinates of the evaluated pixels, and the grid they lie on where they lie on one."""

    coordinates: Tensor
    """(P, 2)."""
    columns: Tensor
    """(W,), x of every column of the grid; empty without a grid."""
    rows: Tensor
    """(H,), y of every row of the grid; empty without a grid."""
    inside: Tensor | None
    """(P,), int64, which of all pixels are evaluated; None for all of them."""

    @property
    def on_grid(self) -> bool:
        return self.rows.numel() > 0


def image_grid(
    height: int,
    width: int,
    *,
    isotropic: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Coordinates of an image's columns and rows, for `coordinate_mlp`: x to the right, y upwards, 0 centred.

    Args:
        height: number of rows, row 0 on top.
        width: number of columns.
        isotropic: whether a pixel is a square, so that rotations are rotations: the longer side runs from -1
            to 1, ends included. Otherwise both sides do.
        dtype: float32 or float64, torch's default by default.
        device: where, torch's default by default.

    Returns:
        x (W,) ascending and y (H,) descending. Pixel row * W + column lies at (x[column], y[row]).

    Raises:
        ValueError: a side that is not positive.

    >>> image_grid(3, 5)
    (tensor([-1.0000, -0.5000, 0.0000, 0.5000, 1.0000]), tensor([ 0.5000, 0.0000, -0.5000]))
    """
    for name, size in (("height", height), ("width", width)):
        if size < 1:
            raise ValueError(f"{name}: expected a positive number, got {size}")
    extents = (max(height, width),) * 2 if isotropic else (width, height)
    x, y = (
        (2 * torch.arange(size, dtype=dtype or torch.get_default_dtype(), device=device) - (size - 1))
        / max(extent - 1, 1)
        for size, extent in zip((width, height), extents, strict=True)
    )
    return x, y.flip(0)


def disc_mask(height: int, width: int, *, device: torch.device | str | None = None) -> Tensor:
    """The pixels within min(H, W)/2 pixels of the centre of an image: boolean (H, W).

    >>> disc_mask(4, 4).long()
    tensor([[0, 1, 1, 0],
            [1, 1, 1, 1],
            [1, 1, 1, 1],
            [0, 1, 1, 0]])
    """
    row = torch.arange(height, device=device)[:, None] - (height - 1) / 2
    column = torch.arange(width, device=device) - (width - 1) / 2
    return row**2 + column**2 <= (min(height, width) / 2) ** 2


def make_pixels(coordinates: Coordinates, mask: Tensor | str | None, weight: Tensor) -> Pixels:
    """The pixels of the public arguments `coordinates` and `mask`, checked."""
    if isinstance(coordinates, (tuple, list)):
        if len(coordinates) != 2:
            raise ValueError(f"coordinates: expected the pair (x, y), got {len(coordinates)} entries")
        for name, axis in zip(("coordinates[0]", "coordinates[1]"), coordinates, strict=True):
            _check_coordinates(name, axis, weight)
            if axis.dim() != 1:
                raise ValueError(f"{name}: expected 1 dimension, got {tuple(axis.shape)}")
        columns, rows = coordinates
        shape: tuple[int, ...] = (rows.shape[0], columns.shape[0])
        points = torch.stack([columns.expand(shape), rows[:, None].expand(shape)], dim=-1).flatten(0, 1)
    else:
        _check_coordinates("coordinates", coordinates, weight)
        if coordinates.dim() != 2 or coordinates.shape[1] != 2:
            raise ValueError(f"coordinates: expected shape (P, 2), got {tuple(coordinates.shape)}")
        points = coordinates
        columns = rows = points.new_empty(0)
        shape = (points.shape[0],)
    inside = _mask(mask, shape, points.device)
    if inside is None:
        return Pixels(points, columns, rows, None)
    indices = inside.flatten().nonzero().flatten()
    return Pixels(points[indices], columns, rows, indices)


def _check_coordinates(name: str, tensor: object, weight: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    check_alike(name, tensor, weight)
    if tensor.requires_grad:
        raise ValueError(f"{name}: gradients of the coordinates are not available, detach them")


def _mask(mask: Tensor | str | None, shape: tuple[int, ...], device: torch.device) -> Tensor | None:
    if mask is None:
        return None
    if isinstance(mask, str):
        if mask != "disc":
            raise ValueError(f'mask: expected None, "disc" or a boolean tensor, got {mask!r}')
        if len(shape) != 2:
            raise ValueError('mask: "disc" needs coordinates on a grid (x, y)')
        return disc_mask(*shape, device=device)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f'mask: expected None, "disc" or a boolean tensor, got {found}')
    if mask.device != device:
        raise ValueError(f"mask: expected on the device of the weights, {device}, got {mask.device}")
    if tuple(mask.shape) != shape:
        raise ValueError(f"mask: expected shape {shape}, got {tuple(mask.shape)}")
    return mask


def expand_coordinates(u: Tensor, inputs: int) -> Tensor:
    """(x, y) as they are, or (x, y, x^2, y^2, xy) for five inputs, in the last dimension."""
    if inputs != EXPANDED_COORDINATES:
        return u
    return torch.cat([u, u.square(), u[..., :1] * u[..., 1:]], dim=-1)
