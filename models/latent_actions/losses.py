"""The action on a parted latent and its two consistency losses, for every group that moves images or volumes.

With y = rho(g) z, the mask m and the latent z' of the transformed input, a constant as its mask m' = m is,

    Phi_g(z)  = m y + (1 - m) z
    invariant = mean((1 - m) z - (1 - m') z')^2
    varying   = mean(m y - m' z')^2

Both means are over all elements of z, so that for a binary mask they add up to that of (Phi_g(z) - z')^2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from equikernels.group import SO2, CubeGroup, CyclicGroup, Group
from equikernels.group.acting import on_device
from equikernels.ops import partition, partition_rotate

__all__ = ["act_on_varying", "consistency", "keeps_lengths", "mean_square"]


def act_on_varying(
    z: Tensor, g: Any, logits: Tensor, *, group: Group, threshold: float, method: str = "auto"
) -> Tensor:
    """Phi_g(z): the channels that vary moved by the group, the others copied.

    Args:
        z: latents (N, C, H, W), or (N, C, D, H, W) for groups of space.
        g: one element of the group, or N, on the device of `z` if tensors.
        logits: (C,), of the mask as in :func:`equikernels.ops.partition`.
        threshold: of the mask.
        method: of :meth:`equikernels.group.Group.act`.
    """
    angle = _angle(z, g, group, method)
    if angle is not None:
        return partition_rotate(z, angle, logits, threshold=threshold)
    moved, _ = partition(group.act(z, g, method=method), logits, threshold=threshold)
    _, kept = partition(z, logits, threshold=threshold)
    return moved + kept


def consistency(
    z: Tensor,
    g: Any,
    logits: Tensor,
    target: Tensor,
    *,
    group: Group,
    threshold: float,
    method: str = "auto",
    estimator: str = "ste",
    free_target: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Phi_g(z) and its distances from the latents of the transformed inputs.

    Args:
        target: z', like `z`; no gradient goes to it unless it is free.
        estimator: of the gradient of the mask: "ste", or "counterfactual", which is what the losses would
            change by if a channel changed sides; see :func:`equikernels.ops.partition_rotate`.
        free_target: let gradients reach z' too.

    Returns:
        (Phi_g(z), invariant, varying), the losses without dimensions in float32, for float64 in float64.
    """
    angle = None if free_target else _angle(z, g, group, method)
    if angle is not None:
        return partition_rotate(
            z, angle, logits, threshold=threshold, target=target, estimator=estimator
        )  # fmt: skip
    y = group.act(z, g, method=method)
    moved, _ = partition(y, logits, threshold=threshold)
    _, kept = partition(z, logits, threshold=threshold)
    wide = torch.float64 if z.dtype == torch.float64 else torch.float32
    y, z, target = y.to(wide), z.to(wide), (target if free_target else target.detach()).to(wide)
    if estimator == "ste":
        target_varying, target_invariant = partition(target, logits.detach(), threshold=threshold)
        varying = mean_square(partition(y, logits, threshold=threshold)[0], target_varying)
        invariant = mean_square(partition(z, logits, threshold=threshold)[1], target_invariant)
    else:
        # Linear in the mask, with the same values as m^2 = m: its slope is the whole change.
        varying = partition((y - target).square(), logits, threshold=threshold)[0].mean()
        invariant = partition((z - target).square(), logits, threshold=threshold)[1].mean()
    return moved + kept, invariant, varying


def keeps_lengths(group: Group, method: str) -> bool:
    """Whether the action on latents keeps the length of every one: pixels go to pixels, or it is orthogonal.

    Interpolation does not: it averages neighbours, and what leaves the grid is lost.
    """
    exact = isinstance(group, CubeGroup) or (isinstance(group, CyclicGroup) and 4 % group.n == 0)
    return method in ("exact", "shear", "spectral") or (exact and method == "auto")


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """The mean over all elements of (a - b)^2, in float32 for half precisions."""
    if a.dtype in (torch.bfloat16, torch.float16):
        a = a.float()
    return functional.mse_loss(a, b.to(a.dtype))


def _angle(z: Tensor, g: Any, group: Group, method: str) -> Tensor | None:
    """The angles by which images turn where one fused pass does it all: bilinear turns; None elsewhere."""
    if z.dim() != 4 or method not in ("auto", "bilinear"):
        return None
    if isinstance(group, SO2):
        angle: Tensor = on_device(group, g, z)
        return angle
    if isinstance(group, CyclicGroup) and (method == "bilinear" or 4 % group.n):
        return on_device(group, g, z).double() * group.step
    return None
