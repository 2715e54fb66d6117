"""A regression on pairs of vectors that rotations leave as it is, up to a term that breaks the symmetry."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from equikernels.models.data.columns import Content, ValueColumn
from equikernels.models.data.draws import SampleDraws

__all__ = ["invariant_target", "read"]


def invariant_target(points: Tensor, sigma: float) -> Tensor:
    """A function of two vectors that is invariant under O(n), and sigma times one that is not.

    sin|a| - |b|^3 / 2 + a.b / (|a||b|) + sigma (|a_0| + |a_1| + |b_0| + |b_1|) / (|a_2| + |a_3| + |b_2| +
    |b_3| + 1). At sigma 0 the value is the same for every
    rotation and reflection of both points together.

    Args:
        points: a and b, (..., 2, n) with n >= 4, none of them zero.

    >>> points = torch.tensor([[2.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    >>> invariant_target(points, 0.0), invariant_target(points, 1.0)
    (tensor(1.4093), tensor(4.4093))
    """
    a, b = points[..., 0, :], points[..., 1, :]
    lengths_a, lengths_b = a.norm(dim=-1), b.norm(dim=-1)
    invariant = lengths_a.sin() - lengths_b**3 / 2 + (a * b).sum(-1) / (lengths_a * lengths_b)
    sizes = points.abs().sum(-2)
    return invariant + sigma * (sizes[..., 0] + sizes[..., 1]) / (sizes[..., 2] + sizes[..., 3] + 1)


def read(name: str, *, count: int = 1000, dimension: int = 5, sigma: float = 0.0, seed: int = 0) -> Content:
    """Pairs of standard normal vectors with the value of `invariant_target`, made from the options alone.

    "points" is float32 (2, dimension), "target" float32 (). Sample i depends on the seed, the dimension and
    i, so that a larger count has more samples, and sigma changes the targets alone.

    Args:
        count: samples, >= 1.
        dimension: of each vector, >= 4.
        sigma: strength of the term that breaks the symmetry, >= 0.
        seed: sets with different seeds are independent.
    """
    for option, value, least in (("count", count, 1), ("dimension", dimension, 4), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{option}: expected an integer >= {least}, got {value!r}")
    if isinstance(sigma, bool) or not isinstance(sigma, (int, float)) or not 0 <= sigma < math.inf:
        raise ValueError(f"sigma: expected a number >= 0, got {sigma!r}")
    points = SampleDraws(seed, 0, range(count)).normal("points", (2, dimension), dtype=torch.float64)
    target = invariant_target(points, sigma).float().numpy()
    columns = {
        "points": ValueColumn(name, points.float().numpy(), "two vectors, standard normal"),
        "target": ValueColumn(name, target, "value of the function"),
    }
    return Content(dict(columns), evidence=target.tobytes())
