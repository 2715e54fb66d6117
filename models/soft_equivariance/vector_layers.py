"""Layers on features that are planar vectors: d features are d / 2 vectors (x, y), one after the other.

All but the projected weights commute with rotations exactly; the weights do as far as the cut-off asks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import SO2
from equikernels.nn import NormNonlinearity, SoftLinear
from equikernels.project import Softness

__all__ = ["CausalAttention", "VectorBlock", "VectorDropout", "VectorNorm", "soft_vectors"]

VECTORS = SO2().irrep(1)
"""Planar vectors, turned counter-clockwise."""


def soft_vectors(width_in: int, width_out: int, softness: float) -> SoftLinear:
    """A projected linear layer from width_in / 2 vectors to width_out / 2 vectors."""
    return SoftLinear(VECTORS, VECTORS, Softness(softness), width_in // 2, width_out // 2)


class VectorNorm(nn.Module):
    """Divide the vectors of a step by the root of their mean squared length; then a gain for each vector.

    The vector form of RMS normalization: lengths are invariant, so it commutes with rotations.

    >>> norm = VectorNorm(4)
    >>> norm(torch.tensor([3.0, 4.0, 0.0, 0.0]))
    tensor([0.8485, 1.1314, 0.0000, 0.0000], grad_fn=<ViewBackward0>)
    """

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width // 2))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width); same shape."""
        vectors = x.unflatten(-1, (-1, 2))
        squared = vectors.square().sum(-1, keepdim=True).mean(-2, keepdim=True)
        return (vectors * (self.gain[:, None] * (squared + self.epsilon).rsqrt())).flatten(-2)


class VectorDropout(nn.Module):
    """Leave out whole vectors in training, never one component, and scale the rest by 1 / (1 - p)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width); same shape."""
        if not self.training or self.p == 0:
            return x
        vectors = x.unflatten(-1, (-1, 2))
        kept = functional.dropout(torch.ones_like(vectors[..., :1]), self.p)
        return (vectors * kept).flatten(-2)


class CausalAttention(nn.Module):
    """Attention of each step to itself and to those before it.

    The score of query q and key k is q.k / sqrt(d / heads) + b(steps between them), b learned for each head.
    Heads hold whole vectors, and scalar products are invariant, so scores are, where the weights are strict.

    Args:
        width: features d; heads: divides d / 2; steps: the longest sequence.
    """

    def __init__(self, width: int, heads: int, steps: int, dropout: float, softness: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (soft_vectors(width, width, softness) for _ in range(4))
        self.distance_bias = nn.Parameter(torch.zeros(heads, steps))
        distances = torch.arange(steps)[:, None] - torch.arange(steps)
        self.register_buffer("distances", distances, persistent=False)
        self.distances: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, width), T at most `steps`; same shape."""
        length = x.shape[1]
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        distances = self.distances[:length, :length]
        bias = self.distance_bias[:, distances.clamp(min=0)].masked_fill(distances < 0, -torch.inf)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.to(q.dtype), dropout_p=dropout
        )
        mixed = self.out(mixed.transpose(1, 2).flatten(2))
        assert isinstance(mixed, Tensor)
        return mixed


class VectorBlock(nn.Module):
    """A transformer block: x + attention(norm x), then x + feed-forward(norm x).

    Args:
        activation: "norm" for what acts on lengths alone, which commutes with rotations; "relu" for ReLU and
            LayerNorm of components, as in a plain transformer, which does not.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward: int,
        steps: int,
        dropout: float,
        softness: float,
        activation: str,
    ) -> None:
        super().__init__()
        lengths = activation == "norm"
        self.attention_norm, self.feedforward_norm = (
            VectorNorm(width) if lengths else nn.LayerNorm(width) for _ in range(2)
        )
        self.attention = CausalAttention(width, heads, steps, dropout, softness)
        self.feedforward = nn.Sequential(
            soft_vectors(width, feedforward, softness),
            NormNonlinearity(VECTORS, feedforward // 2) if lengths else nn.ReLU(),
            VectorDropout(dropout),
            soft_vectors(feedforward, width, softness),
        )
        self.dropout = VectorDropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, width); same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))
