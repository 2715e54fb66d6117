"""The specification in plain torch: factors from eigenvalues, and factors times blocks.

`places` and `modes` are those of :mod:`equikernels.ops.schur.blocks`, without their first dimension; `modes`
only where blocks start.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.arguments import compute_dtype

Number = Tensor | float


def hard_response(sigma: Tensor, cutoff: Number, at_cutoff: float, tolerance: float) -> Tensor:
    """1 below the cut-off, `at_cutoff` within the tolerance of it, 0 above."""
    excess = sigma - cutoff
    # Of two Python numbers torch.where would make float32.
    kept = torch.where(excess <= tolerance, torch.full_like(sigma, at_cutoff), 0.0)
    return torch.where(excess < -tolerance, 1.0, kept)


def smooth_response(sigma: Tensor, cutoff: Number, width: Number) -> Tensor:
    """1 up to the cut-off, exp(-(sigma - cutoff) / width) above."""
    return torch.exp(-torch.relu(sigma - cutoff) / width)


def distances(modes_out: Tensor, modes_in: Tensor) -> tuple[Tensor, Tensor]:
    """|mu - nu| and |mu - conj(nu)| for the first coordinates of blocks, (p, 2) and (q, 2): (p, q) each."""
    real = modes_out[:, None, 0] - modes_in[:, 0]
    mu, nu = modes_out[:, None, 1], modes_in[:, 1]
    same, opposite = (torch.sqrt(real.square() + imaginary.square()) for imaginary in (mu - nu, mu + nu))
    return same, opposite


def scale_reference(
    w: Tensor, same: Tensor, opposite: Tensor, places_out: Tensor, places_in: Tensor
) -> Tensor:
    """Every block of `w` (..., m, n) times its factors (p, q): `same` for Q(M), `opposite` for M - Q(M).

    With P(M) = [[m22, -m21], [-m12, m11]] the part that commutes with rotations is Q(M) = (M + P(M)) / 2.
    """
    values = w.to(compute_dtype(w.dtype))
    block_out, step_out = places_out[:, 0].long(), places_out[:, 1].long()
    block_in, step_in = places_in[:, 0].long(), places_in[:, 1].long()
    same, opposite = (table[block_out][:, block_in] for table in (same, opposite))
    # Zero for all but two pairs, there the sign of an entry of P(M).
    sign = step_out.sign()[:, None] * step_in.sign()
    own = torch.where(sign != 0, (same + opposite) / 2, same)
    half = torch.where(sign != 0, (same - opposite) / 2, 0.0) * sign
    rows, columns = (torch.arange(len(step), device=w.device) + step for step in (step_out, step_in))
    partner = values[..., rows, :][..., columns]
    # Where the factors agree, the entries of a block do not mix: an infinite one stays alone.
    partner = torch.where((half != 0) | torch.isfinite(partner), partner, 0.0)
    return (own * values + half * partner).to(w.dtype)
