"""Latents parted by channel into what a transformation moves and what it leaves alone."""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor
from torch.autograd import forward_ad

from equikernels.ops import backends
from equikernels.ops.arguments import DTYPES, angles, check_data
from equikernels.ops.partitioning.autograd import consistency, masked_rotate, split
from equikernels.ops.partitioning.mask import binary, channel_mask, check_threshold, soft_mask
from equikernels.ops.partitioning.reference import (
    consistency_reference,
    masked_rotate_reference,
    split_reference,
)
from equikernels.ops.registration import register_kernels

__all__ = ["partition", "partition_rotate"]

ESTIMATORS = ("ste", "counterfactual")

for _operation in ("partition", "partition_rotate"):
    register_kernels(_operation)


def partition(
    z: Tensor, logits: Tensor, *, threshold: float = 0.5, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Part latents into the channels that vary with a transformation and those that do not.

    A channel varies, m = 1, where sigmoid(logit) > threshold, and m = 0 elsewhere:

        z_v = m z,    z_i = (1 - m) z

    This is a selection: a channel that is not selected is exactly 0 even where `z` is infinite or NaN, and
    one that is selected is copied unchanged.

    Args:
        z: latents, (N, C, ...) with any number of further dimensions, float32, float64, bfloat16 or float16,
            with any strides.
        logits: one mask for all samples, (C,) or (1, C), or one per sample, (N, C); the last two may be
            followed by dimensions of size one, as in (1, C, 1, 1). Of any floating dtype, on the device of
            `z`; converted to float32, for float64 data to float64, before the sigmoid. A NaN makes its
            channel NaN on both sides.
        threshold: a number in [0, 1].
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        (z_v, z_i), contiguous, of the shape and dtype of `z`.

    Gradients go to `z` and, straight through, to `logits`: backwards, and in forward mode, m counts as
    sigmoid(logit), though its value is exactly binary. So with M the gradient of the mask, the sum over a
    channel of (gradient of z_v - gradient of z_i) z, that of the logit is M s (1 - s), s = sigmoid(logit). It
    follows the values of a channel whichever side it is on: where they are not finite, it may not be either;
    other channels do not notice. Gradients exist to any order. Results are deterministic and do not depend
    on the number of threads, up to the sum of the gradients of shared logits over the samples, which is
    torch's. Autocast leaves dtypes alone. Inside torch.compile forward mode and second derivatives raise, and
    so does torch.func.grad. In a forked child process set one thread before calling
    (``torch.set_num_threads(1)``).

    Raises:
        TypeError: `z`, `logits` or `threshold` is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, a threshold out of range, or a backend that cannot run
            here.

    >>> z_v, z_i = partition(torch.tensor([[1.0, 2.0, torch.inf]]), torch.tensor([3.0, -3.0, 0.0]))
    >>> z_v.tolist(), z_i.tolist()
    ([[1.0, 0.0, 0.0]], [[0.0, 2.0, inf]])
    """
    _check_latents(z)
    check_threshold(threshold)
    soft = soft_mask(z, logits)
    chosen = backends.choose("partition", z.device.type, backend)
    if chosen == "reference":
        z_v, z_i = split_reference(z.unsqueeze(-1).flatten(2), binary(soft, threshold))
        return z_v.view(z.shape), z_i.view(z.shape)
    if not isinstance(threshold, float):
        threshold = float(threshold)
    if z.dim() in (3, 4):
        z_v, z_i = split(z, soft, threshold, chosen)
        return z_v, z_i
    z_v, z_i = split(z.unsqueeze(-1).flatten(2), soft, threshold, chosen)
    return z_v.view(z.shape), z_i.view(z.shape)


@overload
def partition_rotate(
    z: Tensor,
    theta: Tensor | float,
    logits: Tensor,
    *,
    threshold: float = ...,
    target: None = ...,
    estimator: str = ...,
    backend: str | None = ...,
) -> Tensor: ...


@overload
def partition_rotate(
    z: Tensor,
    theta: Tensor | float,
    logits: Tensor,
    *,
    threshold: float = ...,
    target: Tensor,
    estimator: str = ...,
    backend: str | None = ...,
) -> tuple[Tensor, Tensor, Tensor]: ...


def partition_rotate(
    z: Tensor,
    theta: Tensor | float,
    logits: Tensor,
    *,
    threshold: float = 0.5,
    target: Tensor | None = None,
    estimator: str = "ste",
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Turn the channels that vary and copy the others, and compare with the latents of the turned input.

    With the mask m of `partition`, rho(theta) the rotation of `rotate` (bilinear, zeros outside, one angle
    per sample) and y = rho(theta) z:

        out    = m y + (1 - m) z
        loss_i = mean over all elements of ((1 - m) z - (1 - m') z')^2
        loss_v = mean over all elements of (m y - m' z')^2

    where z' is `target` and m' = m is a constant. Both means divide by the number of elements of `z`, so
    that loss_i + loss_v is the mean of (out - z')^2; for a batch without elements they are 0. All products
    with m and 1 - m are selections, as in `partition`: channels that are copied are copied exactly, whatever
    the angle, and what a channel does not show does not reach anything but the gradient of its own logit.

    Args:
        z: latents, (N, C, H, W), float32, float64, bfloat16 or float16, with any strides.
        theta: angles in radians, counter-clockwise as displayed, (N,), of any floating dtype, on the device
            of `z`; or one number, or a tensor without dimensions, for all samples.
        logits: (C,), (1, C) or (N, C), the last two possibly followed by dimensions of size one, of any
            floating dtype, on the device of `z`; see `partition`.
        threshold: a number in [0, 1].
        target: latents of the turned input, with the shape, dtype and device of `z`. It is a constant: no
            gradient goes to it.
        estimator: gradient of the losses by the mask, "ste" or "counterfactual"; see below.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        out, contiguous, of the shape and dtype of `z`; with a target (out, loss_i, loss_v), the losses
        without dimensions in float32, for float64 data in float64, which is also the precision of y in them.
        A sample whose angle is not finite is NaN in the channels that vary, and so are its gradients there
        and that of the angle by which they turn; those of its mask need not be finite.

    Gradients go to `z`, to `theta` and to `logits`, each in its own dtype. The gradient of the mask of a
    channel, with G, g_i, g_v those of out and of the losses and n the number of elements of `z`, is

        ste:            sum G (y - z) + 2 g_v / n sum (m y - m z') y - 2 g_i / n sum ((1 - m) (z - z')) z
        counterfactual: sum G (y - z) + g_v / n sum (y - z')^2 - g_i / n sum (z - z')^2

    and goes on to the logit through the derivative of the sigmoid. The first is the straight-through
    estimator: what follows from the formulas above if m counts as sigmoid(logit) backwards. The second is
    what the losses would change by if the channel changed sides, exactly; both have the same losses and the
    same gradients of `z` and `theta`. Derivatives exist to any order and in forward mode, except that
    "counterfactual" is an estimator of gradients, made for reverse mode: a tangent of the logits raises
    NotImplementedError if the losses are asked for. Threads, autocast, torch.compile and forked processes
    are as for `partition`.

    Raises:
        TypeError: an argument is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, a threshold out of range, an unknown estimator, or a
            backend that cannot run here.
        NotImplementedError: forward mode by the logits with a target and the counterfactual estimator.

    >>> z = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]], [[2.0, 3.0], [4.0, 5.0]]]])
    >>> out, loss_i, loss_v = partition_rotate(z, torch.pi / 2, torch.tensor([1.0, -1.0]), target=z)
    >>> out.round().abs().tolist()
    [[[[1.0, 0.0], [0.0, 0.0]], [[2.0, 3.0], [4.0, 5.0]]]]
    >>> float(loss_i), float(loss_v)
    (0.0, 0.25)
    """
    check_data("z", z, (4,))
    theta = angles(z, theta)
    mask = channel_mask(z, logits, threshold)
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator: expected one of {', '.join(ESTIMATORS)}, got {estimator!r}")
    chosen = backends.choose("partition_rotate", z.device.type, backend)
    if target is None:
        if chosen == "reference":
            return masked_rotate_reference(z, theta, mask)
        out: Tensor = masked_rotate(z, theta, mask, chosen)
        return out
    _check_target(z, target)
    if estimator == "counterfactual" and forward_ad.unpack_dual(mask).tangent is not None:
        raise NotImplementedError(
            "partition_rotate: the counterfactual estimator exists for reverse mode only, got a tangent of "
            'the logits in forward mode: take estimator="ste" there'
        )
    compute = consistency_reference if chosen == "reference" else consistency
    options = (estimator,) if chosen == "reference" else (estimator, chosen)
    out, loss_i, loss_v = compute(z, theta, mask, target.detach(), *options)
    count = max(z.numel(), 1)
    return out, loss_i.sum() / count, loss_v.sum() / count


def _check_latents(z: Tensor) -> None:
    if not isinstance(z, Tensor):
        raise TypeError(f"z: expected a tensor, got {type(z).__name__}")
    if z.dtype not in DTYPES:
        raise TypeError(f"z: expected float32, float64, bfloat16 or float16, got {z.dtype}")
    if z.layout != torch.strided:
        raise TypeError(f"z: expected a dense tensor, got {z.layout}")
    if z.dim() < 2:
        raise ValueError(f"z: expected at least 2 dimensions (N, C, ...), got {z.dim()}: {tuple(z.shape)}")


def _check_target(z: Tensor, target: Tensor) -> None:
    if not isinstance(target, Tensor):
        raise TypeError(f"target: expected a tensor, got {type(target).__name__}")
    if target.dtype != z.dtype:
        raise TypeError(f"target: expected the dtype of z, {z.dtype}, got {target.dtype}")
    if target.layout != torch.strided:
        raise TypeError(f"target: expected a dense tensor, got {target.layout}")
    if target.device != z.device:
        raise ValueError(f"target: expected on the device of z, {z.device}, got {target.device}")
    if target.shape != z.shape:
        raise ValueError(f"target: expected the shape of z, {tuple(z.shape)}, got {tuple(target.shape)}")
