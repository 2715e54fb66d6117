"""Invariant regression on vectors: a network of scalars, vectors and tensors of O(n), softly equivariant."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from equikernels.group import Orthogonal, Representation
from equikernels.nn import NormNonlinearity, SoftLinear
from equikernels.project import Softness

__all__ = ["ProductBlock", "Scaled", "SoftRegressor", "mlp"]


class SoftRegressor(nn.Module):
    """A number from vectors in R^n, softly invariant under O(n).

    After "Tunable Soft Equivariance with Guarantees". Features are channels of a scalar, a vector and a
    tensor of order two, 1 + n + n^2 numbers each. A block puts products a (x) b of two projected vectors
    onto the tensors, changes lengths by `NormNonlinearity`, which keep every symmetry, and ends with a
    `SoftLinear`. Softness 0 is invariant to rounding, softness 1 leaves all weights free, with equal
    parameters in number, names and shapes.

    Args:
        dimension: n.
        vectors: how many are given.
        channels: copies of the features.
        blocks: of product, non-linearity and linear layer.
        softness: in [0, 1].

    Raises:
        ValueError: naming the argument, what was expected and what came.

    >>> model = SoftRegressor(channels=2, softness=0.0)
    >>> points = torch.randn(4, 2, 5)
    >>> turn = Orthogonal(5).sample(1)[0].float()
    >>> torch.allclose(model(points @ turn.mT), model(points), atol=1e-5)
    True
    """

    def __init__(
        self,
        dimension: int = 5,
        vectors: int = 2,
        channels: int = 6,
        blocks: int = 2,
        *,
        softness: float = 0.0,
    ) -> None:
        super().__init__()
        counts = {"dimension": dimension, "vectors": vectors, "channels": channels, "blocks": blocks}
        for name, count in counts.items():
            least = 2 if name == "dimension" else 1
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ValueError(f"{name}: expected an integer >= {least}, got {count!r}")
        if not 0 <= softness <= 1:
            raise ValueError(f"softness: expected a number in [0, 1], got {softness!r}")
        self.dimension, self.vectors, self.softness = dimension, vectors, softness
        group = Orthogonal(dimension)
        vector, scalar = group.defining(), group.trivial()
        features = scalar + vector + vector @ vector
        self.lift = _soft(vector, features, softness, vectors, channels)
        self.blocks = nn.ModuleList(ProductBlock(vector, features, softness, channels) for _ in range(blocks))
        self.head = _soft(features, scalar, softness, channels, 1)

    def forward(self, points: Tensor) -> Tensor:
        """One number for every sample, (B,), of its points (B, vectors, dimension)."""
        if points.ndim != 3 or points.shape[1:] != (self.vectors, self.dimension):
            expected = f"(B, {self.vectors}, {self.dimension})"
            raise ValueError(f"points: expected shape {expected}, got {tuple(points.shape)}")
        x = self.lift(points.flatten(1))
        for block in self.blocks:
            x = block(x)
        number = self.head(x).squeeze(-1)
        assert isinstance(number, Tensor)
        return number


class ProductBlock(nn.Module):
    """Products, lengths, and a linear layer."""

    def __init__(
        self, vector: Representation, features: Representation, softness: float, channels: int
    ) -> None:
        super().__init__()
        self.dimension, self.channels = vector.dim, channels
        self.left, self.right = (_soft(features, vector, softness, channels, channels) for _ in range(2))
        self.lengths = NormNonlinearity(features, channels)
        self.linear = _soft(features, features, softness, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, channels * features); same shape."""
        n = self.dimension
        left, right = (layer(x).unflatten(-1, (self.channels, n)) for layer in (self.left, self.right))
        # Divided so that products of unit normal vectors have traces of unit size.
        products = (left[..., :, None] * right[..., None, :]).flatten(-2) / math.sqrt(n)
        parts = x.unflatten(-1, (self.channels, 1 + n + n * n))
        x = torch.cat([parts[..., : 1 + n], parts[..., 1 + n :] + products], dim=-1).flatten(-2)
        x = x + self.linear(self.lengths(x))
        assert isinstance(x, Tensor)
        return x


def _soft(
    rep_in: Representation, rep_out: Representation, softness: float, channels_in: int, channels_out: int
) -> SoftLinear:
    """A projected layer whose projected weight begins as large as that of a plain linear layer.

    Without that a strict layer, which keeps a few of a thousand directions, would begin near zero. It is the
    strict part that grows: what a little softness adds begins as small as its share.
    """
    return SoftLinear(rep_in, rep_out, Softness(softness), channels_in, channels_out, initial="norm")


def mlp(dimension: int = 5, vectors: int = 2, width: int = 200, layers: int = 3) -> nn.Sequential:
    """An ordinary network for the same input (B, vectors, dimension) and output (B,): `layers` hidden ones.

    >>> mlp(width=8)(torch.zeros(3, 2, 5)).shape
    torch.Size([3])
    """
    widths = [vectors * dimension, *([width] * layers)]
    hidden = [
        module
        for inside, outside in itertools.pairwise(widths)
        for module in (nn.Linear(inside, outside), nn.SiLU())
    ]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(widths[-1], 1), nn.Flatten(0))


class Scaled(nn.Module):
    """A network with a fixed scale and mean of its output, which are kept with its weights."""

    def __init__(self, network: nn.Module, mean: float, scale: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("scale", torch.tensor(scale))
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, points: Tensor) -> Tensor:
        """mean + scale network(points)."""
        number = self.mean + self.scale * self.network(points)
        assert isinstance(number, Tensor)
        return number

    def loss(self, points: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The mean over samples of ((output - target) / scale)^2, as "loss"."""
        return {"loss": ((self(points) - target) / self.scale).square().mean()}
