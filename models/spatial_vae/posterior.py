"""The normal distribution of the latents of every image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from equikernels.models.data import SampleDraws

__all__ = ["Posterior"]


class Posterior(NamedTuple):
    """Independent normal latents of N images, in the order [theta][Delta][z].

    theta is an angle in radians, Delta the shift in units of its prior's standard deviation, first to the
    right, then up; z is the content. A model without rotation or translation has no such entries.

    >>> posterior = Posterior(torch.zeros(2, 5), torch.zeros(2, 5))
    >>> posterior.sample(torch.ones(2, 5))[0]
    tensor([1., 1., 1., 1., 1.])
    >>> posterior.sample(SampleDraws(0, 0, [0, 1])).shape
    torch.Size([2, 5])
    """

    mean: Tensor
    """(N, L)."""
    log_std: Tensor
    """(N, L), the logarithm of the standard deviation, not of the variance."""

    @property
    def std(self) -> Tensor:
        """(N, L)."""
        return self.log_std.exp()

    def sample(self, noise: Tensor | SampleDraws, name: str = "posterior") -> Tensor:
        """mean + std * noise, differentiable in both: (N, L).

        Args:
            noise: standard normal numbers (N, L), zeros for the mean; or the draws of the N samples.
            name: of the draw, where `noise` is draws.

        Raises:
            ValueError: noise of another shape, or draws of another number of samples.
        """
        if isinstance(noise, SampleDraws):
            dtype = torch.promote_types(self.mean.dtype, torch.float32)
            noise = noise.normal(name, self.mean.shape[1:], dtype=dtype).to(self.mean)
        if noise.shape != self.mean.shape:
            raise ValueError(f"noise: expected shape {tuple(self.mean.shape)}, got {tuple(noise.shape)}")
        return self.mean + self.std * noise
