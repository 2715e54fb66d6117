"""Log-likelihoods of pixels given the decoder's outputs, in nats, and their derivatives."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LIKELIHOODS = ("bernoulli", "gaussian", "gaussian_learned_variance")
_LOG_TWO_PI = math.log(2 * math.pi)


def softplus_of(a: Tensor) -> Tensor:
    """log(1 + exp(a)), exactly: torch's softplus is a itself beyond 20, an error of 2e-9."""
    return -F.logsigmoid(-a)


def output_channels(likelihood: str, channels: int) -> int:
    """How many outputs the likelihood of `channels` channels needs."""
    return 2 * channels if likelihood == "gaussian_learned_variance" else channels


def log_likelihood(outputs: Tensor, x: Tensor, likelihood: str, softplus: bool) -> Tensor:
    """Log-likelihood of x (N, P, C) given the outputs (N, P, C) or (N, P, 2C), summed: (N,)."""
    if likelihood == "bernoulli":
        return (x * outputs - softplus_of(outputs)).sum((1, 2))
    channels = x.shape[2]
    mean = softplus_of(outputs[..., :channels]) if softplus else outputs[..., :channels]
    if likelihood == "gaussian":
        return -0.5 * ((x - mean).square() + _LOG_TWO_PI).sum((1, 2))
    log_variance = outputs[..., channels:]
    error = (x - mean).square() * torch.exp(-log_variance)
    return -0.5 * (error + log_variance + _LOG_TWO_PI).sum((1, 2))


def log_likelihood_gradient(
    outputs: Tensor, x: Tensor, likelihood: str, softplus: bool
) -> tuple[Tensor, Tensor]:
    """The derivatives of `log_likelihood` by the outputs and by x."""
    if likelihood == "bernoulli":
        return x - outputs.sigmoid(), outputs
    channels = x.shape[2]
    mean = softplus_of(outputs[..., :channels]) if softplus else outputs[..., :channels]
    error = x - mean
    if likelihood == "gaussian":
        by_mean, by_log_variance = error, error[..., :0]
    else:
        precision = torch.exp(-outputs[..., channels:])
        by_mean = error * precision
        by_log_variance = 0.5 * (error * by_mean - 1)
    by_x = -by_mean
    if softplus:
        by_mean = by_mean * outputs[..., :channels].sigmoid()
    return torch.cat([by_mean, by_log_variance], dim=2), by_x
