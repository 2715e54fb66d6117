"""The first layer folded into a table for each image, so that rotated coordinates never exist.

The rotated, shifted coordinates are polynomials in the fixed ones, u = (x, y):

    x' = c x - s y + dx,    y' = s x + c y + dy,

and so are their squares and their product: f(u') = M_n p(u) for the inputs f of the network, (x, y) or
(x, y, x^2, y^2, xy), and the monomials p(u) = (1, x, y) or (1, x, y, x^2, y^2, xy). The first layer before
its activation is then p(u)^T T_n with the table T_n = M_n^T W_n^T, to whose first row the latent term and the
bias are added. A bilinear term only makes the weight W_n = W + B z_n one of its own for each image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from equikernels.ops.coordinate_decoder.pixels import expand_coordinates
from equikernels.ops.coordinate_decoder.weights import EXPANDED_COORDINATES


def monomials(coordinates: Tensor, inputs: int) -> Tensor:
    """p(u), (P, 3) or (P, 6), at coordinates (P, 2)."""
    return torch.cat([torch.ones_like(coordinates[:, :1]), expand_coordinates(coordinates, inputs)], dim=1)


def first_layer_table(
    theta: Tensor,
    shift: Tensor,
    z: Tensor,
    coordinate: Tensor,
    latent: Tensor,
    bias: Tensor,
    bilinear: Tensor | None,
) -> Tensor:
    """The tables T (N, 3 or 6, H), differentiable; the parameters are those of `CoordinateMLPWeights`."""
    weight = coordinate
    if bilinear is not None:
        weight = weight + torch.einsum("hdk,nk->nhd", bilinear, z)
    table = _motion(theta, shift, coordinate.shape[1]).mT @ weight.mT
    constant = z @ latent.t() + bias
    return table + F.pad(constant[:, None], (0, 0, 0, table.shape[1] - 1))


def _motion(theta: Tensor, shift: Tensor, inputs: int) -> Tensor:
    """The matrices M (N, 2, 3) or (N, 5, 6)."""
    c, s = theta.cos(), theta.sin()
    dx, dy = shift.unbind(1)
    if inputs != EXPANDED_COORDINATES:
        return _matrix([[dx, c, -s], [dy, s, c]])
    zero = torch.zeros_like(c)
    cc, ss, cs = c * c, s * s, c * s
    return _matrix(
        [
            [dx, c, -s, zero, zero, zero],
            [dy, s, c, zero, zero, zero],
            [dx * dx, 2 * c * dx, -2 * s * dx, cc, ss, -2 * cs],
            [dy * dy, 2 * s * dy, 2 * c * dy, ss, cc, 2 * cs],
            [dx * dy, c * dy + s * dx, c * dx - s * dy, cs, -cs, cc - ss],
        ]
    )


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
