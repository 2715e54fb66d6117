"""Linear layers whose weight passes a projection: y = x P(W)^T + b, in the cheapest of three ways."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from equikernels.ops.linear.plans import PLANS, Plan, count_plans
from equikernels.ops.linear.projection import BlockProjection, Operator, Side
from equikernels.ops.linear.slabs import Slabs
from equikernels.ops.linear.tiles import Tiles, tiles_of
from equikernels.ops.linear.weights import analyse_weight, project_weight, scale_weight, synthesise_weight

__all__ = [
    "PLANS",
    "BlockProjection",
    "Operator",
    "Plan",
    "Side",
    "Slabs",
    "Tiles",
    "analyse_weight",
    "count_plans",
    "multiply_in_bases",
    "multiply_tiles",
    "project_weight",
    "projected_weight",
    "scale_weight",
    "schur_linear",
    "synthesise_weight",
    "tiles_of",
]


def schur_linear(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    *,
    projection: BlockProjection,
    parameter: str = "raw",
    plan: str = "auto",
) -> Tensor:
    """y = x P(W)^T + b for a projection given by two bases and factors between their coordinates.

    P(W) = U_out (F o (U_out^T W U_in)) U_in^T on every m x n block of W ("Tunable Soft Equivariance with
    Guarantees", arXiv 2603.26657, section 3, in closed form). `EquivariantProjector.block_projection` gives
    the data of a projector.

    Args:
        x: features (..., C_in * n), channel-major.
        w: weight (C_out * m, C_in * n), the dtype and device of x; with ``parameter="schur"`` its coordinates
            U_out^T W U_in, block by block.
        bias: (C_out * m,), added as it is.
        projection: bases, types and factors.
        parameter: "raw" or "schur".
        plan: "weights", "schur", "structured", or "auto", the one with the fewest multiplications. All give
            the same numbers to rounding. "structured" needs constant factors.

    Returns:
        (..., C_out * m). Differentiable in x, w, bias and what the factors depend on.

    Raises:
        ValueError: shapes that do not fit, an unknown plan or parameter.

    >>> import numpy as np
    >>> from equikernels.ops.bases import Basis
    >>> side = Side(Basis(np.eye(2)), (np.array([[0]]), np.array([[1]])))
    >>> factors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> keep_diagonal = BlockProjection(side, side, lambda w: factors * w, lambda: {(0, 0): 1.0, (1, 1): 1.0})
    >>> schur_linear(torch.ones(2), torch.arange(4.0).view(2, 2), projection=keep_diagonal)
    tensor([0., 3.])
    """
    m, n = projection.out.dim, projection.inn.dim
    if w.dim() != 2 or w.shape[0] % m or w.shape[1] % n or not w.shape[0] or not w.shape[1]:
        raise ValueError(f"w: expected (C_out * {m}, C_in * {n}), got {tuple(w.shape)}")
    if x.dim() == 0 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"x: expected (..., {w.shape[1]}), got {tuple(x.shape)}")
    if bias is not None and bias.shape != w.shape[:1]:
        raise ValueError(f"bias: expected ({w.shape[0]},), got {tuple(bias.shape)}")
    if parameter not in ("raw", "schur"):
        raise ValueError(f'parameter: expected "raw" or "schur", got {parameter!r}')
    if plan not in ("auto", *PLANS):
        raise ValueError(f"plan: expected auto, {', '.join(PLANS)}, got {plan!r}")
    channels_out, channels_in = w.shape[0] // m, w.shape[1] // n
    tiles = None
    if projection.is_constant and plan in ("auto", "structured"):
        tiles = tiles_of(projection, channels_out, channels_in)
    if plan == "structured" and tiles is None:
        raise ValueError('plan: "structured" needs constant factors, but these depend on something trained')
    if plan == "auto":
        training = torch.is_grad_enabled() and w.requires_grad
        batch = x.numel() // x.shape[-1]
        plan = count_plans(
            projection, channels_out, channels_in, batch, training=training, parameter=parameter, tiles=tiles
        ).name
    if plan == "weights":
        return functional.linear(x, projected_weight(w, projection, parameter), bias)
    coordinates = w if parameter == "schur" else analyse_weight(w, projection.out.basis, projection.inn.basis)
    if plan == "schur":
        return multiply_in_bases(x, scale_weight(coordinates, projection), bias, projection)
    assert tiles is not None
    return multiply_tiles(x, tiles.pack(coordinates), bias, tiles)


def projected_weight(w: Tensor, projection: BlockProjection, parameter: str = "raw") -> Tensor:
    """P(W), as a plain layer would have it, from the raw weight or, with "schur", from its coordinates."""
    if parameter == "raw":
        return project_weight(w, projection)
    return synthesise_weight(scale_weight(w, projection), projection.out.basis, projection.inn.basis)


def multiply_in_bases(x: Tensor, w: Tensor, bias: Tensor | None, projection: BlockProjection) -> Tensor:
    """U_out w U_in^T x + bias for a weight in coordinates, its factors applied."""
    out, inn = projection.out, projection.inn
    features = inn.basis.analyse(x.unflatten(-1, (-1, inn.dim))).flatten(-2)
    y = functional.linear(features, w).unflatten(-1, (-1, out.dim))
    y = out.basis.synthesise(y).flatten(-2)
    return y if bias is None else y + bias


def multiply_tiles(x: Tensor, weights: list[Tensor], bias: Tensor | None, tiles: Tiles) -> Tensor:
    """The same with packed tiles."""
    y = tiles.out.synthesise(tiles.multiply(tiles.inn.analyse(x), weights))
    return y if bias is None else y + bias
