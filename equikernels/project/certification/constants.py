"""Layers that act on every number by itself, and the Lipschitz constants of what they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn


def _gelu() -> float:
    # The derivative Phi(x) + x phi(x) has its own derivative (2 - x^2) phi(x): it is largest at sqrt(2).
    x = math.sqrt(2)
    density = math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return (1 + math.erf(x / math.sqrt(2))) / 2 + x * density


def _silu() -> float:
    # With s = sigmoid(x) the derivative s (1 + x (1 - s)) is largest where x tanh(x / 2) = 2.
    # Fixed points of x = 2 coth(x / 2): the map is a contraction there.
    x = 2.4
    for _ in range(100):
        x = 2 / math.tanh(x / 2)
    s = 1 / (1 + math.exp(-x))
    return s * (1 + x * (1 - s))


GELU_CONSTANT = _gelu() * (1 + 1e-12)
"""1.1289...: more than 1, because GELU is not monotone."""

SILU_CONSTANT = _silu() * (1 + 1e-12)
"""1.0998..."""

POINTWISE: dict[type[nn.Module], Callable[[Any], float]] = {
    nn.ReLU: lambda module: 1.0,
    nn.ReLU6: lambda module: 1.0,
    nn.Hardtanh: lambda module: 1.0,
    nn.Tanh: lambda module: 1.0,
    nn.Sigmoid: lambda module: 0.25,
    nn.SiLU: lambda module: SILU_CONSTANT,
    nn.LeakyReLU: lambda module: max(1.0, abs(module.negative_slope)),
    nn.ELU: lambda module: max(1.0, abs(module.alpha)),
}
"""Activations of which the Lipschitz constant is known for all parameters; GELU has a rule of its own."""

UNCHANGED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""The identity in evaluation mode."""

_STEEP = "no Lipschitz constant: where its input varies little it is arbitrarily steep"
_ATTENTION = "dot-product attention has no Lipschitz constant"
_RESAMPLED = "interpolates between pixels: no bound of it is known here"

WITHOUT_BOUND: dict[type[nn.Module], str] = {
    nn.LayerNorm: _STEEP,
    nn.GroupNorm: _STEEP,
    nn.RMSNorm: _STEEP,
    nn.InstanceNorm1d: _STEEP,
    nn.InstanceNorm2d: _STEEP,
    nn.InstanceNorm3d: _STEEP,
    nn.LocalResponseNorm: _STEEP,
    nn.Softplus: "no Lipschitz constant: it jumps where it becomes linear, at its threshold",
    nn.MultiheadAttention: _ATTENTION,
    nn.Transformer: _ATTENTION,
    nn.TransformerEncoder: _ATTENTION,
    nn.TransformerEncoderLayer: _ATTENTION,
    nn.TransformerDecoder: _ATTENTION,
    nn.TransformerDecoderLayer: _ATTENTION,
    nn.Upsample: _RESAMPLED,
    nn.UpsamplingBilinear2d: _RESAMPLED,
    nn.UpsamplingNearest2d: _RESAMPLED,
}
"""Layers that are refused, and why."""
