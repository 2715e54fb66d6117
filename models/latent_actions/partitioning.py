"""Which latent channels vary: logits that are learned, or a choice that is fixed; and how they start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["fixed_logits", "initial_logits"]

STARTS = ("threshold", "zero")
SPREAD = 0.1


def initial_logits(channels: int, threshold: float, start: str) -> Tensor:
    """Logits (C,) to start learning from, float32, drawn from PyTorch's generator.

    "threshold": N(logit(threshold), 0.1), so that about half of the channels vary whatever the threshold is.
    "zero": 0.1 N(0, 1), which is the same for a threshold of 0.5 but has no channel, or every one, vary for
    most others.

    Raises:
        ValueError: an unknown start.
    """
    if start not in STARTS:
        raise ValueError(f"start: expected one of {', '.join(STARTS)}, got {start!r}")
    centre = math.log(threshold / (1 - threshold)) if start == "threshold" else 0.0
    return centre + SPREAD * torch.randn(channels)


def fixed_logits(channels: int, partition: str | Tensor | Sequence[bool]) -> Tensor:
    """Infinite logits (C,) of a partition that is not learned: the same for every threshold.

    Args:
        partition: "manual", the first half of the channels varies (the smaller one if their number is odd);
            "none", all vary, so that the whole latent is moved; or one bool for each channel, True if it
            varies.

    Raises:
        ValueError: an unknown name, or another number of channels. TypeError: no bools.
    """
    if isinstance(partition, str):
        if partition not in ("manual", "none"):
            raise ValueError(
                f"partition: expected learned, manual, none or one bool per channel, got {partition!r}"
            )
        varies = torch.arange(channels) < (channels // 2 if partition == "manual" else channels)
    else:
        varies = torch.as_tensor(partition)
        if varies.dtype != torch.bool:
            raise TypeError(f"partition: expected bools, got {varies.dtype}")
        if varies.shape != (channels,):
            raise ValueError(f"partition: expected {channels} bools, got shape {tuple(varies.shape)}")
    return torch.where(varies, torch.inf, -torch.inf)
