"""Volumes that the page on the accuracy of rotations turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.grid_pictures import data_root
from equikernels.group import SO3

SIDE = 28
COUNT = 8
ROTATIONS = 12


@dataclass(frozen=True, eq=False)
class Volumes:
    """Volumes (count, N, N, N), float64, axes depth, row, column, zero outside the inscribed ball.

    `formula` draws them turned by a matrix (3, 3), where they come from a formula.
    """

    name: str
    source: str
    values: Tensor
    formula: Callable[[Tensor], Tensor] | None = None


def coordinates(side: int) -> Tensor:
    """(N, N, N, 3): x right, y up (against the rows), z depth of every voxel, from the centre."""
    axis = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    z, y, x = torch.meshgrid(axis, -axis, axis, indexing="ij")
    return torch.stack([x, y, z], dim=-1)


def ball(side: int) -> np.ndarray:
    """The boolean mask (N, N, N) of the voxels within N / 2 of the centre."""
    mask: np.ndarray = (coordinates(side).norm(dim=-1) <= side / 2).numpy()
    return mask


def blobs() -> Volumes:
    """Sums of five Gaussians of radius 1.5 near the centre: smooth, and known at every angle."""
    generator = np.random.default_rng(0)
    directions = generator.standard_normal((COUNT, 5, 3))
    radii = 7 * generator.random((COUNT, 5, 1)) ** (1 / 3)
    centres = torch.tensor(radii * directions / np.linalg.norm(directions, axis=-1, keepdims=True))

    def drawn(rotation: Tensor) -> Tensor:
        moved = (centres @ rotation.mT)[:, :, None, None, None]
        distance = (coordinates(SIDE) - moved).square().sum(-1)
        return torch.exp(-distance / (2 * 1.5**2)).sum(1)

    source = "sums of five Gaussians of radius 1.5 voxels within 7 voxels of the centre"
    return Volumes("smooth blobs", source, drawn(torch.eye(3, dtype=torch.float64)), drawn)


def adrenal_glands() -> Volumes | None:
    """AdrenalMNIST3D's first test volumes, None where the data set is absent."""
    file = data_root() / "adrenalmnist3d" / "adrenalmnist3d.npz"
    if not file.is_file():
        return None
    with np.load(file) as data:
        values = data["test_images"][:COUNT] / 255.0
    source = f"the first {COUNT} test volumes of AdrenalMNIST3D: shapes of zeros and ones, cut to the ball"
    return Volumes("adrenal glands", source, torch.tensor(values * ball(values.shape[-1])))


def volume_sets() -> list[Volumes]:
    return [volumes for volumes in (blobs(), adrenal_glands()) if volumes is not None]


def rotations() -> Tensor:
    """Rotations (12, 3, 3), uniform, the same at every call."""
    return SO3().sample(ROTATIONS, torch.Generator().manual_seed(0), dtype=torch.float64)
