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
    _check_threshold(threshold)
    _check_logits(z, logits)
    rows = logits.reshape(logits.shape[:2]) if logits.dim() > 1 else logits
    soft = torch.sigmoid(rows.to(compute_dtype(z.dtype)))
    hard = (soft > threshold).to(soft.dtype)
    # The difference is exactly zero, or NaN.
    return (hard + (soft - soft.detach())).expand(z.shape[0], z.shape[1])


def _check_threshold(threshold: float) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, numbers.Real):
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
    batch, channels = z.shape[:2]
    shape = logits.shape
    shared = len(shape) == 1 and shape[0] == channels
    per_sample = len(shape) > 1 and shape[0] in (1, batch) and shape[1] == channels
    if not (shared or (per_sample and all(size == 1 for size in shape[2:]))):
        raise ValueError(
            f"logits: expected shape ({channels},), or (1, {channels}) or ({batch}, {channels}) followed by "
            f"any number of ones, got {tuple(shape)}"
        )
