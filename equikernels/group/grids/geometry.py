"""What a pixel grid is: its size, its mask, its symmetries as index maps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class PixelGrid:
    """Pixels of an H x W image, row 0 on top, kept where the mask is true.

    Pixel k of the representation is the k-th kept pixel in row-major order; without a mask its
    index is row * W + column. Coordinates are in pixels about the centre ((W-1)/2, (H-1)/2).

    Attributes:
        height, width: the size in pixels.
        mask: bytes of the boolean mask, or None when every pixel is kept.
    """

    height: int
    width: int
    mask: bytes | None = None

    @cached_property
    def kept(self) -> np.ndarray:
        """Row-major indices of the kept pixels."""
        if self.mask is None:
            return np.arange(self.height * self.width)
        return np.flatnonzero(np.frombuffer(self.mask, dtype=bool))

    @property
    def dim(self) -> int:
        """Number of kept pixels."""
        return int(self.kept.size)

    @property
    def is_square(self) -> bool:
        return self.height == self.width

    @cached_property
    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of the kept pixels, centred (x to the right, row downwards)."""
        row, column = np.divmod(self.kept, self.width)
        return column - (self.width - 1) / 2, row - (self.height - 1) / 2

    def _source(self, image: np.ndarray, name: str) -> np.ndarray:
        """Index map of kept pixels from a transformed picture of the row-major indices."""
        moved = image.reshape(-1)[self.kept]
        position = np.full(self.height * self.width, -1)
        position[self.kept] = np.arange(self.kept.size)
        source = position[moved]
        if (source < 0).any():
            raise ValueError(f"mask must be symmetric under the {name}; it is not")
        return np.asarray(source)

    @property
    def _indices(self) -> np.ndarray:
        return np.arange(self.height * self.width).reshape(self.height, self.width)

    @property
    def identity(self) -> np.ndarray:
        """Index map of no turn at all."""
        return np.arange(self.dim)

    @cached_property
    def quarter_turn(self) -> np.ndarray:
        """Index map of the turn by 90 degrees counter-clockwise, torch.rot90(k=1); square grids only."""
        if not self.is_square:
            raise ValueError(f"a quarter turn needs a square grid, got {self.height} x {self.width}")
        return self._source(np.rot90(self._indices, 1), "turn by 90 degrees")

    @cached_property
    def half_turn(self) -> np.ndarray:
        """Index map of the turn by 180 degrees."""
        return self._source(np.rot90(self._indices, 2), "turn by 180 degrees")

    @cached_property
    def mirror(self) -> np.ndarray:
        """Index map of the left-right flip."""
        return self._source(self._indices[:, ::-1], "left-right flip")

    @cached_property
    def laplacian(self) -> np.ndarray:
        """Five-point discrete Laplacian on the kept pixels, zero outside."""
        x, y = self.coordinates
        distance = np.abs(x[:, None] - x) + np.abs(y[:, None] - y)
        return np.where(distance == 1, 1.0, 0.0) - 4 * np.eye(self.dim)

    def fill(self, values: Tensor) -> Tensor:
        """Images (..., H, W) from vectors (..., dim) of kept pixels, zero where the mask is false."""
        image = values.new_zeros(*values.shape[:-1], self.height * self.width)
        image[..., torch.as_tensor(self.kept, device=values.device)] = values
        return image.reshape(*values.shape[:-1], self.height, self.width)


def make_grid(size: Any, mask: Any) -> PixelGrid:
    """A grid from the public arguments `size` (int or (H, W)) and `mask` (None, "disc", boolean)."""
    pair = (size, size) if isinstance(size, (int, np.integer)) and not isinstance(size, bool) else size
    try:
        height, width = pair
    except TypeError:
        raise TypeError(f"size must be an integer or a pair (H, W), got {size!r}") from None
    for side in (height, width):
        if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or side < 1:
            raise ValueError(f"size must hold integers >= 1, got {size!r}")
    grid = PixelGrid(int(height), int(width))
    if mask is None:
        return grid
    if isinstance(mask, str):
        if mask != "disc":
            raise ValueError(f'mask must be None, "disc" or a boolean tensor, got {mask!r}')
        x, y = grid.coordinates
        keep = x**2 + y**2 <= (min(grid.height, grid.width) / 2) ** 2
    else:
        keep = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
        if keep.dtype != bool or keep.shape != (grid.height, grid.width):
            raise ValueError(
                f"mask must be boolean of shape {(grid.height, grid.width)}, got {keep.dtype} {keep.shape}"
            )
        if not keep.any():
            raise ValueError("mask must keep at least one pixel; it is false everywhere")
    return PixelGrid(grid.height, grid.width, np.ascontiguousarray(keep).tobytes())
