"""The precision of matrix products under autocast."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor


def full_precision(z: Tensor) -> contextlib.AbstractContextManager[object]:
    """A context in which autocast leaves products of matrices in the dtype of their factors."""
    device = z.device.type
    if not torch.amp.is_autocast_available(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)
