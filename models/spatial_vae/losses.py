"""Kullback-Leibler divergences of the latents, in nats per image."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["mean_free_kl", "normal_kl"]


def normal_kl(mean: Tensor, log_std: Tensor, prior_std: float = 1.0) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, s^2)), summed over the last dimension.

        log s - log sigma + (sigma^2 + mu^2) / (2 s^2) - 1/2

    Args:
        mean, log_std: mu and log sigma, (N, L).
        prior_std: s.

    Returns:
        (N,).

    >>> import torch
    >>> normal_kl(torch.tensor([[3.0]]), torch.zeros(1, 1))  # only the mean differs: 3^2 / 2
    tensor([4.5000])
    """
    return mean_free_kl(log_std, prior_std) + (mean / prior_std).square().sum(-1) / 2


def mean_free_kl(log_std: Tensor, prior_std: float = 1.0) -> Tensor:
    """The divergence of `normal_kl` without its penalty on the mean, summed over the last dimension.

        log s - log sigma + sigma^2 / (2 s^2) - 1/2

    For angles whose prior is uniform: every mean is as good as another, and s only bounds the spread. It is
    no divergence from one prior, so a bound that holds it is no bound on the likelihood.

    Args:
        log_std: log sigma, (N, L).
        prior_std: s.

    Returns:
        (N,), zero where sigma = s.

    >>> import torch
    >>> mean_free_kl(torch.zeros(1, 2), 1.0)
    tensor([0.])
    """
    ratio = log_std - math.log(prior_std)
    return ((2 * ratio).exp() / 2 - ratio - 0.5).sum(-1)
