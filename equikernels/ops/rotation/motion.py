"""The motions that the rotations take, checked and made one per sample in the dtype of the coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equikernels.ops.arguments import filled, is_number, numbers_per_sample, per_sample


def scales(z: Tensor, scale: Tensor | float | None) -> Tensor | None:
    """The scales as a tensor (N,), or None."""
    return None if scale is None else numbers_per_sample("scale", "scale", scale, z)


def translations(z: Tensor, translation: Tensor | Sequence[float] | None) -> Tensor | None:
    """The translations as a tensor (N, d), or None."""
    dims = z.dim() - 2
    if translation is None or isinstance(translation, Tensor):
        return None if translation is None else per_sample("translation", "vector", translation, (dims,), z)
    is_vector = isinstance(translation, Sequence) and len(translation) == dims
    if not is_vector or not all(map(is_number, translation)):
        raise TypeError(f"translation: expected a tensor or {dims} numbers, got {translation!r}")
    return torch.stack([filled(z, step) for step in translation], -1)


def rotations(volume: Tensor, rotation: Tensor, check: bool) -> Tensor:
    """The rotation matrices as a tensor (N, 3, 3)."""
    matrices = per_sample("R", "matrix", rotation, (3, 3), volume)
    if check:
        _check_rotations(rotation)
    return matrices


def _orthogonality(dtype: torch.dtype) -> float:
    """How far R^T R may be from 1. Rounding the entries of a rotation changes it by up to their epsilon."""
    return 1e-8 if dtype == torch.float64 else max(1e-4, 4 * torch.finfo(dtype).eps)


def _check_rotations(rotation: Tensor) -> None:
    exact = rotation.detach().double().reshape(-1, 3, 3)
    products = (exact[:, :, :, None] * exact[:, :, None, :]).sum(1)
    error = (products - torch.eye(3, dtype=torch.float64, device=exact.device)).abs().amax((1, 2))
    tolerance = _orthogonality(rotation.dtype)
    # Written so that NaN is no rotation.
    wrong = ~(error <= tolerance)
    if wrong.any():
        n = int(wrong.nonzero()[0])
        raise ValueError(
            f"R: expected rotations, R^T R = 1 to {tolerance:g}, got |R^T R - 1| = {float(error[n]):.3g} "
            f"for matrix {n}"
        )
    determinant = (torch.linalg.cross(exact[:, 0], exact[:, 1]) * exact[:, 2]).sum(-1)
    mirrored = determinant < 0
    if mirrored.any():
        raise ValueError(
            f"R: expected rotations, determinant +1, got -1 for matrix {int(mirrored.nonzero()[0])}"
        )
