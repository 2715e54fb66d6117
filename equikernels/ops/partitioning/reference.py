"""The specification of `partition` and `partition_rotate` in plain torch: short, and on any device.

The mask (N, C) holds 1 for a channel that varies, 0 for one that does not, or NaN, in the dtype that is
computed in. Written as polynomials of the mask, so that autograd gives its gradients too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equikernels.ops.rotation.reference import rotate_reference


def seen(x: Tensor, used: Tensor) -> Tensor:
    """`x`, with zeros for infinities and NaN wherever it is not used: their product with 0 would be NaN."""
    return torch.where(used | torch.isfinite(x), x, 0)


def turned(z: Tensor, theta: Tensor, varies: Tensor) -> Tensor:
    """rho(theta) z, where an angle that is not finite makes only the channels that vary NaN."""
    # An angle that is not finite and turns something has a gradient that is NaN: autograd multiplies by 0.
    y = rotate_reference(seen(z, varies), torch.nan_to_num(theta, 0.0, 0.0, 0.0))
    undefined = varies & ~torch.isfinite(theta)[:, None, None, None]
    return y * torch.where(undefined, torch.nan, 1.0).to(y.dtype)


def split_reference(z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(m z, (1 - m) z) for z (N, C, P)."""
    m, values = mask[:, :, None], z.to(mask.dtype)
    return (m * seen(values, m != 0)).to(z.dtype), ((1 - m) * seen(values, m != 1)).to(z.dtype)


def masked_rotate_reference(z: Tensor, theta: Tensor, mask: Tensor) -> Tensor:
    """rho(theta)(m z) + (1 - m) z for images z (N, C, H, W) and angles theta (N,)."""
    m, values = mask[:, :, None, None], z.to(mask.dtype)
    return (m * turned(values, theta, m != 0) + (1 - m) * seen(values, m != 1)).to(z.dtype)


def consistency_reference(
    z: Tensor, theta: Tensor, mask: Tensor, target: Tensor, estimator: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the summed squares (N,) of (1 - m)(z - target) and of m (rho(theta) z - target).

    The two estimators have the same values, as m^2 = m, and differ in how they continue off 0 and 1: "ste"
    squares m rho(theta) z - m' target, where m' is a constant; "counterfactual" is linear in m.
    """
    m, values, goal = mask[:, :, None, None], z.to(mask.dtype), target.to(mask.dtype)
    varies, stays = m != 0, m != 1
    y, copied = turned(values, theta, varies), seen(values, stays)
    goal_v, goal_i = seen(goal, varies), seen(goal, stays)
    if estimator == "ste":
        fixed = m.detach()
        square_v = (m * y - fixed * goal_v).square()
        square_i = ((1 - m) * copied - (1 - fixed) * goal_i).square()
    else:
        square_v = m * seen((y - goal_v).square(), varies)
        square_i = (1 - m) * seen((copied - goal_i).square(), stays)
    loss_i, loss_v = (
        square.sum((1, 2, 3), dtype=torch.float64).to(mask.dtype) for square in (square_i, square_v)
    )
    return (m * y + (1 - m) * copied).to(z.dtype), loss_i, loss_v
