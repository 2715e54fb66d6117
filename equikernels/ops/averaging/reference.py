"""The specification: one term after the other, with rows and columns in another order."""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype


def moved(w: Tensor, sources_out: Tensor, sources_in: Tensor) -> Tensor:
    """rho_out(g) w rho_in(g)^-1 of one element, by its index maps (m,) and (n,)."""
    return w.index_select(-2, sources_out).index_select(-1, sources_in)


def average_reference(w: Tensor, weights: Tensor, sources_out: Tensor, sources_in: Tensor) -> Tensor:
    """Sum over g of weights[g] rho_out(g) w rho_in(g)^-1, in the compute dtype, rounded once."""
    wide = w.to(compute_dtype(w.dtype))
    total = torch.zeros_like(wide)
    for weight, out, inn in zip(weights.unbind(), sources_out, sources_in, strict=True):
        total = total + weight * moved(wide, out, inn)
    return total.to(w.dtype)


def correlate_reference(g: Tensor, w: Tensor, sources_out: Tensor, sources_in: Tensor) -> Tensor:
    """<g, rho_out(a) w rho_in(a)^-1> for every element a, (order,), summed in float64."""
    left, right = g.double(), w.double()
    sums = [(left * moved(right, out, inn)).sum() for out, inn in zip(sources_out, sources_in, strict=True)]
    return torch.stack(sums).to(compute_dtype(w.dtype))
