"""From logits to the mask of the channels that vary: binary forwards, a sigmoid backwards."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype


def channel_mask(z: Tensor, logits: Tensor, threshold: float) -> Tensor:
    """The mask (N, C) of `z` (N, C, ...), in the dtype that is computed in; one row for all has stride 0.

    It is 1 where sigmoid(logit) > threshold, NaN where the logit is NaN, and 0 elsewhere; its derivative is
    that of the sigmoid.
    """
    check_threshold(threshold)
    return binary(_soft_rows(z, logits), threshold).expand(z.shape[0], z.shape[1])


def soft_mask(z: Tensor, logits: Tensor) -> Tensor:
    """sigmoid(logits) in the same form, for kernels that compare it with the threshold themselves."""
    return _soft_rows(z, logits).expand(z.shape[0], z.shape[1])


def binary(soft: Tensor, threshold: float) -> Tensor:
    """1 where soft > threshold, NaN where it is NaN, 0 elsewhere; with the derivative of `soft` itself."""
    hard = (soft > threshold).to(soft.dtype)
    # The difference is exactly zero, or NaN.
    return hard + (soft - soft.detach())


def _soft_rows(z: Tensor, logits: Tensor) -> Tensor:
    """(C,), (1, C) or (N, C)."""
    _check_logits(z, logits)
    rows = logits.flatten(1) if logits.dim() > 2 else logits
    dtype = compute_dtype(z.dtype)
    return torch.sigmoid(rows if rows.dtype == dtype else rows.to(dtype))


def check_threshold(threshold: float) -> None:
    """Refuse what is no number in [0, 1]."""
    # Almost always a float, which is asked first: the abstract class takes ten times as long.
    if isinstance(threshold, bool) or not isinstance(threshold, (float, numbers.Real)):
        raise TypeError(f"threshold: expected a number, got {type(threshold).__name__}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold: expected a number in [0, 1], got {threshold}")


def _check_logits(z: Tensor, logits: Tensor) -> None:
    if not isinstance(logits, Tensor):
        raise TypeError(f"logits: expected a tensor, got {type(logits).__name__}")
    if not logits.dtype.is_floating_point:
        raise TypeError(f"logits: expected a floating dtype, got {logits.dtype}")
    if logits.layout != torch.strided:
        raise TypeError(f"logits: expected a dense tensor, got {logits.layout}")
    if logits.device != z.device:
        raise ValueError(f"logits: expected on the device of z, {z.device}, got {logits.device}")
    batch, channels, *_ = z.shape
    shape = logits.shape
    shared = len(shape) == 1 and shape[0] == channels
    per_sample = len(shape) > 1 and shape[0] in (1, batch) and shape[1] == channels
    if not (shared or (per_sample and shape[2:] == (1,) * (len(shape) - 2))):
        raise ValueError(
            f"logits: expected shape ({channels},), or (1, {channels}) or ({batch}, {channels}) followed by "
            f"any number of ones, got {tuple(shape)}"
        )
