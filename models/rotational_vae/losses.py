"""The terms of the losses, each a number for every sample."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["squared_errors", "unit_normal_divergences"]


def squared_errors(a: Tensor, b: Tensor) -> Tensor:
    """The mean squared difference of every sample: (B, ...) and (B, ...) to (B,).

    In float32 at least, whatever half precision the tensors have.

    >>> squared_errors(torch.zeros(2, 3), torch.tensor([[1.0, 1, 1], [0, 0, 3]]))
    tensor([1., 3.])
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return (a.to(dtype) - b.to(dtype)).square().flatten(1).mean(1)


def unit_normal_divergences(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of every sample in nats, summed over its numbers: (B, ...) to (B,).

    >>> unit_normal_divergences(torch.ones(1, 4), torch.zeros(1, 4))
    tensor([2.])
    """
    dtype = torch.promote_types(mean.dtype, torch.float32)
    mean, logvar = mean.to(dtype), logvar.to(dtype)
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)
